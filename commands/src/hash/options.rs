//! The arguments of the commands that name fields behind `FIELDS`.

use std::ops::Range;

use tercel_core::command::args::Args;
use tercel_core::command::error::{CommandError, SYNTAX, fail};
use tercel_core::command::parse::integer;

use crate::arguments::expiry::ExpiryUnit;

pub(super) const WRONG_COUNT: CommandError =
    fail("ERR numfields should be greater than 0 and match the provided number of fields");

/// The arguments from `from` on, which is behind `numfields`: so many fields with `width` arguments each.
fn counted(args: &Args<'_>, from: usize, width: i64) -> Result<Range<usize>, CommandError> {
    let count = integer(args.get(from - 1))?;
    let given = args.len() as i64 - from as i64;
    let fits = count != 0 && count.checked_mul(width) == Some(given);
    fits.then_some(from..args.len()).ok_or(WRONG_COUNT)
}

/// `FIELDS numfields field...` as arguments 2 and on: those of the fields.
pub(super) fn listed(args: &Args<'_>) -> Result<Range<usize>, CommandError> {
    if !args.is(2, "fields") {
        return Err(SYNTAX);
    }
    counted(args, 4, 1)
}

/// Where `FIELDS` stands, from argument `from` on.
fn fields_at(args: &Args<'_>, from: usize) -> Result<usize, CommandError> {
    (from..args.len() - 1).find(|&index| args.is(index, "fields")).ok_or(WRONG_COUNT)
}

/// What stands before `FIELDS` is read by `options` first; then the arguments of the fields follow.
pub(super) fn behind_options<T>(
    args: &Args<'_>,
    from: usize,
    width: i64,
    options: impl FnOnce(Range<usize>) -> Result<T, CommandError>,
) -> Result<(T, Range<usize>), CommandError> {
    let at = fields_at(args, from)?;
    let options = options(from..at)?;
    let fields = counted(args, at + 2, width)?;
    Ok((options, fields))
}

/// Which command's options are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    HGetEx,
    HSetEx,
}

/// What HGETEX and HSETEX accept before their fields.
#[derive(Default)]
pub(super) struct Options {
    /// The key must not be there, or must be.
    pub(super) nx: bool,
    pub(super) xx: bool,
    /// None of the fields must be there, or all of them.
    pub(super) fnx: bool,
    pub(super) fxx: bool,
    pub(super) keep_ttl: bool,
    pub(super) persist: bool,
    /// Index of the time, and what it means.
    pub(super) expiry: Option<(usize, ExpiryUnit)>,
}

/// Reads them.
pub(super) fn options(args: &Args<'_>, range: Range<usize>, takes: Takes) -> Result<Options, CommandError> {
    let mut options = Options::default();
    let mut at = range.start;
    while at < range.end {
        let unit = [
            ("ex", ExpiryUnit::SECONDS),
            ("px", ExpiryUnit::MILLISECONDS),
            ("exat", ExpiryUnit::UNIX_SECONDS),
            ("pxat", ExpiryUnit::UNIX_MILLISECONDS),
        ]
        .into_iter()
        .find(|(word, _)| args.is(at, word));
        // A word may come twice, two different words that contradict each other may not.
        let (sets, expires) = (takes == Takes::HSetEx, options.expiry.is_some());
        match unit {
            Some((_, unit)) => {
                let contradicts = options.expiry.is_some_and(|(_, given)| given != unit);
                at += 1;
                if options.keep_ttl || options.persist || contradicts || at >= range.end {
                    return Err(SYNTAX);
                }
                options.expiry = Some((at, unit));
            }
            None if sets && args.is(at, "nx") && !options.xx => options.nx = true,
            None if sets && args.is(at, "xx") && !options.nx => options.xx = true,
            None if sets && args.is(at, "fnx") && !options.fxx => options.fnx = true,
            None if sets && args.is(at, "fxx") && !options.fnx => options.fxx = true,
            None if sets && args.is(at, "keepttl") && !expires => options.keep_ttl = true,
            None if !sets && args.is(at, "persist") && !expires => options.persist = true,
            None => return Err(SYNTAX),
        }
        at += 1;
    }
    Ok(options)
}
