//! The records of the benchmark: keyed JSON click events of one exact size, the same for every
//! contestant in every language.
//!
//! The runner generates a pool from a fixed seed and writes it to a file; a contestant loads the file
//! before its clock starts and cycles through it. The file is a plain sequence of
//! `key length u16 BE, key, value length u32 BE, value`.

use std::fs;
use std::io;
use std::path::Path;

/// Partitions of the benchmark's topic.
pub const PARTITIONS: usize = 12;

/// A pool of records in one allocation.
#[derive(Debug)]
pub struct Workload {
    bytes: Vec<u8>,
    /// Where each record lies: start of key, start of value, end of value.
    spans: Vec<(u32, u32, u32)>,
}

/// One record of the pool.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// The key: a user's id, which decides the partition.
    pub key: &'a [u8],
    /// The value: a JSON object.
    pub value: &'a [u8],
}

impl Workload {
    /// Reads a pool from the runner's file.
    pub fn load(path: &Path) -> io::Result<Self> {
        Self::parse(fs::read(path)?).ok_or_else(|| {
            let message = format!(
                "{}: not a workload file, or a truncated one",
                path.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, message)
        })
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let mut spans = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let key = at + 2;
            let key_end = key + usize::from(u16::from_be_bytes(take(&bytes, at)?));
            let value = key_end + 4;
            let value_end = value + u32::from_be_bytes(take(&bytes, key_end)?) as usize;
            bytes.get(value..value_end)?;
            spans.push((key as u32, value as u32, value_end as u32));
            at = value_end;
        }
        (!spans.is_empty()).then_some(Self { bytes, spans })
    }

    /// Records in the pool; never zero.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Always false: an empty file does not load.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The record at `index`.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    #[inline]
    pub fn event(&self, index: usize) -> Event<'_> {
        let (key, value, end) = self.spans[index];
        Event {
            key: &self.bytes[key as usize..value as usize - 4],
            value: &self.bytes[value as usize..end as usize],
        }
    }

    /// All records, once.
    pub fn iter(&self) -> impl Iterator<Item = Event<'_>> {
        (0..self.len()).map(|index| self.event(index))
    }
}

/// The partition Java's default partitioner chooses for `key`. For contestants that have no
/// partitioner of their own.
#[inline]
pub fn partition_of(key: &[u8], partitions: usize) -> usize {
    (murmur2(key) & 0x7fff_ffff) as usize % partitions
}

/// Murmur2 with Kafka's seed.
#[inline]
pub fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ key.len() as u32;
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    if !tail.is_empty() {
        for (place, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(feature = "contest")]
mod generate {
    use super::{Path, fs, io};
    use fastrand::Rng;

    /// Bytes of values in a pool: enough that it does not stay in a core's cache, as real traffic
    /// would not, and that no codec's window holds the same record of a partition twice.
    const POOL_BYTES: usize = 64 << 20;

    /// Writes a pool of values of exactly `size` bytes (64 or more) to `path`.
    pub fn write(path: &Path, size: usize) -> io::Result<()> {
        let mut rng = Rng::with_seed(0x0771a ^ size as u64);
        let mut file = Vec::with_capacity(POOL_BYTES + POOL_BYTES / 4);
        for _ in 0..(POOL_BYTES / size).max(1) {
            let user = format!("u{:07}", rng.u32(..50_000));
            let value = event(&mut rng, &user, size);
            file.extend_from_slice(&(user.len() as u16).to_be_bytes());
            file.extend_from_slice(user.as_bytes());
            file.extend_from_slice(&(value.len() as u32).to_be_bytes());
            file.extend_from_slice(value.as_bytes());
        }
        fs::write(path, file)
    }

    fn event(rng: &mut Rng, user: &str, size: usize) -> String {
        let millis = 1_767_225_600_000_u64 + rng.u64(..86_400_000);
        let mut json = format!(
            r#"{{"user":"{user}","ts":{millis},"page":"/{}/{}","ms":{}"#,
            pick(rng, &["home", "cart", "item", "search", "help"]),
            rng.u32(..5_000),
            rng.u32(..2_000)
        );
        if size >= 512 {
            json += &format!(
                r#","session":"{:016x}{:016x}","ip":"{}.{}.{}.{}","agent":"{}","referrer":"https://{}/{}?q={}","country":"{}","lang":"{}""#,
                rng.u64(..),
                rng.u64(..),
                rng.u8(1..),
                rng.u8(..),
                rng.u8(..),
                rng.u8(..),
                pick(rng, &AGENTS),
                pick(
                    rng,
                    &["www.example.com", "news.example.org", "shop.example.net"]
                ),
                pick(rng, &["landing", "article", "offers"]),
                word(rng),
                pick(rng, &["DE", "US", "FR", "IN", "BR", "JP", "CZ"]),
                pick(rng, &["de-DE", "en-US", "fr-FR", "pt-BR", "ja-JP", "cs-CZ"]),
            );
            json += r#","items":["#;
            while json.len() + 110 < size {
                json += &format!(
                    r#"{{"sku":"{}-{:05}","qty":{},"cents":{},"name":"{} {}"}},"#,
                    pick(rng, &["BK", "EL", "GR", "TY"]),
                    rng.u32(..40_000),
                    rng.u8(1..5),
                    rng.u32(99..49_999),
                    word(rng),
                    word(rng)
                );
            }
            json.pop();
            json.push(']');
        }
        // The rest is an opaque token, as long as it takes.
        json += r#","tok":""#;
        while json.len() + 2 < size {
            json.push(rng.alphanumeric());
        }
        json += r#""}"#;
        assert_eq!(json.len(), size, "the size is too small for an event");
        json
    }

    fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
        from[rng.usize(..from.len())]
    }

    fn word(rng: &mut Rng) -> &'static str {
        const WORDS: [&str; 24] = [
            "lamp", "table", "green", "linen", "garden", "silver", "paper", "river", "window",
            "castle", "letter", "copper", "small", "winter", "cotton", "bridge", "orange",
            "kettle", "mirror", "pocket", "velvet", "wooden", "summer", "basket",
        ];
        WORDS[rng.usize(..WORDS.len())]
    }

    const AGENTS: [&str; 4] = [
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
    ];
}

#[cfg(feature = "contest")]
pub use generate::write;

#[cfg(all(test, feature = "contest"))]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_the_same_every_time_and_exact_in_size() {
        let dir = std::env::temp_dir().join(format!("ottla-bench-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        for size in [100, 1024] {
            let path = dir.join(size.to_string());
            write(&path, size).unwrap();
            let first = fs::read(&path).unwrap();
            write(&path, size).unwrap();
            assert_eq!(first, fs::read(&path).unwrap());
            let pool = Workload::load(&path).unwrap();
            assert!(
                pool.iter()
                    .all(|event| event.value.len() == size && event.key.len() == 8)
            );
            let json: serde_json::Value = serde_json::from_slice(pool.event(7).value).unwrap();
            assert_eq!(json["user"].as_str().unwrap().as_bytes(), pool.event(7).key);
        }
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_truncated_pool_is_refused() {
        assert!(Workload::parse(vec![0, 1, b'k', 0, 0, 0, 9, b'v']).is_none());
        assert!(Workload::parse(Vec::new()).is_none());
    }

    /// Values published with Kafka's own partitioner test.
    #[test]
    fn murmur2_is_kafkas() {
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash);
        }
    }
}
