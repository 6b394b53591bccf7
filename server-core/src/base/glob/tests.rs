use proptest::prelude::*;

use super::oracle::glob_match;
use super::{Glob, SHORT};

fn matches(pattern: &str, text: &str) -> bool {
    Glob::new(pattern.as_bytes(), false).matches(text.as_bytes())
}

#[test]
fn patterns_match_as_the_field_expects() {
    for (pattern, text, expected) in [
        ("*", "", false),
        ("", "", true),
        ("a*", "a", true),
        ("h?llo", "hello", true),
        ("h[ae]llo", "hallo", true),
        ("h[^e]llo", "hello", false),
        ("h[a-c]llo", "hbllo", true),
        ("h[c-a]llo", "hbllo", true),
        ("a*b*c", "aXXbYYc", true),
        ("a*b*c", "aXXbYY", false),
        ("\\*x", "*x", true),
        ("\\*x", "ax", false),
        ("[\\]]", "]", true),
        ("[", "x", false),
        ("[a", "a", true),
        ("[^", "x", true),
        ("[]a]", "a", false),
        ("x\\", "x\\", true),
        ("[a\\", "\\", true),
        ("[a-", "-", true),
        ("a*a", "a", false),
        ("a*", "ba", false),
        ("**a", "xa", true),
        ("", "x", false),
    ] {
        assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        assert_eq!(glob_match(pattern.as_bytes(), text.as_bytes(), false), expected, "the oracle: {pattern} {text}");
    }
    assert!(Glob::new(b"HeL*", true).matches(b"hello"));
    assert!(Glob::new(b"[Q-z]", true).matches(b"S"));
}

/// Steps that must be far from the product of pattern and text: each of these took seconds to hours.
#[test]
fn what_is_long_stays_cheap() {
    let a = "a".repeat(500_000);
    for (pattern, expected) in [
        ("a*".repeat(50_000) + "b", false),
        ("*[".to_owned() + &"z".repeat(400_000) + "]", false),
        ("*".to_owned() + &"a".repeat(250_000) + "b*", false),
        ("*".to_owned() + &"[ab]".repeat(60) + "b*", false),
        ("*[ab]".repeat(100_000) + "*", true),
        ("*".to_owned() + &"?".repeat(20_000) + "b?*", false),
        ("*".to_owned() + &"a?".repeat(20_000) + "b*", false),
    ] {
        let name = &pattern[..8];
        assert_eq!(matches(&pattern, &a), expected, "{name}");
        assert_eq!(matches(&pattern, &(a.clone() + "b?")), glob_slowly(&pattern), "{name} and b?");
    }
}

/// Of those above, which match a text that ends with `b?`.
fn glob_slowly(pattern: &str) -> bool {
    !pattern.ends_with(']') && !pattern.ends_with("*b")
}

#[test]
fn memory_is_bounded_by_the_length() {
    let base = size_of::<Glob>();
    let mut all_sets = String::new();
    for low in 33..127u8 {
        for high in 33..127u8 {
            for byte in [low, high, b'a', b'z'] {
                all_sets.push_str(&format!("[\\{}\\{}]", char::from(byte), char::from(high)));
            }
        }
    }
    for pattern in [
        "[a]".repeat(40_000),
        "[ab]".repeat(40_000),
        "[^a]".repeat(40_000),
        "a*".repeat(40_000),
        "[ab]*".repeat(40_000),
        "?*".repeat(40_000),
        ("a".repeat(SHORT + 1) + "*").repeat(1000),
        "z".repeat(100_000),
        all_sets,
    ] {
        let memory = Glob::new(pattern.as_bytes(), false).memory() - base;
        assert!(memory <= 12 * pattern.len(), "{}: {memory} for {}", &pattern[..6], pattern.len());
    }
    // What is equal is kept once, and what is one byte is no set.
    assert!(Glob::new("[ab]".repeat(1000).as_bytes(), false).sets.len() == 1);
    assert!(Glob::new("[a]".repeat(50).as_bytes(), false).sets.is_empty());
}

const BRACKETS: &[&str] =
    &["[", "]", "\\", "^", "-", "[^", "[]", "[a-c]", "[c-a]", "[^ab]", "[B-a]", "[\\]", "[a\\-c]"];

/// Pieces that patterns are made of, odd ones more often than in life.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::sample::select(&b"abcAB"[..]).prop_map(|byte| vec![byte]),
        2 => Just(b"*".to_vec()),
        1 => Just(b"?".to_vec()),
        1 => prop::sample::select(BRACKETS).prop_map(|text| text.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ]
}

fn pattern() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(piece(), 0..14).prop_map(|pieces| pieces.concat())
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![8 => prop::sample::select(&b"abcABC]^-\\["[..]), 1 => any::<u8>()];
    prop::collection::vec(byte, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]
    #[test]
    fn what_is_compiled_answers_as_what_is_not(pattern in pattern(), text in text(), ignore_case: bool) {
        let compiled = Glob::new(&pattern, ignore_case);
        prop_assert_eq!(compiled.matches(&text), glob_match(&pattern, &text, ignore_case));
        // A pattern made to fit.
        let mut fitting = text.clone();
        fitting.splice(..text.len() / 2, pattern.iter().copied());
        prop_assert_eq!(
            Glob::new(&fitting, ignore_case).matches(&text),
            glob_match(&fitting, &text, ignore_case)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    /// Segments longer than a word, texts longer than what is tried place by place.
    #[test]
    fn long_segments_answer_alike(
        period in 1usize..5,
        len in SHORT - 2..4 * SHORT,
        text_len in 0usize..600,
        odd in prop::collection::vec((0usize..600, prop::sample::select(&b"abx"[..])), 0..4),
        joker in prop::sample::select(&["?", "[ab]", "[^x]"][..]),
        stars in (any::<bool>(), any::<bool>()),
    ) {
        let letter = |at: usize| if at.is_multiple_of(period) { b'a' } else { b'b' };
        let mut text: Vec<u8> = (0..text_len).map(letter).collect();
        for (at, byte) in odd {
            if let Some(place) = text.get_mut(at) {
                *place = byte;
            }
        }
        let mut pattern = if stars.0 { b"*".to_vec() } else { Vec::new() };
        for at in 0..len {
            if at % 7 == 3 { pattern.extend(joker.as_bytes()) } else { pattern.push(letter(at)) }
        }
        if stars.1 {
            pattern.extend(b"*b");
        }
        prop_assert_eq!(Glob::new(&pattern, false).matches(&text), glob_match(&pattern, &text, false));
        pattern.push(b'*');
        let glob = Glob::new(&pattern, false);
        for segment in &glob.segments {
            let first = (0..=text.len()).find(|at| glob.fits(segment, &text[*at..]));
            prop_assert_eq!(glob.find(segment, &text), first);
        }
        prop_assert_eq!(Glob::new(&pattern, false).matches(&text), glob_match(&pattern, &text, false));
    }
}
