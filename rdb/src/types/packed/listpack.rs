//! The listpack: since 7.0 lists (by the node) and small hashes.
//!
//! Its size in four bytes and how many entries it has in two (65535: that many or more), little endian;
//! the entries; FF. An entry is what the first bits of its first byte say, and behind that its length
//! once more, so that one can go through it backwards: in seven bits a byte, the highest first, all
//! bytes but the first with their highest bit set.

use super::{Piece, Why, signed};
use crate::format::canonical_i64;

const HEADER_BYTES: usize = 6;
const END: u8 = 0xFF;
/// The count from which on the header does not know it.
const COUNT_UNKNOWN: u16 = u16::MAX;

/// First bytes of entries; the lowest bits of the shorter ones belong to a number or a length.
const STRING_6: u8 = 0x80;
const INT_13: u8 = 0xC0;
const STRING_12: u8 = 0xE0;
const STRING_32: u8 = 0xF0;
const INT_16: u8 = 0xF1;
const INT_24: u8 = 0xF2;
const INT_32: u8 = 0xF3;
const INT_64: u8 = 0xF4;

/// The greatest length of an entry that its length behind it takes so many bytes for, and one more.
const BACK_LENGTHS_MAX: [usize; 4] = [127, 16_383, 2_097_151, 268_435_455];
const BACK_BYTES_MAX: usize = 5;

/// How many bytes the length behind an entry takes.
fn back_bytes(len: usize) -> usize {
    BACK_LENGTHS_MAX.iter().take_while(|&&max| len > max).count() + 1
}

/// Whether servers differ over how the length behind the entry is written: Redis takes one byte more
/// than Valkey 9.1 for the greatest length that would do without it, and each refuses the other's.
fn is_disputed(len: usize) -> bool {
    BACK_LENGTHS_MAX[1..].contains(&len)
}

/// `len` in so many bytes, at the beginning of what is returned.
fn back_length(len: usize, bytes: usize) -> [u8; BACK_BYTES_MAX] {
    let mut out = [0; BACK_BYTES_MAX];
    for (index, byte) in out.iter_mut().take(bytes).enumerate() {
        let bits = (len >> (7 * (bytes - 1 - index))) as u8 & 0x7F;
        *byte = if index == 0 { bits } else { bits | 0x80 };
    }
    out
}

#[derive(Debug)]
pub(super) struct Reader {
    at: usize,
    /// Where the terminator is.
    end: usize,
    seen: u64,
    claimed: u16,
}

impl Reader {
    pub(super) fn open(blob: &[u8]) -> Result<Self, Why> {
        let [a, b, c, d, count @ ..] = *blob.first_chunk::<HEADER_BYTES>().ok_or("a listpack without a header")?;
        if u32::from_le_bytes([a, b, c, d]) as usize != blob.len() {
            return Err("a listpack whose size is not what it says");
        }
        match blob.split_last() {
            Some((&END, before)) if before.len() >= HEADER_BYTES => {
                Ok(Self { at: HEADER_BYTES, end: before.len(), seen: 0, claimed: u16::from_le_bytes(count) })
            }
            _ => Err("a listpack without an end"),
        }
    }

    pub(super) fn claimed(&self) -> u64 {
        self.claimed.into()
    }

    pub(super) fn next<'a>(&mut self, blob: &'a [u8]) -> Result<Option<Piece<'a>>, Why> {
        const CUT: Why = "an entry of a listpack that reaches past its end";
        let rest = blob.get(self.at..self.end).unwrap_or_default();
        let Some((&first, tail)) = rest.split_first() else {
            let is_right = self.claimed == COUNT_UNKNOWN || u64::from(self.claimed) == self.seen;
            return if is_right { Ok(None) } else { Err("a listpack whose count is not what it says") };
        };
        let int = |bytes: usize| tail.get(..bytes).map(|bytes| (Piece::Int(signed(bytes)), 1 + bytes.len())).ok_or(CUT);
        let string = |head: usize, len: usize| {
            let bytes = rest.get(head..).and_then(|rest| rest.get(..len)).ok_or(CUT)?;
            Ok((Piece::Bytes(bytes), head + len))
        };
        let (piece, len) = match first {
            ..STRING_6 => (Piece::Int(first.into()), 1),
            STRING_6..INT_13 => string(1, (first & 0x3F).into())?,
            INT_13..STRING_12 => {
                // Thirteen bits, big endian; the sign is brought down from the top.
                let low = *tail.first().ok_or(CUT)?;
                (Piece::Int((i16::from_be_bytes([first << 3, 0]) >> 3 | i16::from(low)).into()), 2)
            }
            STRING_12..STRING_32 => {
                let low = *tail.first().ok_or(CUT)?;
                string(2, usize::from(first & 0x0F) << 8 | usize::from(low))?
            }
            STRING_32 => string(5, u32::from_le_bytes(*tail.first_chunk().ok_or(CUT)?) as usize)?,
            INT_16 => int(2)?,
            INT_24 => int(3)?,
            INT_32 => int(4)?,
            INT_64 => int(8)?,
            END => return Err("a listpack that ends before its end"),
            _ => return Err("an unknown encoding of an entry of a listpack"),
        };
        let behind = match rest[len..] {
            [back, ..] if len <= BACK_LENGTHS_MAX[0] && usize::from(back) == len => 1,
            ref rest => back_bytes_before(rest, len)?,
        };
        self.at += len + behind;
        self.seen += 1;
        Ok(Some(piece))
    }
}

/// How many bytes the length takes that `rest` begins with, which is to be `len`.
fn back_bytes_before(rest: &[u8], len: usize) -> Result<usize, Why> {
    let is_back = |bytes: usize| rest.starts_with(&back_length(len, bytes)[..bytes]);
    match back_bytes(len) {
        bytes if is_back(bytes) => Ok(bytes),
        bytes if is_disputed(len) && is_back(bytes + 1) => Ok(bytes + 1),
        _ => Err("an entry of a listpack whose length behind it is not its own"),
    }
}

/// Whether an entry for this element is read by all servers; a few lengths are disputed, and the very
/// long have no place in a listpack.
pub(crate) fn is_entry_read_by_all(element: &[u8]) -> bool {
    // Numbers are short, and short entries are beyond dispute.
    !is_disputed(string_head_bytes(element.len()) + element.len()) && element.len() < BYTES_MAX
}

/// No listpack may be longer than this for servers to read it.
const BYTES_MAX: usize = 1 << 30;

fn string_head_bytes(len: usize) -> usize {
    match len {
        0..64 => 1,
        64..4096 => 2,
        _ => 5,
    }
}

/// A listpack that is written.
#[derive(Debug)]
pub(crate) struct Listpack {
    blob: Vec<u8>,
    count: u64,
}

impl Default for Listpack {
    fn default() -> Self {
        Self { blob: vec![0; HEADER_BYTES], count: 0 }
    }
}

impl Listpack {
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Whether the element still finds room.
    pub(crate) fn has_room(&self, element: &[u8]) -> bool {
        self.blob.len() + element.len() + 16 < BYTES_MAX
    }

    /// Appends the element, as a number if it is the canonical text of one. It must have room.
    pub(crate) fn push(&mut self, element: &[u8]) {
        let start = self.blob.len();
        match canonical_i64(element) {
            Some(number) => self.put_int(number),
            None => {
                let len = element.len();
                match string_head_bytes(len) {
                    1 => self.blob.push(STRING_6 | len as u8),
                    2 => self.blob.extend_from_slice(&(u16::from(STRING_12) << 8 | len as u16).to_be_bytes()),
                    _ => {
                        self.blob.push(STRING_32);
                        self.blob.extend_from_slice(&(len as u32).to_le_bytes());
                    }
                }
                self.blob.extend_from_slice(element);
            }
        }
        let len = self.blob.len() - start;
        let bytes = back_bytes(len);
        self.blob.extend_from_slice(&back_length(len, bytes)[..bytes]);
        self.count += 1;
    }

    fn put_int(&mut self, number: i64) {
        let bytes = number.to_le_bytes();
        let (first, len) = match number {
            0..=127 => return self.blob.push(number as u8),
            -4096..=4095 => {
                let bits = number as u16 & 0x1FFF;
                return self.blob.extend_from_slice(&(u16::from(INT_13) << 8 | bits).to_be_bytes());
            }
            -32_768..=32_767 => (INT_16, 2),
            -8_388_608..=8_388_607 => (INT_24, 3),
            -2_147_483_648..=2_147_483_647 => (INT_32, 4),
            _ => (INT_64, 8),
        };
        self.blob.push(first);
        self.blob.extend_from_slice(&bytes[..len]);
    }

    /// The blob.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.blob.push(END);
        let len = (self.blob.len() as u32).to_le_bytes();
        let count = u16::try_from(self.count).unwrap_or(COUNT_UNKNOWN).to_le_bytes();
        self.blob[..4].copy_from_slice(&len);
        self.blob[4..HEADER_BYTES].copy_from_slice(&count);
        self.blob
    }
}

#[cfg(test)]
mod tests {
    use super::super::Packing;
    use super::super::tests::all;
    use super::*;

    fn packed(elements: &[&[u8]]) -> Vec<u8> {
        let mut listpack = Listpack::default();
        elements.iter().for_each(|element| listpack.push(element));
        listpack.finish()
    }

    #[test]
    fn entries_are_as_described() {
        let cases: [(&str, &[u8]); 16] = [
            ("0", b"\x00\x01"),
            ("127", b"\x7F\x01"),
            ("128", b"\xC0\x80\x02"),
            ("-1", b"\xDF\xFF\x02"),
            ("4095", b"\xCF\xFF\x02"),
            ("-4096", b"\xD0\x00\x02"),
            ("4096", b"\xF1\x00\x10\x03"),
            ("-32768", b"\xF1\x00\x80\x03"),
            ("32768", b"\xF2\x00\x80\x00\x04"),
            ("-8388608", b"\xF2\x00\x00\x80\x04"),
            ("8388608", b"\xF3\x00\x00\x80\x00\x05"),
            ("-2147483648", b"\xF3\x00\x00\x00\x80\x05"),
            ("2147483648", b"\xF4\x00\x00\x00\x80\x00\x00\x00\x00\x09"),
            ("007", b"\x83007\x04"),
            ("", b"\x80\x01"),
            ("ab", b"\x82ab\x03"),
        ];
        for (text, entry) in cases {
            let blob = [&[entry.len() as u8 + 7, 0, 0, 0, 1, 0], entry, b"\xFF"].concat();
            assert_eq!(packed(&[text.as_bytes()]), blob, "{text}");
            assert_eq!(all(&blob, Packing::Listpack), Ok(vec![text.as_bytes().to_vec()]), "{text}");
        }
        assert_eq!(packed(&[]), b"\x07\0\0\0\0\0\xFF");
    }

    #[test]
    fn longer_strings_have_longer_heads() {
        for (len, head, back) in [
            (63, &b"\xBF"[..], &b"\x40"[..]),
            (64, b"\xE0\x40", b"\x42"),
            (125, b"\xE0\x7D", b"\x7F"),
            (126, b"\xE0\x7E", b"\x01\x80"),
            (4095, b"\xEF\xFF", b"\x20\x81"),
            (4096, b"\xF0\x00\x10\x00\x00", b"\x20\x85"),
            (16_377, b"\xF0\xF9\x3F\x00\x00", b"\x7F\xFE"),
            (16_379, b"\xF0\xFB\x3F\x00\x00", b"\x01\x80\x80"),
        ] {
            let text = vec![b'x'; len];
            let blob = packed(&[&text]);
            assert_eq!(blob[6..], [head, &text, back, b"\xFF"].concat(), "{len}");
            assert_eq!(all(&blob, Packing::Listpack), Ok(vec![text]));
        }
    }

    #[test]
    fn a_disputed_length_is_read_either_way_and_never_written() {
        let text = vec![b'x'; 16_378];
        let ours = packed(&[&text]);
        assert!(ours.ends_with(b"\x7F\xFF\xFF"));
        // As Redis writes it.
        let mut theirs = [&ours[..ours.len() - 3], b"\x00\xFF\xFF\xFF"].concat();
        theirs[0] += 1;
        for blob in [ours, theirs] {
            assert_eq!(all(&blob, Packing::Listpack), Ok(vec![text.clone()]));
        }
        assert!(!is_entry_read_by_all(&text));
        assert!(is_entry_read_by_all(&text[1..]) && is_entry_read_by_all(&[b'x'; 127]));
        // Elsewhere it is no length at all.
        let mut long = packed(&[b"ab"]);
        long.truncate(9);
        long.extend_from_slice(b"\x00\x83\xFF");
        long[0] = long.len() as u8;
        assert!(all(&long, Packing::Listpack).is_err());
    }

    #[test]
    fn strings_with_longer_heads_than_needed_are_read() {
        assert_eq!(all(b"\x0C\0\0\0\x01\0\xE0\x02ab\x04\xFF", Packing::Listpack), Ok(vec![b"ab".to_vec()]));
        let blob = b"\x0F\0\0\0\x01\0\xF0\x02\0\0\0ab\x07\xFF";
        assert_eq!(all(blob, Packing::Listpack), Ok(vec![b"ab".to_vec()]));
    }

    #[test]
    fn many_entries_are_not_counted() {
        for (count, claimed) in [(65_534u32, 65_534u16), (65_535, 65_535), (70_000, 65_535)] {
            let mut listpack = Listpack::default();
            (0..count).for_each(|_| listpack.push(b"5"));
            let mut blob = listpack.finish();
            assert_eq!(blob[4..6], claimed.to_le_bytes());
            assert_eq!(all(&blob, Packing::Listpack).map(|all| all.len()), Ok(count as usize));
            blob[4] ^= 4;
            assert!(all(&blob, Packing::Listpack).is_err());
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        for (blob, expected) in [
            (&b""[..], "a listpack without a header"),
            (b"\x06\0\0\0\0\0", "a listpack without an end"),
            (b"\x07\0\0\0\0\0\xFE", "a listpack without an end"),
            (b"\x08\0\0\0\0\0\xFF", "a listpack whose size is not what it says"),
            (b"\x09\0\0\0\x02\0\x05\x01\xFF", "a listpack whose count is not what it says"),
            (b"\x09\0\0\0\x00\0\x05\x01\xFF", "a listpack whose count is not what it says"),
            (b"\x09\0\0\0\x01\0\x05\x02\xFF", "an entry of a listpack whose length behind it is not its own"),
            (b"\x08\0\0\0\x01\0\x05\xFF", "an entry of a listpack whose length behind it is not its own"),
            (b"\x08\0\0\0\x00\0\xFF\xFF", "a listpack that ends before its end"),
            (b"\x09\0\0\0\x01\0\xF5\x01\xFF", "an unknown encoding of an entry of a listpack"),
            (b"\x09\0\0\0\x01\0\x82a\xFF", "an entry of a listpack that reaches past its end"),
            (b"\x0A\0\0\0\x01\0\xF1\x01\x01\xFF", "an entry of a listpack whose length behind it is not its own"),
            (b"\x09\0\0\0\x01\0\xF2\x01\xFF", "an entry of a listpack that reaches past its end"),
            (b"\x08\0\0\0\x01\0\xC1\xFF", "an entry of a listpack that reaches past its end"),
            (b"\x0C\0\0\0\x01\0\xF0\xFF\xFF\xFF\xFF\xFF", "an entry of a listpack that reaches past its end"),
        ] {
            assert_eq!(all(blob, Packing::Listpack), Err(expected), "{blob:?}");
        }
    }
}
