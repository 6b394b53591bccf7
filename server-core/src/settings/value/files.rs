//! Files, their permissions, and when they are written.

use super::{Value, one};

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
    pub(in crate::settings) given: bool,
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
