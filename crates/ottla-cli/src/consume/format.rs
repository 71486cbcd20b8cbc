//! `-f`: turns records into text by a format with kcat's tokens.

use std::io::Write as _;

use super::fields::Fields;
use crate::escape::escape;

/// A parsed format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    parts: Vec<Part>,
    /// What stands for a null key or value.
    null: &'static [u8],
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    KeyLength,
    Value,
    ValueLength,
    /// The length as four bytes, most significant first; -1 for null.
    ValueLengthBinary,
    Headers,
}

impl Format {
    /// Parses a format; `null` is what stands for a null key or value.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(crate) fn parse(text: &str, null: &'static [u8]) -> Result<Format, String> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '\\' => {
                    let (byte, after) = escape(rest)?;
                    literal.push(byte);
                    rest = after;
                }
                '%' => {
                    let token = rest.chars().next();
                    rest = &rest[token.map_or(0, char::len_utf8)..];
                    match token {
                        Some('%') => literal.push(b'%'),
                        token => {
                            let part = Part::of(token)?;
                            if !literal.is_empty() {
                                parts.push(Part::Literal(std::mem::take(&mut literal)));
                            }
                            parts.push(part);
                        }
                    }
                }
                plain => literal.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Format { parts, null })
    }

    /// The value and a delimiter, with the key before them if it has a delimiter too: what is
    /// printed without `-f`.
    pub(crate) fn plain(
        key_delimiter: Option<&[u8]>,
        delimiter: &[u8],
        null: &'static [u8],
    ) -> Format {
        let mut parts = Vec::new();
        if let Some(key_delimiter) = key_delimiter {
            parts.extend([Part::Key, Part::Literal(key_delimiter.to_vec())]);
        }
        parts.extend([Part::Value, Part::Literal(delimiter.to_vec())]);
        Format { parts, null }
    }

    /// Whether it prints headers.
    pub(crate) fn needs_headers(&self) -> bool {
        self.parts.contains(&Part::Headers)
    }

    /// Appends one record to `out`.
    pub(crate) fn write(&self, record: &Fields<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Literal(bytes) => out.extend_from_slice(bytes),
                Part::Topic => out.extend_from_slice(record.topic.as_bytes()),
                Part::Partition => number(out, record.partition),
                Part::Offset => number(out, record.offset),
                Part::Timestamp => number(out, record.timestamp),
                Part::Key => out.extend_from_slice(record.key.unwrap_or(self.null)),
                Part::KeyLength => number(out, length(record.key)),
                Part::Value => out.extend_from_slice(record.value.unwrap_or(self.null)),
                Part::ValueLength => number(out, length(record.value)),
                Part::ValueLengthBinary => {
                    // A record is far smaller than 2 GiB: its length on the wire is an int32.
                    let length = i32::try_from(length(record.value)).unwrap_or(i32::MAX);
                    out.extend_from_slice(&length.to_be_bytes());
                }
                Part::Headers => self.headers(record, out),
            }
        }
    }

    fn headers(&self, record: &Fields<'_>, out: &mut Vec<u8>) {
        for (i, (name, value)) in record.headers.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            out.extend_from_slice(name);
            out.push(b'=');
            out.extend_from_slice(value.unwrap_or(b"NULL"));
        }
    }
}

impl Part {
    fn of(token: Option<char>) -> Result<Part, String> {
        Ok(match token {
            Some('t') => Part::Topic,
            Some('p') => Part::Partition,
            Some('o') => Part::Offset,
            Some('T') => Part::Timestamp,
            Some('k') => Part::Key,
            Some('K') => Part::KeyLength,
            Some('s') => Part::Value,
            Some('S') => Part::ValueLength,
            Some('R') => Part::ValueLengthBinary,
            Some('h') => Part::Headers,
            Some(other) => return Err(format!("unknown token `%{other}`; {TOKENS}")),
            None => return Err(format!("a lone `%` at the end; {TOKENS}")),
        })
    }
}

fn number(out: &mut Vec<u8>, number: impl std::fmt::Display) {
    // Writing to a vector does not fail.
    let _ = write!(out, "{number}");
}

fn length(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |b| b.len() as i64)
}

const TOKENS: &str = "known are %t topic, %p partition, %o offset, %T timestamp, %k key, %K its length, \
                      %s value, %S its length, %R its length in four bytes, %h headers and %%";

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Fields<'static> {
        Fields {
            topic: "clicks",
            partition: 3,
            offset: 42,
            timestamp: 1_700_000_000_123,
            log_append_time: false,
            key: Some(b"k\xff"),
            value: Some(b"value"),
            headers: vec![(b"a", Some(b"1")), (b"b", None), (b"a", Some(b""))],
        }
    }

    fn printed(format: &str, record: &Fields<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        Format::parse(format, b"").unwrap().write(record, &mut out);
        out
    }

    #[test]
    fn every_token() {
        let printed = printed(r"%t/%p/%o/%T/%K:%k/%S:%s/%h%%\x21\n", &record());
        assert_eq!(
            printed,
            b"clicks/3/42/1700000000123/2:k\xff/5:value/a=1,b=NULL,a=%!\n"
        );
    }

    #[test]
    fn binary_lengths_frame_values() {
        let mut record = record();
        assert_eq!(printed("%R%s", &record), b"\0\0\0\x05value");
        record.value = None;
        assert_eq!(printed("%R%s|%S", &record), b"\xff\xff\xff\xff|-1");
    }

    #[test]
    fn null_prints_as_it_is_told_to() {
        let mut record = record();
        record.key = None;
        record.value = None;
        for (null, text) in [(&b""[..], &b":\n"[..]), (b"NULL", b"NULL:NULL\n")] {
            let mut out = Vec::new();
            Format::plain(Some(b":"), b"\n", null).write(&record, &mut out);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn text_that_is_no_format_is_explained() {
        for bad in ["%x", "%", r"\q", "abc%"] {
            let error = Format::parse(bad, b"").unwrap_err();
            assert!(error.contains("known"), "{bad}: {error}");
        }
    }
}
