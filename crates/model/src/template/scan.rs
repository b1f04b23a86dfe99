//! One pass over a message: what varies is found and marked, everything else is copied a stretch at a time.

use super::{MARK, MESSAGE_BYTES_MAX};

/// Longest quoted text, in bytes.
const QUOTED_BYTES_MAX: usize = 512;
/// Shortest word of hexadecimal digits that is taken for a number though it has letters only.
const HEX_LETTERS_MIN: usize = 12;

// What a byte may be.
/// Ends a word. Of these only what begins a value or a list matters; all of them are kept.
const SEPARATOR: u8 = 1;
const SPACE: u8 = 2;
const QUOTE: u8 = 4;
const DIGIT: u8 = 8;
const SLASH: u8 = 16;
const AT: u8 = 32;
/// Ends a list or an object, and with it what a key was said to belong to.
const ENDS_VALUE: u8 = 64;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_usize;
    while byte < 256 {
        let b = byte as u8;
        classes[byte] = match b {
            _ if b.is_ascii_whitespace() => SEPARATOR | SPACE,
            b'=' | b':' | b'(' | b')' | b'[' | b']' | b'<' | b'>' | b'|' => SEPARATOR,
            b',' | b';' | b'{' | b'}' => SEPARATOR | ENDS_VALUE,
            b'"' | b'`' => SEPARATOR | QUOTE,
            b'\'' => QUOTE,
            b'0'..=b'9' => DIGIT,
            b'/' => SLASH,
            b'@' => AT,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

/// Writes the skeleton of a message: its first line, with a mark for whatever varies and single spaces. What follows the
/// first line is a stack or a dump: its length says nothing.
pub fn skeleton(message: &str, into: &mut Vec<u8>) {
    into.clear();
    let message = message[..message.floor_char_boundary(MESSAGE_BYTES_MAX)].trim_start();
    let line = message[..first_line(message.as_bytes())].trim_end();
    Scanner { bytes: line.as_bytes(), at: 0, kept: 0, key: Key::None, unclosed: 0, out: into }.run();
}

/// Where the first line ends. Lines of logs are short: looking at 32 bytes at once is faster than a search that is set up.
fn first_line(bytes: &[u8]) -> usize {
    let mut at = 0;
    for chunk in bytes.chunks(32) {
        if chunk.iter().fold(false, |found, byte| found | (*byte == b'\n')) {
            return at + chunk.iter().position(|byte| *byte == b'\n').unwrap_or(0);
        }
        at += chunk.len();
    }
    at
}

/// How many of eight bytes are letters before the first that is none.
fn letters(bytes: [u8; 8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let lower = u64::from_le_bytes(bytes) | (0x20 * ONES);
    let low = lower & !HIGH;
    // The high bit of each byte says whether it is at least `a`, and whether it is more than `z`; no sum reaches the next.
    let (from_a, past_z) = (low + (0x80 - 0x61) * ONES, low + (0x80 - 0x7b) * ONES);
    let others = !(from_a & !past_z & !lower) & HIGH;
    others.trailing_zeros() as usize / 8
}

/// What the next value belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    /// Nothing: a word of the sentence.
    None,
    /// A key whose value says what happened.
    Telling,
    /// Any other key.
    Plain,
}

fn is_telling(key: &[u8]) -> bool {
    const TELLING: [&[u8]; 12] = [
        b"msg",
        b"message",
        b"event",
        b"error",
        b"err",
        b"level",
        b"lvl",
        b"severity",
        b"status",
        b"reason",
        b"action",
        b"exception",
    ];
    TELLING.iter().any(|name| key.eq_ignore_ascii_case(name))
}

struct Scanner<'a, 'o> {
    bytes: &'a [u8],
    at: usize,
    /// From here to `at` nothing varies, and nothing is written yet.
    kept: usize,
    key: Key,
    /// Quotes that nothing closes from here on, a bit each: a line full of them is not searched again and again.
    unclosed: u8,
    out: &'o mut Vec<u8>,
}

impl Scanner<'_, '_> {
    fn run(&mut self) {
        while let Some(&byte) = self.bytes.get(self.at) {
            let class = CLASSES[usize::from(byte)];
            if class & (SEPARATOR | QUOTE) == 0 {
                self.word();
            } else if class & SPACE != 0 {
                self.space(byte);
            } else if class & QUOTE == 0 || !self.quoted(byte) {
                if class & SEPARATOR == 0 {
                    self.word();
                } else if byte == b'<' && self.byte(1) == b'*' && self.byte(2) == b'>' {
                    // A template is its own template.
                    self.vary(self.at, self.at + 3);
                } else {
                    if class & ENDS_VALUE != 0 {
                        self.key = Key::None;
                    }
                    self.at += 1;
                }
            }
        }
        self.keep(self.at);
    }

    /// The byte so many further on; 0 beyond the end.
    fn byte(&self, further: usize) -> u8 {
        self.bytes.get(self.at + further).copied().unwrap_or(0)
    }

    /// Writes what does not vary, up to `end`.
    fn keep(&mut self, end: usize) {
        self.out.extend_from_slice(&self.bytes[self.kept..end]);
        self.kept = end;
    }

    /// Marks what stands from `from` to `to` as varying.
    fn vary(&mut self, from: usize, to: usize) {
        self.keep(from);
        self.out.push(MARK);
        (self.kept, self.at) = (to, to);
    }

    fn space(&mut self, byte: u8) {
        if self.key == Key::Plain {
            // `key= value` has no value right after it; `key: value` of a sentence is a sentence.
            self.key = Key::None;
        }
        let is_space = |byte: Option<&u8>| byte.is_some_and(|byte| CLASSES[usize::from(*byte)] & SPACE != 0);
        if byte == b' ' && !is_space(self.bytes.get(self.at + 1)) {
            self.at += 1;
            return;
        }
        self.keep(self.at);
        self.out.push(b' ');
        while is_space(self.bytes.get(self.at)) {
            self.at += 1;
        }
        self.kept = self.at;
    }

    fn word(&mut self) {
        let begin = self.at;
        let (mut end, mut seen) = (begin, 0);
        while let Some(eight) = self.bytes[end..].first_chunk() {
            let more = letters(*eight);
            end += more;
            if more < 8 {
                break;
            }
        }
        for &byte in &self.bytes[end..] {
            let class = CLASSES[usize::from(byte)];
            if class & SEPARATOR != 0 {
                break;
            }
            seen |= class;
            end += 1;
        }
        self.at = end;
        let next = self.byte(0);
        // Most words are letters and stand in a sentence: their length says whether there is more to ask.
        if seen == 0
            && self.key == Key::None
            && matches!(end - begin, 1..=2 | 6..HEX_LETTERS_MIN)
            && !matches!(next, b':' | b'=')
            && self.bytes[begin] != b'\\'
        {
            return;
        }
        if next == b':' && self.byte(1) == b'/' && self.byte(2) == b'/' {
            // An address runs on through what would separate words.
            let rest = &self.bytes[end..];
            let ends = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b',' | b')' | b']');
            self.key = Key::None;
            return self.vary(begin, end + rest.iter().position(ends).unwrap_or(rest.len()));
        }
        let word = &self.bytes[begin..end];
        if next == b'=' {
            let value = self.byte(1);
            if value != 0 && value != b'=' && CLASSES[usize::from(value)] & SPACE == 0 {
                self.key = if is_telling(word) { Key::Telling } else { Key::Plain };
                return;
            }
        }
        if std::mem::replace(&mut self.key, Key::None) == Key::Plain || varies(word, seen) {
            // A full stop or the like ends the sentence, not the value.
            let tail = word.iter().rev().take_while(|b| matches!(b, b'.' | b'!' | b'?')).count();
            self.vary(begin, end - tail);
            self.at = end;
        }
    }

    /// Takes quoted text, where the quote at hand opens one.
    fn quoted(&mut self, quote: u8) -> bool {
        let (bytes, begin) = (self.bytes, self.at);
        let bit = 1 << (quote & 7);
        if self.unclosed & bit != 0 || (quote == b'\'' && begin > 0 && bytes[begin - 1].is_ascii_alphanumeric()) {
            return false;
        }
        let mut close = begin + 1;
        loop {
            match bytes.get(close) {
                None => {
                    self.unclosed |= bit;
                    return false;
                }
                _ if close - begin > QUOTED_BYTES_MAX => return false,
                Some(b'\\') => close += 2,
                Some(byte)
                    if *byte == quote
                        && (quote != b'\'' || !bytes.get(close + 1).is_some_and(u8::is_ascii_alphanumeric)) =>
                {
                    break;
                }
                Some(_) => close += 1,
            }
        }
        let inner = &bytes[begin + 1..close];
        if quote == b'"' && self.in_object() {
            let after = bytes[close + 1..].trim_ascii_start();
            if let [b':', value @ ..] = after {
                if inner.iter().any(u8::is_ascii_digit) {
                    self.vary(begin + 1, close);
                }
                self.keep(close + 1);
                self.out.push(b':');
                self.at = bytes.len() - value.trim_ascii_start().len();
                self.kept = self.at;
                self.key = if is_telling(inner) { Key::Telling } else { Key::Plain };
                return true;
            }
        }
        if std::mem::replace(&mut self.key, Key::None) == Key::Telling {
            self.keep(begin + 1);
            Scanner { bytes: inner, at: 0, kept: 0, key: Key::None, unclosed: 0, out: self.out }.run();
            (self.kept, self.at) = (close, close + 1);
        } else {
            self.vary(begin, close + 1);
        }
        true
    }

    fn in_object(&self) -> bool {
        matches!(self.bytes[..self.at].trim_ascii_end().last(), Some(b'{' | b',' | b'['))
    }
}

/// Says whether a word varies, as far as can be told from itself; `seen` is what its bytes are.
fn varies(word: &[u8], seen: u8) -> bool {
    if seen & DIGIT != 0 || matches!(word, [b'/', ..] | [b'\\', b'\\', ..]) {
        return true;
    }
    if seen & (SLASH | AT) != 0 {
        return (seen & AT != 0 && word.len() > 2) || word.iter().filter(|b| **b == b'/').count() >= 2;
    }
    match word.len() {
        3..=5 => matches!(word, b"true" | b"false" | b"null" | b"nil" | b"None" | b"True" | b"False"),
        HEX_LETTERS_MIN.. => word.iter().all(u8::is_ascii_hexdigit),
        _ => false,
    }
}
