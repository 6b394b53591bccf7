//! Recorded commands: a file with one command a line, as typed into redis-cli or as MONITOR prints
//! them.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use tercel_resp::encode;

use super::template::split;

/// Longest file read in bytes.
const FILE_LEN_MAX: u64 = 1 << 30;
/// Most bytes read from what does not tell its length: a pipe, a device.
const STREAM_LEN_MAX: u64 = 1 << 26;

/// Commands ready to be sent.
#[derive(Clone, Debug)]
pub struct Replay {
    bytes: Arc<[u8]>,
    /// Where each command ends, and which of the names it is.
    ends: Arc<[(usize, u8)]>,
    /// Names of the commands in lower case.
    pub names: Vec<String>,
}

impl Replay {
    /// Reads a file. Empty lines and those beginning with `#` are passed over.
    ///
    /// # Errors
    /// The file cannot be read, holds no command, or a line does not parse (its number is named).
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let context = || format!("cannot read the commands of {}", path.display());
        let file = File::open(path).with_context(context)?;
        let metadata = file.metadata().with_context(context)?;
        let limit = if metadata.is_file() { FILE_LEN_MAX } else { STREAM_LEN_MAX };
        ensure!(metadata.len() <= limit, "{} is larger than {limit} bytes", path.display());
        let mut text = Vec::new();
        file.take(limit + 1).read_to_end(&mut text).with_context(context)?;
        ensure!(
            text.len() as u64 <= limit,
            "{} holds more than {limit} bytes, which is too much to replay",
            path.display()
        );
        Self::parse(&text).with_context(context)
    }

    /// As [`Replay::read`], from the file's content.
    ///
    /// # Errors
    /// As there.
    pub fn parse(text: &[u8]) -> anyhow::Result<Self> {
        ensure!(
            !encoded(text),
            "it is RESP, as an append-only file or a capture of a connection holds it; want one command a line, as \
             typed into redis-cli or as MONITOR prints it"
        );
        let (mut bytes, mut ends, mut names) = (Vec::new(), Vec::new(), Vec::<String>::new());
        for (number, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let line = monitored(line.trim_ascii());
            if line.is_empty() || line.starts_with(b"#") || line == b"OK" {
                continue;
            }
            let words = split(line).with_context(|| format!("line {}", number + 1))?;
            encode::request(&mut bytes, &words);
            let name = String::from_utf8_lossy(&words[0]).to_lowercase();
            // Beyond 255 different commands the rest shares one name.
            let at = match names.iter().position(|known| *known == name) {
                Some(at) => at,
                None if names.len() < 255 => {
                    names.push(name);
                    names.len() - 1
                }
                None => {
                    names.truncate(255);
                    names.push("(others)".to_owned());
                    255
                }
            };
            ends.push((bytes.len(), at.min(255) as u8));
        }
        ensure!(!ends.is_empty(), "there is no command in it");
        Ok(Replay { bytes: bytes.into(), ends: ends.into(), names })
    }

    /// How many commands there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Never: a replay without commands is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Which share of the commands each name has.
    #[must_use]
    pub fn shares(&self) -> Vec<f64> {
        let mut counts = vec![0u64; self.names.len()];
        self.ends.iter().for_each(|(_, name)| counts[usize::from(*name)] += 1);
        counts.iter().map(|count| *count as f64 / self.len() as f64).collect()
    }

    /// The command at `at` and the index of its name.
    #[inline]
    #[must_use]
    pub fn command(&self, at: usize) -> (&[u8], u8) {
        let (end, name) = self.ends[at];
        let begin = if at == 0 { 0 } else { self.ends[at - 1].0 };
        (&self.bytes[begin..end], name)
    }
}

/// Whether it begins as an encoded command does: `*3`, `$3`.
fn encoded(text: &[u8]) -> bool {
    let mut lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let mut counted = |mark| {
        lines.next().is_some_and(|line| {
            line.strip_prefix(mark).is_some_and(|rest| !rest.is_empty() && rest.iter().all(u8::is_ascii_digit))
        })
    };
    counted(b"*") && counted(b"$")
}

/// The command of a line of MONITOR (`1700000000.123456 [0 127.0.0.1:5] "get" "a"`), or the line.
fn monitored(line: &[u8]) -> &[u8] {
    let line = line.strip_prefix(b"+").unwrap_or(line);
    let Some(space) = line.iter().position(|&byte| byte == b' ') else { return line };
    let is_time =
        line[..space].iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') && line[..space].contains(&b'.');
    let rest = line[space + 1..].trim_ascii_start();
    match rest.iter().position(|&byte| byte == b']') {
        Some(end) if is_time && rest.starts_with(b"[") => rest[end + 1..].trim_ascii_start(),
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_spellings_are_read() {
        let text = b"# recorded\nOK\nset a \"b c\"\n\n1700000000.123456 [0 127.0.0.1:5] \"GET\" \"a\"\n1700000000.2 [0 unix:/x y] \"get\" \"b\"\r\n";
        let replay = Replay::parse(text).unwrap();
        assert_eq!(replay.names, ["set", "get"]);
        assert_eq!(replay.len(), 3);
        assert_eq!(replay.command(0), (&b"*3\r\n$3\r\nset\r\n$1\r\na\r\n$3\r\nb c\r\n"[..], 0));
        assert_eq!(replay.command(2), (&b"*2\r\n$3\r\nget\r\n$1\r\nb\r\n"[..], 1));
        let error = format!("{:#}", Replay::parse(b"get a\nget \"b\n").unwrap_err());
        assert!(error.contains("line 2"), "{error}");
        assert!(Replay::parse(b"\n#\n").is_err());
        assert!(Replay::read(Path::new("/nonexistent")).is_err());
        let error = format!("{:#}", Replay::parse(b"*2\r\n$3\r\nget\r\n$1\r\na\r\n").unwrap_err());
        assert!(error.contains("RESP") && error.contains("one command a line"), "{error}");
        assert!(Replay::parse(b"*2 is no command of mine\n").is_ok());
    }

    #[test]
    fn what_never_ends_is_not_read_for_ever() {
        let error = format!("{:#}", Replay::read(Path::new("/dev/zero")).unwrap_err());
        assert!(error.contains("more than") && error.contains("/dev/zero"), "{error}");
    }
}
