//! The configuration file: valkey.conf's syntax, with `include`, quoting and command-line options
//! laid over it. A wrong line is an error with file and line number, and the server does not start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tercel_resp::request::split_words;

use super::{Setting, Settings, find};
use crate::base::disk::Disk;

/// Deepest nesting of `include`.
const INCLUDE_DEPTH_MAX: usize = 16;
/// The name under which standard input is read as the configuration.
pub const STANDARD_INPUT: &str = "-";

/// What is said of a value that is not UTF-8.
pub const NOT_TEXT: &str = "a setting must be UTF-8 text";

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("can't open config file '{path}': {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// The operating system's words.
        reason: String,
    },
    /// A line is wrong.
    #[error("*** FATAL CONFIG FILE ERROR ***\nReading the configuration file, at {place}\n>>> '{text}'\n{reason}")]
    Line {
        /// File and line number, or the command line.
        place: String,
        /// The line.
        text: String,
        /// What was expected.
        reason: String,
    },
}

/// Splits text into words as the file does.
#[must_use]
pub fn words(text: &str) -> Vec<String> {
    split_words(text.as_bytes())
        .unwrap_or_default()
        .into_iter()
        .map(|word| String::from_utf8_lossy(&word).into_owned())
        .collect()
}

/// Quotes a word if the file needs it.
#[must_use]
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '\\' | '#');
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut out = String::from("\"");
    for byte in word.bytes() {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b' '..=b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("\\x{other:02x}")),
        }
    }
    out.push('"');
    out
}

/// A setting's value as the file says it: lists of words bare, everything else quoted if needed.
#[must_use]
pub fn quote_words(name: &str, value: &str) -> String {
    if Settings::takes_several_words(name) && !value.is_empty() { value.to_owned() } else { quote(value) }
}

/// What Valkey takes and ignores: one value each, whatever it is.
const IGNORED: &[&str] = &[
    "dynamic-hz",
    "events-per-io-thread",
    "io-threads-do-reads",
    "list-max-ziplist-entries",
    "list-max-ziplist-value",
    "lua-replicate-commands",
    "sanitize-dump-payload",
];

const BAD_DIRECTIVE: &str = "Bad directive or wrong number of arguments";

/// Reads a configuration: a file (if any), then options from the command line over it.
///
/// # Errors
/// [`ConfigError`] with the place and what was expected.
pub fn load(
    disk: &dyn Disk,
    sources: &[Source<'_>],
    options: &[(String, Vec<String>)],
) -> Result<Settings, ConfigError> {
    let mut reading = Reading::default();
    for source in sources {
        match source {
            Source::File(path) => reading.file(disk, path, 0)?,
            Source::Text(text) => reading.included_text(disk, text, Path::new(STANDARD_INPUT), 0)?,
        }
    }
    for (name, values) in options {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        if let ("include", [path]) = (name.as_str(), &values[..]) {
            reading.file(disk, Path::new(path), 1)?;
            continue;
        }
        // As in Valkey, the option alone turns save points off.
        let values = if name == "save" && values.is_empty() { vec![""] } else { values };
        reading
            .directive(name, &values, || ("the command line".to_owned(), format!("--{name} {}", values.join(" "))))?;
    }
    reading.finish()
}

/// Reads a configuration from its text alone. It includes nothing.
///
/// # Errors
/// [`ConfigError`] with the line; `name` stands for the file.
pub fn load_text(text: &[u8], name: &str) -> Result<Settings, ConfigError> {
    let mut reading = Reading::default();
    reading.text(text, name, &mut |_, _| Ok(()))?;
    reading.finish()
}

/// Where a configuration is.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// In a file.
    File(&'a Path),
    /// What came from standard input.
    Text(&'a [u8]),
}

/// A configuration being read, from all its places.
#[derive(Default)]
struct Reading {
    settings: Settings,
    /// Settings whose last word asked for what is not there yet.
    not_yet: BTreeMap<&'static str, ConfigError>,
}

impl Reading {
    /// The settings, once the last word is said.
    fn finish(self) -> Result<Settings, ConfigError> {
        match self.not_yet.into_values().next() {
            Some(error) => Err(error),
            None => Ok(self.settings),
        }
    }

    fn file(&mut self, disk: &dyn Disk, path: &Path, depth: usize) -> Result<(), ConfigError> {
        let unreadable = |reason: String| ConfigError::Unreadable { path: path.display().to_string(), reason };
        if depth > INCLUDE_DEPTH_MAX {
            return Err(unreadable("included too deeply".to_owned()));
        }
        let mut bytes = Vec::new();
        disk.open(path)
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .map_err(|error| unreadable(error.to_string()))?;
        self.included_text(disk, &bytes, path, depth)
    }

    /// Reads lines that stand in `path`, and the files they include, which are seen from there.
    fn included_text(&mut self, disk: &dyn Disk, text: &[u8], path: &Path, depth: usize) -> Result<(), ConfigError> {
        let base = path.parent().map(PathBuf::from).unwrap_or_default();
        self.text(text, &path.display().to_string(), &mut |reading, included| {
            let target = base.join(included);
            if !included.contains(['*', '?', '[']) {
                return reading.file(disk, &target, depth + 1);
            }
            // A pattern that matches nothing includes nothing.
            let unreadable = |reason: String| ConfigError::Unreadable { path: included.to_owned(), reason };
            for found in disk.matching(&target.to_string_lossy()).map_err(unreadable)? {
                reading.file(disk, &found, depth + 1)?;
            }
            Ok(())
        })
    }

    /// Reads lines. `include` is called with the argument of each `include`.
    fn text(
        &mut self,
        text: &[u8],
        name: &str,
        include: &mut dyn FnMut(&mut Reading, &str) -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        for (at, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let place = || (format!("{name} line {}", at + 1), String::from_utf8_lossy(line).into_owned());
            let wrong = |reason: String| {
                let (place, text) = place();
                ConfigError::Line { place, text, reason }
            };
            let words = split_words(line).ok_or_else(|| wrong("Unbalanced quotes in configuration line".to_owned()))?;
            let words: Result<Vec<String>, _> = words.into_iter().map(String::from_utf8).collect();
            let words = words.map_err(|_| wrong(NOT_TEXT.to_owned()))?;
            let Some((directive, values)) = words.split_first() else { continue };
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            if directive.eq_ignore_ascii_case("include") {
                match values[..] {
                    [path] => include(self, path).map_err(|error| match error {
                        unreadable @ ConfigError::Unreadable { .. } => wrong(unreadable.to_string()),
                        line @ ConfigError::Line { .. } => line,
                    })?,
                    _ => return Err(wrong("include takes one file".to_owned())),
                }
                continue;
            }
            self.directive(directive, &values, place)?;
        }
        Ok(())
    }

    /// One directive; `place` tells where it stands, and its text.
    fn directive(
        &mut self,
        name: &str,
        values: &[&str],
        place: impl FnOnce() -> (String, String),
    ) -> Result<(), ConfigError> {
        let setting = find(name);
        let wrong = |reason: String| {
            let (place, mut text) = place();
            if setting.is_some_and(Setting::is_secret) {
                text = format!("{name} (redacted)");
            }
            ConfigError::Line { place, text, reason }
        };
        if ["rename-command", "user", "loadmodule"].iter().any(|absent| name.eq_ignore_ascii_case(absent)) {
            return Err(wrong(format!("'{name}' is not supported by this version")));
        }
        if values.len() == 1 && IGNORED.iter().any(|ignored| name.eq_ignore_ascii_case(ignored)) {
            return Ok(());
        }
        let Some(setting) = setting.filter(|_| !values.is_empty()) else {
            return Err(wrong(BAD_DIRECTIVE.to_owned()));
        };
        match apply(&mut self.settings, setting, values) {
            Ok(()) => {
                self.not_yet.remove(setting.name);
                Ok(())
            }
            Err(reason) if setting.not_yet => {
                self.not_yet.insert(setting.name, wrong(reason));
                Ok(())
            }
            Err(reason) => Err(wrong(reason)),
        }
    }
}

fn apply(settings: &mut Settings, setting: &Setting, values: &[&str]) -> Result<(), String> {
    let values: Vec<String> = match values {
        // A list given as one quoted word, as `--bind "a b"` arrives.
        [one] if Settings::takes_several_words(setting.name) => words(one),
        _ => values.iter().map(|value| (*value).to_owned()).collect(),
    };
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let earlier = (setting.name == "save" && settings.save.given).then(|| settings.save.points.clone());
    (setting.set)(settings, &values)?;
    if setting.name == "save" {
        // Each line of a file adds a save point; an empty one removes those before it.
        if !values.is_empty() {
            settings.save.points.splice(0..0, earlier.unwrap_or_default());
        }
        settings.save.given = true;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn load(text: &str) -> Result<Settings, ConfigError> {
        load_text(text.as_bytes(), "test.conf")
    }

    #[test]
    fn lines_comments_quotes_and_units() {
        let settings =
            load("# comment\n\nPORT 7000\nmaxmemory 2gb\nrequirepass \"a b\\\"c\"\nbind 127.0.0.1 ::1\nsave \"\"\n")
                .unwrap();
        assert_eq!(settings.port, 7000);
        assert_eq!(settings.maxmemory.0, 2 << 30);
        assert_eq!(settings.requirepass, "a b\"c");
        assert_eq!(settings.bind.0, ["127.0.0.1", "::1"]);
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, expected) in [
            ("port 1\nnosuch 1\n", "test.conf line 2\n>>> 'nosuch 1'\nBad directive or wrong number of arguments"),
            ("port abc\n", "test.conf line 1\n>>> 'port abc'\nargument couldn't be parsed into an integer"),
            ("requirepass \"a\n", "test.conf line 1\n>>> 'requirepass \"a'\nUnbalanced quotes in configuration line"),
            ("appendonly yes\n", "not supported by this version"),
            ("rename-command FLUSHALL \"\"\n", "'rename-command' is not supported by this version"),
            (
                "port 1\nrequirepass \"\\xff\"\n",
                "test.conf line 2\n>>> 'requirepass \"\\xff\"'\na setting must be UTF-8 text",
            ),
            ("cpu-affinity abc\n", "test.conf line 1\n>>> 'cpu-affinity abc'\n"),
        ] {
            let error = load(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_last_word_counts_before_anything_is_refused() {
        for setting in super::super::SETTINGS.iter().filter(|setting| setting.not_yet) {
            let asks = format!("{} something-else\n", setting.name);
            let takes_back = format!("{}\n", line_of(setting.name, setting.default));
            load(&format!("{asks}{takes_back}")).unwrap_or_else(|error| panic!("{}: {error}", setting.name));
            let error = load(&format!("{takes_back}{asks}")).unwrap_err().to_string();
            assert!(error.contains("line 2") && error.contains("not supported by this version"), "{error}");
        }
        // What is no value at all is one however late it is said.
        load("maxclients abc\nmaxclients 10\n").unwrap_err();
    }

    fn line_of(name: &str, value: &str) -> String {
        format!("{name} {}", quote(value))
    }

    #[test]
    fn what_valkey_ignores_is_ignored() {
        for name in IGNORED {
            load(&format!("{name} whatever\n")).unwrap();
            load(&format!("{} 1\n", name.to_ascii_uppercase())).unwrap();
            assert!(load(&format!("{name} one two\n")).unwrap_err().to_string().contains(BAD_DIRECTIVE));
        }
    }

    #[test]
    fn a_secret_is_not_shown_in_an_error() {
        let error = load("requirepass hush hush\n").unwrap_err().to_string();
        assert!(error.contains("requirepass (redacted)") && !error.contains("hush"), "{error}");
    }

    proptest! {
        #[test]
        fn quoting_reads_back(word in "[ -~\n\t]{0,30}") {
            prop_assert_eq!(words(&quote(&word)), vec![word]);
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
            let _ = load(&text);
        }
    }
}
