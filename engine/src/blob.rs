//! Long strings, shared by counting references.

use std::sync::Arc;

use crate::size_class::class_of;

/// From this length on, zeros are asked of the allocator rather than written: it has memory that the system
/// has cleared, or will when it is touched.
const ZEROED_LEN_MIN: usize = 64 << 10;

/// Up to this length a string that grows gets room for as much again.
const ROOM_DOUBLES_MAX: usize = 1 << 20;
/// Room that a longer one gets at most, beyond what it needs.
const ROOM_BYTES_MAX: usize = 64 << 20;

/// A string of `len` bytes that begins with `bytes`, as many as fit, and goes on with zeros.
pub(crate) fn with_zeros(bytes: &[u8], len: usize) -> Vec<u8> {
    let bytes = &bytes[..bytes.len().min(len)];
    if len - bytes.len() < ZEROED_LEN_MIN {
        let mut long = Vec::with_capacity(len);
        long.extend_from_slice(bytes);
        long.resize(len, 0);
        return long;
    }
    // All of what the allocator gives: it may grow within that.
    let mut long = vec![0; class_of(len)];
    long.truncate(len);
    long[..bytes.len()].copy_from_slice(bytes);
    long
}

/// A long string, shared by counting references: a reply may hold it while the key is overwritten.
#[derive(Clone)]
#[repr(transparent)]
pub struct Blob(Arc<Vec<u8>>);

impl Blob {
    /// Takes the bytes over without copying them.
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        Blob(Arc::new(bytes))
    }

    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Another holder of the same bytes, for code that need not know what they are.
    pub fn shared(&self) -> Arc<dyn AsRef<[u8]> + Send + Sync> {
        self.0.clone()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// The bytes for writing, `len` of them, zeros at the end. Copied first if somebody else holds them, or
    /// if most of what is to be there are zeros.
    pub(crate) fn resized(&mut self, len: usize) -> &mut [u8] {
        if Arc::get_mut(&mut self.0).is_none() || len / 2 > self.0.capacity().max(ZEROED_LEN_MIN) {
            self.0 = Arc::new(with_zeros(&self.0, len));
        }
        // Nobody else holds it now, so this does not copy.
        let bytes = Arc::make_mut(&mut self.0);
        if len > bytes.capacity() && len > ROOM_DOUBLES_MAX {
            // Twice as much would take long to copy into, and mostly stay unused.
            let room = class_of(len + (len / 8).min(ROOM_BYTES_MAX));
            bytes.reserve_exact(room - bytes.len());
        }
        bytes.resize(len, 0);
        bytes
    }

    /// Where the reference count and the vector's own words lie, for prefetching.
    pub(crate) fn control_address(&self) -> *const u8 {
        Arc::as_ptr(&self.0).cast()
    }
}
