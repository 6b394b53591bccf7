//! Where the keys of a command are among its arguments, and what is done with them. One place for all who ask:
//! prefetching, keys that are held, COMMAND GETKEYS, and whoever comes.

use tercel_resp::number::parse_i64;

use super::args::Args;

/// Where the search for keys begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At this argument.
    Index(i32),
    /// Behind this word, looked for from argument `from` on; negative from there backwards, counted from the end.
    Keyword {
        /// The word, whatever its case.
        word: &'static str,
        /// Where to look first.
        from: i32,
    },
    /// Nowhere that can be said: see [`KeySpec::search`].
    Unknown,
}

/// Which arguments from there on are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// Every `step`th, from the first to the one `last` behind it.
    Range {
        /// Index of the last key relative to the first; negative from the end of the arguments.
        last: i32,
        /// Distance between keys.
        step: i32,
        /// With a negative `last`: of what is left one in so many arguments is a key, if more than 1.
        limit: i32,
    },
    /// As many as an argument says.
    Counted {
        /// The argument with the number, relative to the beginning.
        count: i32,
        /// The first key, relative to the beginning.
        first: i32,
        /// Distance between keys.
        step: i32,
    },
    /// None that can be said: see [`KeySpec::search`].
    Unknown,
}

/// Finds keys that no rule describes: their indexes, and [`key`](super::spec::key) flags of each.
pub type KeySearch = fn(&Args<'_>) -> Option<Vec<(usize, u32)>>;

/// Keys of a command: where they are, and what is done with them.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    /// A set of [`key`](super::spec::key) flags.
    pub flags: u32,
    /// Where to begin.
    pub begin: Begin,
    /// What is a key from there on.
    pub find: Find,
    /// How they are found if that cannot be said.
    pub search: Option<KeySearch>,
}

/// Keys in a range of arguments.
#[must_use]
pub const fn keys_at(flags: u32, first: i32, last: i32, step: i32) -> KeySpec {
    KeySpec { flags, begin: Begin::Index(first), find: Find::Range { last, step, limit: 0 }, search: None }
}

/// Keys whose number an argument gives.
#[must_use]
pub const fn keys_counted(flags: u32, begin: i32, count: i32, first: i32, step: i32) -> KeySpec {
    KeySpec { flags, begin: Begin::Index(begin), find: Find::Counted { count, first, step }, search: None }
}

/// Keys behind a word.
#[must_use]
pub const fn keys_behind(flags: u32, word: &'static str, from: i32, last: i32, step: i32, limit: i32) -> KeySpec {
    KeySpec { flags, begin: Begin::Keyword { word, from }, find: Find::Range { last, step, limit }, search: None }
}

/// Keys that are found by a function.
#[must_use]
pub const fn keys_found(flags: u32, search: KeySearch) -> KeySpec {
    KeySpec { flags, begin: Begin::Unknown, find: Find::Unknown, search: Some(search) }
}

impl KeySpec {
    /// Whether the keys are always at the same places.
    #[must_use]
    pub const fn is_fixed(&self) -> bool {
        matches!((self.begin, self.find), (Begin::Index(_), Find::Range { .. }))
    }

    /// Where the search begins among these arguments; None if it does not.
    #[inline]
    fn begin(&self, args: &Args<'_>) -> Option<i64> {
        match self.begin {
            Begin::Index(index) => Some(i64::from(index)),
            Begin::Keyword { word, from } => {
                let found = if from >= 0 {
                    (from as usize..args.len()).find(|&index| args.is(index, word))
                } else {
                    let last = args.len().checked_sub(from.unsigned_abs() as usize)?;
                    (1..=last).rev().find(|&index| args.is(index, word))
                };
                found.map(|index| index as i64 + 1)
            }
            Begin::Unknown => None,
        }
    }

    /// Indexes of the keys among arguments, or `None` if these do not fit, or no rule describes them.
    #[must_use]
    #[inline]
    pub fn indexes(&self, args: &Args<'_>) -> Option<KeyIndexes> {
        let argc = args.len() as i64;
        let begin = self.begin(args)?;
        let (first, last, step) = match self.find {
            Find::Range { last, step, limit } => {
                let (last, limit) = (i64::from(last), i64::from(limit));
                let last = match last {
                    0.. => begin + last,
                    _ if limit > 1 => begin + (argc - begin) / limit + last,
                    _ => argc + last,
                };
                (begin, last, i64::from(step))
            }
            Find::Counted { count, first, step } => {
                let keys = parse_i64(args.get(usize::try_from(begin + i64::from(count)).ok()?))?;
                if keys < 0 || keys > argc {
                    return None;
                }
                let first = begin + i64::from(first);
                (first, first + (keys - 1) * i64::from(step), i64::from(step))
            }
            Find::Unknown => return None,
        };
        if first >= argc || last >= argc || last < first {
            return None;
        }
        Some(KeyIndexes { next: first as usize, last: last as usize, step: step as usize })
    }

    /// The keys among arguments with the flags of each, or `None` if these do not fit.
    #[must_use]
    pub fn keys(&self, args: &Args<'_>) -> Option<Vec<(usize, u32)>> {
        match self.search {
            Some(search) => search(args),
            None => Some(self.indexes(args)?.map(|index| (index, self.flags)).collect()),
        }
    }
}

/// The indexes of a command's keys, in order.
#[derive(Clone, Copy, Debug)]
pub struct KeyIndexes {
    next: usize,
    last: usize,
    step: usize,
}

impl KeyIndexes {
    /// The first.
    #[must_use]
    #[inline]
    pub fn first(&self) -> usize {
        self.next
    }

    /// From one to the next.
    #[must_use]
    #[inline]
    pub fn step(&self) -> usize {
        self.step
    }
}

impl Iterator for KeyIndexes {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        (self.next <= self.last).then(|| {
            let index = self.next;
            self.next += self.step;
            index
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::OwnedCommand;
    use super::super::spec::key::{OW, RO};
    use super::*;

    fn found(spec: &KeySpec, line: &str) -> Option<Vec<usize>> {
        let mut command = OwnedCommand::default();
        line.split(' ').for_each(|word| command.push(word.as_bytes()));
        let args = command.args();
        let keys = spec.keys(&args).map(|keys| keys.into_iter().map(|(index, _)| index).collect());
        if spec.search.is_none() {
            assert_eq!(keys, spec.indexes(&args).map(Iterator::collect), "both ways are one");
        }
        keys
    }

    #[test]
    fn ranges_words_limits_and_counts() {
        assert_eq!(found(&keys_at(RO, 1, 0, 1), "get a"), Some(vec![1]));
        assert_eq!(found(&keys_at(RO, 1, -1, 2), "mset a 1 b 2"), Some(vec![1, 3]));
        assert_eq!(found(&keys_at(RO, 1, -2, 1), "blpop a b 0"), Some(vec![1, 2]));
        assert_eq!(found(&keys_at(RO, 1, 0, 1), "get"), None);
        let streams = keys_behind(RO, "STREAMS", 1, -1, 1, 2);
        assert_eq!(found(&streams, "xread count 2 streams a b 0 0"), Some(vec![4, 5]));
        assert_eq!(found(&streams, "xread streams a 0"), Some(vec![2]));
        assert_eq!(found(&streams, "xread streams"), None);
        assert_eq!(found(&streams, "xread count 2"), None);
        let migrate = keys_behind(RO, "KEYS", -2, -1, 1, 0);
        assert_eq!(found(&migrate, "migrate h p keys 0 1 KEYS a b"), Some(vec![7, 8]));
        assert_eq!(found(&migrate, "migrate h p k 0 1"), None);
        let counted = keys_counted(RO, 1, 0, 1, 1);
        assert_eq!(found(&counted, "lmpop 2 a b left"), Some(vec![2, 3]));
        for line in ["lmpop -1 a left", "lmpop x a left", "lmpop 99 a left", "lmpop 0 a left", "lmpop"] {
            assert_eq!(found(&counted, line), None, "{line}");
        }
    }

    #[test]
    fn what_no_rule_describes_is_searched() {
        let store = keys_found(OW, |args| {
            let at = (1..args.len().saturating_sub(1)).rev().find(|&index| args.is(index, "store"))?;
            Some(vec![(1, RO), (at + 1, OW)])
        });
        assert_eq!(found(&store, "sort a limit 0 1 store b"), Some(vec![1, 6]));
        assert_eq!(found(&store, "sort a"), None);
        assert!(!store.is_fixed() && keys_at(RO, 1, 0, 1).is_fixed());
    }
}
