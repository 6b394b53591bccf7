//! Who is subscribed to what: one client, and all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use indexmap::IndexSet;

use super::key::ClientKey;
use crate::base::glob::Glob;

/// What a subscription takes beside its name, in bytes.
const SUBSCRIPTION_BYTES: usize = 64;

/// Clients in no order that anybody relies on; one is found and removed at once, however many there are.
pub type Listeners = IndexSet<ClientKey>;

/// Subscribers by name.
pub(super) type Subscribers = HashMap<Box<[u8]>, Listeners>;

/// A pattern somebody is subscribed to.
pub(super) struct Pattern {
    /// Compiled once, matched with every message.
    pub(super) glob: Glob,
    pub(super) clients: Listeners,
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
    pub(super) channels: Subscribers,
    /// In order.
    pub(super) patterns: BTreeMap<Box<[u8]>, Pattern>,
    pub(super) shard_channels: Subscribers,
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
    pub(super) fn subscribe(&mut self, key: ClientKey, sets: &mut Subscriptions, kind: Kind, name: &[u8]) {
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
        listeners.insert(key);
    }

    /// Ends one subscription of a client, if it has it.
    pub(super) fn unsubscribe(&mut self, key: ClientKey, sets: &mut Subscriptions, kind: Kind, name: &[u8]) {
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

    pub(super) fn of(&self, kind: Kind) -> Option<&Subscribers> {
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
