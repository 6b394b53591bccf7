//! The access field of an entry, 24 bits: when it was last used (LRU) or how often (LFU).

use crate::rng::Rng;

/// What an access to a key is recorded with. Read from the clock and the settings once a turn and handed down.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Unix time in milliseconds.
    pub now_ms: i64,
    /// Record the frequency (LFU) instead of the time (LRU).
    pub lfu: bool,
    /// The higher, the more accesses a step of the frequency counter takes (`lfu-log-factor`).
    pub lfu_log_factor: u32,
    /// Minutes without an access after which the counter loses one (`lfu-decay-time`); 0 never.
    pub lfu_decay_minutes: u32,
}

/// The access field is this many bits wide.
const FIELD_MASK: u32 = 0x00ff_ffff;
/// The counter of a new key: above zero, so that it is not the first to go.
const LFU_COUNT_NEW: u8 = 5;

impl Access {
    /// The field of an entry made now.
    #[inline]
    pub(crate) fn field_new(&self) -> u32 {
        if self.lfu { self.field_with_count(LFU_COUNT_NEW) } else { seconds(self.now_ms) }
    }

    /// The field of an entry used now, whose field was `old`.
    #[inline]
    pub(crate) fn field_used(&self, old: u32, rng: &mut Rng) -> u32 {
        if !self.lfu {
            return seconds(self.now_ms);
        }
        let mut count = self.count_decayed(old);
        if count < u8::MAX {
            let above_new = u64::from(count.saturating_sub(LFU_COUNT_NEW));
            let odds = above_new * u64::from(self.lfu_log_factor) + 1;
            if rng.below(odds) == 0 {
                count += 1;
            }
        }
        self.field_with_count(count)
    }

    /// The field of an entry last used `idle_seconds` ago.
    pub(crate) fn field_with_idle(&self, idle_seconds: u64) -> u32 {
        seconds(self.now_ms).wrapping_sub(idle_seconds as u32) & FIELD_MASK
    }

    /// The field of an entry whose frequency counter is `count` now.
    pub(crate) fn field_with_count(&self, count: u8) -> u32 {
        (u32::from(self.minutes()) << 8) | u32::from(count)
    }

    /// The counter less what it lost since it was last written.
    pub(crate) fn count_decayed(&self, field: u32) -> u8 {
        let count = field as u8;
        if self.lfu_decay_minutes == 0 {
            return count;
        }
        let elapsed = self.minutes().wrapping_sub((field >> 8) as u16);
        let lost = u32::from(elapsed) / self.lfu_decay_minutes;
        count.saturating_sub(u8::try_from(lost).unwrap_or(u8::MAX))
    }

    fn minutes(&self) -> u16 {
        (self.now_ms.div_euclid(60_000)) as u16
    }
}

/// Seconds since the LRU field `field` was written, by the 24-bit clock that wraps every 194 days.
#[inline]
pub(crate) fn idle_seconds(field: u32, now_ms: i64) -> u64 {
    u64::from(seconds(now_ms).wrapping_sub(field) & FIELD_MASK)
}

#[inline]
fn seconds(now_ms: i64) -> u32 {
    (now_ms.div_euclid(1000) as u32) & FIELD_MASK
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lfu(now_ms: i64) -> Access {
        Access { now_ms, lfu: true, lfu_log_factor: 10, lfu_decay_minutes: 1 }
    }

    #[test]
    fn lru_reads_back_idle_seconds_even_over_the_wrap() {
        let at = Access { now_ms: 0x00ff_ffff * 1000, lfu: false, lfu_log_factor: 10, lfu_decay_minutes: 1 };
        let field = at.field_new();
        assert_eq!(idle_seconds(field, at.now_ms), 0);
        assert_eq!(idle_seconds(field, at.now_ms + 7999), 7);
        assert_eq!(idle_seconds(at.field_with_idle(100), at.now_ms), 100);
    }

    #[test]
    fn lfu_counts_logarithmically_and_decays_by_minutes() {
        let mut rng = Rng::new(1);
        let now = lfu(1_700_000_000_000);
        let mut field = now.field_new();
        assert_eq!(now.count_decayed(field), 5);
        for _ in 0..1000 {
            field = now.field_used(field, &mut rng);
        }
        let count = now.count_decayed(field);
        assert!((12..=30).contains(&count), "about 18 after a thousand uses, got {count}");
        assert_eq!(lfu(now.now_ms + 3 * 60_000).count_decayed(field), count - 3);
        assert_eq!(lfu(now.now_ms + 1000 * 60_000).count_decayed(field), 0);
        let never = Access { lfu_decay_minutes: 0, ..lfu(now.now_ms + 1000 * 60_000) };
        assert_eq!(never.count_decayed(field), count);
    }

    #[test]
    fn lfu_stops_at_its_maximum() {
        let mut rng = Rng::new(1);
        let now = Access { lfu_log_factor: 0, ..lfu(60_000) };
        let mut field = now.field_new();
        for _ in 0..1000 {
            field = now.field_used(field, &mut rng);
        }
        assert_eq!(now.count_decayed(field), 255);
    }
}
