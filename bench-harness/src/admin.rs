//! One connection beside the load: questions to a server, preloading, the events of scenarios. Waits
//! for its answers, each a bounded time.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tercel_resp::encode;
use tercel_resp::reply::{Scanner, Value, parse};
use tercel_transport::client::{Client, Received};

use crate::clock::{Clock, TscClock};
use crate::target::{AnyClient, Target};
use crate::workload::{Workload, excerpt};

/// How long an answer may take unless told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes received at once.
const CHUNK_LEN: usize = 64 * 1024;
/// Requests and bytes under way at once while preloading.
const PRELOAD_BATCH: u64 = 256;
const PRELOAD_BATCH_BYTES: usize = 1024 * 1024;

/// A connection that asks and waits.
pub struct Admin {
    client: AnyClient,
    conn: usize,
    target: Target,
    clock: TscClock,
    received: Vec<u8>,
    chunk: Vec<u8>,
    patience: Duration,
}

impl Admin {
    /// Connects.
    ///
    /// # Errors
    /// The target is not reachable.
    pub fn connect(target: &Target, timeout: Duration) -> anyhow::Result<Self> {
        let mut client = target.client()?;
        let conn = client.connect(timeout).with_context(|| format!("cannot connect to {target}"))?;
        Ok(Admin {
            client,
            conn,
            target: target.clone(),
            clock: TscClock::new(),
            received: Vec::new(),
            chunk: vec![0; CHUNK_LEN],
            patience: PATIENCE,
        })
    }

    /// Sets how long answers may take.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Sends bytes, waiting while the server takes none. Replies that arrive meanwhile are kept.
    ///
    /// # Errors
    /// The connection broke, or the server takes nothing for too long.
    pub fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let (mut sent, mut last_ns) = (0, self.clock.now_ns());
        while sent < bytes.len() {
            let taken = self
                .client
                .send(self.conn, &bytes[sent..])
                .with_context(|| format!("cannot send to {}", self.target))?;
            self.client.flush();
            sent += taken;
            if taken > 0 {
                last_ns = self.clock.now_ns();
                continue;
            }
            ensure!(self.elapsed(last_ns) < self.patience, "{} takes no more bytes", self.target);
            self.client.set_blocked(self.conn, true);
            self.wait_some(Duration::from_millis(10))?;
            self.client.set_blocked(self.conn, false);
        }
        Ok(())
    }

    fn elapsed(&self, since_ns: u64) -> Duration {
        Duration::from_nanos(self.clock.now_ns().saturating_sub(since_ns))
    }

    /// Waits a little and takes what there is.
    fn wait_some(&mut self, timeout: Duration) -> anyhow::Result<()> {
        let mut ready = Vec::new();
        self.client.wait(timeout, &mut ready);
        if ready.is_empty() {
            return Ok(());
        }
        match self
            .client
            .receive(self.conn, &mut self.chunk)
            .with_context(|| format!("{} broke the connection", self.target))?
        {
            Received::Bytes(len) => self.received.extend_from_slice(&self.chunk[..len]),
            Received::Nothing => {}
            Received::Eof => bail!("{} closed the connection", self.target),
        }
        Ok(())
    }

    /// Receives one reply.
    ///
    /// # Errors
    /// None comes in time, the connection ends, or it is no reply.
    pub fn receive(&mut self) -> anyhow::Result<Value> {
        let len = self.whole_reply()?;
        let value = parse(&self.received[..len]);
        match value {
            Ok(Some((value, _))) => {
                self.received.drain(..len);
                Ok(value)
            }
            Ok(None) => bail!("{} sent half a reply: {}", self.target, excerpt(&self.received)),
            Err(error) => bail!("{} sent a wrong reply: {error} at {}", self.target, excerpt(&self.received)),
        }
    }

    /// Waits for a whole reply at the front of what was received; its length. It may be very long, so what was looked
    /// at is not looked at again.
    fn whole_reply(&mut self) -> anyhow::Result<usize> {
        let (mut scanner, begin) = (Scanner::default(), self.clock.now_ns());
        loop {
            match scanner.next(&self.received) {
                Ok(Some(scanned)) => return Ok(scanned.len),
                Ok(None) => {}
                Err(error) => bail!("{} sent a wrong reply: {error} at {}", self.target, excerpt(&self.received)),
            }
            ensure!(self.elapsed(begin) < self.patience, "{} did not answer within {:?}", self.target, self.patience);
            self.wait_some(Duration::from_millis(100))?;
        }
    }

    /// Passes over the replies to `count` commands that write.
    ///
    /// # Errors
    /// As [`Admin::receive`], or one of them is another than `+OK`: then something was not written.
    pub fn skip_oks(&mut self, count: u64) -> anyhow::Result<()> {
        let (mut left, mut begin, mut used) = (count, self.clock.now_ns(), 0);
        let mut scanner = Scanner::default();
        while left > 0 {
            match scanner.next(&self.received[used..]) {
                Ok(Some(scanned)) => {
                    let reply = &self.received[used..used + scanned.len];
                    ensure!(reply == b"+OK\r\n", "{} answered {}", self.target, excerpt(reply.trim_ascii_end()));
                    used += scanned.len;
                    left -= 1;
                    begin = self.clock.now_ns();
                }
                Ok(None) => {
                    self.received.drain(..used);
                    used = 0;
                    ensure!(
                        self.elapsed(begin) < self.patience,
                        "{} did not answer within {:?}",
                        self.target,
                        self.patience
                    );
                    self.wait_some(Duration::from_millis(100))?;
                }
                Err(error) => {
                    bail!("{} sent a wrong reply: {error} at {}", self.target, excerpt(&self.received[used..]))
                }
            }
        }
        self.received.drain(..used);
        Ok(())
    }

    /// Sends a command and waits for its reply.
    ///
    /// # Errors
    /// As [`Admin::send`] and [`Admin::receive`]; error replies are values.
    pub fn call<A: AsRef<[u8]>>(&mut self, words: &[A]) -> anyhow::Result<Value> {
        let mut request = Vec::new();
        encode::request(&mut request, words);
        self.send(&request)?;
        self.receive()
    }

    /// Sends a command and passes over its reply, however long it is.
    ///
    /// # Errors
    /// As [`Admin::send`] and [`Admin::receive`], or the reply is an error.
    pub fn order<A: AsRef<[u8]>>(&mut self, words: &[A]) -> anyhow::Result<()> {
        let mut request = Vec::new();
        encode::request(&mut request, words);
        self.send(&request)?;
        let len = self.whole_reply()?;
        let reply = &self.received[..len];
        ensure!(!reply.starts_with(b"-"), "{} answered {}", self.target, excerpt(reply.trim_ascii_end()));
        self.received.drain(..len);
        Ok(())
    }

    /// The fields of INFO; empty where the server has none.
    ///
    /// # Errors
    /// The connection failed.
    pub fn info(&mut self) -> anyhow::Result<HashMap<String, String>> {
        let text = match self.call(&["INFO", "everything"])? {
            Value::Bulk(text) | Value::Verbatim(_, text) => String::from_utf8_lossy(&text).into_owned(),
            _ => String::new(),
        };
        Ok(text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(k, v)| (k.to_owned(), v.trim().to_owned()))
            .collect())
    }

    /// Writes keys `from..to` of a workload; `seen` is told how many there are so far and says
    /// whether to go on.
    ///
    /// # Errors
    /// The server refuses one.
    pub fn preload(
        &mut self,
        workload: &Workload,
        from: u64,
        to: u64,
        mut seen: impl FnMut(u64) -> bool,
    ) -> anyhow::Result<()> {
        let mut batch = Vec::with_capacity(PRELOAD_BATCH_BYTES);
        let (mut key, mut under_way) = (from, 0);
        while key < to {
            batch.clear();
            let begin = key;
            while key < to && key - begin < PRELOAD_BATCH && batch.len() < PRELOAD_BATCH_BYTES {
                workload.preload_request(&mut batch, key);
                key += 1;
            }
            self.send(&batch)?;
            // Two batches are under way, so that neither side waits for the other.
            self.skip_oks(under_way)?;
            under_way = key - begin;
            if !seen(key - from) {
                break;
            }
        }
        self.skip_oks(under_way)
    }
}
