//! Settings of Valkey for what this version does not have.

use super::Value;

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
