//! The table's part of waiting for keys.

use super::key::ClientKey;
use super::table::Clients;
use super::waiting::KeysWait;
use crate::data::Dataset;

impl Clients {
    pub(crate) fn begin_waiting(&mut self, client: ClientKey, wait: &mut KeysWait, data: &mut Dataset) {
        self.waiters.begin(client, wait, data);
    }

    pub(crate) fn end_waiting(&mut self, client: ClientKey, wait: &KeysWait, data: &mut Dataset) {
        self.waiters.end(client, wait, data);
    }

    /// The first who waits for a key and came after `turn`, with its turn.
    pub(crate) fn next_waiter(&self, db: usize, key: &[u8], turn: u64) -> Option<(u64, ClientKey)> {
        self.waiters.next_after(db, key, turn)
    }

    /// When the first gives up who waits, in Unix milliseconds.
    #[must_use]
    pub fn next_wait_deadline_ms(&self) -> Option<i64> {
        self.waiters.next_deadline_ms()
    }

    /// One who has waited long enough.
    pub(crate) fn take_overdue(&mut self, now_ms: i64) -> Option<ClientKey> {
        self.waiters.take_due(now_ms)
    }

    /// A client that waited for keys was answered.
    pub(crate) fn wake(&mut self, client: ClientKey, id: u64) {
        self.woken.push((client, id));
    }
}
