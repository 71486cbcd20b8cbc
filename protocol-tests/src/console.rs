//! Kafka's console producer and consumer, with records in place of lines.

use crate::{Sample, Tool, Tools, Version};

/// A record that Kafka's console consumer printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Whether the broker's clock gave its timestamp, and not the producer.
    pub log_append_time: bool,
    /// The record itself.
    pub sample: Sample,
}

impl Tools {
    /// Reads the first `count` records of `topic` with Kafka's console consumer; fewer if it saw no
    /// further record for twenty seconds.
    ///
    /// # Panics
    ///
    /// When the consumer fails, or prints what cannot be understood.
    pub fn consume(&self, topic: &str, count: usize, more_args: &[&str]) -> Vec<Seen> {
        let formatter = match self.version() {
            Version::V3_9 => "--property",
            _ => "--formatter-property",
        };
        let count = count.to_string();
        let mut args = vec![
            "--topic",
            topic,
            "--from-beginning",
            "--max-messages",
            &count,
        ];
        args.extend(["--timeout-ms", "20000"]);
        let line = format!("line.separator={LINE}");
        let field = format!("key.separator={FIELD}");
        let header = format!("headers.separator={HEADER}");
        let null = format!("null.literal={NULL}");
        for property in [
            "print.timestamp=true",
            "print.partition=true",
            "print.offset=true",
            "print.headers=true",
            "print.key=true",
            &line,
            &field,
            &header,
            &null,
        ] {
            args.extend([formatter, property]);
        }
        args.extend(more_args);
        let output = self.run(Tool::ConsoleConsumer, &args);
        let mut lines = split(&output.stdout, LINE);
        lines.pop(); // what follows the last separator: nothing
        lines.into_iter().map(parse).collect()
    }

    /// Writes `samples` to `topic` with Kafka's console producer, compressed with `codec`.
    ///
    /// The console producer takes the time itself and knows only text without tabs and line ends;
    /// timestamps are ignored.
    ///
    /// # Panics
    ///
    /// When the producer fails.
    pub fn produce(&self, topic: &str, codec: &str, samples: &[Sample]) {
        let reader = match self.version() {
            Version::V3_9 => "--property",
            _ => "--reader-property",
        };
        let mut input = Vec::new();
        for Sample {
            key,
            value,
            headers,
            ..
        } in samples
        {
            for (index, (key, value)) in headers.iter().enumerate() {
                if index > 0 {
                    input.push(b',');
                }
                input.extend(key.as_bytes());
                input.push(b':');
                input.extend(value.as_deref().unwrap_or(NULL.as_bytes()));
            }
            if headers.is_empty() {
                input.extend(NULL.as_bytes());
            }
            for part in [key, value] {
                input.push(b'\t');
                input.extend(part.as_deref().unwrap_or(NULL.as_bytes()));
            }
            input.push(b'\n');
        }
        let null = format!("null.marker={NULL}");
        let mut args = vec!["--topic", topic, "--compression-codec", codec];
        for property in ["parse.key=true", "parse.headers=true", &null] {
            args.extend([reader, property]);
        }
        self.feed(Tool::ConsoleProducer, &args, &input);
    }
}

/// `CreateTime:N<|>Partition:N<|>Offset:N<|>k:v<,>k:v<|>key<|>value`
fn parse(line: &[u8]) -> Seen {
    let shown = || String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
    let fields = split(line, FIELD);
    let [time, partition, offset, headers, key, value] = fields[..] else {
        panic!(
            "the console consumer printed {:?}, which is not six fields",
            shown()
        );
    };
    let number = |field: &[u8], names: &[&str]| -> i64 {
        let text = String::from_utf8_lossy(field);
        names
            .iter()
            .find_map(|name| text.strip_prefix(name)?.parse().ok())
            .unwrap_or_else(|| panic!("no {names:?} in {text:?} of {:?}", shown()))
    };
    let nullable = |field: &[u8]| (field != NULL.as_bytes()).then(|| field.to_vec());
    let headers = match headers {
        b"NO_HEADERS" => Vec::new(),
        headers => split(headers, HEADER)
            .into_iter()
            .map(|header| {
                let colon = header.iter().position(|&byte| byte == b':');
                let colon = colon.unwrap_or_else(|| panic!("a header without colon: {}", shown()));
                let key = String::from_utf8_lossy(&header[..colon]).into_owned();
                (key, nullable(&header[colon + 1..]))
            })
            .collect(),
    };
    Seen {
        partition: number(partition, &["Partition:"]) as i32,
        offset: number(offset, &["Offset:"]),
        log_append_time: time.starts_with(b"LogAppendTime:"),
        sample: Sample {
            timestamp: number(time, &["CreateTime:", "LogAppendTime:"]),
            key: nullable(key),
            value: nullable(value),
            headers,
        },
    }
}

fn split<'a>(bytes: &'a [u8], separator: &str) -> Vec<&'a [u8]> {
    let separator = separator.as_bytes();
    let (mut parts, mut start, mut at) = (Vec::new(), 0, 0);
    while at + separator.len() <= bytes.len() {
        if bytes[at..].starts_with(separator) {
            parts.push(&bytes[start..at]);
            at += separator.len();
            start = at;
        } else {
            at += 1;
        }
    }
    parts.push(&bytes[start..]);
    parts
}

// Sequences that no sample contains.
const LINE: &str = "<;ottla;>";
const FIELD: &str = "<|ottla|>";
const HEADER: &str = "<,ottla,>";
const NULL: &str = "<null>";
