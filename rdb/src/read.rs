//! Reading a file, item by item.
//!
//! The decoder reads ahead in blocks, so the input needs no buffer of its own; what it read past the
//! end of the file is in [`Decoder::into_inner`]. An input that says [`WouldBlock`](std::io::ErrorKind::WouldBlock)
//! has nothing yet: at whatever byte that is, [`Decoder::next`] says so
//! ([`RdbError::is_would_block`]) and goes on from there when it is called again, with the same items in the
//! end. Nothing but numbers and short strings is read twice for that, and no long string is held twice. Files of all versions of the format are read as far
//! as they hold strings, lists and hashes.

use std::io::Read;

use crate::error::RdbError;
use crate::format::{self, BLOCK_BYTES, opcode};
use crate::source::Source;
use crate::types::{Collection, CollectionKind, Dialect, Form, Opening, Parts};
use crate::value::{EntryMeta, LoadedString, Magic};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// Compare the checksum of a file that has one (`rdbchecksum`), or of a payload.
    pub checksum: bool,
    /// Refuse versions that are not known in all of their parts (`rdb-version-check strict`): Redis's
    /// from 12 on, which are not Valkey's, and Valkey's after 80. Otherwise they are read until
    /// something unknown comes (`relaxed`).
    pub version_check_strict: bool,
    /// The longest string that is accepted, in bytes.
    pub string_len_max: u64,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { checksum: true, version_check_strict: true, string_len_max: 512 << 20 }
    }
}

/// What is next in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A field about the file itself; those one does not know are to be skipped.
    Aux { key: Vec<u8>, value: Vec<u8> },
    /// The database of the entries that follow; before the first of these it is 0.
    SelectDb(u64),
    /// How many keys the database has and how many of them expire: a hint, which need not be true.
    ResizeDb { keys: u64, expires: u64 },
    /// The same for one slot of a cluster.
    SlotInfo { slot: u64, keys: u64, expires: u64 },
    /// A key with its value, which is a string.
    Entry { key: Vec<u8>, value: LoadedString, meta: EntryMeta },
    /// A key whose value is a collection: its parts follow, at least some, then
    /// [`Finished`](Item::Finished). A key whose collection has nothing in it is left out, as Valkey
    /// does. `len_hint` is how many elements or fields there may be: of a list in several nodes it may
    /// be too few, and in a damaged file it may be anything.
    Begin { key: Vec<u8>, kind: CollectionKind, len_hint: u64, meta: EntryMeta },
    /// Some parts of it, in order; never none.
    Parts(Parts),
    /// The collection is whole.
    Finished,
    /// The code of a library of functions.
    Function(Vec<u8>),
    /// The file is at its end, and the checksum was right if there was one and it was to be compared.
    End,
}

/// The name of a type of values that is not read; `foreign` for Redis from version 12 on, which went on
/// counting differently from Valkey.
pub(crate) fn type_name(kind: u8, foreign: bool) -> Option<&'static str> {
    Some(match (kind, foreign) {
        (2 | 11 | 20, _) => "set",
        (3 | 5 | 12 | 17, _) => "sorted set",
        (6 | 7, _) => "value of a module",
        (15 | 19 | 21, _) => "stream",
        // Only in a file that says that it is older than they are.
        (22..=25, true) => "hash with fields that expire",
        (26 | 27, true) => "stream",
        (format::TYPE_FOREIGN_MIN..format::TYPE_FOREIGN_MAX, true) => "type of values that only Redis has",
        _ => return None,
    })
}

/// Reads one file from `R`.
#[derive(Debug)]
pub struct Decoder<R: Read> {
    source: Source<R>,
    magic: Magic,
    version: u32,
    strict: bool,
    /// What was said about the next key so far.
    meta: EntryMeta,
    next: Next,
    failed: bool,
}

/// What comes next in the file. Of each but a collection no more than some numbers and one string are read before
/// the next comes: so little is read again if the input has no more yet.
#[derive(Debug)]
enum Next {
    /// Magic and version.
    Head,
    /// What is to follow.
    Type,
    /// The value of an aux field with this key.
    AuxValue(Vec<u8>),
    /// The string of a key.
    String(Vec<u8>),
    /// The beginning of the collection of a key.
    Opening(Vec<u8>, Opening),
    /// Parts of a collection.
    Parts(Collection),
    /// The checksum, to compare with this.
    Checksum(Option<u64>),
    /// Nothing.
    End,
}

impl<R: Read> Decoder<R> {
    /// Reads the magic and the version.
    pub fn new(input: R, options: ReadOptions) -> Result<Self, RdbError> {
        let mut decoder = Self::deferred(input, options);
        decoder.head()?;
        Ok(decoder)
    }

    /// A decoder that has read nothing yet, for an input that may have nothing yet: magic and version come with the
    /// first item, and mean nothing before.
    pub fn deferred(input: R, options: ReadOptions) -> Self {
        Self {
            source: Source::new(input, BLOCK_BYTES, options.checksum, options.string_len_max),
            magic: Magic::Redis,
            version: 0,
            strict: options.version_check_strict,
            meta: EntryMeta::default(),
            next: Next::Head,
            failed: false,
        }
    }

    fn head(&mut self) -> Result<(), RdbError> {
        let (magic, version) = read_magic(&mut self.source)?;
        if !format::version_accepted(version, Some(magic), self.strict) {
            return Err(RdbError::Version { magic, version });
        }
        (self.magic, self.version, self.next) = (magic, version, Next::Type);
        Ok(())
    }

    /// The next item; after [`Item::End`] that again. After an error there is nothing more to be had, unless it was
    /// that the input has nothing yet.
    #[allow(clippy::should_implement_trait, reason = "a file has an end that is an item and may fail")]
    pub fn next(&mut self) -> Result<Item, RdbError> {
        if self.failed {
            return Err(RdbError::Corrupt { at: self.source.offset(), why: "reading failed before" });
        }
        let item = self.item();
        if let Err(error) = &item {
            self.failed = !error.is_would_block();
            if !self.failed {
                self.source.rewind();
            }
        }
        item
    }

    fn item(&mut self) -> Result<Item, RdbError> {
        loop {
            self.source.commit();
            let source = &mut self.source;
            let item = match &mut self.next {
                Next::Head => {
                    self.head()?;
                    continue;
                }
                Next::Type => match self.announced()? {
                    Some(item) => return Ok(item),
                    None => continue,
                },
                Next::AuxValue(key) => {
                    let value = source.bytes()?;
                    Item::Aux { key: std::mem::take(key), value }
                }
                Next::String(key) => {
                    let value = source.value()?;
                    Item::Entry { key: std::mem::take(key), value, meta: std::mem::take(&mut self.meta) }
                }
                Next::Opening(key, opening) => {
                    let opened = opening.open(source)?;
                    let meta = std::mem::take(&mut self.meta);
                    let Some(collection) = opened else {
                        self.next = Next::Type;
                        continue;
                    };
                    let (kind, len_hint) = (collection.kind(), collection.len_hint());
                    let key = std::mem::take(key);
                    self.next = Next::Parts(collection);
                    return Ok(Item::Begin { key, kind, len_hint, meta });
                }
                Next::Parts(collection) => match collection.parts(source)? {
                    Some(parts) => return Ok(Item::Parts(parts)),
                    None => Item::Finished,
                },
                Next::Checksum(computed) => {
                    let computed = *computed;
                    self.end(computed)?;
                    self.next = Next::End;
                    continue;
                }
                Next::End => return Ok(Item::End),
            };
            self.next = Next::Type;
            return Ok(item);
        }
    }

    /// What the next byte announces: an item that is read at once, or what comes next.
    fn announced(&mut self) -> Result<Option<Item>, RdbError> {
        let source = &mut self.source;
        let dialect = match self.magic {
            Magic::Redis if self.version > format::VERSION_SHARED_MAX => Dialect::Redis,
            _ => Dialect::Valkey,
        };
        let kind = source.byte()?;
        let foreign =
            self.magic == Magic::Redis && (format::TYPE_FOREIGN_MIN..=format::TYPE_FOREIGN_MAX).contains(&kind);
        match kind {
            format::TYPE_STRING => self.next = Next::String(source.bytes()?),
            opcode::EXPIRE_MS => {
                let at_ms = i64::from_le_bytes(source.array()?);
                self.meta.expire_at_ms = Some(at_ms).filter(|&at_ms| at_ms != -1);
            }
            opcode::EXPIRE_S => {
                self.meta.expire_at_ms = Some(i64::from(i32::from_le_bytes(source.array()?)) * 1000);
            }
            opcode::IDLE => self.meta.idle_s = Some(source.length()?),
            opcode::FREQ => self.meta.freq = Some(source.byte()?),
            opcode::SELECT_DB => return Ok(Some(Item::SelectDb(source.length()?))),
            opcode::RESIZE_DB => {
                return Ok(Some(Item::ResizeDb { keys: source.length()?, expires: source.length()? }));
            }
            opcode::SLOT_INFO => {
                let (slot, keys, expires) = (source.length()?, source.length()?, source.length()?);
                return Ok(Some(Item::SlotInfo { slot, keys, expires }));
            }
            opcode::AUX => self.next = Next::AuxValue(source.bytes()?),
            opcode::FUNCTION => return Ok(Some(Item::Function(source.bytes()?))),
            opcode::EOF => self.next = Next::Checksum(source.take_crc()),
            opcode::MODULE_AUX => return Err(RdbError::Unsupported { what: "module aux", key: None }),
            opcode::FUNCTION_PRE_GA => {
                return Err(RdbError::Unsupported { what: "function of a release candidate of 7.0", key: None });
            }
            opcode::SLOT_IMPORT if foreign => {
                return Err(RdbError::Unsupported { what: "module's note on a key", key: None });
            }
            opcode::SLOT_IMPORT => return Err(RdbError::Unsupported { what: "slot import", key: None }),
            _ => {
                // With Redis's magic there is none of Valkey's own, whatever the version.
                let form = Form::of(kind, dialect).filter(|_| !foreign || dialect == Dialect::Redis);
                if let Some(form) = form {
                    self.next = Next::Opening(source.bytes()?, Opening::new(form));
                    return Ok(None);
                }
                let Some(what) = type_name(kind, foreign) else {
                    let at = source.offset().saturating_sub(1);
                    return Err(if self.strict || self.version <= format::VERSION_SHARED_MAX {
                        RdbError::Corrupt { at, why: "an unknown type or opcode" }
                    } else {
                        RdbError::Unsupported { what: "type or opcode that is unknown here", key: None }
                    });
                };
                let key = source.bytes()?;
                return Err(RdbError::Unsupported { what, key: Some(key) });
            }
        }
        Ok(None)
    }

    /// Behind the end: the checksum, from version 5 on.
    fn end(&mut self, computed: Option<u64>) -> Result<(), RdbError> {
        if self.version < format::VERSION_CHECKSUM_MIN {
            // Nothing ever followed the end of so old a file. It may as well be one with a checksum
            // whose version is damaged.
            return if self.source.at_end()? {
                Ok(())
            } else {
                Err(RdbError::Corrupt {
                    at: self.source.offset(),
                    why: "there is data after the end of a version that has no checksum",
                })
            };
        }
        let stored = u64::from_le_bytes(self.source.array()?);
        match computed {
            Some(computed) if stored != 0 && stored != computed => {
                Err(RdbError::Checksum { why: "the file is damaged: its checksum is wrong", stored, computed })
            }
            _ => Ok(()),
        }
    }

    /// Bytes of the file that were consumed (not those only read ahead).
    pub fn bytes_read(&self) -> u64 {
        self.source.offset()
    }

    /// The version the file says it has.
    pub fn version(&self) -> u32 {
        self.version
    }

    pub fn magic(&self) -> Magic {
        self.magic
    }

    /// The input, to give it more. What it had was read ahead of the items.
    pub fn input_mut(&mut self) -> &mut R {
        self.source.input_mut()
    }

    /// The input, and what was read from it but not consumed: what follows the file, after
    /// [`Item::End`].
    pub fn into_inner(self) -> (R, Vec<u8>) {
        self.source.into_inner()
    }
}

fn read_magic<R: Read>(source: &mut Source<R>) -> Result<(Magic, u32), RdbError> {
    // Both are nine bytes with the version.
    let mut head = [0; 9];
    for at in 0..head.len() {
        head[at] = match source.byte() {
            // A file that is cut here is one that is cut, one that says something else is none.
            Err(RdbError::Truncated { .. })
                if !b"REDIS".starts_with(&head[..at.min(5)]) && !b"VALKEY".starts_with(&head[..at.min(6)]) =>
            {
                return Err(RdbError::NotRdb);
            }
            byte => byte?,
        };
    }
    let (magic, digits) = match head {
        [b'R', b'E', b'D', b'I', b'S', digits @ ..] => (Magic::Redis, digits),
        [b'V', b'A', b'L', b'K', b'E', b'Y', a, b, c] => (Magic::Valkey, [b'0', a, b, c]),
        _ => return Err(RdbError::NotRdb),
    };
    let mut version = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err(RdbError::NotRdb);
        }
        version = version * 10 + u32::from(digit - b'0');
    }
    Ok((magic, version))
}
