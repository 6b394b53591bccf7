//! The ziplist: up to 6.2 lists and small hashes.
//!
//! Its size and where its last entry begins in four bytes each and how many entries it has in two
//! (65535: that many or more), little endian; the entries; FF. An entry begins with the length of the
//! one before it, then says what it is.

use super::{Piece, Why, signed};

const HEADER_BYTES: usize = 10;
const END: u8 = 0xFF;
/// The length before an entry takes four bytes behind this one.
const LONG_BEFORE: u8 = 0xFE;
const COUNT_UNKNOWN: u16 = u16::MAX;

#[derive(Debug)]
pub(super) struct Reader {
    at: usize,
    /// Where the terminator is.
    end: usize,
    /// Where the entry before this one began, if there was one.
    before: Option<usize>,
    /// Where the last entry is said to begin.
    last: usize,
    seen: u64,
    claimed: u16,
}

impl Reader {
    pub(super) fn open(blob: &[u8]) -> Result<Self, Why> {
        let [a, b, c, d, e, f, g, h, count @ ..] =
            *blob.first_chunk::<HEADER_BYTES>().ok_or("a ziplist without a header")?;
        if u32::from_le_bytes([a, b, c, d]) as usize != blob.len() {
            return Err("a ziplist whose size is not what it says");
        }
        let last = u32::from_le_bytes([e, f, g, h]) as usize;
        match blob.split_last() {
            Some((&END, before)) if before.len() >= HEADER_BYTES && last <= before.len() => Ok(Self {
                at: HEADER_BYTES,
                end: before.len(),
                before: None,
                last,
                seen: 0,
                claimed: u16::from_le_bytes(count),
            }),
            Some((&END, _)) => Err("a ziplist whose last entry is outside of it"),
            _ => Err("a ziplist without an end"),
        }
    }

    pub(super) fn claimed(&self) -> u64 {
        self.claimed.into()
    }

    pub(super) fn next<'a>(&mut self, blob: &'a [u8]) -> Result<Option<Piece<'a>>, Why> {
        const CUT: Why = "an entry of a ziplist that reaches past its end";
        let rest = blob.get(self.at..self.end).unwrap_or_default();
        let (len_before, rest) = match *rest {
            [] => return self.at_end(),
            [LONG_BEFORE, a, b, c, d, ..] => (u32::from_le_bytes([a, b, c, d]) as usize, &rest[5..]),
            [LONG_BEFORE, ..] => return Err(CUT),
            [END, ..] => return Err("a ziplist that ends before its end"),
            [len, ..] => (len.into(), &rest[1..]),
        };
        if len_before != self.before.map_or(0, |before| self.at - before) {
            return Err("an entry of a ziplist that is wrong about the one before it");
        }
        let (&first, tail) = rest.split_first().ok_or(CUT)?;
        let int = |bytes: usize| tail.get(..bytes).map(|bytes| (Piece::Int(signed(bytes)), 1 + bytes.len())).ok_or(CUT);
        let string = |head: usize, len: usize| {
            let bytes = rest.get(head..).and_then(|rest| rest.get(..len)).ok_or(CUT)?;
            Ok((Piece::Bytes(bytes), head + len))
        };
        let (piece, len) = match first {
            ..0x40 => string(1, first.into())?,
            0x40..0x80 => {
                let low = *tail.first().ok_or(CUT)?;
                string(2, usize::from(first & 0x3F) << 8 | usize::from(low))?
            }
            // The six lower bits have no meaning.
            0x80..0xC0 => string(5, u32::from_be_bytes(*tail.first_chunk().ok_or(CUT)?) as usize)?,
            0xC0 => int(2)?,
            0xD0 => int(4)?,
            0xE0 => int(8)?,
            0xF0 => int(3)?,
            0xFE => int(1)?,
            0xF1..=0xFD => (Piece::Int(i64::from(first & 0x0F) - 1), 1),
            _ => return Err("an unknown encoding of an entry of a ziplist"),
        };
        self.before = Some(self.at);
        self.at = self.end - rest.len() + len;
        self.seen += 1;
        Ok(Some(piece))
    }

    fn at_end<'a>(&self) -> Result<Option<Piece<'a>>, Why> {
        if self.before.is_some_and(|before| before != self.last) {
            return Err("a ziplist whose last entry is not where it says");
        }
        if self.claimed != COUNT_UNKNOWN && u64::from(self.claimed) != self.seen {
            return Err("a ziplist whose count is not what it says");
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Packing;
    use super::super::tests::all;

    /// A ziplist of entries without the lengths before them.
    fn ziplist(entries: &[&[u8]]) -> Vec<u8> {
        let mut body = Vec::new();
        let (mut before, mut last) = (0, 10);
        for entry in entries {
            last = 10 + body.len();
            if before < 254 {
                body.push(before as u8);
            } else {
                body.push(0xFE);
                body.extend_from_slice(&(before as u32).to_le_bytes());
            }
            body.extend_from_slice(entry);
            before = 10 + body.len() - last;
        }
        let size = (11 + body.len() as u32).to_le_bytes();
        let count = (entries.len().min(65_535) as u16).to_le_bytes();
        [&size[..], &(last as u32).to_le_bytes(), &count, &body, b"\xFF"].concat()
    }

    fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
        texts.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    #[test]
    fn entries_of_every_kind_are_read() {
        let long = "l".repeat(300);
        let longer = "m".repeat(20_000);
        let blob = ziplist(&[
            b"\x05hello",
            b"\x00",
            b"\xF1",
            b"\xFD",
            b"\xFE\x80",
            b"\xC0\x00\x80",
            b"\xF0\x00\x00\x80",
            b"\xD0\xFF\xFF\xFF\x7F",
            b"\xE0\x00\x00\x00\x00\x00\x00\x00\x80",
            &[b"\x41\x2C", long.as_bytes()].concat(),
            &[b"\x80\x00\x00\x4E\x20", longer.as_bytes()].concat(),
            // Longer heads than needed, and lower bits that mean nothing.
            b"\x40\x01x",
            b"\xBF\0\0\0\x01y",
        ]);
        let expected = [
            "hello",
            "",
            "0",
            "12",
            "-128",
            "-32768",
            "-8388608",
            "2147483647",
            "-9223372036854775808",
            &long,
            &longer,
            "x",
            "y",
        ];
        assert_eq!(all(&blob, Packing::Ziplist), Ok(texts(&expected)));
        assert_eq!(all(b"\x0B\0\0\0\x0A\0\0\0\0\0\xFF", Packing::Ziplist), Ok(Vec::new()));
        // The example in the description of the format.
        let blob = b"\x0F\0\0\0\x0C\0\0\0\x02\0\x00\xF3\x02\xF6\xFF";
        assert_eq!(all(blob, Packing::Ziplist), Ok(texts(&["2", "5"])));
        assert_eq!(ziplist(&[b"\xF3", b"\xF6"]), blob);
    }

    #[test]
    fn a_short_length_may_take_five_bytes() {
        let blob = b"\x13\0\0\0\x0C\0\0\0\x02\0\x00\xF3\xFE\x02\0\0\0\xF6\xFF";
        assert_eq!(all(blob, Packing::Ziplist), Ok(texts(&["2", "5"])));
    }

    #[test]
    fn many_entries_are_not_counted() {
        for count in [65_534, 65_535, 70_000] {
            let mut blob = ziplist(&vec![&b"\xF3"[..]; count]);
            assert_eq!(all(&blob, Packing::Ziplist).map(|all| all.len()), Ok(count));
            blob[8] ^= 4;
            assert!(all(&blob, Packing::Ziplist).is_err());
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let two = |last: u8, count: u8, body: &[u8]| {
            [&[11 + body.len() as u8, 0, 0, 0, last, 0, 0, 0, count, 0], body, b"\xFF"].concat()
        };
        for (blob, expected) in [
            (Vec::new(), "a ziplist without a header"),
            (b"\x0A\0\0\0\x0A\0\0\0\0\0".to_vec(), "a ziplist without an end"),
            (b"\x0A\0\0\0\x0A\0\0\0\0\xFF".to_vec(), "a ziplist whose last entry is outside of it"),
            (b"\x0C\0\0\0\x0A\0\0\0\0\0\xFF".to_vec(), "a ziplist whose size is not what it says"),
            (two(15, 2, b"\x00\xF3\x02\xF6"), "a ziplist whose last entry is outside of it"),
            (two(10, 2, b"\x00\xF3\x02\xF6"), "a ziplist whose last entry is not where it says"),
            (two(12, 3, b"\x00\xF3\x02\xF6"), "a ziplist whose count is not what it says"),
            (two(12, 2, b"\x00\xF3\x03\xF6"), "an entry of a ziplist that is wrong about the one before it"),
            (two(12, 2, b"\x01\xF3\x02\xF6"), "an entry of a ziplist that is wrong about the one before it"),
            (two(12, 2, b"\x00\xF3\xFF\xF6"), "a ziplist that ends before its end"),
            (two(12, 2, b"\x00\xF3\x02\xFF"), "an unknown encoding of an entry of a ziplist"),
            (two(12, 2, b"\x00\xF3\x02\xC1"), "an unknown encoding of an entry of a ziplist"),
            (two(12, 2, b"\x00\xF3\x02\xC0"), "an entry of a ziplist that reaches past its end"),
            (two(12, 2, b"\x00\xF3\x02\x01"), "an entry of a ziplist that reaches past its end"),
            (two(12, 2, b"\x00\xF3\x02"), "an entry of a ziplist that reaches past its end"),
            (two(12, 2, b"\x00\xF3\xFE\x02\0"), "an entry of a ziplist that reaches past its end"),
            (two(12, 2, b"\x00\xF3\x02\x80\xFF\xFF\xFF\xFFab"), "an entry of a ziplist that reaches past its end"),
        ] {
            assert_eq!(all(&blob, Packing::Ziplist), Err(expected), "{blob:?}");
        }
    }
}
