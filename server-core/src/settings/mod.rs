//! Settings: one declaration each (field, type, default, name, bounds, mutability, text), from
//! which the configuration file, the command line, CONFIG GET, SET and REWRITE and
//! docs/settings.md derive. Knows what a setting is called and may hold, not what it is for.

mod declared;
pub mod file;
mod rewrite;
pub mod value;

use std::collections::HashSet;

use crate::base::glob::Glob;

pub use declared::{SETTINGS, Settings};
pub use value::*;

/// When a setting may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutability {
    /// At run time.
    Mutable,
    /// Only at start.
    Immutable,
    /// At run time if `enable-protected-configs` allows it.
    Protected,
}

/// One setting's declaration.
pub struct Setting {
    /// Name.
    pub name: &'static str,
    /// Another name it answers to; empty without one.
    pub alias: &'static str,
    /// Default, as a file would say it.
    pub default: &'static str,
    /// When it may change.
    pub mutability: Mutability,
    /// One or two sentences.
    pub doc: &'static str,
    /// What it may hold, for the documentation.
    pub accepts: fn() -> String,
    /// The value in force, as a file would say it.
    pub show: fn(&Settings) -> String,
    /// Takes words as a value.
    pub set: fn(&mut Settings, &[&str]) -> Result<(), String>,
    /// Whether a value it does not take is one that a later version may: it is an error only if it is the
    /// last word, so that a file may ask for it and the command line take it back.
    pub not_yet: bool,
}

impl Setting {
    /// Whether its value must not be shown where commands and errors are: logs, MONITOR.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        SECRETS.contains(&self.name)
    }
}

/// Settings whose values are secrets, as Valkey has them.
const SECRETS: &[&str] =
    &["primaryauth", "primaryuser", "requirepass", "tls-client-key-file-pass", "tls-key-file-pass"];

/// Finds a declaration by name or alias.
#[must_use]
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| {
        setting.name.eq_ignore_ascii_case(name)
            || (!setting.alias.is_empty() && setting.alias.eq_ignore_ascii_case(name))
    })
}

impl Default for Settings {
    fn default() -> Self {
        let mut settings = Settings::empty();
        for setting in SETTINGS {
            // A default that does not parse is caught by the test below; it stays empty here.
            let _ = (setting.set)(
                &mut settings,
                &file::words(setting.default).iter().map(String::as_str).collect::<Vec<_>>(),
            );
        }
        settings
    }
}

/// Why CONFIG SET was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// No such setting.
    #[error("Unknown option or number of arguments for CONFIG SET - '{0}'")]
    Unknown(String),
    /// A setting that takes the value of its own, or cannot.
    #[error("CONFIG SET failed (possibly related to argument '{name}') - {reason}")]
    Refused {
        /// The setting.
        name: String,
        /// Why.
        reason: String,
    },
}

impl Settings {
    /// Names and values of all settings that match one of the patterns, each once.
    #[must_use]
    pub fn matching(&self, patterns: &[&[u8]]) -> Vec<(&'static str, String)> {
        // A name is looked up, so that a long list of names is not compared with every setting.
        let is_pattern = |text: &[u8]| text.iter().any(|byte| b"*?[\\".contains(byte));
        let names: HashSet<Vec<u8>> =
            patterns.iter().filter(|text| !is_pattern(text)).map(|text| text.to_ascii_lowercase()).collect();
        let patterns: HashSet<&[u8]> = patterns.iter().copied().filter(|text| is_pattern(text)).collect();
        let patterns: Vec<Glob> = patterns.into_iter().map(|pattern| Glob::new(pattern, true)).collect();
        let mut found = Vec::new();
        for setting in SETTINGS {
            for name in [setting.name, setting.alias] {
                let is_asked_for = || {
                    names.contains(name.as_bytes()) || patterns.iter().any(|pattern| pattern.matches(name.as_bytes()))
                };
                if !name.is_empty() && is_asked_for() {
                    found.push((name, (setting.show)(self)));
                }
            }
        }
        found
    }

    /// Changes several settings, all of them or none: the new settings, or what is wrong.
    ///
    /// # Errors
    /// [`SetError`] names the setting and the reason.
    pub fn with_changes(&self, changes: &[(&str, &str)]) -> Result<Settings, SetError> {
        let mut new = self.clone();
        let mut seen: Vec<&'static str> = Vec::new();
        for (name, text) in changes {
            let setting = find(name).ok_or_else(|| SetError::Unknown((*name).to_owned()))?;
            let refused = |reason: &str| SetError::Refused { name: (*name).to_owned(), reason: reason.to_owned() };
            match setting.mutability {
                Mutability::Immutable => return Err(refused("can't set immutable config")),
                Mutability::Protected if !self.protected_configs_allowed() => {
                    return Err(refused("can't set protected config"));
                }
                _ => {}
            }
            if seen.contains(&setting.name) {
                return Err(refused("duplicate parameter"));
            }
            seen.push(setting.name);
            let words =
                if Self::takes_several_words(setting.name) { file::words(text) } else { vec![(*text).to_owned()] };
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            (setting.set)(&mut new, &words).map_err(|reason| refused(&reason))?;
        }
        Ok(new)
    }

    /// Settings whose value is a list of words rather than one text.
    fn takes_several_words(name: &str) -> bool {
        matches!(
            name,
            "bind" | "client-output-buffer-limit" | "latency-tracking-info-percentiles" | "save" | "metrics-bind"
        )
    }

    fn protected_configs_allowed(&self) -> bool {
        self.enable_protected_configs.0 == LocalAccess::Yes
    }
}

/// The settings as a page of documentation.
#[must_use]
pub fn documentation() -> String {
    let mut page = String::from(
        "# Settings\n\nMade from the declarations in `server-core/src/settings/declared.rs` by `tercel-server --settings-doc`; a test holds it true.\n\n\
         | setting | default | may hold | changes | what it does |\n|---|---|---|---|---|\n",
    );
    for setting in SETTINGS {
        let changes = match setting.mutability {
            Mutability::Mutable => "at run time",
            Mutability::Immutable => "at start",
            Mutability::Protected => "at run time if `enable-protected-configs`",
        };
        let alias = if setting.alias.is_empty() { String::new() } else { format!(" (`{}`)", setting.alias) };
        let default = if setting.default.is_empty() { "(empty)" } else { setting.default };
        page.push_str(&format!(
            "| `{}`{alias} | `{default}` | {} | {changes} | {} |\n",
            setting.name,
            (setting.accepts)().replace('|', "\\|"),
            setting.doc
        ));
    }
    page
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_default_parses_and_shows_itself() {
        let settings = Settings::default();
        for setting in SETTINGS {
            let mut copy = settings.clone();
            let words = file::words(setting.default);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            (setting.set)(&mut copy, &words).unwrap_or_else(|error| panic!("{}: {error}", setting.name));
            let shown = (setting.show)(&copy);
            let words = file::words(&file::quote_words(setting.name, &shown));
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            (setting.set)(&mut copy, &words).unwrap_or_else(|error| panic!("{} shows {shown}: {error}", setting.name));
            assert_eq!((setting.show)(&copy), shown, "{}", setting.name);
        }
    }

    #[test]
    fn secrets_are_settings() {
        for name in SECRETS {
            assert!(find(name).is_some_and(|setting| setting.name == *name), "{name}");
        }
        assert!(find("MasterAuth").is_some_and(Setting::is_secret));
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = SETTINGS.iter().flat_map(|s| [s.name, s.alias]).filter(|n| !n.is_empty()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn several_changes_are_all_or_nothing() {
        let settings = Settings::default();
        let error = settings.with_changes(&[("maxmemory", "1gb"), ("maxclients", "x")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "CONFIG SET failed (possibly related to argument 'maxclients') - argument couldn't be parsed into an integer"
        );
        let new = settings.with_changes(&[("maxmemory", "1gb"), ("maxmemory-policy", "allkeys-lru")]).unwrap();
        assert_eq!(new.maxmemory.0, 1 << 30);
        assert!(settings.with_changes(&[("port", "70000")]).unwrap_err().to_string().contains("between 0 and 65535"));
        assert!(
            settings
                .with_changes(&[("databases", "4")])
                .unwrap_err()
                .to_string()
                .ends_with("can't set immutable config")
        );
        assert!(
            settings
                .with_changes(&[("timeout", "1"), ("timeout", "2")])
                .unwrap_err()
                .to_string()
                .ends_with("duplicate parameter")
        );
    }

    #[test]
    fn the_documentation_is_true() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/settings.md");
        assert_eq!(
            std::fs::read_to_string(path).unwrap(),
            documentation(),
            "run `tercel-server --settings-doc > docs/settings.md`"
        );
    }
}
