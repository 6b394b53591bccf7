//! What clients may hold of the server's memory: how much one may be owed, how much a stranger may send,
//! and the account of all clients together that `maxmemory-clients` bounds. Counts bytes held where they are
//! more than bytes long. Knows no transport: what that holds for a client it is told in [`Held`](super::output::Held).

use std::collections::BTreeSet;

use super::client::Session;
use super::key::{ClientClass, ClientKey};
use crate::settings::{MemoryOrPercent, OutputLimit, Settings};

/// Replies that a client without a password may be owed, in bytes. Valkey's own bound is the reply buffer of
/// a client and a kibibyte.
const UNAUTHENTICATED_OUTPUT_BYTES_MAX: usize = 17 * 1024;
/// What it may send without being understood, in bytes: ten arguments of 16 KiB, as the protocol's own
/// limits allow, with what frames them.
pub const UNAUTHENTICATED_QUERY_BYTES_MAX: usize = 192 * 1024;
/// A buffer is lent as a whole: as much does not count as held.
const LENT_BYTES: usize = 16 * 1024;
/// A smaller limit of all clients together counts as this, as in Valkey: it would leave nobody to change it.
const CLIENTS_BYTES_MIN: usize = 128 * 1024;
/// Clients are told apart by size in steps of this many bytes.
const SIZE_STEP_BITS: u32 = 14;

/// What of the settings the clients' limits go by.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// By class of client.
    output: [OutputLimit; 3],
    /// Memory of all clients together that is allowed, in bytes; 0 for any.
    pub(super) all_max: usize,
}

impl Rules {
    pub(super) fn of(settings: &Settings) -> Self {
        let max = match settings.maxmemory_clients {
            MemoryOrPercent::Bytes(bytes) => bytes as usize,
            MemoryOrPercent::Percent(percent) => (settings.maxmemory.0 / 100 * percent) as usize,
        };
        Rules {
            output: settings.client_output_buffer_limit.0,
            all_max: if max == 0 { 0 } else { max.max(CLIENTS_BYTES_MIN) },
        }
    }

    /// What everything a client is owed may count for, in bytes, and whether the bound is that of all clients.
    #[inline]
    pub(super) fn bound(&self, session: &Session) -> (usize, bool) {
        let hard = self.output[session.class() as usize].hard as usize;
        let mut bound = if hard == 0 { usize::MAX } else { hard };
        if session.is_stranger() {
            bound = bound.min(UNAUTHENTICATED_OUTPUT_BYTES_MAX);
        }
        // One that takes more than all clients may is the one that will be evicted.
        if self.all_max > 0 && !session.modes.no_evict && self.all_max < bound {
            (self.all_max, true)
        } else {
            (bound, false)
        }
    }

    /// The soft limit of a class of clients: bytes, 0 for none, and seconds.
    pub(super) fn soft(&self, class: ClientClass) -> (usize, u64) {
        let limit = self.output[class as usize];
        (limit.soft as usize, limit.soft_seconds)
    }

    /// What further replies to a client may count for, when those that wait count for `counted` bytes.
    #[inline]
    pub(super) fn room(&self, session: &Session, counted: usize) -> usize {
        self.bound(session).0.saturating_sub(counted)
    }
}

/// What replies that wait count for against limits, in bytes: their length, or half of what they hold, if that
/// is more. Buffers are full or nearly so, and then it is the length that counts, as a client sees it.
#[must_use]
#[inline]
pub fn counted(len: usize, memory: usize) -> usize {
    len.max(memory.saturating_sub(LENT_BYTES) / 2)
}

/// The account of all clients. Kept only while there is a limit.
#[derive(Default)]
pub(super) struct ClientMemory {
    total: usize,
    /// Clients that may be evicted, by size.
    by_size: BTreeSet<(usize, ClientKey)>,
}

impl ClientMemory {
    /// Memory of all clients in bytes.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Puts down what a client takes now.
    pub(super) fn set(&mut self, session: &mut Session, bytes: usize) {
        let size = (!session.modes.no_evict).then_some(bytes >> SIZE_STEP_BITS);
        self.total = self.total - session.accounted.bytes + bytes;
        session.accounted.bytes = bytes;
        if size != session.accounted.size {
            if let Some(old) = session.accounted.size {
                self.by_size.remove(&(old, session.key));
            }
            if let Some(new) = size {
                self.by_size.insert((new, session.key));
            }
            session.accounted.size = size;
        }
    }

    /// Takes a client off.
    pub(super) fn forget(&mut self, session: &mut Session) {
        let accounted = std::mem::take(&mut session.accounted);
        self.total -= accounted.bytes;
        if let Some(size) = accounted.size {
            self.by_size.remove(&(size, session.key));
        }
    }

    /// The largest client that may be evicted.
    pub(super) fn largest(&self) -> Option<ClientKey> {
        self.by_size.last().map(|(_, key)| *key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tercel_transport::{ConnId, Peer};

    fn session(key: ClientKey) -> Session {
        let mut session = Session::new(key as u64, ConnId { index: 0, generation: 0 }, Peer::Memory(0), 0);
        session.key = key;
        session
    }

    #[test]
    fn the_account_follows_its_clients() {
        let mut memory = ClientMemory::default();
        let mut clients: Vec<Session> = (0..20).map(session).collect();
        for round in 0..2000usize {
            let at = round * 7 % clients.len();
            clients[at].modes.no_evict = round % 11 == 3;
            let bytes = round * 7919 % 5_000_000;
            memory.set(&mut clients[at], bytes);
            assert_eq!(memory.total(), clients.iter().map(|client| client.accounted.bytes).sum::<usize>());
            let evictable = clients.iter().filter(|client| client.accounted.size.is_some());
            let largest = evictable.map(|client| client.accounted.bytes >> SIZE_STEP_BITS).max();
            assert_eq!(memory.largest().map(|key| clients[key].accounted.bytes >> SIZE_STEP_BITS), largest);
        }
        for client in &mut clients {
            memory.forget(client);
        }
        assert_eq!((memory.total(), memory.largest()), (0, None));
    }
}
