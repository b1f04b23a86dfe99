//! A pull reader of JSON text that keeps what trees lose: the order of members, repeated keys, a number's own digits.
//!
//! *Cost.* Text without escapes is borrowed, eight bytes a step; nothing is allocated for it.
//!
//! *Source.* RFC 8259.

use std::borrow::Cow;

/// What stands next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Null,
    Bool,
    Number,
    Text,
    Array,
    Object,
}

/// A position in a JSON text.
pub(crate) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

type Result<T> = std::result::Result<T, String>;

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Returns how long the whole text is.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    #[inline]
    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes().get(self.at) {
            self.at += 1;
        }
    }

    #[inline]
    fn peek(&mut self) -> Option<u8> {
        self.space();
        self.bytes().get(self.at).copied()
    }

    fn found(&self) -> String {
        match self.text[self.at..].chars().next() {
            Some(other) => format!("found {other:?} at byte {}", self.at),
            None => "found the end".to_owned(),
        }
    }

    /// Says what value comes next without taking it.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Next> {
        match self.peek() {
            Some(b'n') => Ok(Next::Null),
            Some(b't' | b'f') => Ok(Next::Bool),
            Some(b'-' | b'0'..=b'9') => Ok(Next::Number),
            Some(b'"') => Ok(Next::Text),
            Some(b'[') => Ok(Next::Array),
            Some(b'{') => Ok(Next::Object),
            _ => Err(format!("expected a JSON value, {}", self.found())),
        }
    }

    /// Takes the byte `wanted`.
    #[inline]
    fn take(&mut self, wanted: u8) -> Result<()> {
        if self.peek() == Some(wanted) {
            self.at += 1;
            return Ok(());
        }
        Err(format!("expected `{}`, {}", char::from(wanted), self.found()))
    }

    fn word(&mut self, word: &str) -> Result<()> {
        self.space();
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        Err(format!("expected `{word}`, {}", self.found()))
    }

    /// Takes `null`.
    pub(crate) fn null(&mut self) -> Result<()> {
        self.word("null")
    }

    /// Takes a bool.
    pub(crate) fn bool(&mut self) -> Result<bool> {
        match self.peek() {
            Some(b't') => self.word("true").map(|()| true),
            _ => self.word("false").map(|()| false),
        }
    }

    /// Takes a number and returns its digits.
    pub(crate) fn number(&mut self) -> Result<&'a str> {
        self.space();
        let start = self.at;
        let digits = |lexer: &mut Self| {
            let from = lexer.at;
            while lexer.bytes().get(lexer.at).is_some_and(u8::is_ascii_digit) {
                lexer.at += 1;
            }
            if lexer.at == from { Err(format!("expected a digit, {}", lexer.found())) } else { Ok(()) }
        };
        if self.bytes().get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        if self.bytes().get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            digits(self)?;
        }
        if self.bytes().get(self.at) == Some(&b'.') {
            self.at += 1;
            digits(self)?;
        }
        if let Some(b'e' | b'E') = self.bytes().get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.bytes().get(self.at) {
                self.at += 1;
            }
            digits(self)?;
        }
        Ok(&self.text[start..self.at])
    }

    /// Takes a string.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>> {
        self.take(b'"')?;
        let start = self.at;
        self.plain();
        match self.bytes().get(self.at) {
            Some(b'"') => {
                self.at += 1;
                Ok(Cow::Borrowed(&self.text[start..self.at - 1]))
            }
            Some(b'\\') => self.escaped(start).map(Cow::Owned),
            _ => Err(format!("a string is not closed, {}", self.found())),
        }
    }

    /// Goes on to the next quote, backslash or control character, or to the end.
    #[inline]
    fn plain(&mut self) {
        const ONES: u64 = u64::MAX / 255;
        const HIGHS: u64 = ONES << 7;
        const QUOTES: u64 = ONES * b'"' as u64;
        const BACKSLASHES: u64 = ONES * b'\\' as u64;
        // The high bit of each byte that is zero; a false one only ever stands above a true one (Mycroft).
        let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
        let rest = &self.bytes()[self.at..];
        let (words, tail) = rest.as_chunks::<8>();
        for (index, word) in words.iter().enumerate() {
            let word = u64::from_le_bytes(*word);
            let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
            let found = zeros(word ^ QUOTES) | zeros(word ^ BACKSLASHES) | control;
            if found != 0 {
                self.at += index * 8 + found.trailing_zeros() as usize / 8;
                return;
            }
        }
        let ends = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
        self.at += words.len() * 8 + tail.iter().position(ends).unwrap_or(tail.len());
    }

    /// Takes the rest of a string that began at `start` and has an escape at the present position.
    fn escaped(&mut self, start: usize) -> Result<String> {
        let mut out = self.text[start..self.at].to_owned();
        loop {
            let plain = self.at;
            self.plain();
            match self.bytes().get(self.at) {
                Some(b'"') => {
                    out.push_str(&self.text[plain..self.at]);
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    out.push_str(&self.text[plain..self.at]);
                    self.at += 1;
                    out.push(self.escape()?);
                }
                _ => return Err(format!("a string is not closed, {}", self.found())),
            }
        }
    }

    fn escape(&mut self) -> Result<char> {
        let byte = self.bytes().get(self.at).copied();
        let plain = match byte {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(format!("an escape is not one of JSON's, {}", self.found())),
        };
        self.at += 1;
        Ok(plain)
    }

    fn hex4(&mut self) -> Result<u32> {
        let digits = self.bytes().get(self.at..self.at + 4).and_then(|digits| std::str::from_utf8(digits).ok());
        let unit = digits
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| format!("`\\u` needs four hexadecimal digits, {}", self.found()))?;
        self.at += 4;
        Ok(unit)
    }

    fn unicode(&mut self) -> Result<char> {
        let first = self.hex4()?;
        let mut code = first;
        if (0xd800..0xdc00).contains(&first) && self.bytes().get(self.at..self.at + 2) == Some(b"\\u") {
            self.at += 2;
            if let second @ 0xdc00..0xe000 = self.hex4()? {
                code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            }
        }
        char::from_u32(code).ok_or_else(|| format!("`\\u{first:04x}` is half a character"))
    }

    /// Takes `[`.
    pub(crate) fn begin_array(&mut self) -> Result<()> {
        self.take(b'[')
    }

    /// Says whether an array has another element, and takes the comma before it or the bracket after the last.
    pub(crate) fn element(&mut self, first: bool) -> Result<bool> {
        self.more(first, b']')
    }

    /// Takes `{`.
    pub(crate) fn begin_object(&mut self) -> Result<()> {
        self.take(b'{')
    }

    /// Takes the next member's key, or the brace after the last member.
    pub(crate) fn member(&mut self, first: bool) -> Result<Option<Cow<'a, str>>> {
        if !self.more(first, b'}')? {
            return Ok(None);
        }
        self.space();
        let key = self.string()?;
        self.take(b':')?;
        Ok(Some(key))
    }

    #[inline]
    fn more(&mut self, first: bool, end: u8) -> Result<bool> {
        if self.peek() == Some(end) {
            self.at += 1;
            return Ok(false);
        }
        if !first {
            self.take(b',')?;
        }
        Ok(true)
    }

    /// Takes a value of any kind and drops it.
    pub(crate) fn skip(&mut self, depth_left: usize) -> Result<()> {
        match self.next()? {
            Next::Null => self.null(),
            Next::Bool => self.bool().map(drop),
            Next::Number => self.number().map(drop),
            Next::Text => self.string().map(drop),
            _ if depth_left == 0 => Err("the value nests too deep".to_owned()),
            Next::Array => {
                self.begin_array()?;
                let mut first = true;
                while self.element(first)? {
                    first = false;
                    self.skip(depth_left - 1)?;
                }
                Ok(())
            }
            Next::Object => {
                self.begin_object()?;
                let mut first = true;
                while self.member(first)?.is_some() {
                    first = false;
                    self.skip(depth_left - 1)?;
                }
                Ok(())
            }
        }
    }

    /// Checks that nothing but space follows.
    pub(crate) fn end(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(format!("expected the end, {}", self.found())),
        }
    }
}
