//! What a setting may hold: types that read themselves from words and show themselves as text,
//! with Valkey's error texts.

use tercel_engine::Policy;

use crate::command::event_class as class;

/// A type of setting.
pub trait Value: Sized {
    /// Bounds and the like.
    type Rule;
    /// Reads words.
    ///
    /// # Errors
    /// A sentence that says what was expected.
    fn read(words: &[&str], rule: &Self::Rule) -> Result<Self, String>;
    /// Shows the value as [`Value::read`] takes it.
    fn show(&self) -> String;
    /// Says what is accepted.
    fn accepts(rule: &Self::Rule) -> String;
    /// Whether it stands for something that is not there yet.
    const NOT_YET: bool = false;
}

fn one<'a>(words: &[&'a str]) -> Result<&'a str, String> {
    match words {
        [word] => Ok(word),
        _ => Err("wrong number of arguments".to_owned()),
    }
}

fn between(number: i64, bounds: &std::ops::RangeInclusive<i64>) -> Result<i64, String> {
    if bounds.contains(&number) {
        Ok(number)
    } else {
        Err(format!("argument must be between {} and {} inclusive", bounds.start(), bounds.end()))
    }
}

impl Value for i64 {
    type Rule = std::ops::RangeInclusive<i64>;

    fn read(words: &[&str], rule: &Self::Rule) -> Result<Self, String> {
        let number = tercel_resp::number::parse_i64(one(words)?.as_bytes())
            .ok_or("argument couldn't be parsed into an integer")?;
        between(number, rule)
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn accepts(rule: &Self::Rule) -> String {
        format!("{} to {}", rule.start(), rule.end())
    }
}

impl Value for bool {
    type Rule = ();

    fn read(words: &[&str], (): &()) -> Result<Self, String> {
        match one(words)?.to_ascii_lowercase().as_str() {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err("argument must be 'yes' or 'no'".to_owned()),
        }
    }

    fn show(&self) -> String {
        if *self { "yes" } else { "no" }.to_owned()
    }

    fn accepts((): &()) -> String {
        "yes, no".to_owned()
    }
}

impl Value for String {
    type Rule = ();

    fn read(words: &[&str], (): &()) -> Result<Self, String> {
        match words {
            [] => Ok(String::new()),
            _ => one(words).map(str::to_owned),
        }
    }

    fn show(&self) -> String {
        self.clone()
    }

    fn accepts((): &()) -> String {
        "text".to_owned()
    }
}

/// A number of bytes, read with or without a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Memory(pub i64);

/// Reads `100`, `1k` (1000), `1kb` (1024) and so on, in bytes.
#[must_use]
pub fn parse_memory(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let digits_end = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let number: i64 = lower[..digits_end].parse().ok()?;
    let factor = match &lower[digits_end..] {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

impl Value for Memory {
    type Rule = std::ops::RangeInclusive<i64>;

    fn read(words: &[&str], rule: &Self::Rule) -> Result<Self, String> {
        let bytes = parse_memory(one(words)?).ok_or_else(|| "argument must be a memory value".to_owned())?;
        between(bytes, rule).map(Memory)
    }

    fn show(&self) -> String {
        self.0.to_string()
    }

    fn accepts(_: &Self::Rule) -> String {
        "bytes, with b, k, kb, m, mb, g or gb".to_owned()
    }
}

/// A number of bytes, or a share of `maxmemory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryOrPercent {
    /// Bytes.
    Bytes(i64),
    /// Percent of `maxmemory`.
    Percent(i64),
}

impl Default for MemoryOrPercent {
    fn default() -> Self {
        MemoryOrPercent::Bytes(0)
    }
}

impl Value for MemoryOrPercent {
    type Rule = ();

    fn read(words: &[&str], (): &()) -> Result<Self, String> {
        let word = one(words)?;
        if let Some(percent) = word.strip_suffix('%') {
            return match percent.parse() {
                Ok(percent @ 0..=100) => Ok(MemoryOrPercent::Percent(percent)),
                _ => Err("argument must be a memory or percent value".to_owned()),
            };
        }
        parse_memory(word)
            .map(MemoryOrPercent::Bytes)
            .ok_or_else(|| "argument must be a memory or percent value".to_owned())
    }

    fn show(&self) -> String {
        match self {
            MemoryOrPercent::Bytes(bytes) => bytes.to_string(),
            MemoryOrPercent::Percent(percent) => format!("{percent}%"),
        }
    }

    fn accepts((): &()) -> String {
        "bytes, or a percentage of maxmemory".to_owned()
    }
}

/// File permissions in octal; 0 leaves them to the umask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Mode(pub u32);

impl Value for Mode {
    type Rule = ();

    fn read(words: &[&str], (): &()) -> Result<Self, String> {
        match u32::from_str_radix(one(words)?, 8) {
            Ok(mode @ 0..=0o777) => Ok(Mode(mode)),
            Ok(_) => Err("argument must be between 0 and 777 inclusive".to_owned()),
            Err(_) => Err("argument couldn't be parsed as an octal number".to_owned()),
        }
    }

    fn show(&self) -> String {
        format!("{:o}", self.0)
    }

    fn accepts((): &()) -> String {
        "octal".to_owned()
    }
}

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

/// Output-buffer limits of one class of clients, in bytes and seconds; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct OutputLimit {
    /// Closed at once above this.
    pub hard: u64,
    /// Closed when above this for `soft_seconds`.
    pub soft: u64,
    /// How long.
    pub soft_seconds: u64,
}

/// Output-buffer limits of all classes: normal, replica, pubsub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct OutputLimits(pub [OutputLimit; 3]);

impl OutputLimits {
    /// Reads quadruples on top of `self`, so that a class not named keeps its limits.
    ///
    /// # Errors
    /// A sentence that says what was expected.
    pub fn with_words(mut self, words: &[&str]) -> Result<Self, String> {
        if !words.len().is_multiple_of(4) {
            return Err("Wrong number of arguments in buffer limit configuration.".to_owned());
        }
        for quad in words.chunks_exact(4) {
            let at = match quad[0].to_ascii_lowercase().as_str() {
                "normal" => 0,
                "slave" | "replica" => 1,
                "pubsub" => 2,
                _ => return Err("Invalid client class specified in buffer limit configuration.".to_owned()),
            };
            let wrong = || "Error in hard, soft or soft_seconds setting in buffer limit configuration.".to_owned();
            self.0[at] = OutputLimit {
                hard: parse_memory(quad[1]).ok_or_else(wrong)? as u64,
                soft: parse_memory(quad[2]).ok_or_else(wrong)? as u64,
                soft_seconds: quad[3].parse().map_err(|_| wrong())?,
            };
        }
        Ok(self)
    }
}

impl Value for OutputLimits {
    type Rule = ();

    fn read(words: &[&str], (): &()) -> Result<Self, String> {
        OutputLimits::default().with_words(words)
    }

    fn show(&self) -> String {
        ["normal", "slave", "pubsub"]
            .iter()
            .zip(&self.0)
            .map(|(name, limit)| format!("{name} {} {} {}", limit.hard, limit.soft, limit.soft_seconds))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn accepts((): &()) -> String {
        "class hard soft seconds, for normal, replica, pubsub".to_owned()
    }
}

/// The name of a file in the working directory.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FileName(pub String);

impl std::ops::Deref for FileName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Value for FileName {
    type Rule = &'static str;

    fn read(words: &[&str], setting: &Self::Rule) -> Result<Self, String> {
        match one(words)? {
            "" => Err(format!("{setting} can't be empty")),
            name if name.contains(['/', '\\']) => Err(format!("{setting} can't be a path, just a filename")),
            name => Ok(FileName(name.to_owned())),
        }
    }

    fn show(&self) -> String {
        self.0.clone()
    }

    fn accepts(_: &Self::Rule) -> String {
        "a file name".to_owned()
    }
}

/// One save point: so many changes in so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavePoint {
    /// Seconds since the last save that must have gone by.
    pub seconds: u64,
    /// Changes there must have been.
    pub changes: u64,
}

/// When the data is saved in the background.
#[derive(Clone, Debug, Default)]
pub struct SavePoints {
    /// The save points; none: never.
    pub points: Vec<SavePoint>,
    /// A file or the command line has set them, so that its next line adds to them.
    pub(super) given: bool,
}

impl PartialEq for SavePoints {
    fn eq(&self, other: &Self) -> bool {
        self.points == other.points
    }
}

impl Value for SavePoints {
    type Rule = ();

    fn read(words: &[&str], (): &()) -> Result<Self, String> {
        let invalid = || "Invalid save parameters".to_owned();
        if let [] | [""] = words {
            return Ok(SavePoints::default());
        }
        if !words.len().is_multiple_of(2) {
            return Err(invalid());
        }
        let number = |word: &str, least: u64| {
            let number = tercel_resp::number::parse_i64(word.as_bytes()).and_then(|number| u64::try_from(number).ok());
            number.filter(|&number| number >= least && number <= u64::from(u32::MAX)).ok_or_else(invalid)
        };
        let point = |pair: &[&str]| Ok(SavePoint { seconds: number(pair[0], 1)?, changes: number(pair[1], 0)? });
        Ok(SavePoints { points: words.chunks_exact(2).map(point).collect::<Result<_, String>>()?, given: false })
    }

    fn show(&self) -> String {
        let shown: Vec<String> =
            self.points.iter().map(|point| format!("{} {}", point.seconds, point.changes)).collect();
        shown.join(" ")
    }

    fn accepts((): &()) -> String {
        "pairs of seconds and changes, or nothing".to_owned()
    }
}

/// A setting of Valkey for something this version does not do: only values that ask for nothing
/// are taken, so that nobody believes it is done.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NotYet(pub String);

impl Value for NotYet {
    type Rule = &'static [&'static str];
    const NOT_YET: bool = true;

    fn read(words: &[&str], rule: &Self::Rule) -> Result<Self, String> {
        let text = words.join(" ");
        if rule.iter().any(|allowed| allowed.eq_ignore_ascii_case(&text)) {
            return Ok(NotYet(text));
        }
        let allowed: Vec<String> = rule.iter().map(|word| format!("'{word}'")).collect();
        Err(format!("not supported by this version; the only value taken is {}", allowed.join(" or ")))
    }

    fn show(&self) -> String {
        self.0.clone()
    }

    fn accepts(rule: &Self::Rule) -> String {
        rule.iter().map(|word| if word.is_empty() { "(empty)" } else { word }).collect::<Vec<_>>().join(", ")
    }
}

/// A setting of Valkey that tunes something this version does not have: it is kept and shown, so that
/// a configuration file made for Valkey is understood, and it has no effect.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Inert(pub String);

impl Value for Inert {
    type Rule = ();

    fn read(words: &[&str], (): &()) -> Result<Self, String> {
        Ok(Inert(words.join(" ")))
    }

    fn show(&self) -> String {
        self.0.clone()
    }

    fn accepts((): &()) -> String {
        "anything".to_owned()
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
