//! Configuration text: any of it is settings or an error; settings survive being rewritten and read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tercel_core::settings::{Settings, file};

fn load(text: &str) -> Option<Settings> {
    file::load_text(text.as_bytes(), "fuzz").ok()
}

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    if let Some(settings) = load(&text) {
        let rewritten = settings.rewritten(&text);
        assert_eq!(load(&rewritten).as_ref(), Some(&settings), "{rewritten}");
    }
});
