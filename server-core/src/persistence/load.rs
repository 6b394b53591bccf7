//! Loading a snapshot, in slices: between two of them the executor answers whoever may be answered.

use std::io::{self, BufReader};
use std::path::Path;

use tercel_engine::{Blob, Expire, NewValue};
use tercel_rdb::{Decoder, Item, LoadedString, RdbError, ReadOptions};

use super::building::{Building, Limits};
use super::writer::remove_leftovers;
use super::{LoadProgress, Work};
use crate::base::disk::File;
use crate::settings::{RdbVersionCheck, Settings};

/// Bytes read from the file at once.
const READ_BYTES: usize = 1 << 20;
/// Items between two looks at the clock.
const CLOCK_EVERY: usize = 64;
/// No string of a snapshot is refused for its length below this: the most a client can send. What a file
/// only claims is not believed before it is read.
const LONGEST_BYTES: u64 = i64::MAX as u64;
/// Longer values are taken over rather than copied.
const COPY_BYTES_MAX: usize = 1024;

/// Why a snapshot was not loaded. The server does not go on without it: what it did not load would be
/// lost with the next save.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be opened.
    #[error("Fatal error: can't open the RDB file {path} for reading: {error}")]
    Open {
        /// The file.
        path: String,
        /// The operating system's words.
        error: io::Error,
    },
    /// What is in it.
    #[error("{path}: {error}. It was not loaded, and the file is left as it is.")]
    Content {
        /// The file.
        path: String,
        /// What is wrong, or not supported.
        error: RdbError,
    },
    /// A database this server does not have.
    #[error("FATAL: Data file was created with a server configured to handle more than {0} databases. Exiting")]
    Database(usize),
    /// A key that comes twice.
    #[error("RDB has duplicated key '{key}' in DB {db}")]
    Duplicate {
        /// The key, as far as it is text.
        key: String,
        /// The database.
        db: usize,
    },
}

/// A snapshot that is being loaded.
pub(super) struct Loader {
    decoder: Decoder<BufReader<Box<dyn File>>>,
    path: String,
    db: usize,
    /// Keys may be there already, and are replaced.
    merge: bool,
    bytes_total: u64,
    /// When loading began, in Unix seconds.
    began_s: i64,
    began_ns: u64,
    keys: u64,
    expired: u64,
    /// The collection that is being read: its key, what is known of it, its parts so far.
    building: Option<(Vec<u8>, tercel_rdb::EntryMeta, Building)>,
}

impl Loader {
    fn open(path: &Path, work: &Work<'_>) -> Result<Loader, LoadError> {
        let shown = path.display().to_string();
        let disk = work.host.disk();
        let open = || {
            let file = disk.open(path)?;
            if !file.is_regular()? {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
            }
            Ok((file.byte_len()?, file))
        };
        let (bytes_total, file) = open().map_err(|error| LoadError::Open { path: shown.clone(), error })?;
        // Strings that were accepted once are loaded whatever the longest is now.
        let options = ReadOptions { string_len_max: LONGEST_BYTES, ..read_options(work.settings) };
        let decoder = Decoder::new(BufReader::with_capacity(READ_BYTES, file), options)
            .map_err(|error| LoadError::Content { path: shown.clone(), error })?;
        Ok(Loader {
            decoder,
            path: shown,
            db: 0,
            merge: false,
            bytes_total,
            began_s: work.now.unix_ms / 1000,
            began_ns: work.now.mono_ns,
            keys: 0,
            expired: 0,
            building: None,
        })
    }

    pub(super) fn progress(&self) -> LoadProgress {
        LoadProgress { began_s: self.began_s, bytes_total: self.bytes_total, bytes_read: self.decoder.bytes_read() }
    }
}

/// How snapshots and dumped values are read.
pub fn read_options(settings: &Settings) -> ReadOptions {
    ReadOptions {
        checksum: settings.rdbchecksum,
        version_check_strict: settings.rdb_version_check.0 == RdbVersionCheck::Strict,
        string_len_max: settings.proto_max_bulk_len.0 as u64,
    }
}

impl Work<'_> {
    /// Removes what saves left behind that were cut short, and opens the snapshot the settings name, if there
    /// is one. It is loaded by [`Work::load_step`].
    ///
    /// # Errors
    /// It is there and cannot be read, or is no snapshot.
    pub fn load_begin(&mut self) -> Result<(), LoadError> {
        remove_leftovers(&*self.host.disk(), self.dir);
        self.state.loading = match Loader::open(&self.path(), self) {
            Ok(loader) => Some(Box::new(loader)),
            Err(LoadError::Open { error, .. }) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(())
    }

    /// Loads until the clock says `until_ns`. True while more is to come.
    ///
    /// # Errors
    /// [`LoadError`]; what was loaded before it stays.
    pub fn load_step(&mut self, until_ns: u64) -> Result<bool, LoadError> {
        let Some(mut loader) = self.state.loading.take() else { return Ok(false) };
        let is_done = self.load_until(&mut loader, until_ns)?;
        if !is_done {
            self.state.loading = Some(loader);
        }
        Ok(!is_done)
    }

    fn load_until(&mut self, loader: &mut Loader, until_ns: u64) -> Result<bool, LoadError> {
        loop {
            for _ in 0..CLOCK_EVERY {
                let item =
                    loader.decoder.next().map_err(|error| LoadError::Content { path: loader.path.clone(), error })?;
                match item {
                    Item::SelectDb(db) => {
                        let databases = self.data.databases();
                        loader.db = usize::try_from(db)
                            .ok()
                            .filter(|db| *db < databases)
                            .ok_or(LoadError::Database(databases))?;
                    }
                    Item::Entry { key, value, meta } => self.load_entry(loader, &key, value, &meta)?,
                    Item::End => {
                        self.state.loaded_keys = loader.keys;
                        self.state.loaded_expired = loader.expired;
                        let took_s = (self.clock.mono_ns() - loader.began_ns) as f64 / 1e9;
                        tracing::info!(
                            "Done loading RDB, keys loaded: {}, keys expired: {}. DB loaded from disk: {took_s:.3} seconds",
                            loader.keys,
                            loader.expired
                        );
                        return Ok(true);
                    }
                    Item::Aux { key, value } if key == b"ctime" => {
                        let created_s =
                            std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok()).unwrap_or(0i64);
                        tracing::info!("RDB age {} seconds", (self.now.unix_ms / 1000 - created_s).max(0));
                    }
                    // There is no place for them yet.
                    Item::Begin { key, kind, meta, .. } => {
                        let building =
                            Building::new(kind, self.data, Limits::of(self.settings)).without_expired(self.data);
                        loader.building = Some((key, meta, building));
                    }
                    Item::Parts(parts) => {
                        if let Some((key, _, building)) = &mut loader.building {
                            building.add(&parts).map_err(|_| LoadError::Duplicate {
                                key: format!("a field of {}", String::from_utf8_lossy(key)),
                                db: loader.db,
                            })?;
                        }
                    }
                    Item::Finished => {
                        if let Some((key, meta, building)) = loader.building.take() {
                            self.load_collection(loader, &key, building, &meta)?;
                        }
                    }
                    Item::Function(_) => {
                        let error = RdbError::Unsupported { what: "function library", key: None };
                        return Err(LoadError::Content { path: loader.path.clone(), error });
                    }
                    _ => {}
                }
            }
            if self.clock.mono_ns() >= until_ns {
                return Ok(false);
            }
        }
    }

    /// Loads the snapshot before it returns. With `merge`, keys that are there already are replaced.
    ///
    /// # Errors
    /// [`LoadError`], also if there is no snapshot; what was loaded before it stays.
    pub fn load_now(&mut self, merge: bool) -> Result<(), LoadError> {
        let mut loader = Loader::open(&self.path(), self)?;
        loader.merge = merge;
        self.load_until(&mut loader, u64::MAX)?;
        Ok(())
    }

    fn load_collection(
        &mut self,
        loader: &mut Loader,
        key: &[u8],
        building: Building,
        meta: &tercel_rdb::EntryMeta,
    ) -> Result<(), LoadError> {
        if meta.expire_at_ms.is_some_and(|at_ms| self.data.expired().is_past(at_ms)) {
            loader.expired += 1;
            return Ok(());
        }
        let key = self.data.key(key);
        if self.data.db(loader.db).find(key.bytes, key.hash).is_some() && !loader.merge {
            return Err(LoadError::Duplicate { key: String::from_utf8_lossy(key.bytes).into_owned(), db: loader.db });
        }
        if !building.store(self.data, loader.db, key, false) {
            return Ok(());
        }
        if let Some(at_ms) = meta.expire_at_ms {
            self.data.load_expire(loader.db, key, at_ms);
        }
        self.data.set_accesses(loader.db, key, meta.idle_s, meta.freq);
        loader.keys += 1;
        Ok(())
    }

    fn load_entry(
        &mut self,
        loader: &mut Loader,
        key: &[u8],
        value: LoadedString,
        meta: &tercel_rdb::EntryMeta,
    ) -> Result<(), LoadError> {
        let expired = self.data.expired();
        if meta.expire_at_ms.is_some_and(|at_ms| expired.is_past(at_ms)) {
            loader.expired += 1;
            return Ok(());
        }
        let key = self.data.key(key);
        let expire = meta.expire_at_ms.map_or(Expire::Clear, Expire::At);
        let replaced = with_new_value(value, |value| self.data.load(loader.db, key, value, expire));
        if replaced && !loader.merge {
            return Err(LoadError::Duplicate { key: String::from_utf8_lossy(key.bytes).into_owned(), db: loader.db });
        }
        self.data.set_accesses(loader.db, key, meta.idle_s, meta.freq);
        loader.keys += 1;
        Ok(())
    }
}

/// Hands a string that was read on in the form in which it is stored with the least copying.
pub fn with_new_value<R>(value: LoadedString, store: impl FnOnce(NewValue<'_>) -> R) -> R {
    match value {
        LoadedString::Int(value) => store(NewValue::Int(value)),
        LoadedString::Bytes(bytes) if bytes.len() > COPY_BYTES_MAX => store(NewValue::Blob(Blob::from_vec(bytes))),
        LoadedString::Bytes(bytes) => store(NewValue::Bytes(&bytes)),
    }
}
