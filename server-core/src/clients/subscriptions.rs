//! Who is subscribed to what, and sending messages to them.

use std::collections::{BTreeMap, HashMap};

use indexmap::IndexSet;

use crate::base::glob::Glob;
use crate::clients::client::{ClientKey, Session};
use crate::server::Core;

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

/// Kinds of subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A channel.
    Channel,
    /// All channels that match a pattern.
    Pattern,
    /// A shard channel.
    Shard,
}

impl Kind {
    /// How many subscriptions a client has, as replies about this kind count them.
    #[must_use]
    pub fn count(self, session: &Session) -> usize {
        match self {
            Kind::Shard => session.subscriptions.shard_channels.len(),
            _ => session.subscriptions.count(),
        }
    }

    /// What of this kind a client is subscribed to.
    #[must_use]
    pub fn names(self, session: &Session) -> Vec<Box<[u8]>> {
        let sets = &session.subscriptions;
        match self {
            Kind::Channel => &sets.channels,
            Kind::Pattern => &sets.patterns,
            Kind::Shard => &sets.shard_channels,
        }
        .iter()
        .cloned()
        .collect()
    }
}

impl PubSub {
    /// Subscribes a client, if it is not subscribed already.
    pub fn subscribe(&mut self, session: &mut Session, kind: Kind, name: &[u8]) {
        let sets = &mut session.subscriptions;
        let is_new = match kind {
            Kind::Channel => sets.channels.insert(name.into()),
            Kind::Pattern => sets.patterns.insert(name.into()),
            Kind::Shard => sets.shard_channels.insert(name.into()),
        };
        if !is_new {
            return;
        }
        sets.names_len += name.len();
        let listeners = match kind {
            Kind::Channel => self.channels.entry(name.into()).or_default(),
            Kind::Pattern => {
                let pattern = self.patterns.entry(name.into()).or_insert_with(|| Pattern::new(name));
                sets.patterns_memory += pattern.glob.memory();
                &mut pattern.clients
            }
            Kind::Shard => self.shard_channels.entry(name.into()).or_default(),
        };
        listeners.insert(session.key);
    }

    /// Ends one subscription of a client, if it has it.
    pub fn unsubscribe(&mut self, session: &mut Session, kind: Kind, name: &[u8]) {
        let key = session.key;
        let sets = &mut session.subscriptions;
        let was_there = match kind {
            Kind::Channel => sets.channels.remove(name),
            Kind::Pattern => sets.patterns.remove(name),
            Kind::Shard => sets.shard_channels.remove(name),
        };
        if !was_there {
            return;
        }
        sets.names_len -= name.len();
        let nobody_left = |listeners: Option<&mut Listeners>| listeners.is_some_and(|listeners| forget(listeners, key));
        match kind {
            Kind::Channel if nobody_left(self.channels.get_mut(name)) => drop(self.channels.remove(name)),
            Kind::Pattern => {
                if let Some(pattern) = self.patterns.get_mut(name) {
                    sets.patterns_memory -= pattern.glob.memory();
                    if forget(&mut pattern.clients, key) {
                        self.patterns.remove(name);
                    }
                }
            }
            Kind::Shard if nobody_left(self.shard_channels.get_mut(name)) => drop(self.shard_channels.remove(name)),
            _ => {}
        }
    }

    /// Ends all subscriptions of a client.
    pub fn unsubscribe_all(&mut self, session: &mut Session) {
        for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
            for name in kind.names(session) {
                self.unsubscribe(session, kind, &name);
            }
        }
    }
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
