//! Decimal text of 64-bit integers: the only form in which a string counts as a number.

/// The longest decimal text of an i64, `-9223372036854775808`, in bytes.
pub(crate) const TEXT_LEN_MAX: usize = 20;

/// An i64 as decimal text, on the stack.
pub(crate) struct IntText {
    bytes: [u8; TEXT_LEN_MAX],
    start: usize,
}

impl IntText {
    pub(crate) fn new(value: i64) -> Self {
        let mut text = IntText { bytes: [0; TEXT_LEN_MAX], start: TEXT_LEN_MAX };
        let mut rest = value.unsigned_abs();
        loop {
            text.start -= 1;
            text.bytes[text.start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if value < 0 {
            text.start -= 1;
            text.bytes[text.start] = b'-';
        }
        text
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// How many bytes [`IntText`] has for `value`.
pub(crate) fn text_len(value: i64) -> usize {
    let magnitude = value.unsigned_abs();
    let digits = if magnitude == 0 { 1 } else { magnitude.ilog10() as usize + 1 };
    digits + usize::from(value < 0)
}

/// Reads the canonical decimal text of an i64: no sign but a leading `-`, no leading zero, no `-0`,
/// nothing around it. Whatever is read here is written back byte for byte by [`IntText`].
#[inline]
pub(crate) fn parse_canonical(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > TEXT_LEN_MAX {
        return None;
    }
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    match digits {
        [b'0'] => return if negative { None } else { Some(0) },
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    let mut magnitude: u64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        magnitude = magnitude.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_text_is_a_number() {
        for good in [0, 1, -1, 9, 10, 123_456_789, i64::MAX, i64::MIN] {
            let text = IntText::new(good);
            assert_eq!(text.as_bytes(), good.to_string().as_bytes());
            assert_eq!(text_len(good), text.as_bytes().len());
            assert_eq!(parse_canonical(text.as_bytes()), Some(good));
        }
        for bad in ["", "-", "-0", "00", "01", "+1", " 1", "1 ", "1a", "9223372036854775808", "-9223372036854775809"] {
            assert_eq!(parse_canonical(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse_canonical(b"18446744073709551616"), None);
    }
}
