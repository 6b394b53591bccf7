//! A server with an executor over a network in memory and a clock made by hand, turned by the test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tercel::executor::Executor;
use tercel_commands::commands;
use tercel_core::base::clock::ManualTime;
use tercel_core::host::FakeHost;
use tercel_core::server::Server;
use tercel_core::settings::{Choice, LocalAccess, Settings};
use tercel_transport::memory::{MemoryNet, MemoryPeer, MemoryTransport};

/// With a clock that moves on so far with every look, a slice is two or three pieces.
pub const LOOK_NS: u64 = 40_000;
pub const TURNS_MAX: usize = 100_000;

pub struct House {
    pub executor: Executor<MemoryTransport>,
    pub net: MemoryNet,
    pub time: ManualTime,
}

impl House {
    /// With a clock that moves on with every look.
    pub fn ticking() -> House {
        House::with_time(ManualTime::ticking(LOOK_NS))
    }

    /// With a clock that stands still until it is moved.
    pub fn still() -> House {
        House::with_time(ManualTime::default())
    }

    fn with_time(time: ManualTime) -> House {
        let settings = Settings::default().with_changes(&[("save", ""), ("maxclients", "20000")]).unwrap();
        let settings = Settings { enable_debug_command: Choice(LocalAccess::Yes), ..settings };
        let transport = MemoryTransport::new();
        let net = transport.net();
        let host = FakeHost::with_time(time.clone());
        let server = Server::new(&commands().table, settings, host, "/".into());
        House { executor: Executor::new(transport, commands(), server, Arc::new(AtomicUsize::new(0))), net, time }
    }

    /// Turns until a client is answered; how many turns that took.
    pub fn answer(&mut self, client: &MemoryPeer) -> (String, usize) {
        for turns in 1..TURNS_MAX {
            self.executor.turn();
            let answer = client.read_available();
            if !answer.is_empty() {
                return (String::from_utf8_lossy(&answer).into_owned(), turns);
            }
        }
        panic!("no answer");
    }

    /// Turns until there is nothing to do.
    pub fn settle(&mut self) {
        assert!((0..TURNS_MAX).any(|_| !self.executor.turn()), "the executor never comes to rest");
    }

    /// Sends a command and settles; what came back.
    pub fn call(&mut self, client: &MemoryPeer, words: &[&str]) -> String {
        if !words.is_empty() {
            client.write(&request(words));
        }
        self.settle();
        String::from_utf8_lossy(&client.read_available()).into_owned()
    }

    /// The whole answer, which may come in parts.
    pub fn whole(&mut self, client: &MemoryPeer) -> String {
        let mut answer = Vec::new();
        loop {
            self.settle();
            let more = client.read_available();
            if more.is_empty() {
                return String::from_utf8(answer).unwrap();
            }
            answer.extend(more);
        }
    }
}

pub fn request(words: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    tercel_resp::encode::request(&mut bytes, words);
    bytes
}
