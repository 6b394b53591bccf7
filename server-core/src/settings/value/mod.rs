//! What a setting may hold: types that read themselves from words and show themselves as text,
//! with Valkey's error texts.

mod absent;
mod bytes;
mod files;
mod words;

pub use absent::{Inert, NotYet};
pub use bytes::*;
pub use files::{FileName, Mode, SavePoint, SavePoints};
pub use words::*;

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
