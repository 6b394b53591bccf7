//! Who reads the effects: what a client's command did, with everything that belongs to it, is one unit, and
//! so is each key that expired or was evicted by itself.

use super::Server;
use crate::data::effects::Effect;

/// Reads effects, in order.
pub trait EffectReader {
    /// What belongs together: where it is repeated, all of it is seen at once or nothing.
    fn unit(&mut self, effects: &[Effect]);
}

impl Server {
    /// Adds a reader of all effects from now on.
    pub fn add_effect_reader(&mut self, reader: Box<dyn EffectReader>) {
        self.effect_readers.push(reader);
        self.data.record_effects(true);
    }

    /// A command is over, with all that were run within it: its effects go out as one unit.
    #[inline]
    pub fn close_unit(&mut self) {
        if self.data.has_effects() {
            let effects = self.data.take_effects();
            self.hand_out(&effects);
        }
    }

    /// A slice of work is over that belongs to no command's unit: what was removed in it is passed on.
    pub fn settle_slice(&mut self) {
        self.settle();
        self.close_single_units();
    }

    /// Keys were removed by themselves: each is a unit.
    fn close_single_units(&mut self) {
        if self.data.has_effects() {
            for effect in self.data.take_effects() {
                self.hand_out(&[effect]);
            }
        }
    }

    #[cold]
    fn hand_out(&mut self, effects: &[Effect]) {
        for reader in &mut self.effect_readers {
            reader.unit(effects);
        }
    }
}
