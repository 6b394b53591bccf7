//! Keyspace notifications: which classes are on, and publishing events.

use crate::command::event_class as class;
use crate::server::Core;

impl Core {
    /// Publishes an event about a key, if its class is on.
    #[inline]
    pub fn notify(&mut self, class: u32, event: &str, db: usize, key: &[u8]) {
        if self.settings.notify_keyspace_events.0 & class != 0 {
            self.notify_slow(event, db, key);
        }
    }

    fn notify_slow(&mut self, event: &str, db: usize, key: &[u8]) {
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
