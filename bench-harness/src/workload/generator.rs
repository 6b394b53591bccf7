//! Drawing requests, one after the other, without allocating.

use std::sync::Arc;

use anyhow::ensure;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};
use tercel_resp::encode;

use super::Workload;
use super::effect::{Effect, Lifetime, VERSION_DELETED, VERSION_LAST, VERSION_UNKNOWN, version_of_literal};
use super::keys::{KeySource, below};
use super::op::{Issued, Op};
use super::template::{Part, Piece, Placeholder, write_digits};

/// Draws requests; one a load thread.
pub struct Generator {
    workload: Arc<Workload>,
    draw: Draw,
}

/// What changes from request to request.
struct Draw {
    rng: Xoshiro256PlusPlus,
    source: KeySource,
    sequence: u64,
    next_replayed: usize,
    /// Connections of all threads, and which of them is this thread's first: the owners of keys.
    conns: (u64, u64),
    versions: Vec<u32>,
    /// Of each key, if keys expire.
    deadlines_ns: Vec<u64>,
    now_ns: u64,
    argument: Vec<u8>,
}

impl Generator {
    /// The generator of thread `thread`, which owns the connections from `conn_first` on of
    /// `conns`.
    ///
    /// # Errors
    /// Verification with more connections than keys.
    pub fn new(workload: Arc<Workload>, thread: u64, conn_first: u64, conns: u64) -> anyhow::Result<Self> {
        let (mut versions, mut deadlines_ns) = (Vec::new(), Vec::new());
        if workload.verify {
            ensure!(workload.keys >= conns, "--verify wants at least as many keys as connections");
            versions = vec![if workload.preload { 0 } else { VERSION_UNKNOWN }; workload.keys as usize];
        }
        if workload.verify && workload.expires {
            deadlines_ns = (0..workload.keys).map(|key| workload.preload_deadline_ns(key)).collect();
        }
        let offset = workload.keys / conns.max(1) * conn_first;
        let next_replayed =
            workload.replay.as_ref().map_or(0, |replay| (replay.len() as u64 * conn_first / conns.max(1)) as usize);
        let draw = Draw {
            rng: Xoshiro256PlusPlus::seed_from_u64(
                workload.seed.wrapping_add(thread.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            ),
            source: KeySource::new(workload.distribution, workload.keys, offset)?,
            sequence: 0,
            next_replayed,
            conns: (conns, conn_first),
            versions,
            deadlines_ns,
            now_ns: 0,
            argument: Vec::with_capacity(workload.values.len_max() + 64),
        };
        Ok(Generator { workload, draw })
    }

    /// The workload it draws from.
    #[must_use]
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// Appends the next request for this thread's connection `conn`.
    #[inline]
    pub fn next(&mut self, out: &mut Vec<u8>, conn: usize) -> Issued {
        self.draw.next(&self.workload, out, conn)
    }

    /// Tells the time, which must not be after that of the next request's sending.
    #[inline]
    pub fn set_now_ns(&mut self, now_ns: u64) {
        self.draw.now_ns = now_ns;
    }

    /// Draws which command the next request would be, without writing it.
    pub fn next_op(&mut self) -> u8 {
        self.draw.op(&self.workload)
    }

    /// Which share of the requests each command has; they add up to 1.
    #[must_use]
    pub fn op_shares(&self) -> Vec<f64> {
        if let Some(replay) = &self.workload.replay {
            return replay.shares();
        }
        let mut begin = 0.0;
        let share = |end: &u64| {
            let end = *end as f64 / u64::MAX as f64;
            end - std::mem::replace(&mut begin, end)
        };
        self.workload.shares.iter().map(share).collect()
    }

    /// Whether a whole reply that came at `now_ns` is what this command must get: `Err` says what is wrong. `Ok(false)`:
    /// nothing is known to compare it with.
    ///
    /// # Errors
    /// The reply differs from what was written.
    pub fn check(&self, issued: Issued, reply: &[u8], now_ns: u64) -> Result<bool, String> {
        self.workload.check(issued, reply, now_ns)
    }
}

impl Draw {
    #[inline]
    fn op(&mut self, workload: &Workload) -> u8 {
        if let Some(replay) = &workload.replay {
            let op = replay.command(self.next_replayed).1;
            self.next_replayed = if self.next_replayed + 1 == replay.len() { 0 } else { self.next_replayed + 1 };
            return op;
        }
        match *workload.shares {
            [_] => 0,
            _ => {
                let at = self.rng.next_u64();
                workload.shares.iter().position(|&end| at <= end).unwrap_or(0) as u8
            }
        }
    }

    #[inline]
    fn next(&mut self, workload: &Workload, out: &mut Vec<u8>, conn: usize) -> Issued {
        if let Some(replay) = &workload.replay {
            out.extend_from_slice(replay.command(self.next_replayed).0);
            return Issued { op: self.op(workload), key: 0, version: 0, deadline_ns: u64::MAX };
        }
        let op = self.op(workload);
        let mut issued = Issued { op, key: 0, version: 0, deadline_ns: u64::MAX };
        let Op { template, effect, lifetime, .. } = &workload.ops[usize::from(op)];
        if workload.verify && template.has_key {
            issued.key = self.own_key(workload.keys, conn);
            let version = &mut self.versions[issued.key as usize];
            match effect {
                Effect::Write => *version = if *version >= VERSION_LAST { 1 } else { *version + 1 },
                Effect::WriteLiteral(_) => *version = version_of_literal(op),
                Effect::Delete => *version = VERSION_DELETED,
                Effect::Read | Effect::Other => {}
            }
            issued.version = *version;
            if let Some(deadline_ns) = self.deadlines_ns.get_mut(issued.key as usize) {
                match lifetime {
                    Lifetime::Kept => {}
                    Lifetime::Unlimited => *deadline_ns = u64::MAX,
                    Lifetime::LeastNs(least_ns) => *deadline_ns = self.now_ns.saturating_add(*least_ns),
                }
                issued.deadline_ns = *deadline_ns;
            }
        }
        for piece in &template.pieces {
            match piece {
                Piece::Literal(bytes) => out.extend_from_slice(bytes),
                Piece::Digits(what) => {
                    let number = self.number(workload, *what, &mut issued);
                    write_digits(out, number);
                }
                Piece::Variable(parts) => self.variable(workload, out, parts, &mut issued),
            }
        }
        issued
    }

    fn variable(&mut self, workload: &Workload, out: &mut Vec<u8>, parts: &[Part], issued: &mut Issued) {
        if let [Part::Fill(Placeholder::Value)] = parts {
            let value = if workload.verify {
                workload.values.of(issued.key, issued.version)
            } else {
                workload.values.any(&mut self.rng)
            };
            encode::bulk(out, value);
            return;
        }
        let mut argument = std::mem::take(&mut self.argument);
        argument.clear();
        for part in parts {
            match part {
                Part::Text(text) => argument.extend_from_slice(text),
                Part::Fill(Placeholder::Value) => argument.extend_from_slice(workload.values.any(&mut self.rng)),
                Part::Fill(Placeholder::Ttl) => {
                    let (low, high) = workload.ttl;
                    // Without leading zeros, which servers refuse.
                    push_decimal(&mut argument, low + below(&mut self.rng, high - low + 1));
                }
                Part::Fill(what) => {
                    let number = self.number(workload, *what, issued);
                    write_digits(&mut argument, number);
                }
            }
        }
        encode::bulk(out, &argument);
        self.argument = argument;
    }

    #[inline]
    fn number(&mut self, workload: &Workload, what: Placeholder, issued: &mut Issued) -> u64 {
        match what {
            Placeholder::Int => below(&mut self.rng, workload.keys),
            Placeholder::Seq => {
                self.sequence += 1;
                self.sequence - 1
            }
            _ if workload.verify => issued.key,
            _ => {
                issued.key = self.source.next(&mut self.rng);
                issued.key
            }
        }
    }

    /// A key that belongs to a connection: only that one touches it, so its order is known.
    fn own_key(&mut self, keys: u64, conn: usize) -> u64 {
        let (conns, first) = self.conns;
        let own = first + conn as u64;
        let key = self.source.next(&mut self.rng);
        let key = key - key % conns + own % conns;
        if key < keys { key } else { key - conns }
    }
}

fn push_decimal(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0u8; 20];
    let (mut at, mut rest) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
