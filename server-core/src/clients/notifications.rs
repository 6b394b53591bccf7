//! Keyspace notifications: publishing events.

use super::table::Clients;
use crate::command::event_class as class;

impl Clients {
    /// Publishes an event about a key on the channels that are on, [`class::KEYSPACE`] and
    /// [`class::KEYEVENT`].
    pub fn publish_event(&mut self, on: u32, event: &str, db: usize, key: &[u8]) {
        if on & class::KEYSPACE != 0 {
            let channel = [format!("__keyspace@{db}__:").as_bytes(), key].concat();
            self.publish(&channel, event.as_bytes());
        }
        if on & class::KEYEVENT != 0 {
            let channel = format!("__keyevent@{db}__:{event}");
            self.publish(channel.as_bytes(), key);
        }
    }
}
