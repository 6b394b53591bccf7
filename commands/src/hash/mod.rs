//! Hashes: their declarations, and what all of their commands go by. A field past its deadline counts as not there,
//! whether it has been removed yet or not.

mod answer;
mod deadlines;
mod each;
mod options;
mod random;
mod read;
mod scan;
mod write;

use tercel_core::command::args::Args;
use tercel_core::command::event_class as class;
use tercel_core::command::key_positions::keys_at;
use tercel_core::command::spec::{Group, acl};
use tercel_core::command::spec::{flags::*, key::*};
use tercel_core::data::{Dataset, Expired};
use tercel_core::dispatch::{Command, cmd};
use tercel_engine::{Field, FieldMap, FieldMapRef, Text};

use deadlines::{
    hexpire, hexpireat, hexpiretime, hgetex, hpersist, hpexpire, hpexpireat, hpexpiretime, hpttl, hsetex, httl,
};
use random::hrandfield;
use read::{hexists, hget, hgetall, hkeys, hlen, hmget, hstrlen, hvals};
use scan::hscan;
use write::{hdel, hgetdel, hincrby, hincrbyfloat, hmset, hset, hsetnx};

pub(crate) static COMMANDS: &[Command] = &[
    cmd("hset", Group::Hash, "2.0.0", -4, WRITE | DENYOOM | FAST, hset)
        .about("Gives fields values; what deadlines they had are gone.", "O(N) where N is the number of fields given")
        .keys(&[keys_at(RW | UPDATE, 1, 0, 1)])
        .args("key:key data{field:string value:string}...")
        .acl(acl::HASH),
    cmd("hmset", Group::Hash, "2.0.0", -4, WRITE | DENYOOM | FAST, hmset)
        .about("Gives fields values.", "O(N) where N is the number of fields given")
        .keys(&[keys_at(RW | UPDATE, 1, 0, 1)])
        .args("key:key data{field:string value:string}...")
        .acl(acl::HASH),
    cmd("hsetnx", Group::Hash, "2.0.0", 4, WRITE | DENYOOM | FAST, hsetnx)
        .about("Gives a field a value if it is missing.", "O(1)")
        .keys(&[keys_at(RW | INSERT, 1, 0, 1)])
        .args("key:key field:string value:string")
        .acl(acl::HASH),
    cmd("hget", Group::Hash, "2.0.0", 3, READONLY | FAST, hget)
        .about("Returns the value of a field.", "O(1)")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key field:string")
        .acl(acl::HASH),
    cmd("hmget", Group::Hash, "2.0.0", -3, READONLY | FAST, hmget)
        .about("Returns the values of several fields.", "O(N) where N is the number of fields given")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key field:string...")
        .acl(acl::HASH),
    cmd("hgetall", Group::Hash, "2.0.0", 2, READONLY, hgetall)
        .about("Returns all fields with their values.", "O(N) where N is the size of the hash")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key")
        .acl(acl::HASH)
        .tips(&["nondeterministic_output_order"]),
    cmd("hkeys", Group::Hash, "2.0.0", 2, READONLY, hkeys)
        .about("Returns all fields.", "O(N) where N is the size of the hash")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key")
        .acl(acl::HASH)
        .tips(&["nondeterministic_output_order"]),
    cmd("hvals", Group::Hash, "2.0.0", 2, READONLY, hvals)
        .about("Returns all values.", "O(N) where N is the size of the hash")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key")
        .acl(acl::HASH)
        .tips(&["nondeterministic_output_order"]),
    cmd("hlen", Group::Hash, "2.0.0", 2, READONLY | FAST, hlen)
        .about("Returns how many fields there are.", "O(1)")
        .keys(&[keys_at(RO, 1, 0, 1)])
        .args("key:key")
        .acl(acl::HASH),
    cmd("hstrlen", Group::Hash, "3.2.0", 3, READONLY | FAST, hstrlen)
        .about("Returns the length of a field's value.", "O(1)")
        .keys(&[keys_at(RO, 1, 0, 1)])
        .args("key:key field:string")
        .acl(acl::HASH),
    cmd("hexists", Group::Hash, "2.0.0", 3, READONLY | FAST, hexists)
        .about("Tells whether a field is there.", "O(1)")
        .keys(&[keys_at(RO, 1, 0, 1)])
        .args("key:key field:string")
        .acl(acl::HASH),
    cmd("hdel", Group::Hash, "2.0.0", -3, WRITE | FAST, hdel)
        .about("Removes fields.", "O(N) where N is the number of fields given")
        .keys(&[keys_at(RW | DELETE, 1, 0, 1)])
        .args("key:key field:string...")
        .acl(acl::HASH),
    cmd("hincrby", Group::Hash, "2.0.0", 4, WRITE | DENYOOM | FAST, hincrby)
        .about("Adds to an integer in a field; a missing one counts as 0.", "O(1)")
        .keys(&[keys_at(RW | ACCESS | UPDATE, 1, 0, 1)])
        .args("key:key field:string increment:integer")
        .acl(acl::HASH),
    cmd("hincrbyfloat", Group::Hash, "2.6.0", 4, WRITE | DENYOOM | FAST, hincrbyfloat)
        .about("Adds to a floating point number in a field; a missing one counts as 0.", "O(1)")
        .keys(&[keys_at(RW | ACCESS | UPDATE, 1, 0, 1)])
        .args("key:key field:string increment:double")
        .acl(acl::HASH),
    cmd("hrandfield", Group::Hash, "6.2.0", -2, READONLY, hrandfield)
        .about("Returns random fields.", "O(N) where N is the number of fields returned")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key [options{count:integer [WITHVALUES]}]")
        .acl(acl::HASH)
        .tips(&["nondeterministic_output"]),
    cmd("hscan", Group::Hash, "2.8.0", -3, READONLY, hscan)
        .about("Goes through the fields piece by piece.", "O(1) for every call, O(N) for all of them together")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key cursor:integer [MATCH pattern:pattern] [COUNT count:integer] [NOVALUES]")
        .acl(acl::HASH)
        .tips(&["nondeterministic_output"]),
    cmd("hexpire", Group::Hash, "9.0.0", -6, WRITE | FAST, hexpire)
        .about("Gives fields a deadline in seconds from now.", "O(N) where N is the number of fields given")
        .keys(&[keys_at(RW | UPDATE, 1, 0, 1)])
        .args("key:key seconds:integer [condition(NX|XX|GT|LT)] FIELDS fields{numfields:integer field:string...}")
        .acl(acl::HASH),
    cmd("hexpireat", Group::Hash, "9.0.0", -6, WRITE | FAST, hexpireat)
        .about("Gives fields a deadline as a time in seconds.", "O(N) where N is the number of fields given")
        .keys(&[keys_at(RW | UPDATE, 1, 0, 1)])
        .args("key:key unix-time-seconds:integer [condition(NX|XX|GT|LT)] FIELDS fields{numfields:integer field:string...}")
        .acl(acl::HASH),
    cmd("hpexpire", Group::Hash, "9.0.0", -6, WRITE | FAST, hpexpire)
        .about("Gives fields a deadline in milliseconds from now.", "O(N) where N is the number of fields given")
        .keys(&[keys_at(RW | UPDATE, 1, 0, 1)])
        .args("key:key milliseconds:integer [condition(NX|XX|GT|LT)] FIELDS fields{numfields:integer field:string...}")
        .acl(acl::HASH),
    cmd("hpexpireat", Group::Hash, "9.0.0", -6, WRITE | FAST, hpexpireat)
        .about("Gives fields a deadline as a time in milliseconds.", "O(N) where N is the number of fields given")
        .keys(&[keys_at(RW | UPDATE, 1, 0, 1)])
        .args("key:key unix-time-milliseconds:integer [condition(NX|XX|GT|LT)] FIELDS fields{numfields:integer field:string...}")
        .acl(acl::HASH),
    cmd("httl", Group::Hash, "9.0.0", -5, READONLY | FAST, httl)
        .about("Returns how long fields still live in seconds.", "O(N) where N is the number of fields given")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key FIELDS fields{numfields:integer field:string...}")
        .acl(acl::HASH),
    cmd("hpttl", Group::Hash, "9.0.0", -5, READONLY | FAST, hpttl)
        .about("Returns how long fields still live in milliseconds.", "O(N) where N is the number of fields given")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key FIELDS fields{numfields:integer field:string...}")
        .acl(acl::HASH),
    cmd("hexpiretime", Group::Hash, "9.0.0", -5, READONLY | FAST, hexpiretime)
        .about("Returns the times fields expire in seconds.", "O(N) where N is the number of fields given")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key FIELDS fields{numfields:integer field:string...}")
        .acl(acl::HASH),
    cmd("hpexpiretime", Group::Hash, "9.0.0", -5, READONLY | FAST, hpexpiretime)
        .about("Returns the times fields expire in milliseconds.", "O(N) where N is the number of fields given")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key FIELDS fields{numfields:integer field:string...}")
        .acl(acl::HASH),
    cmd("hpersist", Group::Hash, "9.0.0", -5, WRITE | FAST, hpersist)
        .about("Takes the deadlines of fields away.", "O(N) where N is the number of fields given")
        .keys(&[keys_at(RW | UPDATE, 1, 0, 1)])
        .args("key:key FIELDS fields{numfields:integer field:string...}")
        .acl(acl::HASH),
    cmd("hgetex", Group::Hash, "9.0.0", -5, WRITE | FAST, hgetex)
        .about("Returns the values of fields and sets or removes their deadlines.", "O(N) where N is the number of fields given")
        .keys(&[keys_at(RW | ACCESS | UPDATE, 1, 0, 1)])
        .args("key:key [expiration(EX seconds:integer|PX milliseconds:integer|EXAT unix-time-seconds:unix-time|PXAT unix-time-milliseconds:unix-time|PERSIST)] FIELDS fields{numfields:integer field:string...}")
        .acl(acl::HASH),
    cmd("hsetex", Group::Hash, "9.0.0", -6, WRITE | DENYOOM | FAST, hsetex)
        .about("Gives fields values and one deadline, on conditions.", "O(N) where N is the number of fields given")
        .keys(&[keys_at(RW | INSERT, 1, 0, 1)])
        .args("key:key [key-condition(NX|XX)] [fields-condition(FNX|FXX)] [expiration(EX seconds:integer|PX milliseconds:integer|EXAT unix-time-seconds:unix-time|PXAT unix-time-milliseconds:unix-time|KEEPTTL)] FIELDS fields{numfields:integer data{field:string value:string}...}")
        .acl(acl::HASH),
    cmd("hgetdel", Group::Hash, "9.1.0", -5, WRITE | FAST, hgetdel)
        .about("Returns the values of fields and removes them.", "O(N) where N is the number of fields given")
        .keys(&[keys_at(RW | ACCESS | DELETE, 1, 0, 1)])
        .args("key:key FIELDS fields{numfields:integer field:string...}")
        .acl(acl::HASH),
];

/// An argument as it is stored: by reference where it was collected on its way in.
fn text<'a>(args: &Args<'a>, index: usize) -> Text<'a> {
    match args.blob(index) {
        Some(blob) => Text::Shared(blob),
        None => Text::Bytes(args.get(index)),
    }
}

/// Whether a field that is still held counts as gone.
fn is_due(field: &Field<'_>, expired: Expired) -> bool {
    field.expire_at.is_some_and(|at_ms| expired.is_past(at_ms))
}

/// A field that counts as there.
fn live<'a>(fields: FieldMapRef<'a>, name: &[u8], expired: Expired) -> Option<Field<'a>> {
    fields.get(name).filter(|field| !is_due(field, expired))
}

/// Whether any field is still held that counts as gone.
fn has_due(fields: FieldMapRef<'_>, expired: Expired) -> bool {
    fields.soonest().is_some_and(|at_ms| expired.is_past(at_ms))
}

/// Removes a field; false if it does not count as there. One past its deadline is left to be removed as such.
fn remove_live(fields: &mut FieldMap, name: &[u8], expired: Expired) -> bool {
    let due = has_due(fields.view(), expired) && fields.view().get(name).is_some_and(|field| is_due(&field, expired));
    !due && fields.remove(name)
}

/// Tells of a change, and that the hash is gone with it.
fn tell(data: &mut Dataset, db: usize, what: &'static str, key: &[u8], is_gone: bool) {
    data.notify(class::HASH, what, db, key);
    if is_gone {
        data.notify(class::GENERIC, "del", db, key);
    }
}
