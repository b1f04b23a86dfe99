//! As much of SQL's lexical structure as it takes to part statements from each other and to read those about the session.
//!
//! *Source.* PostgreSQL 15 documentation, "Lexical Structure".

/// A piece of a statement, with where it begins and ends in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind<'a>,
    pub(super) from: usize,
    pub(super) to: usize,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// A word as it is written, without quotes.
    Word(&'a str),
    /// A name in double quotes, without them.
    Quoted(&'a str),
    /// A text in single quotes or dollars, without them.
    Text(&'a str),
    /// A number.
    Number(&'a str),
    /// Anything else, one character each.
    Sign(char),
}

impl<'a> Token<'a> {
    /// Says whether it is this word, in any case.
    pub(super) fn is(&self, word: &str) -> bool {
        matches!(self.kind, Kind::Word(text) if text.eq_ignore_ascii_case(word))
    }

    /// Returns it as a value: a word, a name, a text or a number.
    pub(super) fn value(&self) -> Option<&'a str> {
        match self.kind {
            Kind::Word(text) | Kind::Quoted(text) | Kind::Text(text) | Kind::Number(text) => Some(text),
            Kind::Sign(_) => None,
        }
    }
}

/// Reads tokens; blanks and comments are passed over. What is never closed goes to the end.
pub(super) struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let blanks = rest.len() - rest.trim_start().len();
            self.at += blanks;
            let rest = self.rest();
            if rest.starts_with("--") {
                self.at += rest.find('\n').map_or(rest.len(), |end| end + 1);
            } else if rest.starts_with("/*") {
                self.at += comment(rest);
            } else {
                return;
            }
        }
    }

    /// Takes the inside of quotes that open with `quote`, doubled ones standing for one.
    fn quoted(&mut self, quote: u8, escapes: bool) -> &'a str {
        let bytes = self.text.as_bytes();
        let from = self.at + 1;
        let mut at = from;
        while at < bytes.len() {
            if bytes[at] == quote {
                if bytes.get(at + 1) != Some(&quote) {
                    self.at = at + 1;
                    return &self.text[from..at];
                }
                at += 1;
            } else if escapes && bytes[at] == b'\\' {
                at += 1;
            }
            at += 1;
        }
        self.at = self.text.len();
        self.text.get(from..).unwrap_or_default()
    }

    /// Takes `$tag$ .. $tag$`, where one begins here.
    fn dollars(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let end = rest[1..].find(|c: char| !c.is_alphanumeric() && c != '_')? + 1;
        if !rest[end..].starts_with('$') || rest[1..end].starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let tag = &rest[..=end];
        let inside = &rest[tag.len()..];
        let length = inside.find(tag);
        self.at += length.map_or(rest.len(), |length| tag.len() * 2 + length);
        Some(&inside[..length.unwrap_or(inside.len())])
    }
}

/// Returns the length of the comment at the front of `text`; comments nest.
fn comment(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut open, mut at) = (0_usize, 0);
    while at < bytes.len() {
        match bytes.get(at..at + 2) {
            Some(b"/*") => {
                open += 1;
                at += 2;
            }
            Some(b"*/") => {
                open -= 1;
                at += 2;
                if open == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    text.len()
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blanks();
        let from = self.at;
        let rest = self.rest();
        let first = rest.chars().next()?;
        let kind = match first {
            '\'' => Kind::Text(self.quoted(b'\'', false)),
            '"' => Kind::Quoted(self.quoted(b'"', false)),
            'e' | 'E' if rest[1..].starts_with('\'') => {
                self.at += 1;
                Kind::Text(self.quoted(b'\'', true))
            }
            '$' => match self.dollars() {
                Some(text) => Kind::Text(text),
                None => {
                    self.at += 1;
                    Kind::Sign('$')
                }
            },
            c if c.is_ascii_digit() => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len());
                self.at += end;
                Kind::Number(&rest[..end])
            }
            c if c.is_alphabetic() || c == '_' => {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '$').unwrap_or(rest.len());
                self.at += end;
                Kind::Word(&rest[..end])
            }
            c => {
                self.at += c.len_utf8();
                Kind::Sign(c)
            }
        };
        Some(Token { kind, from, to: self.at })
    }
}

/// Parts `sql` at its semicolons; parts without a word are left out.
pub(super) fn statements(sql: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut from, mut filled) = (0, false);
    for token in Tokens::new(sql) {
        if token.kind == Kind::Sign(';') {
            if filled {
                parts.push(sql[from..token.from].trim());
            }
            (from, filled) = (token.to, false);
        } else {
            filled = true;
        }
    }
    if filled {
        parts.push(sql[from..].trim());
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn semicolons_in_quotes_and_comments_part_nothing() {
        let sql = "SELECT ';' , \";\" /* ; /* ; */ ; */ -- ;\n; SELECT $a$;$a$, e'\\';';; ; ";
        assert_eq!(statements(sql), ["SELECT ';' , \";\" /* ; /* ; */ ; */ -- ;", "SELECT $a$;$a$, e'\\';'"]);
        assert_eq!(statements(" ; -- nothing\n"), Vec::<&str>::new());
    }

    #[test]
    fn parameters_are_no_quotes() {
        assert_eq!(statements("SELECT $1; SELECT $2"), ["SELECT $1", "SELECT $2"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z0-9'\"$;/*\\-\\\\ \u{e9}\u{1F600}\n]{0,60}") {
            for part in statements(&text) {
                prop_assert!(!part.is_empty());
            }
        }
    }
}
