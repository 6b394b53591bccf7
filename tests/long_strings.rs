//! Long strings in chunks: every command that reads or writes some of one, against a plain vector, while copies hold
//! what it was.
#![allow(clippy::unwrap_used)]

mod house;

use house::House;
use tercel_resp::encode;
use tercel_transport::memory::MemoryPeer;

/// About the length at which a string is put into chunks, and the length of one.
const CHUNKED: usize = 512 << 10;
const CHUNK: usize = 256 << 10;

/// A small seeded generator (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound.max(1)
    }

    /// Some place, mostly near the border of a chunk.
    fn place(&mut self, len: usize) -> usize {
        match self.below(3) {
            0 => self.below(len),
            _ => (self.below(len / CHUNK + 1) * CHUNK + self.below(9)).saturating_sub(4).min(len),
        }
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let seed = self.below(usize::MAX);
        (0..len).map(|at| (seed.wrapping_add(at).wrapping_mul(0x9E37_79B9) >> 11) as u8).collect()
    }
}

struct Rig {
    house: House,
    client: MemoryPeer,
}

impl Rig {
    /// Sends a command of any bytes; the whole answer.
    fn call(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let mut request = Vec::new();
        encode::request(&mut request, words);
        let mut rest = &request[..];
        let mut answer = Vec::new();
        loop {
            if !rest.is_empty() {
                let end = rest.len().min(64 << 10);
                self.client.write(&rest[..end]);
                rest = &rest[end..];
            }
            self.house.settle();
            let more = self.client.read_available();
            if more.is_empty() && rest.is_empty() {
                return answer;
            }
            answer.extend(more);
        }
    }

    fn text(&mut self, words: &[&str]) -> String {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        String::from_utf8_lossy(&self.call(&words)).trim_end().to_owned()
    }

    fn number(&mut self, words: &[&str]) -> i64 {
        let answer = self.text(words);
        answer.strip_prefix(':').unwrap_or_else(|| panic!("{words:?}: {answer}")).parse().unwrap()
    }

    fn bulk(&mut self, words: &[&str]) -> Vec<u8> {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let answer = self.call(&words);
        let begin = answer.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        answer[begin..answer.len() - 2].to_vec()
    }
}

fn bit(bytes: &[u8], at: usize) -> bool {
    bytes.get(at / 8).is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1)
}

fn set_bit(bytes: &mut Vec<u8>, at: usize, on: bool) {
    if bytes.len() <= at / 8 {
        bytes.resize(at / 8 + 1, 0);
    }
    let mask = 1 << (7 - at % 8);
    if on { bytes[at / 8] |= mask } else { bytes[at / 8] &= !mask }
}

fn story(seed: u64, begin: usize) {
    let mut rig = {
        let house = House::still();
        Rig { client: house.net.connect(), house }
    };
    let mut random = Random(seed | 1);
    let mut model = random.bytes(begin);
    assert_eq!(rig.call(&[b"SET", b"k", &model]), b"+OK\r\n");
    let mut copies: Vec<(String, Vec<u8>)> = Vec::new();
    for round in 0..60 {
        let at = random.place(model.len());
        match random.below(12) {
            0 => {
                let piece_len = random.below(9);
                let piece = random.bytes(piece_len);
                let answer = rig.call(&[b"SETRANGE", b"k", at.to_string().as_bytes(), &piece]);
                let end = at + piece.len();
                if !piece.is_empty() && model.len() < end {
                    model.resize(end, 0);
                }
                model.splice(at.min(model.len())..end.min(model.len()), piece);
                assert_eq!(answer, format!(":{}\r\n", model.len()).into_bytes());
            }
            1 => {
                let piece_len = CHUNK + random.below(CHUNK);
                let piece = random.bytes(piece_len);
                rig.call(&[b"SETRANGE", b"k", at.to_string().as_bytes(), &piece]);
                model.resize(model.len().max(at + piece.len()), 0);
                model[at..at + piece.len()].copy_from_slice(&piece);
            }
            2 => {
                let piece_len = if random.below(4) == 0 { CHUNK + random.below(CHUNK) } else { random.below(300) };
                let piece = random.bytes(piece_len);
                let answer = rig.call(&[b"APPEND", b"k", &piece]);
                model.extend(&piece);
                assert_eq!(answer, format!(":{}\r\n", model.len()).into_bytes());
            }
            3 | 4 => {
                let place = at * 8 + random.below(8);
                let on = random.below(2) == 1;
                let before = rig.number(&["SETBIT", "k", &place.to_string(), if on { "1" } else { "0" }]);
                assert_eq!(before == 1, bit(&model, place));
                set_bit(&mut model, place, on);
            }
            5 => {
                let place = at * 8 + random.below(16);
                let bits = 1 + random.below(63);
                let value = random.below(1 << bits.min(40));
                let (place_text, field) = (place.to_string(), format!("u{bits}"));
                let old = rig.text(&["BITFIELD", "k", "SET", &field, &place_text, &value.to_string()]);
                let expected =
                    (0..bits).fold(0u64, |number, index| number << 1 | u64::from(bit(&model, place + index)));
                assert_eq!(old, format!("*1\r\n:{expected}"));
                for index in 0..bits {
                    set_bit(&mut model, place + index, value as u64 >> (bits - 1 - index) & 1 == 1);
                }
                assert_eq!(rig.text(&["BITFIELD_RO", "k", "GET", &field, &place_text]), format!("*1\r\n:{value}"));
            }
            6 => {
                let end = at + random.below(2 * CHUNK);
                let part = rig.bulk(&["GETRANGE", "k", &at.to_string(), &end.to_string()]);
                assert!(part == model[at.min(model.len())..(end + 1).min(model.len())], "round {round}");
            }
            7 => {
                let end = at + random.below(2 * CHUNK);
                let count = rig.number(&["BITCOUNT", "k", &at.to_string(), &end.to_string()]);
                let part = &model[at.min(model.len())..(end + 1).min(model.len())];
                assert_eq!(count, part.iter().map(|byte| i64::from(byte.count_ones())).sum::<i64>());
            }
            8 => {
                let wanted = random.below(2) == 1;
                let found = rig.number(&["BITPOS", "k", if wanted { "1" } else { "0" }, &at.to_string()]);
                let expected = (at * 8..model.len() * 8).find(|&place| bit(&model, place) == wanted);
                let beyond = if wanted || at >= model.len() { -1 } else { model.len() as i64 * 8 };
                assert_eq!(found, expected.map_or(beyond, |place| place as i64));
            }
            9 => {
                let name = format!("copy{round}");
                rig.number(&["COPY", "k", &name]);
                copies.push((name, model.clone()));
            }
            10 => {
                let name = format!("not{round}");
                rig.number(&["BITOP", "NOT", &name, "k"]);
                copies.push((name, model.iter().map(|byte| !byte).collect()));
            }
            _ => {
                let name = format!("dumped{round}");
                let payload = rig.bulk(&["DUMP", "k"]);
                assert_eq!(rig.call(&[b"RESTORE", name.as_bytes(), b"0", &payload]), b"+OK\r\n");
                copies.push((name, model.clone()));
            }
        }
        assert_eq!(rig.number(&["STRLEN", "k"]), model.len() as i64, "round {round}");
    }
    assert!(rig.bulk(&["GET", "k"]) == model);
    let digest = rig.text(&["DEBUG", "DIGEST-VALUE", "k"]);
    assert_eq!(rig.call(&[b"SET", b"same", &model]), b"+OK\r\n");
    assert_eq!(rig.text(&["DEBUG", "DIGEST-VALUE", "same"]), digest);
    for (name, expected) in copies {
        assert!(rig.bulk(&["GET", &name]) == expected, "{name}");
    }
}

#[test]
fn what_is_done_to_a_long_string_is_done_to_its_bytes() {
    for seed in 1..9 {
        story(seed * 0x9E37_79B9, CHUNKED + 70_001);
        story(seed * 0x85EB_CA6B, CHUNKED - 100);
        story(seed * 0xC2B2_AE35, 900);
    }
}

/// A string of half a gibibyte is made, copied and changed without half a gibibyte being touched.
#[test]
fn a_sparse_string_takes_what_is_written_of_it() {
    let mut rig = {
        let house = House::still();
        Rig { client: house.net.connect(), house }
    };
    assert_eq!(rig.number(&["SETBIT", "big", "4294967295", "1"]), 0);
    assert_eq!(rig.number(&["STRLEN", "big"]), 1 << 29);
    assert!(rig.number(&["MEMORY", "USAGE", "big"]) < 1 << 20);
    assert_eq!(rig.number(&["COPY", "big", "copy"]), 1);
    assert_eq!(rig.number(&["SETBIT", "big", "7", "1"]), 0);
    assert_eq!(rig.number(&["BITPOS", "copy", "1"]), 4294967295, "a copy is what it was");
    assert!(rig.text(&["APPEND", "copy", "x"]).starts_with("-ERR string exceeds maximum allowed size"));
}
