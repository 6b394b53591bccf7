//! Settings that change, and counters that are set back: each part is told.

use std::path::Path;

use super::{Request, Server};
use crate::host::Refused;
use crate::settings::Settings;
use crate::stats::commandlog::Kind;

impl Server {
    /// Puts other settings into force, all of them or none.
    ///
    /// # Errors
    /// [`Refused`]: the machine cannot do what one of them asks for. Nothing has changed then.
    pub fn change_settings(&mut self, new: Settings) -> Result<(), Refused> {
        self.host.check_settings(&self.settings, &new)?;
        if new.dir != self.settings.dir {
            let dir = self.host.disk().directory(&self.dir, Path::new(&new.dir));
            self.dir = dir.map_err(|error| Refused { setting: "dir", reason: error.to_string() })?;
        }
        let old = std::mem::replace(&mut self.settings, new);
        self.follow(&old);
        self.requests.push(Request::FollowSettings(Box::new(old)));
        Ok(())
    }

    fn follow(&mut self, old: &Settings) {
        let new = &self.settings;
        let logs = self.stats.logs_mut();
        logs.log_mut(Kind::Slow).trim(new.commandlog_slow_execution_max_len as usize);
        logs.log_mut(Kind::LargeRequest).trim(new.commandlog_large_request_max_len as usize);
        logs.log_mut(Kind::LargeReply).trim(new.commandlog_large_reply_max_len as usize);
        if old.latency_tracking && !new.latency_tracking {
            self.stats.forget_distributions();
        }
        self.host.settings_changed(old, new);
        self.clients.follow(old, new);
        self.data.follow(new);
        self.update_interest();
        self.tick();
    }

    /// CONFIG RESETSTAT.
    pub fn reset_counters(&mut self) {
        self.stats.reset();
        self.data.reset_counters();
        self.clients.reset_counters();
    }
}
