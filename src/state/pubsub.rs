//! Who is subscribed to what, and sending messages to them.

use std::collections::{BTreeMap, HashMap};

use indexmap::IndexSet;

use super::Core;
use crate::glob::Glob;
use crate::session::ClientKey;

/// Clients in no order that anybody relies on; one is found and removed at once, however many there are.
pub type Listeners = IndexSet<ClientKey>;

/// Subscribers by name.
pub type Subscribers = HashMap<Box<[u8]>, Listeners>;

/// A pattern somebody is subscribed to.
pub struct Pattern {
    /// Compiled once, matched with every message.
    pub glob: Glob,
    /// Its subscribers.
    pub clients: Listeners,
}

impl Pattern {
    /// Without subscribers.
    #[must_use]
    pub fn new(pattern: &[u8]) -> Self {
        Pattern { glob: Glob::new(pattern, false), clients: Listeners::new() }
    }
}

/// Subscriptions of all clients.
#[derive(Default)]
pub struct PubSub {
    /// Channels.
    pub channels: Subscribers,
    /// Patterns, in order.
    pub patterns: BTreeMap<Box<[u8]>, Pattern>,
    /// Shard channels.
    pub shard_channels: Subscribers,
}

/// Removes one client from those who listen; true if nobody is left.
pub fn forget(list: &mut Listeners, key: ClientKey) -> bool {
    list.swap_remove(&key);
    list.is_empty()
}

impl Core {
    /// Sends a message to a channel's subscribers and to the patterns that match it. Returns how
    /// many clients got it.
    pub fn publish(&mut self, channel: &[u8], message: &[u8]) -> usize {
        let mut receivers = 0;
        if let Some(list) = self.pubsub.channels.get(channel) {
            for &key in &list.clone() {
                self.write_to(key, |out| {
                    out.push(3);
                    out.bulk("message");
                    out.bulk(channel);
                    out.bulk(message);
                });
                receivers += 1;
            }
        }
        if self.pubsub.patterns.is_empty() {
            return receivers;
        }
        let matching: Vec<(Box<[u8]>, Listeners)> = self
            .pubsub
            .patterns
            .iter()
            .filter(|(_, pattern)| pattern.glob.matches(channel))
            .map(|(name, pattern)| (name.clone(), pattern.clients.clone()))
            .collect();
        for (pattern, list) in matching {
            for key in list {
                self.write_to(key, |out| {
                    out.push(4);
                    out.bulk("pmessage");
                    out.bulk(&pattern);
                    out.bulk(channel);
                    out.bulk(message);
                });
                receivers += 1;
            }
        }
        receivers
    }

    /// Sends a message to a shard channel's subscribers.
    pub fn publish_sharded(&mut self, channel: &[u8], message: &[u8]) -> usize {
        let Some(list) = self.pubsub.shard_channels.get(channel) else { return 0 };
        let list = list.clone();
        for &key in &list {
            self.write_to(key, |out| {
                out.push(3);
                out.bulk("smessage");
                out.bulk(channel);
                out.bulk(message);
            });
        }
        list.len()
    }
}
