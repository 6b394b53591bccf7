//! Looking at fields.

use tercel_core::command::args::Args;
use tercel_core::command::error::Outcome;
use tercel_core::dispatch::Context;

use super::answer::{AllFields, NamedFields, What, is_short, put_named};
use super::live;

/// Fields asked for by name at once: what is copied of their values then is some hundred kilobytes at most.
pub(super) const NAMES_AT_ONCE: usize = 256;

pub(super) fn hget(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.key(args, 1);
    let Context { server, caller, out, .. } = cx;
    let expired = server.data().expired();
    let fields = server.data_mut().read_fields(caller.db, key)?;
    put_named(out, fields, args.get(2), expired);
    Ok(())
}

pub(super) fn hmget(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.key(args, 1);
    let Context { server, caller, out, .. } = cx;
    let expired = server.data().expired();
    let fields = server.data_mut().read_fields(caller.db, key)?;
    let names = args.len() - 2;
    if let Some(fields) = fields.filter(|_| names > NAMES_AT_ONCE) {
        let job = NamedFields::new(fields.held(), expired, 2);
        return cx.in_slices(args, Box::new(job));
    }
    out.array(names);
    args.rest(2).for_each(|name| put_named(out, fields, name, expired));
    Ok(())
}

pub(super) fn hlen(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.key(args, 1);
    let len = cx.server.data_mut().read_fields(cx.caller.db, key)?.map_or(0, |fields| fields.len());
    cx.out.integer(len as i64);
    Ok(())
}

pub(super) fn hstrlen(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.key(args, 1);
    let expired = cx.server.data().expired();
    let fields = cx.server.data_mut().read_fields(cx.caller.db, key)?;
    let len = fields.and_then(|fields| live(fields, args.get(2), expired)).map_or(0, |field| field.value.len());
    cx.out.count(len);
    Ok(())
}

pub(super) fn hexists(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.key(args, 1);
    let expired = cx.server.data().expired();
    let fields = cx.server.data_mut().read_fields(cx.caller.db, key)?;
    let exists = fields.is_some_and(|fields| live(fields, args.get(2), expired).is_some());
    cx.out.flag(exists);
    Ok(())
}

/// All fields, or what is asked for of them.
fn all(cx: &mut Context<'_>, args: &Args<'_>, what: What) -> Outcome {
    let key = cx.key(args, 1);
    let Context { server, caller, out, .. } = cx;
    let expired = server.data().expired();
    let Some(fields) = server.data_mut().read_fields(caller.db, key)? else {
        what.begin(out, 0);
        return Ok(());
    };
    if is_short(fields) && !super::has_due(fields, expired) {
        what.begin(out, fields.len());
        fields.piece(0).for_each(|field| what.put(out, fields, field));
        return Ok(());
    }
    let job = AllFields::new(fields.held(), expired, what);
    cx.in_slices(args, Box::new(job))
}

pub(super) fn hgetall(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    all(cx, args, What::Map)
}

pub(super) fn hkeys(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    all(cx, args, What::Names)
}

pub(super) fn hvals(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    all(cx, args, What::Values)
}
