//! What a client is told from outside its own command: messages, monitor lines, the end of its connection.
//! The client whose command runs is out of the table meanwhile; what is for it waits in [`Current`].

use tercel_resp::Version;

use super::client::{Client, Session};
use super::key::ClientKey;
use super::output::{Closing, ReplyMode};
use super::table::{Clients, Current};
use crate::command::reply::Reply;

impl Clients {
    /// The client whose command runs, if it is this one.
    pub(super) fn current_if(&mut self, key: ClientKey) -> Option<&mut Current> {
        self.current.iter_mut().chain(&mut self.outer).find(|current| current.key == key)
    }

    /// Makes a client the one whose command runs. `room` is the memory in bytes that replies to it may hold.
    pub fn enter(&mut self, key: ClientKey, version: Version, room: usize) {
        let mut pushes = self.current.take().map(|current| current.pushes).unwrap_or_default();
        pushes.version = version;
        pushes.clear();
        pushes.set_room(room);
        self.current = Some(Current { key, pushes, touched: Vec::new(), closing: None });
    }

    /// The command of another client is run before that of the current one is over.
    pub(crate) fn enter_inner(&mut self, key: ClientKey, version: Version, room: usize) {
        self.outer.extend(self.current.take());
        self.enter(key, version, room);
    }

    /// It is done.
    pub(crate) fn leave_inner(&mut self) {
        self.current = self.outer.pop();
    }

    /// No client's command runs any more; the buffer for messages to it is kept.
    pub fn leave(&mut self) {
        if let Some(current) = self.current.as_mut() {
            current.key = ClientKey::MAX;
        }
    }

    /// Messages to the client whose command runs; they follow its reply.
    pub fn own_messages(&mut self) -> Option<&mut Reply> {
        self.current.as_mut().map(|current| &mut current.pushes)
    }

    /// Hands the client whose command has run what was for it meanwhile.
    #[inline]
    pub fn settle_current(&mut self, session: &mut Session, out: &mut Reply) {
        let Some(current) = self.current.as_mut() else { return };
        if !current.pushes.is_empty() || current.pushes.is_over() {
            session.output.behind().unwrap_or(out).append(&mut current.pushes);
        }
        for (db, key, change) in current.touched.drain(..) {
            session.transaction.touch_watched(db, &key, change);
        }
        if let Some(how) = current.closing.take() {
            session.output.close(how);
        }
    }

    /// Writes to a client from outside its own command. `write` gets the client's reply side, or, for the
    /// client whose command is running, a side that follows its reply.
    pub fn write_to(&mut self, key: ClientKey, write: impl FnOnce(&mut Reply)) {
        if let Some(current) = self.current_if(key) {
            write(&mut current.pushes);
            return;
        }
        let rules = self.rules;
        let Some(client) = self.get_mut(key) else { return };
        if client.out.is_over() {
            return;
        }
        if !client.session.output.is_flush_queued {
            // What waits from before is not known here; it is counted when this turn's part has been handed
            // over.
            client.out.set_room(rules.room(&client.session, 0));
        }
        let room = client.out.room();
        let over = match client.session.output.behind() {
            Some(behind) => {
                behind.set_room(room);
                write(behind);
                behind.is_over()
            }
            None => {
                write(&mut client.out);
                client.out.is_over()
            }
        };
        self.queue_flush(key);
        if over {
            self.output_over(key);
        }
    }

    /// Ends a client's connection.
    pub fn close(&mut self, key: ClientKey, how: Closing) {
        if let Some(current) = self.current_if(key) {
            current.closing = Some(how);
            return;
        }
        if let Some(client) = self.get_mut(key)
            && !client.session.output.closes_now()
        {
            client.session.output.close(how);
            self.queue_close(key, how);
        }
    }

    /// Whether anybody runs MONITOR.
    #[must_use]
    #[inline]
    pub fn any_monitor(&self) -> bool {
        !self.monitors.is_empty()
    }

    /// Makes a client a monitor.
    pub fn add_monitor(&mut self, session: &mut Session) {
        session.is_monitor = true;
        self.monitors.insert(session.key());
    }

    /// A client is a monitor no more.
    pub fn remove_monitor(&mut self, session: &mut Session) {
        if std::mem::take(&mut session.is_monitor) {
            self.monitors.swap_remove(&session.key());
        }
    }

    /// Sends a line to all monitors. `current` is the client whose command ran, if it was a client's.
    pub fn tell_monitors(&mut self, line: &[u8], current: Option<(ClientKey, ReplyMode)>) {
        for &key in &self.monitors.clone() {
            // Lines are replies, to one that wants none as well.
            let mode = match current {
                Some((own, mode)) if own == key => Some(mode),
                _ => self.get(key).map(|client| client.session.output.reply_mode),
            };
            if mode != Some(ReplyMode::Off) {
                self.write_to(key, |out| out.encode(|into, _| tercel_resp::encode::simple(into, line)));
            }
        }
    }

    /// Removes a client with its subscriptions and watched keys.
    pub fn remove(&mut self, key: ClientKey) -> Option<Box<Client>> {
        let mut client = self.table.try_remove(key).flatten()?;
        let session = &mut client.session;
        self.by_id.remove(&session.id());
        self.unwatch_all(session);
        self.unsubscribe_all(session);
        self.remove_monitor(session);
        self.memory.forget(session);
        Some(client)
    }
}
