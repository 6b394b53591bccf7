//! Numbers as INCRBYFLOAT and its kin read them: 80-bit extended precision, which is what Valkey's `long double` is on
//! x86-64, read and printed so that both servers answer the same digits (0.1 and 0.2 make 0.3).

use rustc_apfloat::ieee::{Double, X87DoubleExtended};
use rustc_apfloat::{Float, FloatConvert, Round, Status};

/// Longer texts are no numbers.
const TEXT_LEN_MAX: usize = 5 * 1024 - 1;
const BIAS: i32 = 16383;
const MANTISSA_BITS: i32 = 63;
/// Digits behind the point.
const DECIMALS: usize = 17;
const SCALE: u128 = 10u128.pow(DECIMALS as u32);
const LIMB: u64 = 1_000_000_000;

/// A number of extended precision; never NaN.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LongDouble(X87DoubleExtended);

impl LongDouble {
    pub(crate) const ZERO: LongDouble = LongDouble(X87DoubleExtended::ZERO);

    /// Reads a decimal or hexadecimal number, or an infinity. None for anything else, and for what
    /// is too large or too small to be told from infinity or zero.
    pub(crate) fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() > TEXT_LEN_MAX {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        let (sign, rest) = match text.as_bytes().first()? {
            b'-' => ("-", &text[1..]),
            b'+' => ("", &text[1..]),
            _ => ("", text),
        };
        if rest.eq_ignore_ascii_case("inf") || rest.eq_ignore_ascii_case("infinity") {
            let infinity = X87DoubleExtended::INFINITY;
            return Some(LongDouble(if sign.is_empty() { infinity } else { -infinity }));
        }
        let hexadecimal = rest.len() > 2 && rest.as_bytes()[..2].eq_ignore_ascii_case(b"0x");
        let (digits, exponent_mark) = if hexadecimal { (&rest[2..], ['p', 'P']) } else { (rest, ['e', 'E']) };
        let (mantissa, exponent) = digits.split_once(exponent_mark).unwrap_or((digits, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let is_digit = |byte: u8| if hexadecimal { byte.is_ascii_hexdigit() } else { byte.is_ascii_digit() };
        let power = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        if whole.len() + fraction.len() == 0
            || !whole.bytes().chain(fraction.bytes()).all(is_digit)
            || power.is_empty()
            || !power.bytes().all(|byte| byte.is_ascii_digit())
        {
            return None;
        }
        let prefix = if hexadecimal { "0x" } else { "" };
        let plain = format!("{sign}{prefix}{whole}.{fraction}{}{exponent}", exponent_mark[0]);
        let read = X87DoubleExtended::from_str_r(&plain, Round::NearestTiesToEven).ok()?;
        let lost =
            read.status.contains(Status::OVERFLOW) || (read.status.contains(Status::UNDERFLOW) && read.value.is_zero());
        (!lost && !read.value.is_nan()).then_some(LongDouble(read.value))
    }

    /// Whether it is no infinity.
    pub(crate) fn is_finite(self) -> bool {
        self.0.is_finite()
    }

    /// The nearest double, an infinity if it is beyond all.
    pub(crate) fn to_f64(self) -> f64 {
        let converted: Double = self.0.convert(&mut false).value;
        f64::from_bits(converted.to_bits() as u64)
    }

    /// The sum, if it is a number.
    pub(crate) fn checked_add(self, other: LongDouble) -> Option<LongDouble> {
        let sum = (self.0 + other.0).value;
        sum.is_finite().then_some(LongDouble(sum))
    }

    /// Decimal digits without an exponent, at most 17 behind the point, no trailing zeros.
    pub(crate) fn show(self) -> Vec<u8> {
        let bits = self.0.to_bits();
        let mantissa = bits as u64;
        let field = (bits >> 64) as i32 & 0x7fff;
        let exponent = field.max(1) - BIAS - MANTISSA_BITS;
        let mut text = String::new();
        if exponent >= 0 {
            text = shifted(mantissa, exponent as u32);
        } else {
            let (whole, fraction) = split(mantissa, exponent.unsigned_abs());
            text.push_str(&whole.to_string());
            if fraction > 0 {
                let digits = format!("{fraction:0width$}", width = DECIMALS);
                text.push('.');
                text.push_str(digits.trim_end_matches('0'));
            }
        }
        if self.0.is_negative() && text != "0" {
            text.insert(0, '-');
        }
        text.into_bytes()
    }
}

/// `mantissa / 2^shift` as a whole part and 17 decimals, rounded to even.
fn split(mantissa: u64, shift: u32) -> (u128, u128) {
    let mantissa = u128::from(mantissa);
    if shift >= 127 {
        // Far below half of the last digit.
        return (0, 0);
    }
    let mask = (1u128 << shift) - 1;
    let whole = mantissa >> shift;
    // Below 2^64 times 10^17, which is below 2^121.
    let scaled = (mantissa & mask) * SCALE;
    let (mut decimals, rest, half) = (scaled >> shift, scaled & mask, 1u128 << (shift - 1));
    if rest > half || (rest == half && decimals & 1 == 1) {
        decimals += 1;
    }
    (whole + decimals / SCALE, decimals % SCALE)
}

/// `mantissa * 2^shift` in decimal.
fn shifted(mantissa: u64, shift: u32) -> String {
    let mut limbs = vec![mantissa % LIMB, mantissa / LIMB % LIMB, mantissa / LIMB / LIMB];
    let mut left = shift;
    while left > 0 {
        let step = left.min(30);
        let mut carry = 0;
        for limb in &mut limbs {
            let value = (*limb << step) + carry;
            *limb = value % LIMB;
            carry = value / LIMB;
        }
        while carry > 0 {
            limbs.push(carry % LIMB);
            carry /= LIMB;
        }
        left -= step;
    }
    let digits: String = limbs.iter().rev().map(|limb| format!("{limb:09}")).collect();
    let trimmed = digits.trim_start_matches('0');
    if trimmed.is_empty() { "0".to_owned() } else { trimmed.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn sum(a: &str, b: &str) -> Option<String> {
        let sum = LongDouble::parse(a.as_bytes())?.checked_add(LongDouble::parse(b.as_bytes())?)?;
        Some(String::from_utf8(sum.show()).unwrap())
    }

    #[test]
    fn sums_have_the_digits_of_a_long_double() {
        for (a, b, expected) in [
            ("0.1", "0.2", "0.3"),
            ("0", "1234567890.123456789", "1234567890.12345678894780576"),
            ("5.0e3", "2.0e2", "5200"),
            ("1", "-1", "0"),
            ("0", "-0", "0"),
            ("10.50", "0.1", "10.6"),
            ("0", "1e-10", "0.0000000001"),
            ("0", "1e-30", "0"),
            ("-3", "0.5", "-2.5"),
            ("0", "0x1p3", "8"),
            ("0", "0x10", "16"),
            ("0", "1e21", "1000000000000000000000"),
            ("0", ".5", "0.5"),
            ("0", "3.", "3"),
            ("0", "+7", "7"),
        ] {
            assert_eq!(sum(a, b).as_deref(), Some(expected), "{a} + {b}");
        }
        let large = sum("0", "1e400").unwrap();
        assert_eq!((large.len(), &large[..22], &large[large.len() - 7..]), (401, "1000000000000000000028", "1946880"));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "", "abc", " 1", "1 ", "1e", "nan", "1e5000", "-1e5000", "1e-6000", "0x", "0xg", ".", "e5", "1.2.3", "--1",
            "1e+", "1_0", "\u{1}",
        ] {
            assert!(LongDouble::parse(text.as_bytes()).is_none(), "{text:?}");
        }
        assert!(LongDouble::parse(&[b'1'; 5120]).is_none());
        assert_eq!(sum("inf", "1"), None);
        assert_eq!(sum("inf", "-infinity"), None);
        assert_eq!(sum("1e4932", "1e4932"), None);
    }

    proptest! {
        #[test]
        fn integers_are_exact(a in i64::MIN / 2..i64::MAX / 2, b in i64::MIN / 2..i64::MAX / 2) {
            prop_assert_eq!(sum(&a.to_string(), &b.to_string()), Some((a + b).to_string()));
        }

        #[test]
        fn doubles_print_what_they_are(value in -1e30f64..1e30) {
            // A double is exact in extended precision, so the standard library's digits hold.
            let fixed = format!("{value:.17}");
            let expected = fixed.trim_end_matches('0').trim_end_matches('.');
            prop_assert_eq!(sum("0", &format!("{value:.400}")).unwrap(), if expected == "-0" { "0" } else { expected });
        }
    }
}
