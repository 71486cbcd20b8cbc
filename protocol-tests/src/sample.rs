//! Records as the tests state them, and the set of shapes that every path must carry unchanged.

use std::time::{SystemTime, UNIX_EPOCH};

/// A record: what is produced, and what must come out at the other end.
#[derive(Clone, PartialEq, Eq)]
pub struct Sample {
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The key; `None` is null, which is not empty.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is null, which is not empty.
    pub value: Option<Vec<u8>>,
    /// The headers, in order; keys may repeat.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Sample {
    /// A record of this key and value, now, without headers.
    pub fn new(key: Option<&[u8]>, value: Option<&[u8]>) -> Self {
        let timestamp = now_ms();
        let (key, value) = (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec));
        Self {
            timestamp,
            key,
            value,
            headers: Vec::new(),
        }
    }

    /// This, at another time.
    #[must_use]
    pub fn at(mut self, timestamp: i64) -> Self {
        self.timestamp = timestamp;
        self
    }

    /// This, with one more header.
    #[must_use]
    pub fn header(mut self, key: &str, value: Option<&[u8]>) -> Self {
        self.headers
            .push((key.to_owned(), value.map(<[u8]>::to_vec)));
        self
    }
}

/// Every shape of record: nulls and empties, repeated headers, all byte values, times out of order,
/// values from one byte to a million, with content that compresses and content that does not.
pub fn every_shape() -> Vec<Sample> {
    let every_byte: Vec<u8> = (0..=255).collect();
    let now = now_ms();
    let mut samples = vec![
        Sample::new(Some(b"key"), Some(b"value")),
        Sample::new(None, Some(b"null key")),
        Sample::new(Some(b"null value"), None),
        Sample::new(None, None),
        Sample::new(Some(b""), Some(b"")),
        Sample::new(
            Some("schl\u{fc}ssel".as_bytes()),
            Some("\u{20ac} 5, \u{1f4ee}".as_bytes()),
        ),
        Sample::new(Some(&every_byte), Some(&every_byte)),
        Sample::new(None, Some(b"one header")).header("h", Some(b"v")),
        Sample::new(None, Some(b"a repeated header"))
            .header("twice", Some(b"first"))
            .header("between", Some(b"x"))
            .header("twice", Some(b"second"))
            .header("twice", Some(b"second")),
        Sample::new(None, Some(b"null and empty headers"))
            .header("null", None)
            .header("empty", Some(b""))
            .header("", Some(b"no name"))
            .header("\u{20ac}", Some(&every_byte)),
        Sample::new(Some(b"k"), None).header("tombstone", Some(b"with a header")),
        Sample::new(None, Some(b"the beginning of time")).at(0),
        Sample::new(None, Some(b"a year ago")).at(now - 365 * 86_400_000),
        Sample::new(None, Some(b"ten minutes ahead")).at(now + 600_000),
        Sample::new(None, Some(b"a second back")).at(now - 1_000),
    ];
    for size in [1, 2, 127, 128, 1 << 10, 1 << 16] {
        samples.push(Sample::new(
            Some(b"compressible"),
            Some(&compressible(size)),
        ));
        samples.push(Sample::new(Some(b"random"), Some(&random(size))));
    }
    samples
}

/// A record near the largest that a broker takes by default, whose value does not compress.
pub fn one_megabyte() -> Sample {
    Sample::new(Some(b"1 MB"), Some(&random(1_000_000))).header("size", Some(b"1000000"))
}

/// Compares what came out with what went in, and shows the first difference.
///
/// # Panics
///
/// When they differ.
pub fn assert_same(path: &str, came: &[Sample], went: &[Sample]) {
    for (index, (came, went)) in came.iter().zip(went).enumerate() {
        assert!(
            came == went,
            "{path}: record {index} went in as\n{went:?}\nand came as\n{came:?}"
        );
    }
    assert_eq!(came.len(), went.len(), "{path}: as many records out as in");
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}

/// Text that looks like log lines.
fn compressible(size: usize) -> Vec<u8> {
    let mut text = String::with_capacity(size + 64);
    for line in 0.. {
        if text.len() >= size {
            break;
        }
        text.push_str(&format!(
            "{{\"line\":{line},\"status\":200,\"path\":\"/index.html\"}}\n"
        ));
    }
    text.truncate(size);
    text.into_bytes()
}

/// Bytes that no codec can shorten; the same in every run.
fn random(size: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(0x0771a);
    (0..size).map(|_| random.u8(..)).collect()
}

impl std::fmt::Debug for Sample {
    /// Long values shortened, for assertions that a person reads.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let short = |bytes: &Option<Vec<u8>>| match bytes {
            None => "null".to_owned(),
            Some(bytes) if bytes.len() > 60 => {
                format!("{}… ({} bytes)", bytes[..60].escape_ascii(), bytes.len())
            }
            Some(bytes) => format!("{:?}", bytes.escape_ascii().to_string()),
        };
        write!(
            f,
            "{{{} {} = {}",
            self.timestamp,
            short(&self.key),
            short(&self.value)
        )?;
        for (key, value) in &self.headers {
            write!(f, ", {key:?}: {}", short(value))?;
        }
        write!(f, "}}")
    }
}
