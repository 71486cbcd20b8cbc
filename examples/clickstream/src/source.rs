//! Where a record came from, as headers of what became of it.
//!
//! Whoever reads an output can say which input it belongs to: to drop repeats, to find the original of a dead
//! letter, to send it there again.

use std::fmt;

use ottla::producer::Header;

/// The topic, partition and offset of an input.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    /// Header `source.topic`.
    pub topic: String,
    /// Header `source.partition`, in decimal digits.
    pub partition: i32,
    /// Header `source.offset`, in decimal digits.
    pub offset: i64,
}

impl Source {
    /// The source that these headers of an output name; `None` unless they name all of it. Where a name repeats, as
    /// after a replay, the last one counts.
    pub fn read<'a>(
        headers: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) -> Option<Source> {
        let (mut topic, mut partition, mut offset) = (None, None, None);
        for (name, value) in headers {
            let value = || std::str::from_utf8(value?).ok();
            match name {
                b"source.topic" => topic = value().map(str::to_owned),
                b"source.partition" => partition = value().and_then(|digits| digits.parse().ok()),
                b"source.offset" => offset = value().and_then(|digits| digits.parse().ok()),
                _ => {}
            }
        }
        Some(Source {
            topic: topic?,
            partition: partition?,
            offset: offset?,
        })
    }

    /// The headers that name it. The two texts are its numbers, which headers can only borrow.
    pub(crate) fn headers<'a>(
        topic: &'a str,
        partition: &'a str,
        offset: &'a str,
    ) -> [Header<'a>; 3] {
        [
            header("source.topic", topic),
            header("source.partition", partition),
            header("source.offset", offset),
        ]
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}@{}", self.topic, self.partition, self.offset)
    }
}

pub(crate) fn header<'a>(key: &'a str, value: &'a str) -> Header<'a> {
    Header {
        key,
        value: Some(value.as_bytes()),
    }
}

/// The header of a dead letter that says which mistake it has: a [`Kind`](crate::Kind)'s name.
pub const ERROR_KIND: &str = "error.kind";
/// The header of a dead letter that says it to people.
pub const ERROR_MESSAGE: &str = "error.message";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[Header<'_>]) -> Option<Source> {
        Source::read(headers.iter().map(|h| (h.key.as_bytes(), h.value)))
    }

    #[test]
    fn what_is_written_is_read() {
        let headers = Source::headers("clicks", "3", "41");
        let source = read(&headers).unwrap();
        assert_eq!(source.to_string(), "clicks-3@41");
        // A replayed dead letter has those of its former life in front.
        let again = Source::headers("clicks", "3", "77");
        assert_eq!(read(&[headers, again].concat()).unwrap().offset, 77);
    }

    #[test]
    fn half_a_source_is_none() {
        let headers = Source::headers("clicks", "3", "many");
        assert_eq!(read(&headers), None);
        assert_eq!(read(&headers[..2]), None);
    }
}
