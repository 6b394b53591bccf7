//! What a link's bytes mean is its handler's matter; here it is said what a handler is, and how one is called.
//! The executor calls, with bytes; a handler changes the server it is lent, and leaves with the link what it has
//! to send.

use tercel_transport::{Address, ConnectOptions};

use super::{Request, Server};
use crate::links::{Link, LinkEnd, LinkKey, Links};

/// Gives a link's bytes their meaning. After [`LinkHandler::ended`], or once the handler has closed the link, it
/// is called no more.
pub trait LinkHandler {
    /// The link stands. What was sent before is on its way.
    fn up(&mut self, server: &mut Server, link: &mut Link);

    /// Bytes that were received and not taken: more may follow behind them, at any byte. Returns how many it
    /// takes; what is left is shown again with what has come meanwhile.
    fn received(&mut self, server: &mut Server, link: &mut Link, bytes: &[u8]) -> usize;

    /// All that was sent in former turns has left, after some of it could not at once.
    fn drained(&mut self, _server: &mut Server, _link: &mut Link) {}

    /// The time has come that the link was set to, which is none now.
    fn overdue(&mut self, _server: &mut Server, _link: &mut Link) {}

    /// The link is over, by no doing of the handler's; told once.
    fn ended(&mut self, server: &mut Server, why: LinkEnd);
}

/// The links of a server.
pub type ServerLinks = Links<Box<dyn LinkHandler>>;

impl Server {
    /// Opens a link; the executor dials within this turn.
    pub fn open_link(&mut self, to: Address, options: ConnectOptions, handler: Box<dyn LinkHandler>) -> LinkKey {
        let key = self.links.insert(to, options, handler);
        self.requests.push(Request::Connect(key));
        key
    }

    /// The links.
    #[must_use]
    #[inline]
    pub fn links(&self) -> &ServerLinks {
        &self.links
    }

    /// The links, to send by them and to end them.
    #[inline]
    pub fn links_mut(&mut self) -> &mut ServerLinks {
        &mut self.links
    }

    /// Calls a link's handler; `None` if the link is not there or is to end, or its handler is at work. What the
    /// handler changed is settled.
    pub fn call_link<R>(
        &mut self,
        key: LinkKey,
        call: impl FnOnce(&mut dyn LinkHandler, &mut Server, &mut Link) -> R,
    ) -> Option<R> {
        if self.links.get(key)?.closing().is_some() {
            return None;
        }
        let (mut link, mut handler) = self.links.take(key)?;
        let result = call(&mut *handler, self, &mut link);
        self.links.put(key, link, handler);
        self.settle_slice();
        Some(result)
    }

    /// A link is over: its handler hears it as the last.
    pub fn end_link(&mut self, key: LinkKey, why: LinkEnd) {
        let Some((link, mut handler)) = self.links.remove(key) else { return };
        if link.closing().is_none() {
            handler.ended(self, why);
            self.settle_slice();
        }
    }
}
