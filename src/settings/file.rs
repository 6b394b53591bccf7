//! The configuration file: valkey.conf's syntax, with `include`, quoting and command-line options
//! laid over it. A wrong line is an error with file and line number, and the server does not start.

use std::io::Read;
use std::path::{Path, PathBuf};

use tercel_resp::request::split_words;

use super::{Settings, find};

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

/// Reads a configuration: a file (if any), then options from the command line over it.
///
/// # Errors
/// [`ConfigError`] with the place and what was expected.
pub fn load(path: Option<&Path>, options: &[(String, Vec<String>)]) -> Result<Settings, ConfigError> {
    let mut settings = Settings::default();
    if let Some(path) = path {
        load_file(&mut settings, path, 0)?;
    }
    for (name, values) in options {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        apply(&mut settings, name, &values).map_err(|reason| ConfigError::Line {
            place: "the command line".to_owned(),
            text: format!("--{name} {}", values.join(" ")),
            reason,
        })?;
    }
    Ok(settings)
}

fn load_file(settings: &mut Settings, path: &Path, depth: usize) -> Result<(), ConfigError> {
    let unreadable = |reason: String| ConfigError::Unreadable { path: path.display().to_string(), reason };
    if depth > INCLUDE_DEPTH_MAX {
        return Err(unreadable("included too deeply".to_owned()));
    }
    let mut bytes = Vec::new();
    let read = if path == Path::new(STANDARD_INPUT) && depth == 0 {
        std::io::stdin().read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    read.map_err(|error| unreadable(error.to_string()))?;
    let base = path.parent().map(PathBuf::from).unwrap_or_default();
    load_text(settings, &bytes, &path.display().to_string(), &mut |settings, included| {
        let target = base.join(included);
        if !included.contains(['*', '?', '[']) {
            return load_file(settings, &target, depth + 1);
        }
        // A pattern that matches nothing includes nothing.
        let unreadable = |reason: String| ConfigError::Unreadable { path: included.to_owned(), reason };
        for found in glob::glob(&target.to_string_lossy()).map_err(|error| unreadable(error.to_string()))? {
            load_file(settings, &found.map_err(|error| unreadable(error.to_string()))?, depth + 1)?;
        }
        Ok(())
    })
}

/// Reads the lines of a configuration. `include` is called with the argument of each `include`.
///
/// # Errors
/// [`ConfigError`] with the line.
pub fn load_text(
    settings: &mut Settings,
    text: &[u8],
    name: &str,
    include: &mut dyn FnMut(&mut Settings, &str) -> Result<(), ConfigError>,
) -> Result<(), ConfigError> {
    for (at, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let wrong = |reason: String| ConfigError::Line {
            place: format!("{name} line {}", at + 1),
            text: String::from_utf8_lossy(line).into_owned(),
            reason,
        };
        let words = split_words(line).ok_or_else(|| wrong("Unbalanced quotes in configuration line".to_owned()))?;
        let words: Result<Vec<String>, _> = words.into_iter().map(String::from_utf8).collect();
        let words = words.map_err(|_| wrong(NOT_TEXT.to_owned()))?;
        let Some((directive, values)) = words.split_first() else { continue };
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        if directive.eq_ignore_ascii_case("include") {
            match values[..] {
                [path] => include(settings, path).map_err(|error| match error {
                    unreadable @ ConfigError::Unreadable { .. } => wrong(unreadable.to_string()),
                    line @ ConfigError::Line { .. } => line,
                })?,
                _ => return Err(wrong("include takes one file".to_owned())),
            }
            continue;
        }
        apply(settings, directive, &values).map_err(wrong)?;
    }
    Ok(())
}

fn apply(settings: &mut Settings, name: &str, values: &[&str]) -> Result<(), String> {
    if ["rename-command", "user", "loadmodule"].iter().any(|absent| name.eq_ignore_ascii_case(absent)) {
        return Err(format!("'{name}' is not supported by this version"));
    }
    let setting = find(name).ok_or_else(|| "Bad directive or wrong number of arguments".to_owned())?;
    if values.is_empty() {
        return Err("Bad directive or wrong number of arguments".to_owned());
    }
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
        let mut settings = Settings::default();
        load_text(&mut settings, text.as_bytes(), "test.conf", &mut |_, _| Ok(())).map(|()| settings)
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
