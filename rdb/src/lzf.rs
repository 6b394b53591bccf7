//! LZF, the compression of strings in the format.
//!
//! The compressed form is a sequence of two kinds of items, told by the three highest bits of their
//! first byte: `000LLLLL`, `L + 1` bytes that follow verbatim; `LLLooooo oooooooo`, `L + 2` bytes
//! that came `o + 1` bytes before, where `L` of 7 means that a byte between the two adds to it. So a
//! match is 3 to 264 bytes long and at most 8192 bytes back.
//!
//! The one crate for it is given up by its maintainers, and copies Valkey's C; this is the format's
//! description done anew, bounded and in safe code.

const LITERAL_MAX: usize = 32;
const MATCH_MAX: usize = 264;
const DISTANCE_MAX: usize = 1 << 13;
/// The most bytes one compressed byte can stand for: a match of [`MATCH_MAX`] takes three.
pub(crate) const EXPANSION_MAX: u64 = 88;
/// Compression has to save as much to be used, as in Valkey.
const GAIN_MIN: usize = 4;
/// Slots of the table of positions for short, middling and long strings. A small table is soon cleared
/// and stays in the first cache; a window of 8192 bytes has no use for a much larger one.
const SLOTS: [usize; 3] = [1 << 10, 1 << 12, 1 << 14];
/// Buffers past this are not kept from one string to the next.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Compresses one string after the other. What comes out depends on the string alone.
#[derive(Debug, Default)]
pub(crate) struct Compressor {
    /// By hash of three bytes the last position they were seen at, counted from `base`; what is
    /// smaller than `base` belongs to a string before this one, so the table need not be cleared.
    table: Vec<u32>,
    base: u32,
    out: Vec<u8>,
}

impl Compressor {
    /// The compressed form, if it is shorter by at least four bytes.
    pub(crate) fn compress(&mut self, input: &[u8]) -> Option<&[u8]> {
        let len = u32::try_from(input.len()).ok().filter(|&len| len < u32::MAX)?;
        let len_out_max = input.len().checked_sub(GAIN_MIN)?;
        let size = SLOTS.iter().position(|&slots| input.len() <= 2 * slots).unwrap_or(SLOTS.len() - 1);
        if self.table.len() < SLOTS[size] {
            self.table.resize(SLOTS[size], 0);
        }
        // Positions start at 1, for 0 is the empty slot.
        self.base = match self.base.checked_add(len) {
            Some(end) if self.base > 0 && end < u32::MAX => self.base,
            _ => {
                self.table.fill(0);
                1
            }
        };
        self.out.clear();
        if self.out.capacity() > KEPT_BYTES_MAX {
            self.out.shrink_to(KEPT_BYTES_MAX);
        }
        self.out.reserve(len_out_max.min(4096));
        let (table, base, out) = (&mut self.table, self.base, &mut self.out);
        let smaller = match size {
            0 => squeeze::<{ SLOTS[0] }>(input, table, base, len_out_max, out),
            1 => squeeze::<{ SLOTS[1] }>(input, table, base, len_out_max, out),
            _ => squeeze::<{ SLOTS[2] }>(input, table, base, len_out_max, out),
        };
        self.base += len;
        smaller.then_some(&self.out[..])
    }
}

fn four_bytes(input: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*input.get(at..)?.first_chunk()?))
}

/// How many of the first `max` bytes behind `a` and `b` are the same, `b` being the later one.
fn common_len(input: &[u8], a: usize, b: usize, max: usize) -> usize {
    let (left, right) = (&input[a..a + max], &input[b..b + max]);
    let mut len = 0;
    for (x, y) in left.chunks_exact(8).zip(right.chunks_exact(8)) {
        let x = u64::from_le_bytes([x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]]);
        let y = u64::from_le_bytes([y[0], y[1], y[2], y[3], y[4], y[5], y[6], y[7]]);
        if x != y {
            return len + ((x ^ y).trailing_zeros() / 8) as usize;
        }
        len += 8;
    }
    len + left[len..].iter().zip(&right[len..]).take_while(|(x, y)| x == y).count()
}

fn put_literals(out: &mut Vec<u8>, literals: &[u8]) {
    for run in literals.chunks(LITERAL_MAX) {
        out.push(run.len() as u8 - 1);
        out.extend_from_slice(run);
    }
}

fn literals_len(len: usize) -> usize {
    len + len.div_ceil(LITERAL_MAX)
}

/// Compresses into `out`; false if that would exceed `len_out_max`. The table must have `SLOTS` slots.
fn squeeze<const SLOTS: usize>(
    input: &[u8],
    table: &mut [u32],
    base: u32,
    len_out_max: usize,
    out: &mut Vec<u8>,
) -> bool {
    let Some(table) = table.first_chunk_mut::<SLOTS>() else { return false };
    let slot_of =
        |bytes: u32| ((bytes << 8).wrapping_mul(0x9E37_79B1) >> (u32::BITS - SLOTS.trailing_zeros())) as usize;
    let mut literals = 0;
    let mut at = 0;
    while let Some(here) = four_bytes(input, at) {
        let slot = &mut table[slot_of(here)];
        let seen = slot.wrapping_sub(base) as usize;
        *slot = base + at as u32;
        let is_match = seen < at
            && at - seen <= DISTANCE_MAX
            && four_bytes(input, seen).is_some_and(|there| (there ^ here) << 8 == 0);
        if !is_match {
            // The longer nothing was found, the less is expected: what does not compress goes by fast.
            at += 1 + ((at - literals) >> 6).min(15);
            continue;
        }
        let distance = at - seen;
        let mut start = at;
        while start > literals && start > distance && input[start - 1] == input[start - 1 - distance] {
            start -= 1;
        }
        let len_max = (input.len() - start).min(MATCH_MAX);
        let len = common_len(input, start - distance, start, len_max);
        if out.len() + literals_len(start - literals) + 3 > len_out_max {
            return false;
        }
        put_literals(out, &input[literals..start]);
        let offset = distance - 1;
        if len - 2 < 7 {
            out.push(((len - 2) << 5 | offset >> 8) as u8);
        } else {
            out.push((7 << 5 | offset >> 8) as u8);
            out.push((len - 2 - 7) as u8);
        }
        out.push(offset as u8);
        let end = start + len;
        // The next match is likely to begin near the end of this one.
        for near in [end - 2, end - 1] {
            if let Some(bytes) = four_bytes(input, near) {
                table[slot_of(bytes)] = base + near as u32;
            }
        }
        at = end;
        literals = end;
    }
    if out.len() + literals_len(input.len() - literals) > len_out_max {
        return false;
    }
    put_literals(out, &input[literals..]);
    true
}

/// Decompresses what must come to exactly `len` bytes and appends them to `into`. Never adds more than
/// `len`, which the caller has compared with [`EXPANSION_MAX`].
pub(crate) fn decompress(input: &[u8], len: usize, into: &mut Vec<u8>) -> Result<(), &'static str> {
    const SHORT: &str = "a compressed string ends inside an item";
    const LONG: &str = "a compressed string is longer than it says";
    into.try_reserve_exact(len).map_err(|_| "no memory for a compressed string")?;
    let start = into.len();
    let mut rest = input;
    while let [control, tail @ ..] = rest {
        let control = usize::from(*control);
        if control < LITERAL_MAX {
            let (literals, tail) = tail.split_at_checked(control + 1).ok_or(SHORT)?;
            if literals.len() > len - (into.len() - start) {
                return Err(LONG);
            }
            into.extend_from_slice(literals);
            rest = tail;
            continue;
        }
        let (count, tail) = match (control >> 5, tail) {
            (7, [more, tail @ ..]) => (7 + 2 + usize::from(*more), tail),
            (7, []) => return Err(SHORT),
            (short, tail) => (short + 2, tail),
        };
        let [low, tail @ ..] = tail else { return Err(SHORT) };
        let distance = ((control & 0x1F) << 8 | usize::from(*low)) + 1;
        let from = into.len().checked_sub(distance).filter(|&from| from >= start);
        let from = from.ok_or("a compressed string refers to before its beginning")?;
        if count > len - (into.len() - start) {
            return Err(LONG);
        }
        // A match may reach into what it makes itself: then what is there repeats.
        let mut left = count;
        while left > 0 {
            let now = left.min(into.len() - from);
            into.extend_from_within(from..from + now);
            left -= now;
        }
        rest = tail;
    }
    if into.len() - start == len { Ok(()) } else { Err("a compressed string is shorter than it says") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal")).collect()
    }

    /// Decompresses behind other bytes, which no match may refer to.
    fn decompress(input: &[u8], len: usize) -> Result<Vec<u8>, &'static str> {
        let mut into = b"before".to_vec();
        super::decompress(input, len, &mut into)?;
        Ok(into.split_off(6))
    }

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        })
        .take(len)
        .collect()
    }

    fn samples() -> Vec<Vec<u8>> {
        let text = b"The quick brown fox jumps over the quick brown dog, and the quick brown fox sleeps.";
        let mut samples = vec![
            b"a".repeat(21),
            b"ab".repeat(50),
            b"a".repeat(264 + 3),
            b"a".repeat(100_000),
            text.to_vec(),
            text.repeat(400),
            (0..=255u8).collect::<Vec<_>>().repeat(64),
            noise(1, 8191).repeat(2),
            noise(2, 8192).repeat(2),
            noise(3, 8193).repeat(2),
            [noise(4, 50_000), vec![0; 50_000], noise(4, 5_000)].concat(),
        ];
        samples.extend((0..40).map(|len| vec![b'x'; len]));
        samples.extend((0..40).map(|len| [noise(9, len), noise(9, len)].concat()));
        samples
    }

    #[test]
    fn what_liblzf_made_is_read() {
        for (expected, compressed) in [
            (b"a".repeat(21), "016161e00a00"),
            (b"ab".repeat(50), "02616261e05601016162"),
            (b"a".repeat(300), "016161e0ff00e01700016161"),
            (
                b"The quick brown fox jumps over the quick brown dog, and the quick brown fox sleeps.".to_vec(),
                "1f54686520717569636b2062726f776e20666f78206a756d7073206f7665722074e0061e07646f672c20616e64e00818403706736c656570732e",
            ),
            (
                (0..64u8).collect::<Vec<_>>().repeat(2),
                "1f000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f0000e0343f013e3f",
            ),
        ] {
            assert_eq!(decompress(&hex(compressed), expected.len()), Ok(expected));
        }
    }

    #[test]
    fn what_is_compressed_is_shorter_and_comes_back() {
        let mut compressor = Compressor::default();
        let mut shorter = 0;
        for sample in samples() {
            let Some(compressed) = compressor.compress(&sample) else { continue };
            assert!(compressed.len() + GAIN_MIN <= sample.len());
            assert!(sample.len() as u64 <= compressed.len() as u64 * EXPANSION_MAX);
            assert_eq!(decompress(compressed, sample.len()).as_ref(), Ok(&sample));
            shorter += 1;
        }
        assert!(shorter > 40, "{shorter}");
    }

    #[test]
    fn compression_finds_what_there_is_to_find() {
        let mut compressor = Compressor::default();
        let mut len_of = |input: &[u8]| compressor.compress(input).map(<[u8]>::len);
        assert_eq!(len_of(&b"a".repeat(21)), Some(5));
        assert_eq!(len_of(&b"a".repeat(1 + 264 * 1000)), Some(2 + 3 * 1000));
        assert_eq!(len_of(&noise(1, 10_000)), None);
        // As far back as a match may be, and one byte further.
        assert!(len_of(&noise(1, 8192).repeat(2)).is_some_and(|len| len < 8192 + 256 + 100));
        assert_eq!(len_of(&noise(1, 8193).repeat(2)), None);
        // Noise is hurried through, yet what follows it is seen.
        assert!(len_of(&[noise(4, 50_000), vec![0; 50_000]].concat()).is_some_and(|len| len < 53_000));
    }

    #[test]
    fn the_outcome_does_not_depend_on_what_came_before() {
        let mut used = Compressor::default();
        for sample in samples().iter().chain(samples().iter().rev()) {
            let mut fresh = Compressor::default();
            assert_eq!(used.compress(sample), fresh.compress(sample));
        }
        // Nor on where positions have come to, or on their starting over.
        for before_end in [0, 1, 2, 100, 20_000, 150_000] {
            used.base = u32::MAX - before_end;
            for sample in samples() {
                let mut fresh = Compressor::default();
                assert_eq!(used.compress(&sample), fresh.compress(&sample));
            }
        }
    }

    #[test]
    fn bad_input_is_refused() {
        for (compressed, len) in [
            ("", 1),
            ("00", 1),
            ("0261", 3),
            ("0061", 0),
            ("0061", 2),
            ("2000", 3),
            ("00612001", 4),
            ("006120", 4),
            ("0061e0", 10),
            ("0061e000", 10),
            ("0061e00b00", 20),
            ("0061e00b00", 22),
        ] {
            assert!(decompress(&hex(compressed), len).is_err(), "{compressed} for {len}");
        }
        assert_eq!(decompress(&hex("0061e00b00"), 21), Ok(b"a".repeat(21)));
        assert_eq!(decompress(&[], 0), Ok(Vec::new()));
    }
}
