//! What follows from what happened to keys: watchers are told, notifications published.

use super::Core;
use crate::command::event_class as class;
use crate::data::events::{Event, WATCHED, What};

impl Core {
    /// Tells the data which events anybody wants to hear of.
    pub fn update_interest(&mut self) {
        let on = self.settings.notify_keyspace_events.0;
        let told = if on & (class::KEYSPACE | class::KEYEVENT) == 0 { 0 } else { on };
        self.data.set_interest(told | if self.watches.is_empty() { 0 } else { WATCHED });
    }

    /// Passes on what happened to keys since it was last called.
    #[inline]
    pub fn settle(&mut self) {
        if self.data.has_news() {
            self.settle_now();
        }
    }

    fn settle_now(&mut self) {
        for Event { db, key, what } in self.data.take_events() {
            match what {
                What::Changed { gone } => self.tell_watchers(db, &key, gone.into()),
                What::Told { name, .. } => self.publish_event(name, db, &key),
            }
        }
    }
}
