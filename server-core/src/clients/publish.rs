//! Subscribing and unsubscribing, and sending messages to subscribers.

use std::collections::HashMap;

use super::client::Session;
use super::subscriptions::{Kind, Listeners};
use super::table::Clients;

impl Clients {
    /// Subscribes a client, if it is not subscribed already. Returns what the confirmation counts.
    pub fn subscribe(&mut self, session: &mut Session, kind: Kind, name: &[u8]) -> usize {
        self.pubsub.subscribe(session.key(), &mut session.subscriptions, kind, name);
        session.subscriptions.counted(kind)
    }

    /// Ends one subscription of a client, if it has it. Returns what the confirmation counts.
    pub fn unsubscribe(&mut self, session: &mut Session, kind: Kind, name: &[u8]) -> usize {
        self.pubsub.unsubscribe(session.key(), &mut session.subscriptions, kind, name);
        session.subscriptions.counted(kind)
    }

    /// Ends all subscriptions of a client.
    pub fn unsubscribe_all(&mut self, session: &mut Session) {
        for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
            for name in session.subscriptions.names(kind) {
                self.pubsub.unsubscribe(session.key(), &mut session.subscriptions, kind, &name);
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
