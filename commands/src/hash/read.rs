//! Looking at fields.

use tercel_core::command::args::Args;
use tercel_core::command::error::Outcome;
use tercel_core::dispatch::Context;

use super::answer::{AllFields, What, is_short, put_value};
use super::live;

pub(super) fn hget(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.key(args, 1);
    let Context { server, caller, out, .. } = cx;
    let expired = server.data().expired();
    let fields = server.data_mut().read_fields(caller.db, key)?;
    match fields.and_then(|fields| Some((fields, live(fields, args.get(2), expired)?))) {
        Some((fields, field)) => put_value(out, fields, field),
        None => out.null(),
    }
    Ok(())
}

pub(super) fn hmget(cx: &mut Context<'_>, args: &Args<'_>) -> Outcome {
    let key = cx.key(args, 1);
    let Context { server, caller, out, .. } = cx;
    let expired = server.data().expired();
    let fields = server.data_mut().read_fields(caller.db, key)?;
    out.array(args.len() - 2);
    for name in args.rest(2) {
        match fields.and_then(|fields| Some((fields, live(fields, name, expired)?))) {
            Some((fields, field)) => put_value(out, fields, field),
            None => out.null(),
        }
    }
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
