//! Tests of one database: strings in their forms, editing, deadlines, access.

use crate::{Access, Blob, Db, Encoding, Expire, Hash, Keyspace, KeyspaceConfig, NewValue};

const NOW: Access = Access { now_ms: 1_700_000_000_000, lfu: false, lfu_log_factor: 10, lfu_decay_minutes: 1 };

fn keyspace() -> Keyspace {
    Keyspace::new(KeyspaceConfig { databases: 2, hash_key: [7; 16], seed: 1 })
}

fn with_db(test: impl FnOnce(&mut Db, &dyn Fn(&[u8]) -> Hash)) {
    let mut keyspace = keyspace();
    let other = self::keyspace();
    test(keyspace.db_mut(0), &|key| other.hash(key));
}

#[test]
fn an_unused_database_is_small() {
    assert!(size_of::<Db>() < 256, "{}", size_of::<Db>());
    assert_eq!(keyspace().overhead_bytes(), 0);
}

#[test]
fn encodings_are_reported_as_the_field_does() {
    with_db(|db, hash| {
        let key = b"k".as_slice();
        let h = hash(key);
        let mut encoding_of = |value: NewValue<'_>| {
            db.set(key, h, value, Expire::Clear, &NOW);
            db.find(key, h).expect("set").encoding()
        };
        assert_eq!(encoding_of(NewValue::Bytes(b"123")), Encoding::Int);
        assert_eq!(encoding_of(NewValue::Int(5)), Encoding::Int);
        assert_eq!(encoding_of(NewValue::Raw(b"123")), Encoding::Raw);
        assert_eq!(encoding_of(NewValue::Bytes(b"0123")), Encoding::EmbStr);
        assert_eq!(encoding_of(NewValue::Bytes(&[b'x'; 112])), Encoding::EmbStr);
        assert_eq!(
            encoding_of(NewValue::Bytes(&[b'x'; 113])),
            Encoding::Raw,
            "with its key it no longer fits into 128 bytes"
        );
        assert_eq!(encoding_of(NewValue::Bytes(&[b'x'; 4500])), Encoding::Raw);
        assert_eq!(encoding_of(NewValue::Blob(Blob::from_vec(b"77".to_vec()))), Encoding::Int);
        db.edit_string(key, h, &NOW, 2).expect("a string");
        assert_eq!(db.find(key, h).expect("set").encoding(), Encoding::Raw);
        db.set(key, h, NewValue::Bytes(b"abc"), Expire::Clear, &NOW);
        assert_eq!(db.find(key, h).expect("set").encoding(), Encoding::EmbStr, "set whole again");
    });
}

#[test]
fn strings_grow_in_place_and_out_of_it() {
    with_db(|db, hash| {
        let key = b"string".as_slice();
        let h = hash(key);
        assert!(db.edit_string(key, h, &NOW, 3).expect("a string").is_none());
        db.set(key, h, NewValue::Int(-12), Expire::At(99), &NOW);
        db.edit_string(key, h, &NOW, 5).expect("a string").expect("there").write(3, b"x");
        assert_eq!(db.find(key, h).expect("there").string().expect("a string").to_vec(), b"-12x\0");
        for len in [10, 100, 1024, 1025, 5000, 100_000, 200] {
            let mut expected = db.find(key, h).expect("there").string().expect("a string").to_vec();
            expected.resize(len.max(expected.len()), 0);
            assert_eq!(db.edit_string(key, h, &NOW, len).expect("a string").expect("there").len(), expected.len());
            let entry = db.find(key, h).expect("there");
            assert_eq!(entry.string().expect("a string").to_vec(), expected);
            assert_eq!(entry.expire_at(), Some(99));
        }
        assert_eq!(db.create_string(key, h, &NOW, 2000).len(), 2000);
        assert_eq!(db.find(key, h).expect("there").string().expect("a string").to_vec(), vec![0; 2000]);
        assert_eq!(db.find(key, h).expect("there").expire_at(), None);
        db.create_string(key, h, &NOW, 3).write(0, b"abc");
        assert_eq!(db.find(key, h).expect("there").string().expect("a string").to_vec(), b"abc");
        assert_eq!((db.len(), db.expires_len()), (1, 0));
    });
}

#[test]
fn a_shared_blob_is_copied_before_it_is_edited() {
    with_db(|db, hash| {
        let key = b"blob".as_slice();
        let h = hash(key);
        let blob = Blob::from_vec(vec![1; 3000]);
        db.set(key, h, NewValue::Blob(blob.clone()), Expire::Clear, &NOW);
        db.edit_string(key, h, &NOW, 3001).expect("a string").expect("there").write(0, &[9]);
        assert_eq!(blob.as_slice(), [1; 3000]);
        let held = match db.find(key, h).expect("there").string().expect("a string") {
            crate::StringRef::Long(long) => long.clone(),
            _ => panic!("long"),
        };
        assert!(db.remove(key, h));
        assert_eq!(held.len(), 3001);
        let (taken, at) = {
            db.set(key, h, NewValue::Blob(blob.clone()), Expire::At(5), &NOW);
            db.take(key, h).expect("there")
        };
        assert_eq!((taken.string().expect("a string").to_vec(), at), (blob.as_slice().to_vec(), Some(5)));
    });
}

#[test]
fn deadlines_follow_every_change() {
    with_db(|db, hash| {
        let h = hash(b"a");
        let g = hash(b"b");
        db.set(b"a", h, NewValue::Bytes(b"x"), Expire::At(10), &NOW);
        db.set(b"a", h, NewValue::Bytes(b"y"), Expire::Keep, &NOW);
        assert_eq!(db.deadlines().collect::<Vec<_>>(), [(10, h)]);
        db.set(b"a", h, NewValue::Bytes(b"y"), Expire::At(20), &NOW);
        assert_eq!(db.deadlines().collect::<Vec<_>>(), [(20, h)]);
        assert!(db.rename(b"a", h, b"b", g));
        assert_eq!(db.deadlines().collect::<Vec<_>>(), [(20, g)]);
        assert!(!db.rename(b"a", h, b"b", g));
        assert!(db.rename(b"b", g, b"b", g));
        assert!(db.set_expire(b"b", g, None) && !db.set_expire(b"a", h, Some(5)));
        assert_eq!(db.expires_len(), 0);
        assert!(db.set_expire(b"b", g, Some(i64::MAX)) && db.set_expire(b"b", g, Some(i64::MIN)));
        assert_eq!(db.deadlines().collect::<Vec<_>>(), [(i64::MIN, g)]);
        db.set(b"b", g, NewValue::Bytes(b"y"), Expire::Clear, &NOW);
        assert_eq!(db.deadlines().count(), 0);
    });
}

#[test]
fn an_access_is_recorded_by_touch_only() {
    with_db(|db, hash| {
        let h = hash(b"a");
        db.set(b"a", h, NewValue::Bytes(b"x"), Expire::Clear, &NOW);
        let later = Access { now_ms: NOW.now_ms + 60_000, ..NOW };
        assert_eq!(db.find(b"a", h).expect("set").idle_seconds(later.now_ms), 60);
        assert_eq!(db.touch(b"a", h, &later).expect("set").idle_seconds(later.now_ms), 0);
        assert!(db.set_access_idle(b"a", h, 500, &later));
        assert_eq!(db.find(b"a", h).expect("set").idle_seconds(later.now_ms), 500);
        let lfu = Access { lfu: true, ..later };
        assert!(db.set_access_freq(b"a", h, 77, &lfu));
        assert_eq!(db.find(b"a", h).expect("set").lfu_count(&lfu), 77);
        assert!(!db.set_access_freq(b"missing", hash(b"missing"), 77, &lfu));
    });
}
