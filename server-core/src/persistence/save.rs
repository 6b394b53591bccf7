//! The executor's side of a save: walks the keyspace in slices and hands chunks to the writer, never
//! more than a few at once, so that a slow disk holds back the save and nobody else.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;

use tercel_engine::{EntryRef, HeldFieldMap, HeldList, LongString, Policy, SnapshotId, StringRef, Value};
use tercel_rdb::{EntryMeta, WriteOptions};

use super::chunk::{CHUNK_BYTES, Chunk, LONG_BYTES};
use super::writer::{self, Answer, Large, Message, Order};
use super::{RETRY_SECONDS, SaveFailed, Work};
use crate::host::Helper;

/// Messages on their way to the writer at most.
const QUEUED_MAX: usize = 8;
/// How long the end of the server waits for threads of saves that were given up.
const GIVEN_UP_NS_MAX: u64 = 5_000_000_000;

/// A save under way.
pub(super) struct Job {
    /// None once everything was sent.
    to_writer: Option<Sender<Message>>,
    from_writer: Receiver<Answer>,
    thread: Box<dyn Helper>,
    /// Tells the writer that its file is not wanted any more.
    given_up: Arc<AtomicBool>,
    /// Messages sent and not answered.
    queued: usize,
    chunk: Chunk,
    spare: Vec<Chunk>,
    spare_pieces: Vec<Vec<u8>>,
    held: VecDeque<Held>,
    snapshot: SnapshotId,
    /// The walk is over.
    walked: bool,
    /// A client or the end of the server asked for it, and waits: no part of the background's statistics.
    foreground: bool,
    dirty: u64,
    pub(super) began_s: i64,
    pub(super) keys_done: u64,
    pub(super) keys_total: u64,
}

/// A value that lies apart from its key, to be copied when its turn comes: held by reference, so it stays
/// what it was. One of more than [`LONG_BYTES`] is sent piece by piece.
struct Held {
    db: usize,
    key: Box<[u8]>,
    value: HeldValue,
    meta: EntryMeta,
    /// Bytes sent; None before its head was.
    sent: Option<usize>,
}

/// Large collections are handed on whole. Until then they are held as others hold them: a save that is given up must
/// not free one at once.
enum HeldValue {
    String(LongString),
    List(HeldList),
    Hash(HeldFieldMap),
}

impl HeldValue {
    fn large(&self) -> Option<Large> {
        match self {
            HeldValue::String(_) => None,
            HeldValue::List(list) => Some(Large::List(list.view().frozen())),
            HeldValue::Hash(fields) => Some(Large::Hash(fields.view().frozen())),
        }
    }
}

impl Held {
    /// Whether it is short enough to be copied into a chunk.
    fn is_short(&self) -> bool {
        matches!(&self.value, HeldValue::String(value) if value.len() <= LONG_BYTES && value.whole().is_some())
    }
}

impl Job {
    fn send(&mut self, message: Message) {
        if let Some(to_writer) = &self.to_writer {
            self.queued += 1;
            // A writer that is gone has said why.
            let _ = to_writer.send(message);
        }
    }

    fn send_chunk(&mut self) {
        let next = self.spare.pop().unwrap_or_default();
        let chunk = std::mem::replace(&mut self.chunk, next);
        self.send(Message::Keys(chunk));
    }

    /// Sends the next piece of what is held by reference; false if there is none.
    fn send_held(&mut self) -> bool {
        if self.held.is_empty() {
            return false;
        }
        while self.held.front().is_some_and(Held::is_short)
            && let Some(held) = self.held.pop_front()
        {
            if let HeldValue::String(value) = &held.value {
                self.chunk.push_bytes(held.db, &held.key, value.whole().unwrap_or_default(), held.meta);
            }
            if self.chunk.is_full() {
                self.send_chunk();
                return true;
            }
        }
        if let Some(value) = self.held.front().and_then(|held| held.value.large())
            && let Some(Held { db, key, meta, .. }) = self.held.pop_front()
        {
            // What comes before it in the chunk may come after it in the file.
            self.send(Message::Large { db, key, meta, value });
            return true;
        }
        let Some(long) = self.held.front_mut() else { return true };
        let HeldValue::String(value) = &long.value else { return true };
        let message = match long.sent {
            None => {
                long.sent = Some(0);
                Message::Long {
                    db: long.db,
                    key: std::mem::take(&mut long.key),
                    len: value.len() as u64,
                    meta: long.meta,
                }
            }
            Some(at) => {
                let end = value.len().min(at + CHUNK_BYTES);
                let mut piece = self.spare_pieces.pop().unwrap_or_default();
                piece.clear();
                value.pieces(at..end).for_each(|bytes| piece.extend_from_slice(bytes));
                long.sent = Some(end);
                if end == value.len() {
                    self.held.pop_front();
                }
                Message::Piece(piece)
            }
        };
        self.send(message);
        true
    }

    fn answered(&mut self, answer: Answer) -> Option<Result<(), String>> {
        self.queued = self.queued.saturating_sub(1);
        match answer {
            Answer::Written(chunk) => self.spare.push(chunk),
            Answer::Begun(_) => {}
            Answer::PieceWritten(piece) => self.spare_pieces.push(piece),
            Answer::Ended(result) => return Some(result),
        }
        None
    }
}

/// What a snapshot says of an entry beside key and value: the accesses as the policy counts them.
fn meta_of(entry: EntryRef<'_>, policy: Policy, access: &tercel_engine::Access) -> EntryMeta {
    let mut meta = EntryMeta { expire_at_ms: entry.expire_at(), ..EntryMeta::default() };
    match policy {
        Policy::AllKeysLru | Policy::VolatileLru => meta.idle_s = Some(entry.idle_seconds(access.now_ms)),
        Policy::AllKeysLfu | Policy::VolatileLfu => meta.freq = Some(entry.lfu_count(access)),
        _ => {}
    }
    meta
}

impl Work<'_> {
    /// Begins to save everything as it is now. A save under way goes on instead.
    ///
    /// # Errors
    /// There is no thread to be had for it.
    pub fn begin(&mut self) -> std::io::Result<()> {
        self.start(false)
    }

    fn start(&mut self, foreground: bool) -> std::io::Result<()> {
        if self.state.job.is_some() {
            return Ok(());
        }
        self.state.scheduled = false;
        let now_s = self.now.unix_ms / 1000;
        self.state.last_try_s = now_s;
        let databases: Vec<(usize, u64, u64)> =
            self.data.filled().map(|(index, db)| (index, db.len() as u64, db.expires_len() as u64)).collect();
        let keys_total = databases.iter().map(|(_, keys, _)| keys).sum();
        let settings = self.settings;
        self.state.begun += 1;
        let given_up = Arc::new(AtomicBool::new(false));
        let order = Order {
            path: self.path(),
            pid: self.host.process().pid,
            disk: self.host.disk(),
            number: self.state.begun,
            options: WriteOptions {
                compress: settings.rdbcompression,
                checksum: settings.rdbchecksum,
                field_deadlines: self.data.keyspace().has_field_deadlines(),
            },
            incremental_sync: settings.rdb_save_incremental_fsync,
            databases,
            created_s: now_s,
            used_memory: self.data.memory_used(),
            waker: self.host.waker(),
            given_up: Arc::clone(&given_up),
            placing: Arc::clone(&self.state.placing),
        };
        let (to_writer, inbox) = channel();
        let (answers, from_writer) = channel();
        let thread = self.host.spawn("snapshot", Box::new(move || writer::run(&order, &inbox, &answers)))?;
        let snapshot = self.data.snapshot_begin();
        self.state.job = Some(Box::new(Job {
            to_writer: Some(to_writer),
            from_writer,
            thread,
            given_up,
            queued: 0,
            chunk: Chunk::default(),
            spare: Vec::new(),
            spare_pieces: Vec::new(),
            held: VecDeque::new(),
            snapshot,
            walked: false,
            foreground,
            dirty: self.data.dirty(),
            began_s: now_s,
            keys_done: 0,
            keys_total,
        }));
        Ok(())
    }

    /// A slice of the save under way: one piece, and more until the clock says `until_ns`. True while it
    /// could go on at once; false if there is none or it waits for the writer, who wakes the executor.
    pub fn step(&mut self, until_ns: u64) -> bool {
        let Some(mut job) = self.state.job.take() else { return false };
        loop {
            let ended = match job.from_writer.try_recv() {
                Ok(answer) => job.answered(answer),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => Some(Err("the thread that writes it has ended".to_owned())),
            };
            if let Some(result) = ended {
                self.ended(*job, result);
                return false;
            }
        }
        let more = loop {
            if job.queued >= QUEUED_MAX || job.to_writer.is_none() {
                break false;
            }
            self.piece(&mut job);
            if self.clock.mono_ns() >= until_ns {
                break true;
            }
        };
        self.state.job = Some(job);
        more
    }

    /// Hands on about a chunk, or one segment of the walk.
    fn piece(&mut self, job: &mut Job) {
        if job.send_held() {
            return;
        }
        if !job.walked {
            let (policy, access) = (self.settings.maxmemory_policy.0, self.data.access());
            let (chunk, held, keys) = (&mut job.chunk, &mut job.held, &mut job.keys_done);
            job.walked = !self.data.snapshot_step(job.snapshot, &mut |db, entry| {
                *keys += 1;
                let meta = meta_of(entry, policy, &access);
                let (key, value) = (entry.key(), entry.value());
                match value {
                    Value::String(StringRef::Int(value)) => chunk.push_int(db, key, value, meta),
                    Value::String(StringRef::Bytes(bytes)) => chunk.push_bytes(db, key, bytes, meta),
                    // All of a segment's at once could be many times a chunk.
                    Value::String(StringRef::Long(value)) => {
                        let value = HeldValue::String(value.clone());
                        held.push_back(Held { db, key: key.into(), value, meta, sent: None });
                    }
                    Value::List(list) => match list.block() {
                        Some(block) => chunk.push_block(db, key, true, block, meta),
                        None => {
                            let value = HeldValue::List(list.held());
                            held.push_back(Held { db, key: key.into(), value, meta, sent: None });
                        }
                    },
                    Value::Hash(fields) => match fields.block() {
                        Some(block) => chunk.push_block(db, key, false, block, meta),
                        None => {
                            let value = HeldValue::Hash(fields.held());
                            held.push_back(Held { db, key: key.into(), value, meta, sent: None });
                        }
                    },
                }
            });
            if job.chunk.is_full() {
                job.send_chunk();
            }
            return;
        }
        if !job.chunk.is_empty() {
            job.send_chunk();
        }
        job.send(Message::Finish);
        job.to_writer = None;
    }

    fn ended(&mut self, job: Job, result: Result<(), String>) {
        self.data.snapshot_end(job.snapshot);
        // It has said its last word.
        job.thread.join();
        if result.is_err() {
            // What was still sent to it, the writer has freed.
            self.data.refresh_meter();
        }
        let now_s = self.now.unix_ms / 1000;
        let state = &mut *self.state;
        match &result {
            Ok(()) => {
                state.last_save_s = now_s;
                state.saved_dirty = job.dirty;
                state.saves += 1;
                state.last_ok = true;
                tracing::info!("DB saved on disk");
            }
            Err(reason) => {
                // As in Valkey, a SAVE that failed does not stop writes: whoever asked has been told.
                state.last_ok &= job.foreground;
                tracing::warn!("{reason}");
            }
        }
        if !job.foreground {
            state.last_took_s = Some(now_s - job.began_s);
            match result {
                Ok(()) => tracing::info!("Background saving terminated with success"),
                Err(_) => tracing::warn!("Background saving error"),
            }
        }
    }

    /// Saves everything before it returns. A background save under way is given up.
    ///
    /// # Errors
    /// [`SaveFailed`].
    pub fn save_now(&mut self) -> Result<(), SaveFailed> {
        self.cancel();
        let saves = self.state.saves;
        if let Err(error) = self.start(true) {
            tracing::warn!("can't start a thread to save: {error}");
            return Err(SaveFailed);
        }
        loop {
            self.step(u64::MAX);
            let Some(job) = &mut self.state.job else { break };
            // The queue is full, or everything is sent: the writer is what is waited for.
            match job.from_writer.recv() {
                Ok(answer) => {
                    let ended = job.answered(answer);
                    if let Some(result) = ended
                        && let Some(job) = self.state.job.take()
                    {
                        self.ended(*job, result);
                        break;
                    }
                }
                // The next step finds that out and says so.
                Err(_) => continue,
            }
        }
        if self.state.saves > saves { Ok(()) } else { Err(SaveFailed) }
    }

    /// Gives up the save under way; false if there is none. The file that was there stays.
    pub fn cancel(&mut self) -> bool {
        let Some(mut job) = self.state.job.take() else { return false };
        self.data.snapshot_end(job.snapshot);
        job.given_up.store(true, Ordering::Release);
        job.to_writer = None;
        // It ends by itself, without its file, after the few chunks it was sent; nobody waits for a disk.
        self.state.abandoned.push(job.thread);
        true
    }

    /// Gives up what is under way and waits until no thread has a file open, but not for a disk that
    /// answers no more: what hangs there ends with the process.
    pub fn end(&mut self) {
        self.cancel();
        let until_ns = self.clock.mono_ns() + GIVEN_UP_NS_MAX;
        for thread in std::mem::take(&mut self.state.abandoned) {
            while !thread.is_finished() && self.clock.mono_ns() < until_ns {
                self.host.sleep(Duration::from_millis(1));
            }
            if !thread.is_finished() {
                tracing::warn!("A save that was given up does not end; its temporary file may stay.");
            }
        }
    }

    /// What is to be done before the server may end: `save` as SHUTDOWN was told, or else if there are
    /// save points.
    ///
    /// # Errors
    /// Something was to be saved and could not be.
    pub fn before_shutdown(&mut self, save: Option<bool>) -> Result<(), SaveFailed> {
        self.cancel();
        // What is loaded only in part must not replace the whole.
        if self.state.loading.is_some() || !save.unwrap_or(!self.settings.save.points.is_empty()) {
            return Ok(());
        }
        tracing::info!("Saving the final RDB snapshot before exiting.");
        self.save_now()
    }

    /// Everything was removed: a save of what was there is pointless, and the file is out of date. True if
    /// the data as it is now is being saved; whoever removed it is to be told when that is done.
    pub fn after_flush(&mut self) -> bool {
        self.cancel();
        if self.settings.save.points.is_empty() || self.state.loading.is_some() {
            return false;
        }
        match self.start(true) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!("can't start a thread to save: {error}");
                self.state.scheduled = true;
                false
            }
        }
    }

    /// Begins a save if one was scheduled or a save point is reached.
    pub fn begin_if_due(&mut self) {
        let abandoned = self.state.abandoned.len();
        self.state.abandoned.retain(|thread| !thread.is_finished());
        if self.state.abandoned.len() < abandoned {
            // What was still sent to such a thread, it has freed: the count of this one does not know.
            self.data.refresh_meter();
        }
        let state = &*self.state;
        if state.job.is_some() || state.loading.is_some() {
            return;
        }
        let now_s = self.now.unix_ms / 1000;
        let changes = self.data.dirty() - state.saved_dirty;
        let may_retry = state.last_ok || now_s - state.last_try_s > RETRY_SECONDS;
        let due =
            self.settings.save.points.iter().find(|point| {
                changes >= point.changes && now_s - state.last_save_s > point.seconds as i64 && may_retry
            });
        if let Some(point) = due {
            tracing::info!("{} changes in {} seconds. Saving...", point.changes, point.seconds);
        } else if !state.scheduled {
            return;
        }
        self.begin_in_background();
    }

    /// Begins a background save; false if that could not be done.
    pub fn begin_in_background(&mut self) -> bool {
        match self.begin() {
            Ok(()) => {
                tracing::info!("Background saving started");
                true
            }
            Err(error) => {
                self.state.last_ok = false;
                tracing::warn!("Can't save in background: {error}");
                false
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tercel_engine::{Blob, Expire, NewValue};

    use super::*;
    use std::path::Path;

    use crate::base::clock::Clock;
    use crate::data::Dataset;
    use crate::host::{FakeHost, Host};
    use crate::persistence::Persistence;
    use crate::settings::Settings;

    struct Thread(std::thread::JoinHandle<()>);

    impl Helper for Thread {
        fn is_finished(&self) -> bool {
            self.0.is_finished()
        }

        fn join(self: Box<Self>) {
            self.0.join().unwrap();
        }
    }

    /// All the values of a segment in one chunk would be a turn of milliseconds, and eight such chunks a
    /// good part of the memory.
    #[test]
    fn chunks_stay_small_whatever_the_values() {
        let host = FakeHost::with_helpers(|job| Box::new(Thread(std::thread::spawn(job))));
        let settings = Settings::default();
        let mut data = Dataset::new(&settings, [0; 16], 0, host.meter());
        let value = Blob::from_vec(vec![b'x'; 60_000]);
        for number in 0..20_000 {
            let key = format!("key:{number}");
            let key = data.key(key.as_bytes());
            data.store(0, key, NewValue::Blob(value.clone()), Expire::Clear);
        }
        let (mut state, mut clock) = (Persistence::new(0), Clock::new());
        let now = clock.now();
        let mut work = Work {
            state: &mut state,
            data: &mut data,
            settings: &settings,
            host: &*host,
            dir: Path::new("/data"),
            clock: &clock,
            now,
        };
        work.begin().unwrap();
        // What is sent passes through here, so that it is seen whatever the writer has taken already.
        let (to_test, sent) = channel();
        let to_writer = work.state.job.as_mut().unwrap().to_writer.replace(to_test).unwrap();
        let (mut copied_max, mut chunks, mut finished) = (0, 0, false);
        while work.state.is_saving() {
            work.step(0);
            for message in sent.try_iter() {
                match &message {
                    Message::Keys(chunk) => {
                        copied_max = copied_max.max(chunk.bytes.capacity());
                        chunks += 1;
                    }
                    Message::Finish => finished = true,
                    Message::Long { .. } | Message::Piece(_) | Message::Large { .. } => panic!("no value is that long"),
                }
                let _ = to_writer.send(message);
            }
            std::thread::yield_now();
        }
        assert!(finished && chunks > 100, "{chunks} chunks");
        work.end();
        assert!(copied_max > 0 && copied_max <= 2 * (CHUNK_BYTES + LONG_BYTES), "{copied_max} bytes in a chunk");
    }
}
