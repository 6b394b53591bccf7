//! Keyspace notifications: publishing events.

use crate::command::event_class as class;
use crate::server::Core;

impl Core {
    /// Publishes an event about a key.
    pub fn publish_event(&mut self, event: &str, db: usize, key: &[u8]) {
        let on = self.settings.notify_keyspace_events.0;
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
