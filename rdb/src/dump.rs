//! The payload of `DUMP` and `RESTORE`: the type and the value as in a file, then the version in two
//! bytes and the CRC-64 of all that in eight, both little endian.

use crate::error::RdbError;
use crate::format;
use crate::lzf::Compressor;
use crate::read::{ReadOptions, type_name};
use crate::source::Source;
use crate::value::{LoadedString, StringValue};

const VERSION_BYTES: usize = 2;
const CRC_BYTES: usize = 8;

/// The payload for a value, its string compressed if `compress` and that makes it smaller.
pub fn dump_string(value: StringValue<'_>, compress: bool) -> Vec<u8> {
    let mut compressor = compress.then(Compressor::default);
    let mut out = Vec::with_capacity(160);
    out.push(format::TYPE_STRING);
    let tail = format::put_value_head(&mut out, compressor.as_mut(), value);
    out.reserve_exact(tail.len() + VERSION_BYTES + CRC_BYTES);
    out.extend_from_slice(tail);
    out.extend_from_slice(&format::VERSION_WRITTEN.to_le_bytes());
    let mut crc = format::crc64();
    crc.update(&out);
    out.extend_from_slice(&crc.finalize().to_le_bytes());
    out
}

/// The value in a payload. [`RdbError::Checksum`] for one whose checksum or version is wrong (it is
/// always compared, whatever the options say), [`RdbError::Unsupported`] for other types than strings,
/// [`RdbError::TooLong`] for a string past the limit, [`RdbError::Corrupt`] for everything else.
pub fn restore_string(payload: &[u8], options: ReadOptions) -> Result<LoadedString, RdbError> {
    let too_short = RdbError::Checksum { why: "the payload has no checksum", stored: 0, computed: 0 };
    let Some((body, footer)) = payload.split_last_chunk::<{ VERSION_BYTES + CRC_BYTES }>() else {
        return Err(too_short);
    };
    let [low, high, stored @ ..] = *footer;
    let version = u32::from(u16::from_le_bytes([low, high]));
    let stored = u64::from_le_bytes(stored);
    let mut crc = format::crc64();
    crc.update(&payload[..payload.len() - CRC_BYTES]);
    let computed = crc.finalize();
    if stored != computed {
        return Err(RdbError::Checksum { why: "the payload is damaged: its checksum is wrong", stored, computed });
    }
    if !format::version_accepted(version, None, options.version_check_strict) {
        let why = "the payload is of a version that cannot be read";
        return Err(RdbError::Checksum { why, stored, computed });
    }
    let mut source = Source::new(body, body.len(), false, options.string_len_max);
    let value = restore(&mut source, version);
    match value {
        Err(RdbError::Truncated { at }) => Err(RdbError::Corrupt { at, why: "the value is cut short" }),
        value => value,
    }
}

fn restore(source: &mut Source<&[u8]>, version: u32) -> Result<LoadedString, RdbError> {
    let kind = source.byte()?;
    if kind != format::TYPE_STRING {
        let foreign = (format::VERSION_SHARED_MAX + 1..=format::VERSION_FOREIGN_MAX).contains(&version);
        return Err(match type_name(kind, foreign) {
            Some(what) => RdbError::Unsupported { what, key: None },
            None => RdbError::Corrupt { at: 0, why: "an unknown type" },
        });
    }
    let value = source.value()?;
    if !source.at_end()? {
        return Err(RdbError::Corrupt { at: source.offset(), why: "there is data behind the value" });
    }
    Ok(value)
}
