//! The reply side of a session: writes values in the protocol version the client speaks into the
//! buffer that will be handed to the transport. Knows RESP and buffers, not what is replied.

use tercel_engine::ValueRef;
use tercel_resp::{Version, encode};
use tercel_transport::TxBuf;

/// From this length in bytes on a stored value is spliced into the reply instead of copied.
const SPLICE_LEN_MIN: usize = 16 * 1024;

/// Replies on their way to one client.
#[derive(Default)]
pub struct Reply {
    /// What goes to the transport.
    pub buf: TxBuf,
    /// The protocol the client speaks.
    pub version: Version,
}

impl Reply {
    /// Whether the client speaks RESP3.
    #[must_use]
    #[inline]
    pub fn is_resp3(&self) -> bool {
        self.version == Version::Resp3
    }

    #[inline]
    fn out(&mut self) -> &mut Vec<u8> {
        self.buf.plain_mut()
    }

    /// `+OK`
    #[inline]
    pub fn ok(&mut self) {
        self.out().extend_from_slice(b"+OK\r\n");
    }

    /// A simple string.
    pub fn simple(&mut self, text: &str) {
        encode::simple(self.out(), text.as_bytes());
    }

    /// An error; `text` begins with its code.
    pub fn error(&mut self, text: &str) {
        encode::error(self.out(), text.as_bytes());
    }

    /// An integer.
    #[inline]
    pub fn integer(&mut self, value: i64) {
        encode::integer(self.out(), value);
    }

    /// A length or count.
    #[inline]
    pub fn count(&mut self, value: usize) {
        encode::integer(self.out(), value as i64);
    }

    /// 1 or 0.
    #[inline]
    pub fn flag(&mut self, value: bool) {
        encode::integer(self.out(), i64::from(value));
    }

    /// A bulk string.
    #[inline]
    pub fn bulk(&mut self, bytes: impl AsRef<[u8]>) {
        encode::bulk(self.out(), bytes.as_ref());
    }

    /// Nothing.
    #[inline]
    pub fn null(&mut self) {
        let version = self.version;
        encode::null(self.out(), version);
    }

    /// Nothing where an array was expected.
    pub fn null_array(&mut self) {
        let version = self.version;
        encode::null_array(self.out(), version);
    }

    /// A stored string. A large one is spliced in by reference.
    #[inline]
    pub fn value(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Int(number) => encode::bulk_integer(self.out(), number),
            ValueRef::Bytes(bytes) => encode::bulk(self.out(), bytes),
            ValueRef::Blob(blob) if blob.len() >= SPLICE_LEN_MIN => {
                encode::header(self.out(), b'$', blob.len() as i64);
                self.buf.push_shared(blob.shared());
                self.out().extend_from_slice(b"\r\n");
            }
            ValueRef::Blob(blob) => encode::bulk(self.out(), blob.as_slice()),
        }
    }

    /// Begins an array.
    #[inline]
    pub fn array(&mut self, len: usize) {
        encode::array(self.out(), len);
    }

    /// Begins a map.
    pub fn map(&mut self, pairs: usize) {
        let version = self.version;
        encode::map(self.out(), version, pairs);
    }

    /// Begins a set.
    pub fn set(&mut self, len: usize) {
        let version = self.version;
        encode::set(self.out(), version, len);
    }

    /// Begins a push message.
    pub fn push(&mut self, len: usize) {
        let version = self.version;
        encode::push(self.out(), version, len);
    }

    /// A double.
    pub fn double(&mut self, value: f64) {
        let version = self.version;
        encode::double(self.out(), version, value);
    }

    /// A truth value.
    pub fn boolean(&mut self, value: bool) {
        let version = self.version;
        encode::boolean(self.out(), version, value);
    }

    /// Text.
    pub fn verbatim(&mut self, text: &str) {
        let version = self.version;
        encode::verbatim(self.out(), version, *b"txt", text.as_bytes());
    }

    /// An array of bulk strings.
    pub fn bulks<T: AsRef<[u8]>>(&mut self, items: &[T]) {
        self.array(items.len());
        for item in items {
            self.bulk(item);
        }
    }

    /// An array of simple strings, as HELP subcommands answer.
    pub fn lines(&mut self, lines: &[&str]) {
        self.array(lines.len());
        for line in lines {
            self.simple(line);
        }
    }
}
