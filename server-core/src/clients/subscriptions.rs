//! Who is subscribed to what, and sending messages to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use indexmap::IndexSet;

use super::client::{ClientKey, Session};
use super::table::Clients;
use crate::base::glob::Glob;

/// What a subscription takes beside its name, in bytes.
const SUBSCRIPTION_BYTES: usize = 64;

/// Clients in no order that anybody relies on; one is found and removed at once, however many there are.
pub type Listeners = IndexSet<ClientKey>;

/// Subscribers by name.
type Subscribers = HashMap<Box<[u8]>, Listeners>;

/// A pattern somebody is subscribed to.
struct Pattern {
    /// Compiled once, matched with every message.
    glob: Glob,
    clients: Listeners,
}

impl Pattern {
    /// Without subscribers.
    fn new(pattern: &[u8]) -> Self {
        Pattern { glob: Glob::new(pattern, false), clients: Listeners::new() }
    }
}

/// Subscriptions of all clients.
#[derive(Default)]
pub(super) struct PubSub {
    channels: Subscribers,
    /// In order.
    patterns: BTreeMap<Box<[u8]>, Pattern>,
    shard_channels: Subscribers,
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

/// The subscriptions of a client.
#[derive(Default)]
pub struct Subscriptions {
    channels: BTreeSet<Box<[u8]>>,
    patterns: BTreeSet<Box<[u8]>>,
    /// What the patterns take compiled, in bytes. Who shares one with others is charged for all of it: he may
    /// be the last who keeps it.
    patterns_memory: usize,
    shard_channels: BTreeSet<Box<[u8]>>,
    /// Bytes of all their names.
    names_len: usize,
}

impl Subscriptions {
    /// Memory in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.names_len + self.patterns_memory + (self.count() + self.shard_channels.len()) * SUBSCRIPTION_BYTES
    }

    /// How many there are of one kind.
    #[must_use]
    pub fn len(&self, kind: Kind) -> usize {
        self.of(kind).len()
    }

    /// The names of one kind.
    #[must_use]
    pub fn names(&self, kind: Kind) -> Vec<Box<[u8]>> {
        self.of(kind).iter().cloned().collect()
    }

    /// How many there are, as replies about this kind count them.
    #[must_use]
    pub fn counted(&self, kind: Kind) -> usize {
        match kind {
            Kind::Shard => self.shard_channels.len(),
            _ => self.count(),
        }
    }

    fn of(&self, kind: Kind) -> &BTreeSet<Box<[u8]>> {
        match kind {
            Kind::Channel => &self.channels,
            Kind::Pattern => &self.patterns,
            Kind::Shard => &self.shard_channels,
        }
    }

    /// Channels and patterns together.
    fn count(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    /// Whether there is none of any kind.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count() == 0 && self.shard_channels.is_empty()
    }
}

impl PubSub {
    /// Subscribes a client, if it is not subscribed already.
    fn subscribe(&mut self, session: &mut Session, kind: Kind, name: &[u8]) {
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
        listeners.insert(session.key());
    }

    /// Ends one subscription of a client, if it has it.
    fn unsubscribe(&mut self, session: &mut Session, kind: Kind, name: &[u8]) {
        let key = session.key();
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

    fn of(&self, kind: Kind) -> Option<&Subscribers> {
        match kind {
            Kind::Channel => Some(&self.channels),
            Kind::Shard => Some(&self.shard_channels),
            Kind::Pattern => None,
        }
    }
}

/// Removes one client from those who listen; true if nobody is left.
pub(super) fn forget(list: &mut Listeners, key: ClientKey) -> bool {
    list.swap_remove(&key);
    list.is_empty()
}

impl Clients {
    /// Subscribes a client, if it is not subscribed already. Returns what the confirmation counts.
    pub fn subscribe(&mut self, session: &mut Session, kind: Kind, name: &[u8]) -> usize {
        self.pubsub.subscribe(session, kind, name);
        session.subscriptions.counted(kind)
    }

    /// Ends one subscription of a client, if it has it. Returns what the confirmation counts.
    pub fn unsubscribe(&mut self, session: &mut Session, kind: Kind, name: &[u8]) -> usize {
        self.pubsub.unsubscribe(session, kind, name);
        session.subscriptions.counted(kind)
    }

    /// Ends all subscriptions of a client.
    pub fn unsubscribe_all(&mut self, session: &mut Session) {
        for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
            for name in session.subscriptions.names(kind) {
                self.pubsub.unsubscribe(session, kind, &name);
            }
        }
    }

    /// Channels, or shard channels, that have subscribers, in no order; of patterns there are no channels.
    pub fn channels(&self, kind: Kind) -> impl Iterator<Item = &[u8]> {
        self.pubsub.of(kind).into_iter().flat_map(|channels| channels.keys().map(|name| &**name))
    }

    /// How many channels, patterns or shard channels have subscribers.
    #[must_use]
    pub fn channels_len(&self, kind: Kind) -> usize {
        self.pubsub.of(kind).map_or(self.pubsub.patterns.len(), HashMap::len)
    }

    /// How many are subscribed to a channel or shard channel.
    #[must_use]
    pub fn subscribers_len(&self, kind: Kind, name: &[u8]) -> usize {
        self.pubsub.of(kind).and_then(|channels| channels.get(name)).map_or(0, Listeners::len)
    }

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
