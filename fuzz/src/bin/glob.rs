//! Glob patterns: compiled they answer as uncompiled, and take no more memory than they may.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tercel_core::base::glob::Glob;

#[path = "../../../server-core/src/base/glob/oracle.rs"]
mod oracle;

fuzz_target!(|data: &[u8]| {
    let Some(([options, split], rest)) = data.split_first_chunk::<2>() else { return };
    let (pattern, text) = rest.split_at(usize::from(*split).min(rest.len()));
    // Long runs of the same are what long segments are made of.
    let pattern = if options & 2 == 0 { pattern.to_vec() } else { pattern.repeat(1 + usize::from(options >> 4)) };
    let text = if options & 4 == 0 { text.to_vec() } else { text.repeat(1 + usize::from(options >> 3)) };
    let ignore_case = options & 1 != 0;
    let glob = Glob::new(&pattern, ignore_case);
    assert_eq!(glob.matches(&text), oracle::glob_match(&pattern, &text, ignore_case));
    assert!(glob.memory() <= 200 + 12 * pattern.len());
});
