//! The bounded slice at the end of a turn: deadlines, deferred freeing, eviction, and, some times a
//! second, limits and statistics.

use tercel_transport::Transport;

use super::Executor;
use tercel_core::clients::client::{ClientKey, Closing};
use tercel_core::clients::limits::counted;
use tercel_core::data::Room;

const SECOND_NS: u64 = 1_000_000_000;
/// Between two looks at the allocator's totals. The meter follows this thread by itself; only what
/// the helpers took or freed is learnt here, and asking takes up to some hundreds of microseconds.
const METER_SECONDS: u64 = 10;

impl<T: Transport> Executor<T> {
    /// One slice. True if there is more to do at once.
    pub(super) fn housekeeping(&mut self) -> bool {
        let budget_ns = self.core.settings.housekeeping_us_max as u64 * 1000;
        let mut more = false;
        let expires = self.core.data.expires();
        let reclaims = self.core.data.can_reclaim();
        let evicts = self.core.data.evicts();
        // Most turns find nothing due and need not know the time.
        let until_ns = if expires || reclaims || evicts { self.core.clock.mono_ns() + budget_ns } else { 0 };
        if expires {
            more |= self.core.expire_step(until_ns);
        }
        if reclaims {
            more |= self.core.reclaim_step(until_ns);
        }
        if evicts {
            let left_ns = until_ns.saturating_sub(self.core.clock.mono_ns() + self.core.data.turn_evict_ns());
            more |= self.core.make_room(left_ns) == Room::Evicting;
        }
        if !self.paused.is_empty() && self.core.pause.is_none_or(|pause| pause.until_ms <= self.core.now.unix_ms) {
            self.core.set_pause(None);
            self.release_paused();
            more = true;
        }
        if self.core.persistence.is_saving() {
            // A piece a turn: whoever asks meanwhile waits for one at most.
            more |= self.core.save_step(0);
        } else if self.core.persistence.scheduled {
            self.core.save_if_due();
        }
        if !self.waiting_for_save.is_empty() && !self.core.persistence.is_saving() {
            self.release_saved();
            more = true;
        }
        if self.core.now.mono_ns >= self.cron_at_ns {
            self.cron();
        }
        // Events published by expiry and eviction leave with the next flush.
        more || !self.core.clients.to_flush.is_empty() || !self.core.clients.to_close.is_empty()
    }

    /// What is done some times a second.
    fn cron(&mut self) {
        let now_ns = self.core.now.mono_ns;
        self.cron_at_ns = now_ns + SECOND_NS / self.core.settings.hz.clamp(1, 500) as u64;
        let transport = self.transport.stats();
        let stats = &mut self.core.stats;
        stats.net_input_bytes = transport.received_bytes;
        stats.net_output_bytes = transport.sent_bytes;
        stats.reads_processed = transport.receives;
        stats.writes_processed = transport.sends;
        stats.sample_rates(now_ns);
        stats.transport_report = self.transport.report();
        self.core.data.sample_memory();
        self.check_soft_limits();
        self.core.save_if_due();
        if now_ns >= self.meter_at_ns {
            self.meter_at_ns = now_ns + METER_SECONDS * SECOND_NS;
            self.core.data.refresh_meter();
        }
        self.check_idle_clients();
    }

    fn check_soft_limits(&mut self) {
        let now_ns = self.core.now.mono_ns;
        let mut reached: Vec<ClientKey> = Vec::new();
        let core = &mut self.core;
        let transport = &self.transport;
        self.over_soft_limit.retain(|&key| {
            let Some(connection) = core.clients.get_mut(key) else { return false };
            let session = &mut connection.session;
            let limit = core.settings.client_output_buffer_limit.0[session.class() as usize];
            let Some(since_ns) = session.soft_limit_since_ns else { return false };
            let counted = counted(transport.unsent(session.conn), transport.unsent_memory(session.conn));
            if limit.soft == 0 || counted < limit.soft as usize {
                // Should it rise again, its time begins anew.
                session.soft_limit_since_ns = None;
                return false;
            }
            if now_ns.saturating_sub(since_ns) > limit.soft_seconds * SECOND_NS {
                reached.push(key);
                return false;
            }
            true
        });
        for key in reached {
            self.core.output_over(key);
        }
    }

    /// Clients that have been silent for too long: a share of all each time, so that everybody is looked at
    /// once a second and no turn takes the longer the more there are.
    fn check_idle_clients(&mut self) {
        let timeout_s = self.core.settings.timeout as u64;
        let slots = self.core.clients.slots();
        if timeout_s == 0 || slots == 0 {
            return;
        }
        let now_ns = self.core.now.mono_ns;
        for _ in 0..slots.div_ceil(self.core.settings.hz.clamp(1, 500) as usize) {
            self.idle_check_at = (self.idle_check_at + 1) % slots;
            let Some(connection) = self.core.clients.get(self.idle_check_at) else { continue };
            let session = &connection.session;
            if !session.is_subscriber()
                && !session.monitor
                && !session.paused
                && now_ns.saturating_sub(session.active_ns) > timeout_s * SECOND_NS
            {
                tracing::debug!("Closing idle client");
                self.core.close_client(self.idle_check_at, Closing::Now);
            }
        }
    }
}
