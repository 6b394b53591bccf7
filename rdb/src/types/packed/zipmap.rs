//! The zipmap: small hashes before 2.6.
//!
//! How many fields it has in one byte (254: that many or more), the fields, FF. A field is its length
//! and its text, the length of its value, in a byte how many unused bytes follow the value, the value
//! and these. A length of up to 253 is one byte, others are FE and four bytes, little endian.

use super::{Piece, Why};

const END: u8 = 0xFF;
const LONG: u8 = 0xFE;
const COUNT_UNKNOWN: u8 = 0xFE;

#[derive(Debug)]
pub(super) struct Reader {
    at: usize,
    /// Where the terminator is.
    end: usize,
    /// Strings so far: after an odd number of them comes a value.
    seen: u64,
    claimed: u8,
}

impl Reader {
    pub(super) fn open(blob: &[u8]) -> Result<Self, Why> {
        match *blob {
            [claimed, .., END] => Ok(Self { at: 1, end: blob.len() - 1, seen: 0, claimed }),
            _ => Err("a zipmap without an end"),
        }
    }

    pub(super) fn claimed(&self) -> u64 {
        2 * u64::from(self.claimed)
    }

    pub(super) fn next<'a>(&mut self, blob: &'a [u8]) -> Result<Option<Piece<'a>>, Why> {
        const CUT: Why = "an entry of a zipmap that reaches past its end";
        let rest = blob.get(self.at..self.end).unwrap_or_default();
        let is_value = self.seen % 2 == 1;
        let (len, mut head) = match *rest {
            [] if is_value => return Err(CUT),
            [] => return self.at_end(),
            [LONG, a, b, c, d, ..] => (u32::from_le_bytes([a, b, c, d]) as usize, 5),
            [LONG, ..] => return Err(CUT),
            [END, ..] => return Err("a zipmap that ends before its end"),
            [len, ..] => (len.into(), 1),
        };
        if head > 1 && len < LONG.into() {
            return Err("a length in a zipmap that is longer than it need be");
        }
        let mut unused = 0;
        if is_value {
            unused = usize::from(*rest.get(head).ok_or(CUT)?);
            head += 1;
        }
        let (bytes, behind) = rest[head..].split_at_checked(len).ok_or(CUT)?;
        let behind = behind.get(unused..).ok_or(CUT)?;
        self.at = self.end - behind.len();
        self.seen += 1;
        Ok(Some(Piece::Bytes(bytes)))
    }

    fn at_end<'a>(&self) -> Result<Option<Piece<'a>>, Why> {
        match self.seen / 2 {
            // No server ever kept one; so Valkey takes it for damage, unlike other empty values.
            0 => Err("an empty zipmap"),
            count if self.claimed == COUNT_UNKNOWN || count == self.claimed.into() => Ok(None),
            _ => Err("a zipmap whose count is not what it says"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Packing;
    use super::super::tests::all;

    #[test]
    fn fields_and_values_are_read() {
        let long = [b'v'; 254];
        let blob = [
            &b"\x03\x03foo\x03\x00bar"[..],
            b"\x05hello\x05\x03world???",
            b"\xFE\xFE\0\0\0",
            &long,
            b"\xFE\xFE\0\0\0\x02",
            &long,
            b"\xFF\xFF",
            b"\xFF",
        ]
        .concat();
        let expected: [&[u8]; 6] = [b"foo", b"bar", b"hello", b"world", &long, &long];
        assert_eq!(all(&blob, Packing::Zipmap), Ok(expected.map(<[u8]>::to_vec).to_vec()));
        // Both may be empty, and any text is text.
        let blob = b"\x01\x00\x02\x0017\xFF";
        assert_eq!(all(blob, Packing::Zipmap), Ok(vec![Vec::new(), b"17".to_vec()]));
    }

    #[test]
    fn many_fields_are_not_counted() {
        for (count, claimed) in [(253, 253), (254, 254), (300, 254)] {
            let fields: Vec<u8> = (0..count).flat_map(|_| *b"\x01f\x01\x00v").collect();
            let mut blob = [&[claimed], &fields[..], b"\xFF"].concat();
            assert_eq!(all(&blob, Packing::Zipmap).map(|all| all.len()), Ok(2 * count));
            blob[0] = 255;
            assert!(all(&blob, Packing::Zipmap).is_err());
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        for (blob, expected) in [
            (&b""[..], "a zipmap without an end"),
            (b"\xFF", "a zipmap without an end"),
            (b"\x00\xFF", "an empty zipmap"),
            (b"\x01\x01f\x01\x00v", "a zipmap without an end"),
            (b"\x02\x01f\x01\x00v\xFF", "a zipmap whose count is not what it says"),
            (b"\x01\x01f\xFF", "an entry of a zipmap that reaches past its end"),
            (b"\x01\x01f\x01\xFF", "an entry of a zipmap that reaches past its end"),
            (b"\x01\x01f\x01\x01v\xFF", "an entry of a zipmap that reaches past its end"),
            (b"\x01\x05f\x01\x00v\xFF", "an entry of a zipmap that reaches past its end"),
            (b"\x01\xFE\x01\0\xFF", "an entry of a zipmap that reaches past its end"),
            (b"\x01\xFE\x01\0\0\0f\x01\x00v\xFF", "a length in a zipmap that is longer than it need be"),
            (b"\x01\xFE\xFF\xFF\xFF\xFFf\x01\x00v\xFF", "an entry of a zipmap that reaches past its end"),
            (b"\x01\x01f\x01\x00v\xFF\xFF", "a zipmap that ends before its end"),
        ] {
            assert_eq!(all(blob, Packing::Zipmap), Err(expected), "{blob:?}");
        }
    }
}
