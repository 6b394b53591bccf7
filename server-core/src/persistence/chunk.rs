//! What goes from the executor to the writer: keys and values as plain bytes, many in one allocation.

use tercel_rdb::EntryMeta;

/// A chunk is handed on once it has so many bytes.
pub(super) const CHUNK_BYTES: usize = 256 << 10;
/// Values longer than this are not copied into a chunk but handed on piece by piece.
pub(super) const LONG_BYTES: usize = 64 << 10;

/// How a value stands in a chunk.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// As a number, not in the bytes at all.
    Int(i64),
    /// As so many bytes, after the key.
    Bytes(u32),
    /// As the block of a small collection, of so many bytes.
    List(u32),
    Hash(u32),
}

/// One key of a chunk.
#[derive(Clone, Copy)]
pub(super) struct Record {
    pub(super) db: u32,
    pub(super) key_len: u32,
    pub(super) form: Form,
    pub(super) meta: EntryMeta,
}

/// Keys and values one after the other, and what each is.
#[derive(Default)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    pub(super) records: Vec<Record>,
}

impl Chunk {
    /// Adds a key whose value is a number.
    pub(super) fn push_int(&mut self, db: usize, key: &[u8], value: i64, meta: EntryMeta) {
        self.push(db, key, Form::Int(value), meta);
    }

    /// Adds a key with its value, which is copied.
    pub(super) fn push_bytes(&mut self, db: usize, key: &[u8], value: &[u8], meta: EntryMeta) {
        self.push(db, key, Form::Bytes(value.len() as u32), meta);
        self.bytes.extend_from_slice(value);
    }

    /// Adds a key whose value is a small list, or a small hash, with its block, which is copied.
    pub(super) fn push_block(&mut self, db: usize, key: &[u8], is_list: bool, block: &[u8], meta: EntryMeta) {
        let len = block.len() as u32;
        self.push(db, key, if is_list { Form::List(len) } else { Form::Hash(len) }, meta);
        self.bytes.extend_from_slice(block);
    }

    fn push(&mut self, db: usize, key: &[u8], form: Form, meta: EntryMeta) {
        self.bytes.extend_from_slice(key);
        // Keys and databases are bounded far below 2^32 by the protocol and the settings.
        self.records.push(Record { db: db as u32, key_len: key.len() as u32, form, meta });
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() + self.records.len() * size_of::<Record>() >= CHUNK_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
    }
}
