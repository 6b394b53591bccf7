//! Replies: any bytes; what is a reply has one length, however it is read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tercel_resp::reply;

fuzz_target!(|data: &[u8]| {
    if let Ok(Some((_, len))) = reply::parse(data) {
        assert!(len <= data.len());
        assert_eq!(reply::skip(data), Ok(Some(len)));
        // Nothing shorter is whole.
        assert_eq!(reply::parse(&data[..len - 1]).ok().flatten(), None);
    }
});
