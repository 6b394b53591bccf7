//! The bounded slice at the end of a turn: deadlines, deferred freeing, eviction, and, some times a
//! second, limits and statistics.

use tercel_transport::Transport;

use super::Executor;
use tercel_core::clients::limits::counted;
use tercel_core::clients::{ClientKey, Closing};
use tercel_core::data::Room;
use tercel_core::dispatch;
use tercel_core::server::Parts;

const SECOND_NS: u64 = 1_000_000_000;
/// Between two looks at the allocator's totals. The meter follows this thread by itself; only what
/// the helpers took or freed is learnt here, and asking takes up to some hundreds of microseconds.
const METER_SECONDS: u64 = 10;

impl<T: Transport> Executor<T> {
    /// One slice. True if there is more to do at once.
    pub(super) fn housekeeping(&mut self) -> bool {
        let budget_ns = self.server.settings().housekeeping_us_max as u64 * 1000;
        let mut more = false;
        let data = self.server.data_mut();
        let (expires, reclaims, evicts) = (data.expires(), data.can_reclaim(), data.evicts());
        // Most turns find nothing due and need not know the time.
        let until_ns = if expires || reclaims || evicts { self.server.clock().mono_ns() + budget_ns } else { 0 };
        if expires {
            more |= self.server.expire_step(until_ns);
        }
        if reclaims {
            more |= self.server.reclaim_step(until_ns);
        }
        if evicts {
            let spent_ns = self.server.clock().mono_ns() + self.server.data().turn_evict_ns();
            more |= self.server.make_room(until_ns.saturating_sub(spent_ns)) == Room::Evicting;
        }
        if self.server.clients().pause().is_some() && self.server.pause().is_none() {
            more = true;
        }
        if !self.paused.is_empty() && self.server.pause().is_none() {
            self.release_paused();
            more = true;
        }
        if self.server.persistence().is_saving() {
            // A piece a turn: whoever asks meanwhile waits for one at most.
            more |= self.server.persistence_mut().step(0);
        } else if self.server.persistence().is_scheduled() {
            self.server.persistence_mut().begin_if_due();
        }
        if !self.waiting_for_save.is_empty() && !self.server.persistence().is_saving() {
            self.release_saved();
            more = true;
        }
        if !self.sliced.is_empty() {
            more |= self.run_slice();
        }
        if self.server.clients().next_wait_deadline_ms().is_some_and(|at_ms| at_ms <= self.server.now().unix_ms) {
            more |= dispatch::give_up_overdue(self.commands, &mut self.server);
        }
        if self.server.links().next_deadline_ms().is_some_and(|at_ms| at_ms <= self.server.now().unix_ms) {
            self.overdue_links();
            more = true;
        }
        if self.server.data().has_changed_awaited() {
            more |= dispatch::go_on_serving(self.commands, &mut self.server);
        }
        if self.server.clients().any_woken() {
            self.release_woken();
            more = true;
        }
        if !self.behind_held_keys.is_empty() || !self.waiting_to_begin.is_empty() {
            more |= self.release_waiting();
        }
        if self.server.now().mono_ns >= self.cron_at_ns {
            self.cron();
        }
        // Events published by expiry and eviction leave with the next flush.
        more || self.has_more_to_close || self.server.clients().any_to_serve()
    }

    /// What is done some times a second.
    fn cron(&mut self) {
        let now_ns = self.server.now().mono_ns;
        self.cron_at_ns = now_ns + SECOND_NS / self.server.settings().hz.clamp(1, 500) as u64;
        self.server.stats_mut().sample(now_ns, self.transport.stats(), self.transport.report());
        self.server.data_mut().sample_memory();
        self.check_soft_limits();
        self.server.persistence_mut().begin_if_due();
        if now_ns >= self.meter_at_ns {
            self.meter_at_ns = now_ns + METER_SECONDS * SECOND_NS;
            self.server.data_mut().refresh_meter();
        }
        self.check_idle_clients();
    }

    fn check_soft_limits(&mut self) {
        let mut reached: Vec<ClientKey> = Vec::new();
        let Parts { clients, now, .. } = self.server.parts();
        let transport = &self.transport;
        self.over_soft_limit.retain(|&key| {
            let Some(session) = clients.get(key).map(|client| &client.session) else { return false };
            let (soft, soft_seconds) = clients.soft_limit(session.class());
            let Some(since_ns) = session.output.soft_limit_since_ns() else { return false };
            let conn = session.conn();
            if soft == 0 || counted(transport.unsent(conn), transport.unsent_memory(conn)) < soft {
                if let Some(client) = clients.get_mut(key) {
                    client.session.output.below_soft_limit();
                }
                return false;
            }
            if now.mono_ns.saturating_sub(since_ns) > soft_seconds * SECOND_NS {
                reached.push(key);
                return false;
            }
            true
        });
        for key in reached {
            clients.output_over(key);
        }
    }

    /// Clients that have been silent for too long: a share of all each time, so that everybody is looked at
    /// once a second and no turn takes the longer the more there are.
    fn check_idle_clients(&mut self) {
        let Parts { clients, settings, now, .. } = self.server.parts();
        let timeout_s = settings.timeout as u64;
        let slots = clients.slots();
        if timeout_s == 0 || slots == 0 {
            return;
        }
        for _ in 0..slots.div_ceil(settings.hz.clamp(1, 500) as usize) {
            self.idle_check_at = (self.idle_check_at + 1) % slots;
            let Some(session) = clients.get(self.idle_check_at).map(|client| &client.session) else { continue };
            if !session.is_subscriber()
                && !session.is_monitor()
                && !session.input.is_held()
                && now.mono_ns.saturating_sub(session.input.active_ns()) > timeout_s * SECOND_NS
            {
                tracing::debug!("Closing idle client");
                clients.close(self.idle_check_at, Closing::Now);
            }
        }
    }
}
