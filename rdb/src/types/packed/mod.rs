//! Several strings in one: the three forms in which servers keep, and save, small lists and hashes.
//!
//! Nothing a blob says about itself is taken on trust: its size, its count, where its last entry is and
//! the lengths that lead backwards must all be what going through it finds, and nothing may follow its
//! end. What is only known at the end is told at the end, so parts may have been handed out before.

mod listpack;
mod ziplist;
mod zipmap;

pub(crate) use listpack::{Listpack, is_entry_read_by_all};

/// What is wrong with a blob.
type Why = &'static str;

/// Which form a blob has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Listpack,
    Ziplist,
    /// Only hashes: field, value, field, value.
    Zipmap,
}

/// One string of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    Bytes(&'a [u8]),
    /// The decimal text of this number.
    Int(i64),
}

/// A blob that is gone through.
#[derive(Debug)]
pub(crate) struct Packed {
    blob: Vec<u8>,
    reader: Reader,
}

#[derive(Debug)]
enum Reader {
    Listpack(listpack::Reader),
    Ziplist(ziplist::Reader),
    Zipmap(zipmap::Reader),
}

impl Packed {
    /// Looks at the header only.
    pub(crate) fn open(blob: Vec<u8>, packing: Packing) -> Result<Self, Why> {
        let reader = match packing {
            Packing::Listpack => Reader::Listpack(listpack::Reader::open(&blob)?),
            Packing::Ziplist => Reader::Ziplist(ziplist::Reader::open(&blob)?),
            Packing::Zipmap => Reader::Zipmap(zipmap::Reader::open(&blob)?),
        };
        Ok(Self { blob, reader })
    }

    /// How many strings the header says there are; from 65535 (a zipmap: 508) on it need not know.
    pub(crate) fn claimed(&self) -> u64 {
        match &self.reader {
            Reader::Listpack(reader) => reader.claimed(),
            Reader::Ziplist(reader) => reader.claimed(),
            Reader::Zipmap(reader) => reader.claimed(),
        }
    }

    /// How many bytes its strings may come to, but for numbers.
    pub(crate) fn bytes(&self) -> usize {
        self.blob.len()
    }

    /// The next string, or `None` at an end that is where and what it should be.
    pub(crate) fn next(&mut self) -> Result<Option<Piece<'_>>, Why> {
        match &mut self.reader {
            Reader::Listpack(reader) => reader.next(&self.blob),
            Reader::Ziplist(reader) => reader.next(&self.blob),
            Reader::Zipmap(reader) => reader.next(&self.blob),
        }
    }
}

/// The number in up to eight bytes, little endian and with a sign.
fn signed(bytes: &[u8]) -> i64 {
    let mut wide = [0; 8];
    let unused = wide.len().saturating_sub(bytes.len());
    for (to, from) in wide[unused..].iter_mut().zip(bytes) {
        *to = *from;
    }
    // The number is at the top now, from where its sign comes down with it.
    i64::from_le_bytes(wide) >> (8 * unused)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All strings of a blob as text.
    pub(super) fn all(blob: &[u8], packing: Packing) -> Result<Vec<Vec<u8>>, Why> {
        let mut packed = Packed::open(blob.to_vec(), packing)?;
        let mut pieces = Vec::new();
        while let Some(piece) = packed.next()? {
            pieces.push(match piece {
                Piece::Bytes(bytes) => bytes.to_vec(),
                Piece::Int(number) => number.to_string().into_bytes(),
            });
        }
        assert_eq!(packed.next(), Ok(None), "the end stays the end");
        Ok(pieces)
    }

    #[test]
    fn numbers_keep_their_sign() {
        assert_eq!(signed(&[0xFF]), -1);
        assert_eq!(signed(&[0x00, 0x80]), -32768);
        assert_eq!(signed(&[0xFF, 0xFF, 0x7F]), 8_388_607);
        assert_eq!(signed(&[0x00, 0x00, 0x80]), -8_388_608);
        assert_eq!(signed(&i64::MIN.to_le_bytes()), i64::MIN);
    }

    #[test]
    fn no_damage_panics() {
        let mut listpack = Listpack::default();
        let mut long = vec![b'x'; 300];
        for element in [&b"a"[..], b"", b"17", b"-4000", b"70000", &long, b"9223372036854775807"] {
            listpack.push(element);
        }
        let ziplist = b"\x14\0\0\0\x10\0\0\0\x03\0\x00\x02hi\x04\xF3\x02\xFE\xFD\xFF".to_vec();
        long.truncate(260);
        let zipmap = [b"\x02\x01a\x02\x01bc_\xFE\x04\x01\0\0", &long[..], b"\x00\x00\xFF"].concat();
        for (blob, packing) in
            [(listpack.finish(), Packing::Listpack), (ziplist, Packing::Ziplist), (zipmap, Packing::Zipmap)]
        {
            for len in 0..blob.len() {
                assert!(all(&blob[..len], packing).is_err(), "{packing:?} cut to {len}");
            }
            assert!(all(&[&blob[..], b"\xFF"].concat(), packing).is_err(), "{packing:?} with more behind");
            for at in 0..blob.len() {
                for change in 1..=255 {
                    let mut bad = blob.clone();
                    bad[at] ^= change;
                    // The texts themselves may be any, all else is noticed or leads to another blob.
                    if let Ok(pieces) = all(&bad, packing) {
                        assert!(pieces.iter().map(Vec::len).sum::<usize>() <= 20 * blob.len());
                    }
                }
            }
        }
    }
}
