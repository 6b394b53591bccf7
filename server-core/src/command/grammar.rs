//! The small language in which a declaration spells its arguments, and the tree COMMAND DOCS shows.
//!
//! ```text
//! name:type        an argument (key, string, integer, double, pattern, unix-time)
//! TOKEN            a word of its own; name=TOKEN where the name is not the word in lower case
//! TOKEN name:type  an argument behind a word
//! [ … ]            optional
//! name(a|b|c)      one of several
//! name{a b}        several together
//! …...             may be repeated; …+... with its word each time
//! ```

/// One argument.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Arg {
    /// Its name.
    pub name: String,
    /// Its type as COMMAND DOCS names it.
    pub kind: String,
    /// The word before it, or that it is.
    pub token: Option<String>,
    /// It may be left out.
    pub optional: bool,
    /// It may be repeated.
    pub multiple: bool,
    /// Its word is repeated with it.
    pub multiple_token: bool,
    /// What it consists of.
    pub children: Vec<Arg>,
}

/// Reads a grammar.
///
/// # Errors
/// A sentence that says where it does not fit.
pub fn parse(text: &str) -> Result<Vec<Arg>, String> {
    let mut parser = Parser { text: text.as_bytes(), at: 0 };
    let args = parser.sequence(&[])?;
    if parser.at < parser.text.len() {
        Err(format!("unexpected '{}' at {}", &text[parser.at..], parser.at))
    } else {
        Ok(args)
    }
}

/// Whether some argument of the tree fits.
#[must_use]
pub fn any(args: &[Arg], fits: &dyn Fn(&Arg) -> bool) -> bool {
    args.iter().any(|arg| fits(arg) || any(&arg.children, fits))
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn spaces(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    fn eat(&mut self, word: &str) -> bool {
        let found = self.text[self.at..].starts_with(word.as_bytes());
        if found {
            self.at += word.len();
        }
        found
    }

    fn sequence(&mut self, ends: &[u8]) -> Result<Vec<Arg>, String> {
        let mut args = Vec::new();
        loop {
            self.spaces();
            match self.peek() {
                None => return Ok(args),
                Some(byte) if ends.contains(&byte) => return Ok(args),
                Some(_) => args.push(self.arg()?),
            }
        }
    }

    fn arg(&mut self) -> Result<Arg, String> {
        if self.eat("[") {
            let mut inner = self.sequence(b"]")?;
            if !self.eat("]") || inner.len() != 1 {
                return Err(format!("a bracket holds one argument (at {})", self.at));
            }
            let mut arg = inner.remove(0);
            arg.optional = true;
            self.suffix(&mut arg);
            return Ok(arg);
        }
        let word = self.word();
        let mut arg = match self.peek() {
            Some(b':') => {
                self.at += 1;
                Arg { name: word, kind: self.word(), ..Arg::default() }
            }
            Some(b'(') => {
                self.at += 1;
                let mut children = Vec::new();
                loop {
                    children.extend(self.sequence(b"|)")?);
                    if self.eat(")") {
                        break;
                    }
                    if !self.eat("|") {
                        return Err(format!("a choice is not closed (at {})", self.at));
                    }
                }
                Arg { name: word, kind: "oneof".to_owned(), children, ..Arg::default() }
            }
            Some(b'{') => {
                self.at += 1;
                let children = self.sequence(b"}")?;
                if !self.eat("}") {
                    return Err(format!("a block is not closed (at {})", self.at));
                }
                Arg { name: word, kind: "block".to_owned(), children, ..Arg::default() }
            }
            Some(b'=') => {
                self.at += 1;
                Arg { name: word, kind: "pure-token".to_owned(), token: Some(self.word()), ..Arg::default() }
            }
            _ => {
                if word.is_empty() {
                    return Err(format!("an argument was expected at {}", self.at));
                }
                // A bare word, or the word before an argument.
                let before = self.at;
                self.spaces();
                if self.names_argument() {
                    let mut arg = self.arg()?;
                    arg.token = Some(word);
                    return Ok(arg);
                }
                self.at = before;
                Arg {
                    name: word.to_ascii_lowercase(),
                    kind: "pure-token".to_owned(),
                    token: Some(word),
                    ..Arg::default()
                }
            }
        };
        self.suffix(&mut arg);
        Ok(arg)
    }

    /// Whether what follows is `name:`, `name(` or `name{`.
    fn names_argument(&self) -> bool {
        let rest = &self.text[self.at..];
        let end = rest.iter().position(|byte| !is_word(*byte)).unwrap_or(rest.len());
        end > 0 && matches!(rest.get(end), Some(b':' | b'(' | b'{')) && rest[0].is_ascii_lowercase()
    }

    fn word(&mut self) -> String {
        let start = self.at;
        while self.peek().is_some_and(is_word) {
            self.at += 1;
        }
        String::from_utf8_lossy(&self.text[start..self.at]).into_owned()
    }

    fn suffix(&mut self, arg: &mut Arg) {
        if self.eat("+...") {
            arg.multiple = true;
            arg.multiple_token = true;
        } else if self.eat("...") {
            arg.multiple = true;
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_grammar_reads_into_a_tree() {
        let args =
            parse("key:key [condition(NX|IFEQ comparison-value:string)] [EX seconds:integer] data{k:key v:string}...")
                .unwrap();
        assert_eq!(args.len(), 4);
        assert!(args[1].optional && args[1].kind == "oneof");
        assert_eq!(args[1].children[1].token.as_deref(), Some("IFEQ"));
        assert_eq!(args[2].token.as_deref(), Some("EX"));
        assert!(args[2].optional);
        assert!(args[3].multiple && args[3].children.len() == 2);
        assert!(parse("a(b").is_err());
    }
}
