//! Links: connections that the server wants. Their events and bytes go to their handlers and never to the table of
//! clients; what a handler does not take stays with the transport, up to its limit.

use tercel_transport::{Close, ConnId, Event, Transport};

use super::Executor;
use tercel_core::links::{Link, LinkEnd, LinkKey};

impl<T: Transport> Executor<T> {
    fn link_of(&self, conn: ConnId) -> Option<LinkKey> {
        self.by_link.get(&conn).copied()
    }

    /// Dials a link that the server asked for.
    pub(super) fn dial(&mut self, key: LinkKey) {
        let Some(link) = self.server.links().get(key).filter(|link| link.conn().is_none() && link.closing().is_none())
        else {
            return;
        };
        match self.transport.connect(link.to(), link.options()) {
            Ok(conn) => {
                self.by_link.insert(conn, key);
                self.server.links_mut().change(key, |link| {
                    link.dialled(conn);
                    self.transport.set_receive_limit(conn, link.receive_limit());
                });
            }
            Err(error) => self.server.end_link(key, LinkEnd::Impossible(error)),
        }
    }

    /// An event of a connection that is no client's. False if it is no link's either.
    pub(super) fn link_event(&mut self, event: &Event) -> bool {
        let Some(key) = event.conn().and_then(|conn| self.link_of(conn)) else { return false };
        match event {
            Event::Connected(_) => {
                self.server.links_mut().change(key, Link::stands);
                self.server.call_link(key, |handler, server, link| handler.up(server, link));
            }
            Event::Readable(_) => self.receive_from_link(key),
            Event::Drained(conn) => {
                self.note_held(*conn, key);
                self.server.call_link(key, |handler, server, link| handler.drained(server, link));
            }
            Event::Hangup(_, why) => {
                self.server.links_mut().change(key, |link| link.hang_up(*why));
                self.receive_from_link(key);
            }
            Event::Accepted(_) | Event::AcceptError(_) | Event::Wake => {}
        }
        true
    }

    /// Shows a link's handler what was received, and ends the link if it is over.
    fn receive_from_link(&mut self, key: LinkKey) {
        let Some(link) = self.server.links().get(key) else { return };
        let Some(conn) = link.conn() else { return };
        if link.receives() {
            let received = self.transport.received(conn);
            let len = received.len();
            if len > 0 {
                let taken = self
                    .server
                    .call_link(key, |handler, server, link| handler.received(server, link, received).min(len))
                    .unwrap_or(0);
                self.transport.consume(conn, taken);
                let Some(link) = self.server.links().get(key) else { return };
                if taken == 0 && len >= link.receive_limit() && !link.is_paused() && link.closing().is_none() {
                    // It could never go on: nothing more is read, and nothing is taken.
                    self.end_link(conn, key, LinkEnd::Overlong);
                    return;
                }
            }
            self.note_held(conn, key);
        }
        if let Some(link) = self.server.links().get(key)
            && let Some(why) = link.over()
            && link.closing().is_none()
        {
            self.end_link(conn, key, why);
        }
    }

    fn end_link(&mut self, conn: ConnId, key: LinkKey, why: LinkEnd) {
        self.by_link.remove(&conn);
        self.transport.close(conn, Close::Abort);
        self.server.end_link(key, why);
    }

    fn note_held(&mut self, conn: ConnId, key: LinkKey) {
        let (unsent_len, memory) = (self.transport.unsent(conn), self.transport.memory(conn));
        self.server.links_mut().change(key, |link| link.note_held(unsent_len, memory));
    }

    /// Does what the links ask for: sends what they have to send, shows them again what they held back, closes
    /// them. What handlers ask for meanwhile is the next turn's, but for what they send.
    pub(super) fn serve_links(&mut self) {
        let work = self.server.links_mut().take_work();
        for &key in &work {
            let again = self.server.links_mut().change(key, |link| {
                if let (Some(conn), Some(limit)) = (link.conn(), link.take_receive_limit()) {
                    self.transport.set_receive_limit(conn, limit);
                }
                link.take_again()
            });
            if again == Some(true) {
                self.receive_from_link(key);
            }
        }
        let mut sent = Vec::new();
        for key in work {
            let Some(link) = self.server.links().get(key) else { continue };
            let (conn, closing) = (link.conn(), link.closing());
            if let Some(conn) = conn
                && let Some(Some(buf)) = self.server.links_mut().change(key, Link::take_output)
            {
                self.transport.send(conn, buf);
                sent.push((conn, key));
            }
            if let Some(how) = closing {
                if let Some(conn) = conn {
                    self.by_link.remove(&conn);
                    self.transport.close(conn, how);
                }
                self.server.links_mut().remove(key);
            }
        }
        if !sent.is_empty() {
            self.transport.flush();
        }
        for (conn, key) in sent {
            self.note_held(conn, key);
        }
    }

    /// Tells the handlers whose time has come.
    pub(super) fn overdue_links(&mut self) {
        let now_ms = self.server.now().unix_ms;
        for key in self.server.links().overdue(now_ms) {
            self.server.call_link(key, |handler, server, link| {
                link.set_deadline_ms(None);
                handler.overdue(server, link);
            });
        }
    }

    /// The server ends: what links have sent still leaves.
    pub(super) fn close_links(&mut self) {
        if self.server.links().has_work() {
            self.serve_links();
        }
        for (conn, _) in self.by_link.drain() {
            self.transport.close(conn, Close::Drain);
        }
    }
}
