//! One of several words, lists of words, and what is written as such.

use tercel_engine::Policy;

use super::{Value, one};
use crate::command::event_class as class;

/// A list of words.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Words(pub Vec<String>);

impl Value for Words {
    type Rule = usize;

    fn read(words: &[&str], rule: &usize) -> Result<Self, String> {
        if words.len() > *rule {
            return Err("Too many bind addresses specified.".to_owned());
        }
        Ok(Words(words.iter().filter(|word| !word.is_empty()).map(|word| (*word).to_owned()).collect()))
    }

    fn show(&self) -> String {
        self.0.join(" ")
    }

    fn accepts(rule: &usize) -> String {
        format!("up to {rule} words")
    }
}

/// Declares a type that is one of several words.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$vmeta])* $variant),+ }

        impl Value for Choice<$name> {
            type Rule = ();

            fn read(words: &[&str], (): &()) -> Result<Self, String> {
                let word = one(words)?;
                $(if word.eq_ignore_ascii_case($word) { return Ok(Choice($name::$variant)); })+
                Err(format!("argument(s) must be one of the following: {}", [$($word),+].join(", ")))
            }

            fn show(&self) -> String {
                match self.0 { $($name::$variant => $word),+ }.to_owned()
            }

            fn accepts((): &()) -> String {
                [$($word),+].join(", ")
            }
        }
    };
}

/// A value that is one of several words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice<T>(pub T);

choice! {
    /// Who may use something that could do harm.
    LocalAccess {
        /// Nobody.
        No = "no",
        /// Everybody.
        Yes = "yes",
        /// Clients on this host.
        Local = "local",
    }
}

choice! {
    /// How much is logged.
    LogLevel {
        /// Everything.
        Debug = "debug",
        /// Much.
        Verbose = "verbose",
        /// What an operator wants to know.
        Notice = "notice",
        /// What is wrong.
        Warning = "warning",
        /// Nothing.
        Nothing = "nothing",
    }
}

choice! {
    /// How TCP is done.
    TransportBackend {
        /// io_uring where it works, else epoll.
        Auto = "auto",
        /// io_uring or nothing.
        IoUring = "io_uring",
        /// epoll.
        Epoll = "epoll",
    }
}

choice! {
    /// Which snapshots are loaded.
    RdbVersionCheck {
        /// Those of versions that are known.
        Strict = "strict",
        /// Those of later ones, too, as far as they hold nothing unknown.
        Relaxed = "relaxed",
    }
}

choice! {
    /// Who supervises the process.
    Supervised {
        /// Nobody.
        No = "no",
        /// systemd if it says so.
        Auto = "auto",
        /// systemd.
        Systemd = "systemd",
    }
}

/// The eviction policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvictionPolicy(pub Policy);

const POLICIES: &[(Policy, &str)] = &[
    (Policy::VolatileLru, "volatile-lru"),
    (Policy::VolatileLfu, "volatile-lfu"),
    (Policy::VolatileRandom, "volatile-random"),
    (Policy::VolatileTtl, "volatile-ttl"),
    (Policy::AllKeysLru, "allkeys-lru"),
    (Policy::AllKeysLfu, "allkeys-lfu"),
    (Policy::AllKeysRandom, "allkeys-random"),
    (Policy::NoEviction, "noeviction"),
];

impl Value for EvictionPolicy {
    type Rule = ();

    fn read(words: &[&str], (): &()) -> Result<Self, String> {
        let word = one(words)?;
        POLICIES
            .iter()
            .find(|(_, name)| name.eq_ignore_ascii_case(word))
            .map(|(policy, _)| EvictionPolicy(*policy))
            .ok_or_else(|| {
                let names: Vec<&str> = POLICIES.iter().map(|(_, name)| *name).collect();
                format!("argument(s) must be one of the following: {}", names.join(", "))
            })
    }

    fn show(&self) -> String {
        POLICIES.iter().find(|(policy, _)| *policy == self.0).map_or("noeviction", |(_, name)| name).to_owned()
    }

    fn accepts((): &()) -> String {
        POLICIES.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
    }
}

/// How a signal ends the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ShutdownWay {
    /// Whether there is a save first: `save` and `nosave`; None if there are save points.
    pub save: Option<bool>,
    /// It ends even if that fails: `force`.
    pub force: bool,
    /// Not if that would lose what others rely on: `safe`.
    pub safe: bool,
    /// It waits for no replica: `now`.
    pub now: bool,
    /// Its primary's place is handed on first: `failover`.
    pub failover: bool,
}

impl ShutdownWay {
    const WORDS: &'static str = "default, save, nosave, now, force, safe, failover";
}

impl Value for ShutdownWay {
    type Rule = ();

    fn read(words: &[&str], (): &()) -> Result<Self, String> {
        let mut way = ShutdownWay::default();
        let is_empty = words.iter().all(|word| word.trim_ascii().is_empty());
        if is_empty {
            return Err(format!("argument(s) must be one of the following: {}", Self::WORDS));
        }
        for word in words.iter().flat_map(|word| word.split_ascii_whitespace()) {
            match word.to_ascii_lowercase().as_str() {
                "default" => {}
                "save" if way.save != Some(false) => way.save = Some(true),
                "nosave" if way.save != Some(true) => way.save = Some(false),
                "save" | "nosave" => {
                    return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".to_owned());
                }
                "now" => way.now = true,
                "force" => way.force = true,
                "safe" => way.safe = true,
                "failover" => way.failover = true,
                _ => return Err(format!("argument(s) must be one of the following: {}", Self::WORDS)),
            }
        }
        Ok(way)
    }

    fn show(&self) -> String {
        let words = [
            (self.save == Some(true), "save"),
            (self.save == Some(false), "nosave"),
            (self.now, "now"),
            (self.force, "force"),
            (self.safe, "safe"),
            (self.failover, "failover"),
        ];
        let words: Vec<&str> = words.iter().filter(|(is_set, _)| *is_set).map(|(_, word)| *word).collect();
        if words.is_empty() { "default".to_owned() } else { words.join(" ") }
    }

    fn accepts((): &()) -> String {
        Self::WORDS.to_owned()
    }
}

/// Classes of keyspace notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Notifications(pub u32);

impl Value for Notifications {
    type Rule = ();

    fn read(words: &[&str], (): &()) -> Result<Self, String> {
        let text = words.first().copied().unwrap_or("");
        class::parse(text)
            .map(Notifications)
            .ok_or_else(|| "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".to_owned())
    }

    fn show(&self) -> String {
        class::show(self.0)
    }

    fn accepts((): &()) -> String {
        "letters of Ag$lshzxeKEtmdn".to_owned()
    }
}

/// Percentiles that INFO shows.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Percentiles(pub Vec<f64>);

impl Value for Percentiles {
    type Rule = ();

    fn read(words: &[&str], (): &()) -> Result<Self, String> {
        let mut list = Vec::new();
        for word in words.iter().filter(|word| !word.is_empty()) {
            match word.parse::<f64>() {
                Ok(percentile) if (0.0..=100.0).contains(&percentile) => list.push(percentile),
                _ => {
                    return Err(
                        "latency-tracking-info-percentiles should contain floating point numbers in the range 0 to 100"
                            .to_owned(),
                    );
                }
            }
        }
        Ok(Percentiles(list))
    }

    fn show(&self) -> String {
        self.0.iter().map(f64::to_string).collect::<Vec<_>>().join(" ")
    }

    fn accepts((): &()) -> String {
        "numbers from 0 to 100".to_owned()
    }
}

/// Processors: numbers and ranges, `0,2-5,8-14:2`, or nothing.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CpuList(pub String);

impl Value for CpuList {
    type Rule = ();

    fn read(words: &[&str], (): &()) -> Result<Self, String> {
        let text = words.join(" ");
        let number = |text: &str| text.parse::<usize>().ok().filter(|&cpu| cpu < 4096);
        let part = |part: &str| {
            let (range, stride) = part.split_once(':').unwrap_or((part, "1"));
            let (low, high) = range.split_once('-').unwrap_or((range, range));
            number(stride).is_some_and(|stride| stride > 0)
                && number(low).zip(number(high)).is_some_and(|(low, high)| low <= high)
        };
        if text.is_empty() || text.split(',').all(part) {
            return Ok(CpuList(text));
        }
        Err("argument must be a list of processors, such as 2 or 0,4-7".to_owned())
    }

    fn show(&self) -> String {
        self.0.clone()
    }

    fn accepts((): &()) -> String {
        "list of processors".to_owned()
    }
}
