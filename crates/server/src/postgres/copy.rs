//! `COPY .. TO STDOUT`: its options, and rows as text, comma-separated values, or in the binary form.
//!
//! *Source.* PostgreSQL 15 documentation, "COPY". Options are read in both forms, `WITH (FORMAT csv, HEADER)` and `CSV HEADER`.

use bytes::{BufMut, BytesMut};

use super::column::Column;
use super::lexer::{Kind, Token, Tokens};

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Csv,
    Binary,
}

/// Which columns are quoted whatever they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Forced {
    All,
    Columns(Vec<String>),
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CopyOptions {
    format: Format,
    header: bool,
    delimiter: u8,
    null: String,
    quote: u8,
    escape: u8,
    forced: Forced,
}

/// Options as they are written, before it is known of which format.
#[derive(Default)]
struct Said {
    format: Option<Format>,
    header: bool,
    delimiter: Option<String>,
    null: Option<String>,
    quote: Option<String>,
    escape: Option<String>,
    forced: Option<Forced>,
}

impl CopyOptions {
    /// Reads what stands behind `STDOUT`.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let tokens: Vec<Token<'_>> = Tokens::new(text).filter(|token| token.kind != Kind::Sign(';')).collect();
        let mut said = Said::default();
        let mut at = usize::from(tokens.first().is_some_and(|token| token.is("with")));
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token.kind {
                // Brackets and commas of the newer form.
                Kind::Sign('(' | ')' | ',') => {}
                Kind::Word(word) => at += said.option(&word.to_ascii_lowercase(), &tokens[at..], text)?,
                _ => return Err(format!("`{}` is no option of COPY", &text[token.from..token.to])),
            }
        }
        said.settle()
    }

    /// Says whether values are sent in their binary form.
    pub(super) fn is_binary(&self) -> bool {
        self.format == Format::Binary
    }
}

impl Said {
    /// Reads one option; returns how many tokens its value takes.
    fn option(&mut self, word: &str, rest: &[Token<'_>], text: &str) -> Result<usize, String> {
        let (given, skipped) = match rest {
            [skip, given, ..] if skip.is("as") && matches!(given.kind, Kind::Text(_)) => (Some(given), 1),
            [given, ..] => (Some(given), 0),
            [] => (None, 0),
        };
        let quoted = |what: &str| match given {
            Some(Token { kind: Kind::Text(inside), from, .. }) => Ok(unescaped(inside, &text[*from..])),
            _ => Err(format!("`{what}` of COPY takes a text in quotes")),
        };
        let taken = skipped + 1;
        match word {
            "format" => {
                let format = given.and_then(Token::value).unwrap_or_default().to_ascii_lowercase();
                self.format = Some(match format.as_str() {
                    "text" => Format::Text,
                    "csv" => Format::Csv,
                    "binary" => Format::Binary,
                    other => {
                        return Err(format!("there is no format `{other}` of COPY: `text`, `csv` and `binary` are"));
                    }
                });
                Ok(taken)
            }
            "csv" | "binary" => {
                self.format = Some(if word == "csv" { Format::Csv } else { Format::Binary });
                Ok(0)
            }
            "header" => {
                let switch = given.and_then(Token::value).map(str::to_ascii_lowercase);
                let (on, taken) = match switch.as_deref() {
                    Some("true" | "on" | "1") => (true, taken),
                    Some("false" | "off" | "0") => (false, taken),
                    _ => (true, 0),
                };
                self.header = on;
                Ok(taken)
            }
            "delimiter" => quoted("DELIMITER").map(|text| self.delimiter = Some(text)).map(|()| taken),
            "null" => quoted("NULL").map(|text| self.null = Some(text)).map(|()| taken),
            "quote" => quoted("QUOTE").map(|text| self.quote = Some(text)).map(|()| taken),
            "escape" => quoted("ESCAPE").map(|text| self.escape = Some(text)).map(|()| taken),
            "encoding" => {
                let name = match given.map(|token| token.kind) {
                    Some(Kind::Word(name)) => name.to_owned(),
                    _ => quoted("ENCODING")?,
                };
                // Case and punctuation are not told apart in names of encodings.
                match name.to_ascii_lowercase().replace(['-', '_', ' '], "").as_str() {
                    "utf8" | "unicode" => Ok(taken),
                    other => {
                        Err(format!("COPY writes UTF-8 and not `{other}`: write `ENCODING 'UTF8'`, or leave it out"))
                    }
                }
            }
            "force" if rest.first().is_some_and(|token| token.is("quote")) => Ok(1 + self.force(&rest[1..])),
            "force_quote" => Ok(self.force(rest)),
            other => Err(format!("`{other}` is no option of COPY .. TO STDOUT here")),
        }
    }

    /// Reads `*` or names, in brackets or not.
    fn force(&mut self, rest: &[Token<'_>]) -> usize {
        if rest.first().is_some_and(|token| token.kind == Kind::Sign('*')) {
            self.forced = Some(Forced::All);
            return 1;
        }
        let bracket = rest.first().is_some_and(|token| token.kind == Kind::Sign('('));
        let (mut names, mut taken) = (Vec::new(), usize::from(bracket));
        while let Some(token) = rest.get(taken) {
            match token.kind {
                Kind::Word(name) => names.push(name.to_ascii_lowercase()),
                Kind::Quoted(name) => names.push(name.to_owned()),
                _ => break,
            }
            taken += 1;
            match rest.get(taken) {
                Some(next) if next.kind == Kind::Sign(',') => taken += 1,
                _ => break,
            }
        }
        self.forced = Some(Forced::Columns(names));
        taken
    }

    fn settle(self) -> Result<CopyOptions, String> {
        let format = self.format.unwrap_or(Format::Text);
        let csv = format == Format::Csv;
        if format == Format::Binary && (self.header || self.delimiter.is_some() || self.null.is_some()) {
            return Err("COPY in its binary format takes neither DELIMITER nor NULL nor HEADER".to_owned());
        }
        if !csv && (self.quote.is_some() || self.escape.is_some() || self.forced.is_some()) {
            return Err("QUOTE, ESCAPE and FORCE_QUOTE of COPY are for the format `csv`".to_owned());
        }
        let one = |text: Option<String>, what: &str, usual: u8| match text.as_deref().map(str::as_bytes) {
            None => Ok(usual),
            Some([byte]) if !matches!(byte, b'\n' | b'\r' | 0) && byte.is_ascii() => Ok(*byte),
            Some(_) => Err(format!("`{what}` of COPY takes one character that is no end of a line")),
        };
        let delimiter = one(self.delimiter, "DELIMITER", if csv { b',' } else { b'\t' })?;
        if !csv && (delimiter.is_ascii_lowercase() || delimiter.is_ascii_digit() || matches!(delimiter, b'\\' | b'.')) {
            return Err(format!("COPY cannot part text at `{}`", char::from(delimiter)));
        }
        let quote = one(self.quote, "QUOTE", b'"')?;
        let escape = one(self.escape, "ESCAPE", quote)?;
        let null = self.null.unwrap_or_else(|| if csv { String::new() } else { "\\N".to_owned() });
        if null.contains(['\n', '\r'])
            || null.as_bytes().contains(&delimiter)
            || (csv && null.as_bytes().contains(&quote))
        {
            return Err("NULL of COPY holds no end of a line, delimiter or quote".to_owned());
        }
        if csv && delimiter == quote {
            return Err("DELIMITER and QUOTE of COPY are the same".to_owned());
        }
        let forced = self.forced.unwrap_or(Forced::Columns(Vec::new()));
        Ok(CopyOptions { format, header: self.header, delimiter, null, quote, escape, forced })
    }
}

/// Reads the inside of quotes: doubled ones stand for one, and behind an `E` a backslash begins an escape.
pub(super) fn unescaped(inside: &str, written: &str) -> String {
    if !written.starts_with(['e', 'E']) {
        return inside.replace("''", "'");
    }
    let mut text = String::with_capacity(inside.len());
    let mut characters = inside.chars();
    while let Some(character) = characters.next() {
        text.push(match character {
            '\\' => match characters.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    text
}

/// Writes rows of one answer.
pub(super) struct CopyWriter {
    options: CopyOptions,
    forced: Vec<bool>,
    cell: BytesMut,
    /// Of the binary form what stands before the first row: programs expect both in one message.
    ahead: &'static [u8],
}

/// The mark of the binary form, neither flags nor an extension.
const BINARY_HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

impl CopyWriter {
    pub(super) fn new(options: CopyOptions, columns: &[&str]) -> Result<Self, String> {
        let forced = match &options.forced {
            Forced::All => vec![true; columns.len()],
            Forced::Columns(names) => {
                if let Some(name) = names.iter().find(|name| !columns.contains(&name.as_str())) {
                    return Err(format!("FORCE_QUOTE names `{name}`, which is no column of what is copied"));
                }
                columns.iter().map(|column| names.iter().any(|name| name == column)).collect()
            }
        };
        let ahead = if options.is_binary() { BINARY_HEAD } else { &[] };
        Ok(Self { options, forced, cell: BytesMut::new(), ahead })
    }

    /// Writes what comes before the first row.
    pub(super) fn head(&self, columns: &[&str], out: &mut BytesMut) {
        if !self.options.header {
            return;
        }
        for (at, column) in columns.iter().enumerate() {
            if at > 0 {
                out.put_u8(self.options.delimiter);
            }
            self.value(column.as_bytes(), false, columns.len() == 1, out);
        }
        out.put_u8(b'\n');
    }

    /// Writes what comes behind the last row.
    pub(super) fn tail(&mut self, out: &mut BytesMut) {
        out.put_slice(std::mem::take(&mut self.ahead));
        if self.options.is_binary() {
            out.put_i16(-1);
        }
    }

    pub(super) fn row(&mut self, columns: &[Column], row: usize, out: &mut BytesMut) {
        out.put_slice(std::mem::take(&mut self.ahead));
        if self.options.is_binary() {
            out.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
            return columns.iter().for_each(|column| column.cell(row, out));
        }
        for (at, column) in columns.iter().enumerate() {
            if at > 0 {
                out.put_u8(self.options.delimiter);
            }
            self.cell.clear();
            if column.plain(row, &mut self.cell) {
                let forced = self.forced.get(at).copied().unwrap_or(false);
                self.value(&self.cell, forced, columns.len() == 1, out);
            } else {
                out.put_slice(self.options.null.as_bytes());
            }
        }
        out.put_u8(b'\n');
    }

    fn value(&self, value: &[u8], forced: bool, alone: bool, out: &mut BytesMut) {
        if self.options.format == Format::Csv {
            self.quoted(value, forced, alone, out)
        } else {
            self.escaped(value, out)
        }
    }

    fn escaped(&self, value: &[u8], out: &mut BytesMut) {
        for byte in value {
            match byte {
                b'\\' => out.put_slice(b"\\\\"),
                b'\n' => out.put_slice(b"\\n"),
                b'\r' => out.put_slice(b"\\r"),
                b'\t' => out.put_slice(b"\\t"),
                0x08 => out.put_slice(b"\\b"),
                0x0b => out.put_slice(b"\\v"),
                0x0c => out.put_slice(b"\\f"),
                other if *other == self.options.delimiter => out.put_slice(&[b'\\', *other]),
                other => out.put_u8(*other),
            }
        }
    }

    /// Writes a value of comma-separated ones; what would be read as null, or as the end of all rows, is quoted.
    fn quoted(&self, value: &[u8], forced: bool, alone: bool, out: &mut BytesMut) {
        let CopyOptions { delimiter, quote, escape, null, .. } = &self.options;
        let special = |byte: &u8| matches!(byte, b'\n' | b'\r') || byte == delimiter || byte == quote;
        let plain = |value: &[u8]| value != null.as_bytes() && !value.iter().any(special);
        if !forced && plain(value) && (!alone || value != b"\\.") {
            return out.put_slice(value);
        }
        out.put_u8(*quote);
        for byte in value {
            if byte == quote || byte == escape {
                out.put_u8(*escape);
            }
            out.put_u8(*byte);
        }
        out.put_u8(*quote);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int32Array, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::postgres::column;

    fn written(options: &str) -> Vec<u8> {
        let fields = vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Int32, true)];
        let texts = StringArray::from(vec![Some("x,|\t\"y\\"), Some(""), None]);
        let numbers = Int32Array::from(vec![Some(1), None, Some(3)]);
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(texts), Arc::new(numbers)])
            .expect("two columns");
        let options = CopyOptions::read(options).expect("options");
        let columns = column::columns(&batch, &[options.is_binary(); 2]).expect("types with a form");
        let mut writer = CopyWriter::new(options, &["a", "b"]).expect("columns");
        let mut out = BytesMut::new();
        writer.head(&["a", "b"], &mut out);
        (0..3).for_each(|row| writer.row(&columns, row, &mut out));
        writer.tail(&mut out);
        out.to_vec()
    }

    #[test]
    fn rows_are_written_as_postgres_writes_them() {
        for (options, wanted) in [
            ("", "x,|\\t\"y\\\\\t1\n\t\\N\n\\N\t3\n"),
            ("WITH (DELIMITER '|', NULL 'none', HEADER)", "a|b\nx,\\|\\t\"y\\\\|1\n|none\nnone|3\n"),
            ("CSV HEADER", "a,b\n\"x,|\t\"\"y\\\",1\n\"\",\n,3\n"),
            ("WITH (FORMAT csv, HEADER false, DELIMITER E'\\t')", "\"x,|\t\"\"y\\\"\t1\n\"\"\t\n\t3\n"),
            ("(FORMAT csv, FORCE_QUOTE (b), QUOTE '''', ESCAPE '\\')", "'x,|\t\"y\\\\','1'\n'',\n,'3'\n"),
            ("CSV FORCE QUOTE a, b DELIMITER AS ';'", "\"x,|\t\"\"y\\\";\"1\"\n\"\";\n;\"3\"\n"),
            ("(FORMAT csv, ENCODING utf8, NULL 'n')", "\"x,|\t\"\"y\\\",1\n,n\nn,3\n"),
            ("(ENCODING 'UTF-8', DELIMITER '|')", "x,\\|\\t\"y\\\\|1\n|\\N\n\\N|3\n"),
            ("CSV FORCE QUOTE * NULL AS '-'", "\"x,|\t\"\"y\\\",\"1\"\n\"\",-\n-,\"3\"\n"),
        ] {
            assert_eq!(String::from_utf8_lossy(&written(options)), wanted, "{options}");
        }
    }

    #[test]
    fn the_binary_form_has_a_head_its_rows_and_an_end() {
        let mut wanted = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
        wanted.extend(b"\0\x02\0\0\0\x07x,|\t\"y\\\0\0\0\x04\0\0\0\x01");
        wanted.extend(b"\0\x02\0\0\0\0\xff\xff\xff\xff");
        wanted.extend(b"\0\x02\xff\xff\xff\xff\0\0\0\x04\0\0\0\x03");
        wanted.extend(b"\xff\xff");
        assert_eq!(written("WITH (FORMAT binary)"), wanted);
        assert_eq!(written("BINARY"), wanted);
    }

    #[test]
    fn options_that_cannot_be_are_told() {
        for (options, word) in [
            ("(FORMAT xml)", "no format `xml`"),
            ("(DELIMITER 'ab')", "one character"),
            ("(DELIMITER ',,')", "one character"),
            ("(DELIMITER 'a')", "cannot part"),
            ("(DELIMITER 5)", "text in quotes"),
            ("(QUOTE '\"')", "for the format `csv`"),
            ("(FORMAT binary, HEADER)", "neither"),
            ("(FORMAT csv, NULL 'a,b')", "NULL"),
            ("(ENCODING 'latin1')", "UTF-8"),
            ("(ENCODING latin1)", "UTF-8"),
            ("(ENCODING 8)", "text in quotes"),
            ("(FREEZE)", "no option"),
            ("'x'", "no option"),
        ] {
            let error = CopyOptions::read(options).expect_err(options);
            assert!(error.contains(word), "{options}: {error}");
        }
        let options = CopyOptions::read("(FORMAT csv, FORCE_QUOTE (c))").expect("options");
        assert!(CopyWriter::new(options, &["a"]).is_err());
    }
}
