//! The same without compiling, straight from the pattern's text: slow, and short enough to be trusted.
//! What is compiled must answer as this does.

/// Whether `text` matches `pattern`.
pub(super) fn glob_match(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    // An empty text is matched by an empty pattern alone, not even by a star.
    if text.is_empty() {
        return pattern.is_empty();
    }
    let fold = |byte: u8| if ignore_case { byte.to_ascii_lowercase() } else { byte };
    let (mut p, mut t) = (0, 0);
    // Where to go on if the text after the last star does not fit: one byte further.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            None if t == text.len() => return true,
            None => None,
            Some(b'*') => {
                while pattern.get(p) == Some(&b'*') {
                    p += 1;
                }
                if p == pattern.len() {
                    return true;
                }
                retry = Some((p, t));
                continue;
            }
            Some(&kind) => match text.get(t) {
                None => None,
                Some(&byte) => match kind {
                    b'?' => Some(p + 1),
                    b'[' => {
                        let (matched, next) = class(pattern, p + 1, fold(byte), &fold);
                        matched.then_some(next)
                    }
                    b'\\' if p + 1 < pattern.len() => (fold(pattern[p + 1]) == fold(byte)).then_some(p + 2),
                    literal => (fold(literal) == fold(byte)).then_some(p + 1),
                },
            },
        };
        match (step, retry) {
            (Some(next), _) => {
                p = next;
                t += 1;
            }
            (None, Some((after_star, from))) if from < text.len() => {
                retry = Some((after_star, from + 1));
                p = after_star;
                t = from + 1;
            }
            (None, _) => return false,
        }
    }
}

/// Matches a bracket expression from just behind its `[`; returns the offset behind it.
fn class(pattern: &[u8], mut p: usize, byte: u8, fold: &impl Fn(u8) -> u8) -> (bool, usize) {
    let negated = pattern.get(p) == Some(&b'^');
    if negated {
        p += 1;
    }
    let mut matched = false;
    loop {
        match pattern.get(p) {
            None => break,
            Some(b']') => {
                p += 1;
                break;
            }
            Some(b'\\') if p + 1 < pattern.len() => {
                matched |= fold(pattern[p + 1]) == byte;
                p += 2;
            }
            Some(&low) if pattern.get(p + 1) == Some(&b'-') && p + 2 < pattern.len() => {
                let (low, high) = (fold(low), fold(pattern[p + 2]));
                let (low, high) = if low <= high { (low, high) } else { (high, low) };
                matched |= (low..=high).contains(&byte);
                p += 3;
            }
            Some(&literal) => {
                matched |= fold(literal) == byte;
                p += 1;
            }
        }
    }
    (matched != negated, p)
}
