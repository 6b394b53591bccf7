//! Classes of events about keys, as `notify-keyspace-events` names them.
#![allow(missing_docs)]

pub const KEYSPACE: u32 = 1;
pub const KEYEVENT: u32 = 1 << 1;
pub const GENERIC: u32 = 1 << 2;
pub const STRING: u32 = 1 << 3;
pub const LIST: u32 = 1 << 4;
pub const SET: u32 = 1 << 5;
pub const HASH: u32 = 1 << 6;
pub const ZSET: u32 = 1 << 7;
pub const EXPIRED: u32 = 1 << 8;
pub const EVICTED: u32 = 1 << 9;
pub const STREAM: u32 = 1 << 10;
pub const KEY_MISS: u32 = 1 << 11;
pub const MODULE: u32 = 1 << 13;
pub const NEW: u32 = 1 << 14;
/// What `A` stands for.
pub const ALL: u32 = GENERIC | STRING | LIST | SET | HASH | ZSET | EXPIRED | EVICTED | STREAM | MODULE;

/// Letters in the order CONFIG GET shows them, apart from `A`.
pub const LETTERS: &[(char, u32)] = &[
    ('g', GENERIC),
    ('$', STRING),
    ('l', LIST),
    ('s', SET),
    ('h', HASH),
    ('z', ZSET),
    ('x', EXPIRED),
    ('e', EVICTED),
    ('t', STREAM),
    ('d', MODULE),
    ('n', NEW),
    ('K', KEYSPACE),
    ('E', KEYEVENT),
    ('m', KEY_MISS),
];

/// Reads a set of letters.
#[must_use]
pub fn parse(text: &str) -> Option<u32> {
    text.chars().try_fold(0, |set, letter| {
        if letter == 'A' {
            return Some(set | ALL);
        }
        LETTERS.iter().find(|(name, _)| *name == letter).map(|(_, class)| set | class)
    })
}

/// Shows a set as letters.
#[must_use]
pub fn show(set: u32) -> String {
    let mut text = String::new();
    let all = set & ALL == ALL;
    if all {
        text.push('A');
    }
    text.extend(
        LETTERS.iter().filter(|(_, class)| set & class != 0 && !(all && class & ALL != 0)).map(|(name, _)| name),
    );
    text
}

#[cfg(test)]
mod tests {
    use super as class;

    #[test]
    fn letters_read_and_show() {
        assert_eq!(class::show(class::ALL | class::KEYSPACE | class::KEYEVENT), "AKE");
        assert_eq!(class::parse("KEA"), Some(class::ALL | class::KEYSPACE | class::KEYEVENT));
        assert_eq!(class::show(class::parse("Kg$xm").unwrap_or(0)), "g$xKm");
        assert_eq!(class::parse("K?"), None);
    }
}
