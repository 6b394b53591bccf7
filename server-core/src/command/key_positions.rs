//! Where the keys of a command are among its arguments, and what is done with them. One place for all
//! who ask: prefetching, COMMAND GETKEYS, and whoever comes.

/// Where keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPositions {
    /// From argument `first` to `first + last` (`last < 0`: counted from the end), every `step`th.
    Range {
        /// Index of the first key.
        first: i32,
        /// Index of the last key relative to the first; negative from the end of the arguments.
        last: i32,
        /// Distance between keys.
        step: i32,
    },
    /// Argument `count` says how many keys follow from argument `first` on.
    Counted {
        /// Index of the argument with the count.
        count: i32,
        /// Index of the first key.
        first: i32,
        /// Distance between keys.
        step: i32,
    },
}

/// Keys of a command: where they are, and what is done with them.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    /// A set of [`key`] flags.
    pub flags: u32,
    /// Where the keys are.
    pub positions: KeyPositions,
}

/// Keys in a range of arguments.
#[must_use]
pub const fn keys_at(flags: u32, first: i32, last: i32, step: i32) -> KeySpec {
    KeySpec { flags, positions: KeyPositions::Range { first, last, step } }
}

/// Keys whose number an argument gives.
#[must_use]
pub const fn keys_counted(flags: u32, begin: i32, count: i32, first: i32, step: i32) -> KeySpec {
    KeySpec { flags, positions: KeyPositions::Counted { count: begin + count, first: begin + first, step } }
}

impl KeySpec {
    /// Indexes of the keys among `argc` arguments, or `None` if the arguments do not fit. `arg`
    /// reads an argument as a number.
    #[must_use]
    pub fn indexes(&self, argc: usize, number: impl Fn(usize) -> Option<i64>) -> Option<KeyIndexes> {
        let argc = argc as i64;
        let (first, last, step) = match self.positions {
            KeyPositions::Range { first, last, step } => {
                let first = i64::from(first);
                let last = if last >= 0 { first + i64::from(last) } else { argc + i64::from(last) };
                (first, last, i64::from(step))
            }
            KeyPositions::Counted { count, first, step } => {
                let keys = number(count as usize)?;
                if keys < 0 || keys > argc {
                    return None;
                }
                let first = i64::from(first);
                (first, first + (keys - 1) * i64::from(step), i64::from(step))
            }
        };
        if first >= argc || last >= argc || last < first {
            return None;
        }
        Some(KeyIndexes { next: first as usize, last: last as usize, step: step as usize })
    }
}

/// The indexes of a command's keys, in order.
#[derive(Clone, Copy, Debug)]
pub struct KeyIndexes {
    next: usize,
    last: usize,
    step: usize,
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
