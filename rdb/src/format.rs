//! The numbers of the format and how lengths, integers and strings are put into bytes.
//!
//! A file is `REDIS` or `VALKEY`, the version in decimal, then opcodes and entries up to
//! [`EOF`](opcode::EOF) and the CRC-64 of all before it. An entry is its type, its key and its value,
//! with opcodes for expiry and use before it.

use crc_fast::{CrcAlgorithm, Digest};

use crate::lzf::Compressor;
use crate::value::{EntryMeta, Magic, StringValue};

/// The version that is written of all but hashes whose fields expire. It is read by Redis from 7.2 on,
/// by every Valkey and by Dragonfly, while 12 to 79 divide Redis from Valkey and 80 is only known to
/// Valkey 9. (That one writes 80 and its own magic into everything, whether there is need or not.)
pub(crate) const VERSION_WRITTEN: u16 = 11;
/// The version that is written where fields of hashes expire: with Redis's magic no server would look
/// at [`TYPE_HASH_2`], and an older one has no such type.
pub(crate) const VERSION_WRITTEN_DEADLINES: u16 = 80;
/// The newest version of Valkey that is known here, and the first one with its own magic.
pub(crate) const VERSION_VALKEY: u32 = VERSION_WRITTEN_DEADLINES as u32;
/// Versions up to this one are common to Redis and Valkey.
pub(crate) const VERSION_SHARED_MAX: u32 = 11;
/// Versions behind the shared ones and up to this one are Redis's own.
pub(crate) const VERSION_FOREIGN_MAX: u32 = 79;
/// From this version on a checksum follows the end.
pub(crate) const VERSION_CHECKSUM_MIN: u32 = 5;

pub(crate) const TYPE_STRING: u8 = 0;
pub(crate) const TYPE_LIST: u8 = 1;
pub(crate) const TYPE_HASH: u8 = 4;
pub(crate) const TYPE_HASH_ZIPMAP: u8 = 9;
pub(crate) const TYPE_LIST_ZIPLIST: u8 = 10;
pub(crate) const TYPE_HASH_ZIPLIST: u8 = 13;
pub(crate) const TYPE_LIST_QUICKLIST: u8 = 14;
pub(crate) const TYPE_HASH_LISTPACK: u8 = 16;
pub(crate) const TYPE_LIST_QUICKLIST_2: u8 = 18;
/// Valkey's hash whose fields expire.
pub(crate) const TYPE_HASH_2: u8 = 22;
/// From here up to [`TYPE_FOREIGN_MAX`] Redis and Valkey mean different things by the same number.
pub(crate) const TYPE_FOREIGN_MIN: u8 = 22;
pub(crate) const TYPE_FOREIGN_MAX: u8 = 243;

pub(crate) mod opcode {
    /// Valkey: a slot that is being imported. Redis: what modules say about the next key.
    pub(crate) const SLOT_IMPORT: u8 = 243;
    pub(crate) const SLOT_INFO: u8 = 244;
    pub(crate) const FUNCTION: u8 = 245;
    pub(crate) const FUNCTION_PRE_GA: u8 = 246;
    pub(crate) const MODULE_AUX: u8 = 247;
    pub(crate) const IDLE: u8 = 248;
    pub(crate) const FREQ: u8 = 249;
    pub(crate) const AUX: u8 = 250;
    pub(crate) const RESIZE_DB: u8 = 251;
    pub(crate) const EXPIRE_MS: u8 = 252;
    pub(crate) const EXPIRE_S: u8 = 253;
    pub(crate) const SELECT_DB: u8 = 254;
    pub(crate) const EOF: u8 = 255;
}

/// The two highest bits of a length's first byte: 6 bits, 14 bits, a number behind, no length at all.
pub(crate) const LEN_14: u8 = 0x40;
pub(crate) const LEN_32: u8 = 0x80;
pub(crate) const LEN_64: u8 = 0x81;
pub(crate) const LEN_SPECIAL: u8 = 0xC0;
pub(crate) const SPECIAL_INT8: u8 = 0;
pub(crate) const SPECIAL_INT16: u8 = 1;
pub(crate) const SPECIAL_INT32: u8 = 2;
pub(crate) const SPECIAL_LZF: u8 = 3;

/// Shorter strings are not worth an attempt at compression.
const COMPRESS_LEN_MIN: usize = 21;
/// The longest text an integer encoding stands for: `-2147483648`.
const INTEGER_TEXT_LEN_MAX: usize = 11;

/// Bytes gathered before they are hashed and handed on, and read at once.
pub(crate) const BLOCK_BYTES: usize = 64 * 1024;

/// The CRC-64 of the format: the Jones polynomial, reflected, from zero and without a final inversion.
pub(crate) fn crc64() -> Digest {
    Digest::new(CrcAlgorithm::Crc64Redis)
}

/// Whether a version may be read. `magic` is `None` for a payload of DUMP, which has only a number.
pub(crate) fn version_accepted(version: u32, magic: Option<Magic>, strict: bool) -> bool {
    let of_magic = match magic {
        Some(Magic::Redis) => version <= VERSION_FOREIGN_MAX,
        Some(Magic::Valkey) => version > VERSION_FOREIGN_MAX,
        None => true,
    };
    let known = version <= VERSION_SHARED_MAX || version == VERSION_VALKEY;
    version > 0 && of_magic && (known || !strict)
}

pub(crate) fn put_len(out: &mut Vec<u8>, len: u64) {
    if len < 1 << 6 {
        out.push(len as u8);
    } else if len < 1 << 14 {
        out.extend_from_slice(&(u16::from(LEN_14) << 8 | len as u16).to_be_bytes());
    } else if let Ok(len) = u32::try_from(len) {
        out.push(LEN_32);
        out.extend_from_slice(&len.to_be_bytes());
    } else {
        out.push(LEN_64);
        out.extend_from_slice(&len.to_be_bytes());
    }
}

/// Puts a number of up to 32 bits in its integer encoding, or says that it is larger.
fn put_small_integer(out: &mut Vec<u8>, value: i64) -> bool {
    if let Ok(value) = i8::try_from(value) {
        out.extend_from_slice(&[LEN_SPECIAL | SPECIAL_INT8, value as u8]);
    } else if let Ok(value) = i16::try_from(value) {
        out.push(LEN_SPECIAL | SPECIAL_INT16);
        out.extend_from_slice(&value.to_le_bytes());
    } else if let Ok(value) = i32::try_from(value) {
        out.push(LEN_SPECIAL | SPECIAL_INT32);
        out.extend_from_slice(&value.to_le_bytes());
    } else {
        return false;
    }
    true
}

/// The number that `text` is the canonical decimal text of: no sign but `-`, no leading zero, no `-0`.
pub(crate) fn canonical_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    // 19 digits do not overflow 64 bits without a sign.
    let mut magnitude = 0u64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        magnitude = magnitude * 10 + u64::from(digit - b'0');
    }
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// Puts all of a string but the bytes that end it verbatim, which are returned (none for an integer).
/// With a compressor, strings are compressed where that saves something.
pub(crate) fn put_string_head<'a>(
    out: &mut Vec<u8>,
    compressor: Option<&'a mut Compressor>,
    bytes: &'a [u8],
) -> &'a [u8] {
    if bytes.len() <= INTEGER_TEXT_LEN_MAX
        && let Some(value) = canonical_i64(bytes)
        && put_small_integer(out, value)
    {
        return &[];
    }
    if bytes.len() >= COMPRESS_LEN_MIN
        && let Some(compressor) = compressor
        && let Some(compressed) = compressor.compress(bytes)
    {
        out.push(LEN_SPECIAL | SPECIAL_LZF);
        put_len(out, compressed.len() as u64);
        put_len(out, bytes.len() as u64);
        return compressed;
    }
    put_len(out, bytes.len() as u64);
    bytes
}

/// As [`put_string_head`], for either form of a value. A number that does not fit the integer
/// encodings is put as text, at once.
pub(crate) fn put_value_head<'a>(
    out: &mut Vec<u8>,
    compressor: Option<&'a mut Compressor>,
    value: StringValue<'a>,
) -> &'a [u8] {
    match value {
        StringValue::Bytes(bytes) => put_string_head(out, compressor, bytes),
        StringValue::Int(number) => {
            if !put_small_integer(out, number) {
                let mut text = itoa::Buffer::new();
                let text = text.format(number).as_bytes();
                put_len(out, text.len() as u64);
                out.extend_from_slice(text);
            }
            &[]
        }
    }
}

/// Puts the opcodes before an entry.
pub(crate) fn put_meta(out: &mut Vec<u8>, meta: &EntryMeta) {
    if let Some(at_ms) = meta.expire_at_ms {
        out.push(opcode::EXPIRE_MS);
        let at_ms = if at_ms == -1 { 0 } else { at_ms };
        out.extend_from_slice(&at_ms.to_le_bytes());
    }
    if let Some(idle_s) = meta.idle_s {
        out.push(opcode::IDLE);
        put_len(out, idle_s);
    }
    if let Some(freq) = meta.freq {
        out.extend_from_slice(&[opcode::FREQ, freq]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_is_that_of_the_format() {
        let mut crc = crc64();
        crc.update(b"1234");
        crc.update(b"56789");
        assert_eq!(crc.finalize(), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(crc64().finalize(), 0);
    }

    #[test]
    fn lengths_take_the_shortest_form() {
        let cases: [(u64, &[u8]); 9] = [
            (0, &[0]),
            (63, &[63]),
            (64, &[0x40, 64]),
            (16383, &[0x7F, 0xFF]),
            (16384, &[0x80, 0, 0, 0x40, 0]),
            (u64::from(u32::MAX), &[0x80, 0xFF, 0xFF, 0xFF, 0xFF]),
            (1 << 32, &[0x81, 0, 0, 0, 1, 0, 0, 0, 0]),
            (0x0102_0304_0506_0708, &[0x81, 1, 2, 3, 4, 5, 6, 7, 8]),
            (u64::MAX, &[0x81, 255, 255, 255, 255, 255, 255, 255, 255]),
        ];
        for (len, expected) in cases {
            let mut out = Vec::new();
            put_len(&mut out, len);
            assert_eq!(out, expected, "{len}");
        }
    }

    #[test]
    fn only_canonical_text_is_a_number() {
        for number in [0, 1, -1, 9, 10, -128, 2147483648, i64::MAX, i64::MIN, i64::MAX / 10] {
            assert_eq!(canonical_i64(number.to_string().as_bytes()), Some(number));
        }
        for text in [
            "",
            "-",
            "+1",
            "01",
            "-0",
            "-01",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "9223372036854775808",
            "-9223372036854775809",
            "12345678901234567890",
            "99999999999999999999999999",
        ] {
            assert_eq!(canonical_i64(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn integers_take_the_encoding_their_range_has() {
        let cases: [(&str, &[u8]); 10] = [
            ("0", &[0xC0, 0]),
            ("127", &[0xC0, 127]),
            ("-128", &[0xC0, 0x80]),
            ("128", &[0xC1, 0x80, 0]),
            ("-32768", &[0xC1, 0, 0x80]),
            ("32768", &[0xC2, 0, 0x80, 0, 0]),
            ("2147483647", &[0xC2, 0xFF, 0xFF, 0xFF, 0x7F]),
            ("-2147483648", &[0xC2, 0, 0, 0, 0x80]),
            ("2147483648", b"\x0A2147483648"),
            ("-2147483649", b"\x0B-2147483649"),
        ];
        for (text, expected) in cases {
            let mut out = Vec::new();
            let tail = put_string_head(&mut out, None, text.as_bytes());
            out.extend_from_slice(tail);
            assert_eq!(out, expected, "{text}");
            let mut out = Vec::new();
            let number = text.parse().expect("a number");
            assert!(put_value_head(&mut out, None, StringValue::Int(number)).is_empty());
            assert_eq!(out, expected, "{text} as a number");
        }
    }

    #[test]
    fn versions_belong_to_their_magic() {
        use crate::Magic::{Redis, Valkey};
        for (version, magic, strict, expected) in [
            (0, Some(Redis), false, false),
            (1, Some(Redis), true, true),
            (11, Some(Redis), true, true),
            (12, Some(Redis), true, false),
            (12, Some(Redis), false, true),
            (80, Some(Redis), false, false),
            (11, Some(Valkey), false, false),
            (80, Some(Valkey), true, true),
            (81, Some(Valkey), true, false),
            (81, Some(Valkey), false, true),
            (80, None, true, true),
            (13, None, true, false),
            (13, None, false, true),
            (0, None, false, false),
        ] {
            assert_eq!(version_accepted(version, magic, strict), expected, "{version} {magic:?} strict {strict}");
        }
    }
}
