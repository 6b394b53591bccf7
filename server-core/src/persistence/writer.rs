//! The thread that writes a snapshot's file: encodes what comes, syncs as it goes, and puts the file in
//! the old one's place only when it is whole. It knows bytes and a path.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use tercel_engine::{FieldMapRef, FrozenFieldMap, FrozenList, ListRef};
use tercel_rdb::{Encoder, EntryMeta, StringValue, WriteOptions};
use tercel_transport::Wake;

use super::chunk::{Chunk, Form};
use crate::base::disk::{Disk, File};

/// With `rdb-save-incremental-fsync`, the file is synced after so many bytes, so that the end of a save
/// is no burst.
const SYNC_BYTES: usize = 4 << 20;

const CANCELLED: &str = "the save was cancelled";

/// What the executor sends.
pub(super) enum Message {
    /// Some keys.
    Keys(Chunk),
    /// A key whose value follows in pieces, `len` bytes in all.
    Long { db: usize, key: Box<[u8]>, len: u64, meta: EntryMeta },
    /// A key whose value is a large collection, which the writer walks through by itself.
    Large { db: usize, key: Box<[u8]>, meta: EntryMeta, value: Large },
    /// Some bytes of that value.
    Piece(Vec<u8>),
    /// That was all: sync and rename.
    Finish,
}

/// A large collection as it was.
pub(super) enum Large {
    List(FrozenList),
    Hash(FrozenFieldMap),
}

/// What comes back.
pub(super) enum Answer {
    /// A chunk was written and may be filled again.
    Written(Chunk),
    /// So was the head of a long value, whose key comes back: memory is freed where it was allocated, or the
    /// executor's count of its own goes wrong.
    Begun(#[allow(dead_code, reason = "only to be freed")] Box<[u8]>),
    /// And so a piece of it, whose bytes may be used again.
    PieceWritten(Vec<u8>),
    /// The file is in its place, or why not.
    Ended(Result<(), String>),
}

/// What a writer has to know before it begins.
pub(super) struct Order {
    /// The file to put in place.
    pub(super) path: PathBuf,
    /// Of this process's saves, which it is.
    pub(super) number: u64,
    pub(super) options: WriteOptions,
    pub(super) incremental_sync: bool,
    /// Database, keys and keys with a deadline, of those that are not empty, by their numbers.
    pub(super) databases: Vec<(usize, u64, u64)>,
    /// Unix time and memory in use, for the file's head.
    pub(super) created_s: i64,
    pub(super) used_memory: usize,
    /// Number of the process.
    pub(super) pid: u32,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) waker: Option<Arc<dyn Wake>>,
    /// Set when the executor gives this save up: its file must not come into place any more.
    pub(super) given_up: Arc<AtomicBool>,
    /// Held by the writer that puts its file in place, so that files come there in the order of their
    /// saves: one that is given up may be past the last look at `given_up`.
    pub(super) placing: Arc<Mutex<()>>,
}

impl Order {
    /// The file while it is not whole yet.
    fn temporary(&self) -> PathBuf {
        self.path.with_file_name(format!("temp-{}.{}.rdb", self.pid, self.number))
    }
}

/// Runs until the file is there, something fails or the executor lets go.
pub(super) fn run(order: &Order, inbox: &Receiver<Message>, answers: &Sender<Answer>) {
    let temporary = order.temporary();
    let result = write(order, &temporary, inbox, answers).and_then(|()| place(order, &temporary));
    if result.is_err() {
        // It may not even have been made.
        let _ = order.disk.remove(&temporary);
    }
    // Nobody listens to a save that was cancelled.
    let _ = answers.send(Answer::Ended(result));
    if let Some(waker) = &order.waker {
        waker.wake();
    }
}

/// A file that is synced every so many bytes.
struct Synced {
    file: Box<dyn File>,
    every: Option<usize>,
    unsynced: usize,
}

impl Write for Synced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written;
        if self.every.is_some_and(|every| self.unsynced >= every) {
            self.file.sync()?;
            self.unsynced = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn write(order: &Order, temporary: &Path, inbox: &Receiver<Message>, answers: &Sender<Answer>) -> Result<(), String> {
    let shown = temporary.display();
    let file = order
        .disk
        .create(temporary)
        .map_err(|error| format!("Failed opening the temp RDB file {shown} for saving: {error}"))?;
    let file = Synced { file, every: order.incremental_sync.then_some(SYNC_BYTES), unsynced: 0 };
    let mut file = encode(order, file, inbox, answers)
        .map_err(|error| format!("Write error while saving DB to the disk({shown}): {error}"))?;
    file.file.sync().map_err(|error| format!("Write error while saving DB to the disk(fsync): {error}"))
}

/// Puts a file that is whole and synced in the old one's place.
fn place(order: &Order, temporary: &Path) -> Result<(), String> {
    let _placing = order.placing.lock().unwrap_or_else(PoisonError::into_inner);
    if order.given_up.load(Ordering::Acquire) {
        return Err(CANCELLED.to_owned());
    }
    let shown = temporary.display();
    order.disk.rename(temporary, &order.path).map_err(|error| {
        format!("Error moving temp DB file {shown} on the final destination {}: {error}", order.path.display())
    })?;
    // The new name is there for certain only once its directory is.
    order
        .disk
        .sync_directory(order.path.parent().unwrap_or(Path::new(".")))
        .map_err(|error| format!("Failed to fsync directory while saving DB: {error}"))
}

/// Removes what saves left behind that were cut short by the end of their process. A file that is still
/// being written is locked, by whatever server it is.
pub(super) fn remove_leftovers(disk: &dyn Disk, directory: &Path) {
    let Ok(files) = disk.list(directory) else { return };
    for path in files {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let middle = name.strip_prefix("temp-").and_then(|name| name.strip_suffix(".rdb")).unwrap_or_default();
        let is_ours = middle.split_once('.').is_some_and(|(process, number)| is_number(process) && is_number(number));
        if is_ours && disk.is_abandoned(&path) && disk.remove(&path).is_ok() {
            tracing::info!("Removed {}, left by a save that was cut short", path.display());
        }
    }
}

fn encode(order: &Order, file: Synced, inbox: &Receiver<Message>, answers: &Sender<Answer>) -> io::Result<Synced> {
    let mut out = Encoder::new(file, order.options)?;
    out.aux("tercel-ver", env!("CARGO_PKG_VERSION"))?;
    out.aux("redis-bits", &usize::BITS.to_string())?;
    out.aux("ctime", &order.created_s.to_string())?;
    out.aux("used-mem", &order.used_memory.to_string())?;
    out.aux("aof-base", "0")?;
    let mut begun: HashSet<usize> = HashSet::new();
    let mut select = |out: &mut Encoder<Synced>, db: usize| -> io::Result<()> {
        out.select_db(db as u64)?;
        if begun.insert(db)
            && let Ok(at) = order.databases.binary_search_by_key(&db, |&(index, ..)| index)
            && let (_, keys, expires) = &order.databases[at]
        {
            out.resize_db(*keys, *expires)?;
        }
        Ok(())
    };
    loop {
        // Without a sender the save was cancelled.
        let message = inbox.recv().map_err(|_| io::Error::other(CANCELLED))?;
        let answer = match message {
            Message::Keys(mut chunk) => {
                let mut at = 0;
                let mut last_db = None;
                for record in &chunk.records {
                    if last_db != Some(record.db) {
                        select(&mut out, record.db as usize)?;
                        last_db = Some(record.db);
                    }
                    let key_end = at + record.key_len as usize;
                    let key = &chunk.bytes[at..key_end];
                    at = key_end;
                    let value = match record.form {
                        Form::Int(_) => &[],
                        Form::Bytes(len) | Form::List(len) | Form::Hash(len) => {
                            at += len as usize;
                            &chunk.bytes[key_end..at]
                        }
                    };
                    match record.form {
                        Form::Int(value) => out.entry(key, StringValue::Int(value), &record.meta)?,
                        Form::Bytes(_) => out.entry(key, StringValue::Bytes(value), &record.meta)?,
                        Form::List(_) => out.small_list(key, ListRef::of_block(value).piece(0), &record.meta)?,
                        Form::Hash(_) => small_hash(&mut out, key, FieldMapRef::of_block(value), &record.meta)?,
                    }
                }
                chunk.clear();
                Answer::Written(chunk)
            }
            Message::Long { db, key, len, meta } => {
                select(&mut out, db)?;
                out.begin_long(&key, len, &meta)?;
                Answer::Begun(key)
            }
            Message::Large { db, key, meta, value } => {
                select(&mut out, db)?;
                large(&mut out, &key, &value, &meta)?;
                Answer::Begun(key)
            }
            Message::Piece(bytes) => {
                out.piece(&bytes)?;
                Answer::PieceWritten(bytes)
            }
            Message::Finish => return out.finish(),
        };
        // An executor that is gone cancels with its next message, which does not come.
        let _ = answers.send(answer);
        if let Some(waker) = &order.waker {
            waker.wake();
        }
    }
}

/// Writes a small hash: packed, unless a field has a deadline.
fn small_hash(out: &mut Encoder<Synced>, key: &[u8], fields: FieldMapRef<'_>, meta: &EntryMeta) -> io::Result<()> {
    if fields.soonest().is_none() {
        return out.small_hash(key, fields.piece(0).map(|field| (field.field, field.value)), meta);
    }
    out.begin_hash(key, fields.len(), true, meta)?;
    fields.piece(0).try_for_each(|field| out.field(field.field, field.value, field.expire_at))
}

fn large(out: &mut Encoder<Synced>, key: &[u8], value: &Large, meta: &EntryMeta) -> io::Result<()> {
    let mut at = 0;
    match value {
        Large::List(list) => {
            out.begin_list(key, list.len(), meta)?;
            while at < list.len() {
                for element in list.piece(at) {
                    out.element(element)?;
                    at += 1;
                }
            }
        }
        Large::Hash(fields) => {
            out.begin_hash(key, fields.len(), fields.has_deadlines(), meta)?;
            while at < fields.len() {
                for field in fields.piece(at) {
                    out.field(field.field, field.value, field.expire_at)?;
                    at += 1;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::base::disk::MemoryDisk;

    #[test]
    fn leftovers_go_and_what_is_written_stays() {
        let disk = MemoryDisk::default();
        let dir = Path::new("/data");
        for name in ["temp-12.1.rdb", "temp-12.rdb", "temp-x.1.rdb", "dump.rdb"] {
            disk.put(&dir.join(name), b"half");
        }
        let written = disk.create(&dir.join("temp-12.2.rdb")).unwrap();
        remove_leftovers(&disk, dir);
        let left: Vec<PathBuf> =
            ["dump.rdb", "temp-12.2.rdb", "temp-12.rdb", "temp-x.1.rdb"].map(|name| dir.join(name)).to_vec();
        assert_eq!(disk.list(dir).unwrap(), left);
        drop(written);
    }

    /// A save may be given up when everything was sent already and only the disk is waited for. What is
    /// saved next, after FLUSHALL for one, must not be replaced by it.
    #[test]
    fn a_save_given_up_after_its_last_message_does_not_replace_the_file() {
        let disk = MemoryDisk::default();
        let path = PathBuf::from("/data/dump.rdb");
        let save = |given_up: bool| {
            let order = Order {
                path: path.clone(),
                number: 1,
                pid: 12,
                disk: Arc::new(disk.clone()),
                options: WriteOptions::default(),
                incremental_sync: true,
                databases: Vec::new(),
                created_s: 0,
                used_memory: 0,
                waker: None,
                given_up: Arc::new(AtomicBool::new(given_up)),
                placing: Arc::default(),
            };
            let (to_writer, inbox) = channel();
            let (answers, from_writer) = channel();
            to_writer.send(Message::Finish).unwrap();
            run(&order, &inbox, &answers);
            matches!(from_writer.recv().unwrap(), Answer::Ended(Ok(())))
        };
        disk.put(&path, b"what was there");
        assert!(!save(true));
        assert_eq!(disk.bytes(&path).unwrap(), b"what was there");
        assert_eq!(disk.list(Path::new("/data")).unwrap().len(), 1, "no temporary file stays");
        assert!(save(false));
        assert!(disk.bytes(&path).unwrap().starts_with(b"REDIS"));
    }
}
