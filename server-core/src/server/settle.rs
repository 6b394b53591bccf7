//! What follows from what happened in one part for the others: watchers are told, notifications published,
//! the data knows what anybody wants to hear of and whether a pause is in force.

use super::Server;
use crate::clients::table::Pause;
use crate::clients::{Client, ClientKey, KeysWait, Session};
use crate::command::event_class as class;
use crate::data::events::{Event, WATCHED, What};

impl Server {
    /// Tells the data which events anybody wants to hear of.
    pub(super) fn update_interest(&mut self) {
        let on = self.settings.notify_keyspace_events.0;
        let told = if on & (class::KEYSPACE | class::KEYEVENT) == 0 { 0 } else { on };
        self.data.set_interest(told | if self.clients.any_watched() { WATCHED } else { 0 });
    }

    /// Passes on what happened to keys since it was last called.
    #[inline]
    pub fn settle(&mut self) {
        if self.data.has_events() {
            self.settle_now();
        }
    }

    fn settle_now(&mut self) {
        let on = self.settings.notify_keyspace_events.0;
        for Event { db, key, what } in self.data.take_events() {
            match what {
                What::Changed { gone } => self.clients.tell_watchers(db, &key, gone.into()),
                What::Told { name, .. } => self.clients.publish_event(on, name, db, &key),
            }
        }
    }

    /// Begins to watch a key for a client.
    pub fn watch(&mut self, session: &mut Session, db: usize, key: &[u8], expired: bool) {
        if self.clients.watch(session, db, key, expired) {
            self.update_interest();
        }
    }

    /// Forgets all keys a client watches, and that one changed.
    pub fn unwatch_all(&mut self, session: &mut Session) {
        if self.clients.unwatch_all(session) {
            self.update_interest();
        }
    }

    /// Ends a client's transaction without running it.
    pub fn end_transaction(&mut self, session: &mut Session) {
        session.transaction.take_queue();
        self.unwatch_all(session);
    }

    /// Empties a database; who watches its keys is told.
    pub fn flush_db(&mut self, db: usize) {
        self.clients.touch_watched_db(&self.data, db, None);
        self.data.flush(db);
    }

    /// Exchanges two databases; who watches their keys is told.
    pub fn swap_dbs(&mut self, first: usize, second: usize) {
        self.clients.touch_watched_db(&self.data, first, Some(second));
        self.clients.touch_watched_db(&self.data, second, Some(first));
        self.data.swap(first, second);
    }

    /// A client begins to wait for keys.
    pub(crate) fn begin_waiting(&mut self, client: ClientKey, wait: &mut KeysWait) {
        self.clients.begin_waiting(client, wait, &mut self.data);
    }

    /// A client waits for keys no longer.
    pub(crate) fn end_waiting(&mut self, client: ClientKey, wait: &KeysWait) {
        self.clients.end_waiting(client, wait, &mut self.data);
    }

    /// Sets or ends a pause.
    pub fn set_pause(&mut self, pause: Option<Pause>) {
        self.clients.set_pause(pause);
        self.data.set_pause(pause.map(|pause| pause.until_ms));
        if pause.is_none() {
            // Who was not served for it is looked at again.
            self.data.look_at_all_awaited();
        }
    }

    /// The pause in force; one that is over is ended.
    #[inline]
    pub fn pause(&mut self) -> Option<Pause> {
        let pause = self.clients.pause()?;
        if pause.until_ms > self.now.unix_ms {
            return Some(pause);
        }
        self.set_pause(None);
        None
    }

    /// Removes a client with everything that is known of it; the rest is the transport's.
    pub fn remove_client(&mut self, key: ClientKey) -> Option<Box<Client>> {
        let mut client = self.clients.remove(key)?;
        if let Some(sliced) = client.caller.sliced() {
            sliced.job.abandon(&mut self.data);
            self.clients.end_sliced();
        }
        if let Some(wait) = client.caller.keys_wait() {
            self.clients.end_waiting(key, wait, &mut self.data);
        }
        self.data.set_untouched(client.session.input.promised(), 0);
        self.update_interest();
        Some(client)
    }

    /// Sets a client back to how it began, but for its protocol, which is its reply's.
    pub fn reset_session(&mut self, session: &mut Session) {
        self.end_transaction(session);
        self.clients.unsubscribe_all(session);
        self.clients.remove_monitor(session);
        session.names.name.clear();
        session.modes = crate::clients::client::Modes::default();
        session.output.reply_mode = crate::clients::output::ReplyMode::On;
        session.forget_password(!self.settings.requirepass.is_empty());
    }
}
