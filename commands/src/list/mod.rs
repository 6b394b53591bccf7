//! Lists: pushing and looking, and what changes elements where they are. Taking elements out, and waiting for
//! them, is in `take`; what looks at elements one by one in `search`.

mod answer;
mod push;
mod search;
mod take;

use tercel_core::command::args::Args;
use tercel_core::command::error::{CommandError, NO_SUCH_KEY, Outcome, SYNTAX, fail};
use tercel_core::command::event_class as class;
use tercel_core::command::key_positions::{keys_at, keys_counted};
use tercel_core::command::parse::integer;
use tercel_core::command::spec::{Group, acl};
use tercel_core::command::spec::{flags::*, key::*};
use tercel_core::data::encoding::ListLimits;
use tercel_core::data::{Change, Key};
use tercel_core::dispatch::{Command, Context, cmd};
use tercel_engine::{End, Text};

use answer::{Elements, put_element};
use search::{linsert, lpos, lrem};
use take::{blmove, blmpop, blpop, brpop, brpoplpush, lmove, lmpop, lpop, rpop, rpoplpush};

pub(crate) static COMMANDS: &[Command] = &[
    cmd("lpush", Group::List, "1.0.0", -3, WRITE | DENYOOM | FAST, lpush)
        .about("Adds elements at the head of a list, which is made if need be.", "O(N)")
        .keys(&[keys_at(RW | INSERT, 1, 0, 1)])
        .args("key:key element:string...")
        .acl(acl::LIST),
    cmd("rpush", Group::List, "1.0.0", -3, WRITE | DENYOOM | FAST, rpush)
        .about("Adds elements at the tail of a list, which is made if need be.", "O(N)")
        .keys(&[keys_at(RW | INSERT, 1, 0, 1)])
        .args("key:key element:string...")
        .acl(acl::LIST),
    cmd("lpushx", Group::List, "2.2.0", -3, WRITE | DENYOOM | FAST, lpushx)
        .about("Adds elements at the head of a list that is there.", "O(N)")
        .keys(&[keys_at(RW | INSERT, 1, 0, 1)])
        .args("key:key element:string...")
        .acl(acl::LIST),
    cmd("rpushx", Group::List, "2.2.0", -3, WRITE | DENYOOM | FAST, rpushx)
        .about("Adds elements at the tail of a list that is there.", "O(N)")
        .keys(&[keys_at(RW | INSERT, 1, 0, 1)])
        .args("key:key element:string...")
        .acl(acl::LIST),
    cmd("linsert", Group::List, "2.2.0", 5, WRITE | DENYOOM, linsert)
        .about("Adds an element before or after another.", "O(N) where N is the number of elements up to the other")
        .keys(&[keys_at(RW | INSERT, 1, 0, 1)])
        .args("key:key where(BEFORE|AFTER) pivot:string element:string")
        .acl(acl::LIST),
    cmd("llen", Group::List, "1.0.0", 2, READONLY | FAST, llen)
        .about("Returns the length of a list.", "O(1)")
        .keys(&[keys_at(RO, 1, 0, 1)])
        .args("key:key")
        .acl(acl::LIST),
    cmd("lindex", Group::List, "1.0.0", 3, READONLY, lindex)
        .about("Returns the element at a place.", "O(log(N))")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key index:integer")
        .acl(acl::LIST),
    cmd("lset", Group::List, "1.0.0", 4, WRITE | DENYOOM, lset)
        .about("Replaces the element at a place.", "O(log(N))")
        .keys(&[keys_at(RW | UPDATE, 1, 0, 1)])
        .args("key:key index:integer element:string")
        .acl(acl::LIST),
    cmd("lrange", Group::List, "1.0.0", 4, READONLY, lrange)
        .about("Returns the elements in a range of places.", "O(log(N)+M) where M is the number of elements returned")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key start:integer stop:integer")
        .acl(acl::LIST),
    cmd("ltrim", Group::List, "1.0.0", 4, WRITE, ltrim)
        .about("Removes the elements outside a range of places.", "O(log(N))")
        .keys(&[keys_at(RW | DELETE, 1, 0, 1)])
        .args("key:key start:integer stop:integer")
        .acl(acl::LIST),
    cmd("lpos", Group::List, "6.0.6", -3, READONLY, lpos)
        .about("Returns the places of elements that equal one.", "O(N) where N is the number of elements looked at")
        .keys(&[keys_at(RO | ACCESS, 1, 0, 1)])
        .args("key:key element:string [RANK rank:integer] [COUNT num-matches:integer] [MAXLEN len:integer]")
        .acl(acl::LIST),
    cmd("lrem", Group::List, "1.0.0", 4, WRITE, lrem)
        .about("Removes elements that equal one.", "O(N)")
        .keys(&[keys_at(RW | DELETE, 1, 0, 1)])
        .args("key:key count:integer element:string")
        .acl(acl::LIST),
    cmd("lpop", Group::List, "1.0.0", -2, WRITE | FAST, lpop)
        .about("Takes elements from the head of a list.", "O(N) where N is the number of elements returned")
        .keys(&[keys_at(RW | ACCESS | DELETE, 1, 0, 1)])
        .args("key:key [count:integer]")
        .acl(acl::LIST),
    cmd("rpop", Group::List, "1.0.0", -2, WRITE | FAST, rpop)
        .about("Takes elements from the tail of a list.", "O(N) where N is the number of elements returned")
        .keys(&[keys_at(RW | ACCESS | DELETE, 1, 0, 1)])
        .args("key:key [count:integer]")
        .acl(acl::LIST),
    cmd("lmpop", Group::List, "7.0.0", -4, WRITE, lmpop)
        .about(
            "Takes elements from the first list that has any.",
            "O(N+M) where N is the number of keys and M the number of elements returned",
        )
        .keys(&[keys_counted(RW | ACCESS | DELETE, 1, 0, 1, 1)])
        .args("numkeys:integer key:key... where(LEFT|RIGHT) [COUNT count:integer]")
        .acl(acl::LIST),
    cmd("lmove", Group::List, "6.2.0", 5, WRITE | DENYOOM, lmove)
        .about("Moves an element from an end of one list to an end of another.", "O(1)")
        .keys(&[keys_at(RW | ACCESS | DELETE, 1, 0, 1), keys_at(RW | INSERT, 2, 0, 1)])
        .args("source:key destination:key wherefrom(LEFT|RIGHT) whereto(LEFT|RIGHT)")
        .acl(acl::LIST),
    cmd("rpoplpush", Group::List, "1.2.0", 3, WRITE | DENYOOM, rpoplpush)
        .about("Moves the last element of a list to the head of another.", "O(1)")
        .keys(&[keys_at(RW | ACCESS | DELETE, 1, 0, 1), keys_at(RW | INSERT, 2, 0, 1)])
        .args("source:key destination:key")
        .acl(acl::LIST)
        .deprecated("6.2.0", "`LMOVE` with the `RIGHT` and `LEFT` arguments"),
    cmd("blpop", Group::List, "2.0.0", -3, WRITE | BLOCKING, blpop)
        .about(
            "Takes the first element of the first list that has any; waits for one.",
            "O(N) where N is the number of keys",
        )
        .keys(&[keys_at(RW | ACCESS | DELETE, 1, -2, 1)])
        .args("key:key... timeout:double")
        .acl(acl::LIST),
    cmd("brpop", Group::List, "2.0.0", -3, WRITE | BLOCKING, brpop)
        .about(
            "Takes the last element of the first list that has any; waits for one.",
            "O(N) where N is the number of keys",
        )
        .keys(&[keys_at(RW | ACCESS | DELETE, 1, -2, 1)])
        .args("key:key... timeout:double")
        .acl(acl::LIST),
    cmd("blmpop", Group::List, "7.0.0", -5, WRITE | BLOCKING, blmpop)
        .about(
            "Takes elements from the first list that has any; waits for one.",
            "O(N+M) where N is the number of keys and M the number of elements returned",
        )
        .keys(&[keys_counted(RW | ACCESS | DELETE, 2, 0, 1, 1)])
        .args("timeout:double numkeys:integer key:key... where(LEFT|RIGHT) [COUNT count:integer]")
        .acl(acl::LIST),
    cmd("blmove", Group::List, "6.2.0", 6, WRITE | DENYOOM | BLOCKING, blmove)
        .about("Moves an element from an end of one list to an end of another; waits for one.", "O(1)")
        .keys(&[keys_at(RW | ACCESS | DELETE, 1, 0, 1), keys_at(RW | INSERT, 2, 0, 1)])
        .args("source:key destination:key wherefrom(LEFT|RIGHT) whereto(LEFT|RIGHT) timeout:double")
        .acl(acl::LIST),
    cmd("brpoplpush", Group::List, "2.2.0", 4, WRITE | DENYOOM | BLOCKING, brpoplpush)
        .about("Moves the last element of a list to the head of another; waits for one.", "O(1)")
        .keys(&[keys_at(RW | ACCESS | DELETE, 1, 0, 1), keys_at(RW | INSERT, 2, 0, 1)])
        .args("source:key destination:key timeout:double")
        .acl(acl::LIST)
        .deprecated("6.2.0", "`BLMOVE` with the `RIGHT` and `LEFT` arguments"),
];

/// Elements written at once, without slices, at most: and their bytes together.
const AT_ONCE: u64 = 1024;
const BYTES_AT_ONCE: u64 = 256 << 10;

/// An argument as it is stored: by reference where it was collected on its way in.
fn text<'a>(args: &Args<'a>, index: usize) -> Text<'a> {
    match args.blob(index) {
        Some(blob) => Text::Shared(blob),
        None => Text::Bytes(args.get(index)),
    }
}

/// What is told of a push at an end, and of a pop.
fn pushed(end: End) -> &'static str {
    if end == End::Head { "lpush" } else { "rpush" }
}

fn popped(end: End) -> &'static str {
    if end == End::Head { "lpop" } else { "rpop" }
}

/// Tells of a change, and that the list is gone with it.
fn tell(cx: &mut Context<'_>, what: &'static str, key: Key<'_>, is_gone: bool) {
    let (data, db) = (cx.server.data_mut(), cx.caller.db);
    data.notify(class::LIST, what, db, key.bytes);
    if is_gone {
        data.notify(class::GENERIC, "del", db, key.bytes);
    }
}

fn push(cx: &mut Context<'_>, args: &Args<'_>, end: End, make: bool) -> Outcome {
    if args.len() > push::AT_ONCE {
        return push::push_many(cx, args, end, make);
    }
    let key = cx.key(args, 1);
    let limits = ListLimits::of(cx.server.settings());
    let edited = cx.server.data_mut().edit_list(cx.caller.db, key, make, |list| {
        (2..args.len()).for_each(|index| list.push(end, text(args, index)));
        limits.grown(list);
        Change { result: list.len(), changed: Some(args.len() as u64 - 2) }
    })?;
    match edited {
        Some(edited) => {
            tell(cx, pushed(end), key, false);
            cx.out.integer(edited.result as i64);
        }
        None => cx.out.integer(0),
    }
    Ok(())
}

fn lpush(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    push(cx, args, End::Head, true)
}

fn rpush(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    push(cx, args, End::Tail, true)
}

fn lpushx(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    push(cx, args, End::Head, false)
}

fn rpushx(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    push(cx, args, End::Tail, false)
}

fn llen(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.key(args, 1);
    let len = cx.server.data_mut().read_list(cx.caller.db, key)?.map_or(0, |list| list.len());
    cx.out.integer(len as i64);
    Ok(())
}

/// The place that an index names, counted from the end if it is negative.
fn place(index: i64, len: u64) -> Option<u64> {
    let place = if index < 0 { len.checked_sub(index.unsigned_abs())? } else { index as u64 };
    (place < len).then_some(place)
}

/// The places from `start` to `stop`, both negative from the end.
fn range(start: i64, stop: i64, len: u64) -> std::ops::Range<u64> {
    let len_signed = i64::try_from(len).unwrap_or(i64::MAX);
    let start = if start < 0 { start.saturating_add(len_signed).max(0) } else { start } as u64;
    let stop = if stop < 0 { stop.saturating_add(len_signed) } else { stop };
    match u64::try_from(stop) {
        Ok(stop) if start <= stop && start < len => start..stop.saturating_add(1).min(len),
        _ => 0..0,
    }
}

fn lindex(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.key(args, 1);
    let Context { server, caller, out, .. } = cx;
    let Some(list) = server.data_mut().read_list(caller.db, key)? else {
        out.null();
        return Ok(());
    };
    match place(integer(args.get(2))?, list.len()) {
        Some(place) => put_element(out, list, place),
        None => out.null(),
    }
    Ok(())
}

fn lset(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    const OUT_OF_RANGE: CommandError = fail("ERR index out of range");
    let key = cx.key(args, 1);
    let db = cx.caller.db;
    let len = cx.server.data_mut().list_to_write(db, key)?.ok_or(NO_SUCH_KEY)?.len();
    let place = place(integer(args.get(2))?, len).ok_or(OUT_OF_RANGE)?;
    let limits = ListLimits::of(cx.server.settings());
    cx.server.data_mut().edit_list(db, key, false, |list| {
        limits.replaced(list, args.get(3).len());
        list.set(place, text(args, 3));
        limits.shrunk(list);
        Change { result: (), changed: Some(1) }
    })?;
    tell(cx, "lset", key, false);
    cx.out.ok();
    Ok(())
}

fn lrange(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let (start, stop) = (integer(args.get(2))?, integer(args.get(3))?);
    let key = cx.key(args, 1);
    let Context { server, caller, out, .. } = cx;
    let Some(list) = server.data_mut().read_list(caller.db, key)? else {
        out.array(0);
        return Ok(());
    };
    let range = range(start, stop, list.len());
    if answer::is_short(list, range.end - range.start) {
        answer::put_range(out, list, range);
        return Ok(());
    }
    let job = Elements::new(list.held(), range, false);
    cx.in_slices(args, Box::new(job))
}

fn ltrim(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let (start, stop) = (integer(args.get(2))?, integer(args.get(3))?);
    let key = cx.key(args, 1);
    let limits = ListLimits::of(cx.server.settings());
    let edited = cx.server.data_mut().edit_list(cx.caller.db, key, false, |list| {
        let (len, range) = (list.len(), range(start, stop, list.len()));
        list.keep(range);
        limits.shrunk(list);
        // Watchers hear of it even if it removed nothing.
        Change { result: (), changed: Some(len - list.len()) }
    })?;
    if let Some(edited) = edited {
        tell(cx, "ltrim", key, edited.is_gone);
    }
    cx.out.ok();
    Ok(())
}

/// `LEFT` or `RIGHT`.
fn end(args: &Args<'_>, index: usize) -> Result<End, CommandError> {
    match () {
        () if args.is(index, "left") => Ok(End::Head),
        () if args.is(index, "right") => Ok(End::Tail),
        () => Err(SYNTAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_ranges_at_the_ends_of_numbers() {
        assert_eq!((place(0, 0), place(0, 1), place(-1, 3), place(-4, 3)), (None, Some(0), Some(2), None));
        assert_eq!((place(i64::MIN, 3), place(i64::MAX, 3)), (None, None));
        assert_eq!(range(0, -1, 5), 0..5);
        assert_eq!(range(-3, -2, 5), 2..4);
        assert_eq!(range(i64::MIN, i64::MAX, 5), 0..5);
        assert_eq!(range(i64::MAX, i64::MIN, 5), 0..0);
        assert_eq!(range(i64::MIN, i64::MIN, 5), 0..0);
        assert_eq!(range(3, 1, 5), 0..0);
        assert_eq!(range(5, 9, 5), 0..0);
        assert_eq!(range(0, -1, 0), 0..0);
    }
}
