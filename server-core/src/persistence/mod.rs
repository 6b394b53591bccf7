//! Snapshots on disk: when one is due, the executor's side of writing one, and loading one at the start.
//! Works on [`Core`]; the file is written by a thread of its own (`writer.rs`), which sees bytes and
//! never an entry. docs/adr/0007-snapshots.md says how the two go together.

mod chunk;
mod load;
mod save;
mod writer;

use std::sync::{Arc, Mutex};

use crate::host::Helper;

pub use load::{LoadError, Loader};
pub use load::{read_options, with_new_value};
use save::Job;
pub use writer::remove_leftovers;

/// After a failed save the next one that a save point asks for waits for so long.
const RETRY_SECONDS: i64 = 5;

/// Something was to be saved and could not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the data could not be saved; the log says why")]
pub struct SaveFailed;

/// What an executor keeps about its snapshots.
pub struct Persistence {
    /// When the data was last saved whole, in Unix seconds; at first when the server started.
    pub last_save_s: i64,
    /// [`Dataset::dirty`](crate::data::Dataset::dirty) when that snapshot was taken.
    pub saved_dirty: u64,
    /// Whether the last background save succeeded.
    pub last_ok: bool,
    /// How long it took in seconds.
    pub last_took_s: Option<i64>,
    /// Saves that succeeded.
    pub saves: u64,
    /// A background save is to begin with the next slice of housekeeping.
    pub scheduled: bool,
    /// Keys the last load brought.
    pub loaded_keys: u64,
    /// Keys the last load found past their time.
    pub loaded_expired: u64,
    /// What is being loaded.
    pub loading: Option<Box<Loader>>,
    last_try_s: i64,
    /// Saves begun; tells their temporary files apart.
    begun: u64,
    /// Threads of saves that were given up and still have to notice.
    abandoned: Vec<Box<dyn Helper>>,
    job: Option<Box<Job>>,
    /// Held while a file is put in place.
    placing: Arc<Mutex<()>>,
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
        }
    }

    /// Whether a snapshot is being written.
    #[must_use]
    pub fn is_saving(&self) -> bool {
        self.job.is_some()
    }

    /// The snapshot being written: seconds since it began, keys handed out and keys in all.
    #[must_use]
    pub fn progress(&self, now_s: i64) -> Option<(i64, u64, u64)> {
        let job = self.job.as_deref()?;
        Some((now_s - job.began_s, job.keys_done, job.keys_total))
    }
}
