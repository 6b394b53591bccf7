//! Snapshots on disk: when one is due, the executor's side of writing one, and loading one at the start.
//! What is kept between two steps is [`Persistence`]; a step is lent what it works on ([`Work`]). The file is
//! written by a thread of its own (`writer.rs`), which sees bytes and never an entry.
//! docs/adr/0007-snapshots.md says how the two go together.

pub mod building;
mod chunk;
mod load;
mod save;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::base::clock::{Clock, Now};
use crate::data::Dataset;
use crate::host::{Helper, Host};
use crate::settings::Settings;

use load::Loader;
pub use load::{LoadError, read_options, with_new_value};
use save::Job;

/// After a failed save the next one that a save point asks for waits for so long.
const RETRY_SECONDS: i64 = 5;

/// Something was to be saved and could not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the data could not be saved; the log says why")]
pub struct SaveFailed;

/// What a server keeps about its snapshots.
pub struct Persistence {
    last_save_s: i64,
    /// [`Dataset::dirty`] when that snapshot was taken.
    saved_dirty: u64,
    last_ok: bool,
    last_took_s: Option<i64>,
    saves: u64,
    /// A background save is to begin with the next slice of housekeeping.
    scheduled: bool,
    loaded_keys: u64,
    loaded_expired: u64,
    loading: Option<Box<Loader>>,
    last_try_s: i64,
    /// Saves begun; tells their temporary files apart.
    begun: u64,
    /// Threads of saves that were given up and still have to notice.
    abandoned: Vec<Box<dyn Helper>>,
    job: Option<Box<Job>>,
    /// Held while a file is put in place.
    placing: Arc<Mutex<()>>,
    /// Payloads of RESTORE need not have the right checksum (DEBUG SET-SKIP-CHECKSUM-VALIDATION).
    skips_payload_checksums: bool,
}

/// What there is to tell of snapshots.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// When the data was last saved whole, in Unix seconds; at first when the server started.
    pub last_save_s: i64,
    /// [`Dataset::dirty`] when that snapshot was taken.
    pub saved_dirty: u64,
    /// Whether the last background save succeeded.
    pub last_ok: bool,
    /// How long it took in seconds.
    pub last_took_s: Option<i64>,
    /// Saves that succeeded.
    pub saves: u64,
    /// Keys the last load brought.
    pub loaded_keys: u64,
    /// Keys the last load found past their time.
    pub loaded_expired: u64,
}

/// How far the loading of a snapshot is.
#[derive(Clone, Copy, Debug)]
pub struct LoadProgress {
    /// When it began, in Unix seconds.
    pub began_s: i64,
    /// Bytes of the file.
    pub bytes_total: u64,
    /// Bytes read.
    pub bytes_read: u64,
}

/// Snapshots with what a step of them works on.
pub struct Work<'a> {
    /// What is kept between two steps.
    pub state: &'a mut Persistence,
    /// The data, which is saved or loaded.
    pub data: &'a mut Dataset,
    /// The settings in force.
    pub settings: &'a Settings,
    /// The machine: disk and threads.
    pub host: &'a dyn Host,
    /// The directory that relative paths are seen from.
    pub dir: &'a Path,
    /// The clock that steps are bounded by.
    pub clock: &'a Clock,
    /// The time of this turn.
    pub now: Now,
}

impl Work<'_> {
    /// Says whether payloads of RESTORE need not have the right checksum.
    pub fn skip_payload_checksums(&mut self, on: bool) {
        self.state.skips_payload_checksums = on;
    }

    /// Where the snapshot lies.
    fn path(&self) -> PathBuf {
        self.dir.join(Path::new(&*self.settings.dbfilename))
    }
}

impl Persistence {
    /// Nothing saved yet, at the time `now_s` in Unix seconds.
    #[must_use]
    pub fn new(now_s: i64) -> Self {
        Persistence {
            last_save_s: now_s,
            saved_dirty: 0,
            last_ok: true,
            last_took_s: None,
            saves: 0,
            scheduled: false,
            loaded_keys: 0,
            loaded_expired: 0,
            loading: None,
            last_try_s: 0,
            begun: 0,
            abandoned: Vec::new(),
            job: None,
            placing: Arc::default(),
            skips_payload_checksums: false,
        }
    }

    /// What there is to tell.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            last_save_s: self.last_save_s,
            saved_dirty: self.saved_dirty,
            last_ok: self.last_ok,
            last_took_s: self.last_took_s,
            saves: self.saves,
            loaded_keys: self.loaded_keys,
            loaded_expired: self.loaded_expired,
        }
    }

    /// Whether payloads of RESTORE need not have the right checksum.
    #[must_use]
    pub fn skips_payload_checksums(&self) -> bool {
        self.skips_payload_checksums
    }

    /// Whether a snapshot is being written.
    #[must_use]
    #[inline]
    pub fn is_saving(&self) -> bool {
        self.job.is_some()
    }

    /// The snapshot being written: seconds since it began, keys handed out and keys in all.
    #[must_use]
    pub fn progress(&self, now_s: i64) -> Option<(i64, u64, u64)> {
        let job = self.job.as_deref()?;
        Some((now_s - job.began_s, job.keys_done, job.keys_total))
    }

    /// A background save is to begin with the next slice of housekeeping.
    pub fn schedule(&mut self) {
        self.scheduled = true;
    }

    /// No save is to begin; false if none was.
    pub fn unschedule(&mut self) -> bool {
        std::mem::take(&mut self.scheduled)
    }

    /// Whether one is to begin.
    #[must_use]
    #[inline]
    pub fn is_scheduled(&self) -> bool {
        self.scheduled
    }

    /// Whether a snapshot is being loaded.
    #[must_use]
    #[inline]
    pub fn is_loading(&self) -> bool {
        self.loading.is_some()
    }

    /// How far that is.
    #[must_use]
    pub fn load_progress(&self) -> Option<LoadProgress> {
        self.loading.as_deref().map(Loader::progress)
    }

    /// Whether writes are refused because they could not be saved.
    #[must_use]
    #[inline]
    pub fn is_failing(&self, settings: &Settings) -> bool {
        !self.last_ok && settings.stop_writes_on_bgsave_error && !settings.save.points.is_empty()
    }
}
