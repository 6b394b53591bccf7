//! Writing values, of files and of payloads alike.

use std::io::{self, Write};

use super::hash::SmallHash;
use super::list::Nodes;
use super::packed::{Packed, Packing, Piece};
use crate::format;
use crate::lzf::Compressor;
use crate::sink::Sink;
use crate::value::{EntryMeta, StringValue};

/// What a file has of a key beside its value; a payload has nothing.
pub(crate) type OfKey<'a> = Option<(&'a [u8], &'a EntryMeta)>;

/// Writes values into a sink, and sees to it that those written bit by bit become whole.
#[derive(Debug)]
pub(crate) struct ValueWriter<W> {
    pub(crate) sink: Sink<W>,
    compressor: Option<Compressor>,
    promised: Promised,
}

/// What is still to come of a value that is written bit by bit.
#[derive(Clone, Copy, Debug)]
enum Promised {
    Nothing,
    Bytes(u64),
    Elements(u64),
    Fields { left: u64, with_deadlines: bool },
}

pub(crate) fn misuse(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// Takes so much off of what is left.
fn take(left: &mut u64, count: u64, why: &'static str) -> io::Result<()> {
    *left = left.checked_sub(count).ok_or_else(|| misuse(why))?;
    Ok(())
}

impl<W: Write> ValueWriter<W> {
    pub(crate) fn new(sink: Sink<W>, compress: bool) -> Self {
        Self { sink, compressor: compress.then(Compressor::default), promised: Promised::Nothing }
    }

    /// Where something new may begin.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        self.sink.usable()?;
        match self.promised {
            Promised::Bytes(1..) => Err(misuse("a long value is incomplete")),
            Promised::Elements(1..) => Err(misuse("a list is incomplete")),
            Promised::Fields { left: 1.., .. } => Err(misuse("a hash is incomplete")),
            _ => {
                self.promised = Promised::Nothing;
                Ok(())
            }
        }
    }

    pub(crate) fn string(&mut self, bytes: &[u8]) -> io::Result<()> {
        let tail = format::put_string_head(&mut self.sink.buf, self.compressor.as_mut(), bytes);
        self.sink.raw(tail)
    }

    /// What comes before a value.
    fn head(&mut self, kind: u8, of_key: OfKey<'_>) -> io::Result<()> {
        self.begin()?;
        let Some((key, meta)) = of_key else {
            self.sink.buf.push(kind);
            return Ok(());
        };
        format::put_meta(&mut self.sink.buf, meta);
        self.sink.buf.push(kind);
        self.string(key)
    }

    pub(crate) fn value(&mut self, value: StringValue<'_>, of_key: OfKey<'_>) -> io::Result<()> {
        self.head(format::TYPE_STRING, of_key)?;
        let tail = format::put_value_head(&mut self.sink.buf, self.compressor.as_mut(), value);
        self.sink.raw(tail)
    }

    pub(crate) fn begin_long(&mut self, len: u64, of_key: OfKey<'_>) -> io::Result<()> {
        self.head(format::TYPE_STRING, of_key)?;
        self.put_len(len)?;
        self.promised = Promised::Bytes(len);
        Ok(())
    }

    fn put_len(&mut self, len: u64) -> io::Result<()> {
        format::put_len(&mut self.sink.buf, len);
        self.sink.settle()
    }

    pub(crate) fn piece(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sink.usable()?;
        let Promised::Bytes(left) = &mut self.promised else {
            return Err(misuse("a piece without a long value"));
        };
        take(left, bytes.len() as u64, "more pieces of a long value than promised")?;
        self.sink.raw(bytes)
    }

    pub(crate) fn small_list<'a>(
        &mut self,
        elements: impl Iterator<Item = &'a [u8]>,
        of_key: OfKey<'_>,
    ) -> io::Result<()> {
        self.begin()?;
        let mut nodes = Nodes::default();
        elements.for_each(|element| nodes.push(element));
        let nodes = nodes.finish();
        if nodes.is_empty() {
            return Err(misuse("a list without elements"));
        }
        self.head(format::TYPE_LIST_QUICKLIST_2, of_key)?;
        self.put_len(nodes.len() as u64)?;
        for (kind, node) in nodes {
            self.put_len(kind)?;
            self.string(&node)?;
        }
        Ok(())
    }

    pub(crate) fn begin_list(&mut self, len: u64, of_key: OfKey<'_>) -> io::Result<()> {
        self.begin()?;
        if len == 0 {
            return Err(misuse("a list without elements"));
        }
        self.head(format::TYPE_LIST, of_key)?;
        self.put_len(len)?;
        self.promised = Promised::Elements(len);
        Ok(())
    }

    pub(crate) fn element(&mut self, element: &[u8]) -> io::Result<()> {
        self.sink.usable()?;
        let Promised::Elements(left) = &mut self.promised else {
            return Err(misuse("an element without a list"));
        };
        take(left, 1, "more elements of a list than promised")?;
        self.string(element)
    }

    pub(crate) fn small_hash<'a>(
        &mut self,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        of_key: OfKey<'_>,
    ) -> io::Result<()> {
        self.begin()?;
        let mut hash = SmallHash::default();
        for (field, value) in fields {
            if !hash.push(field, value) {
                return Err(misuse("a hash that is not small"));
            }
        }
        let count = hash.count();
        if count == 0 {
            return Err(misuse("a hash without fields"));
        }
        let (blob, is_read_by_all) = hash.finish();
        if is_read_by_all {
            self.head(format::TYPE_HASH_LISTPACK, of_key)?;
            return self.string(&blob);
        }
        self.head(format::TYPE_HASH, of_key)?;
        self.put_len(count)?;
        let mut packed = Packed::open(blob, Packing::Listpack).map_err(io::Error::other)?;
        while let Some(piece) = packed.next().map_err(io::Error::other)? {
            match piece {
                Piece::Bytes(bytes) => self.string(bytes)?,
                Piece::Int(number) => self.string(itoa::Buffer::new().format(number).as_bytes())?,
            }
        }
        Ok(())
    }

    pub(crate) fn begin_hash(&mut self, len: u64, with_deadlines: bool, of_key: OfKey<'_>) -> io::Result<()> {
        self.begin()?;
        if len == 0 {
            return Err(misuse("a hash without fields"));
        }
        self.head(if with_deadlines { format::TYPE_HASH_2 } else { format::TYPE_HASH }, of_key)?;
        self.put_len(len)?;
        self.promised = Promised::Fields { left: len, with_deadlines };
        Ok(())
    }

    pub(crate) fn field(&mut self, field: &[u8], value: &[u8], deadline_ms: Option<i64>) -> io::Result<()> {
        self.sink.usable()?;
        let Promised::Fields { left, with_deadlines } = &mut self.promised else {
            return Err(misuse("a field without a hash"));
        };
        if deadline_ms.is_some() && !*with_deadlines {
            return Err(misuse("a field that expires in a hash without deadlines"));
        }
        take(left, 1, "more fields of a hash than promised")?;
        let with_deadlines = *with_deadlines;
        self.string(field)?;
        self.string(value)?;
        if !with_deadlines {
            return Ok(());
        }
        // -1 is no deadline, and what is less is refused; 0 is as long past.
        let deadline_ms = deadline_ms.map_or(-1, |at_ms| at_ms.max(0));
        self.sink.raw(&deadline_ms.to_le_bytes())
    }
}
