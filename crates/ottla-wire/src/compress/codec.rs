//! Which codec, and how hard it tries.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::error::{LevelError, UnknownCompression};

/// The codec of a record batch, as the low three bits of its attributes name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Compression {
    /// Records are stored as they are.
    #[default]
    None = 0,
    /// Deflate in gzip members.
    Gzip = 1,
    /// Snappy blocks in xerial framing.
    Snappy = 2,
    /// LZ4 frames of independent blocks.
    Lz4 = 3,
    /// Zstandard frames; brokers take it from Produce version 7 on.
    Zstd = 4,
}

impl Compression {
    /// Every codec, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec that the low three bits of a batch's attributes name; `None` for the numbers
    /// Kafka has not given out.
    #[must_use]
    pub fn from_attributes(attributes: i16) -> Option<Self> {
        match attributes & 0x07 {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The name that `compression.type` takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The levels that can be asked for, as Kafka's `compression.<codec>.level` documents them;
    /// `None` for codecs that have none.
    ///
    /// LZ4 takes Kafka's 1 to 17 and always compresses at its fast level: no high-compression
    /// encoder exists without C.
    #[must_use]
    pub fn levels(self) -> Option<RangeInclusive<i32>> {
        match self {
            Self::None | Self::Snappy => None,
            Self::Gzip => Some(1..=9),
            Self::Lz4 => Some(1..=17),
            Self::Zstd => Some(-131_072..=22),
        }
    }

    /// The level used when none is asked for; 0 for codecs without levels.
    #[must_use]
    pub fn default_level(self) -> i32 {
        match self {
            Self::None | Self::Snappy => 0,
            // Not Java's 6, nor zlib's: about half of its CPU time, for 2 % larger batches of 100-byte records and 9 % of
            // 1 KiB.
            Self::Gzip => 3,
            Self::Lz4 => 9,
            // Not Java's 3: see docs/decisions/0002-zstd.md.
            Self::Zstd => 1,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Compression {
    type Err = UnknownCompression;

    /// Takes `none`, `gzip`, `snappy`, `lz4` and `zstd`, whatever their case.
    fn from_str(name: &str) -> Result<Self, UnknownCompression> {
        Self::ALL
            .into_iter()
            .find(|codec| codec.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| UnknownCompression {
                name: name.to_owned(),
            })
    }
}

/// A codec and a level that it has: what a batch is sealed with.
///
/// ```
/// use ottla_wire::compress::{Codec, Compression};
///
/// let codec = Codec::new(Compression::Zstd, Some(1))?;
/// assert_eq!(codec.level(), 1);
/// assert!(Codec::new(Compression::Gzip, Some(10)).is_err());
/// # Ok::<(), ottla_wire::compress::LevelError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Codec {
    compression: Compression,
    level: i32,
}

impl Codec {
    /// `level` is in the range of [`Compression::levels`]; `None` is the codec's default, and so
    /// is -1 where librdkafka's `compression.level` says so (every codec but zstd, for which -1 is
    /// a level of its own).
    ///
    /// # Errors
    /// [`LevelError`] when the codec has no such level. Codecs without levels take any, as Kafka's
    /// clients do.
    pub fn new(compression: Compression, level: Option<i32>) -> Result<Self, LevelError> {
        let default = Self::from(compression);
        let Some(level) = level else {
            return Ok(default);
        };
        let Some(levels) = compression.levels() else {
            return Ok(default);
        };
        if level == -1 && compression != Compression::Zstd {
            return Ok(default);
        }
        if !levels.contains(&level) {
            return Err(LevelError {
                compression,
                level,
                min: *levels.start(),
                max: *levels.end(),
            });
        }
        Ok(Self { compression, level })
    }

    /// The codec.
    #[must_use]
    pub fn compression(self) -> Compression {
        self.compression
    }

    /// Its level, 0 for codecs that have none.
    #[must_use]
    pub fn level(self) -> i32 {
        self.level
    }
}

impl From<Compression> for Codec {
    fn from(compression: Compression) -> Self {
        Self {
            compression,
            level: compression.default_level(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for (number, codec) in Compression::ALL.into_iter().enumerate() {
            assert_eq!(codec as usize, number);
            assert_eq!(codec.name().parse(), Ok(codec));
            assert_eq!(
                codec.name().to_uppercase().parse::<Compression>(),
                Ok(codec)
            );
            assert_eq!(
                Compression::from_attributes(0x30 | i16::try_from(number).unwrap()),
                Some(codec)
            );
        }
        for number in 5..8 {
            assert_eq!(Compression::from_attributes(number), None);
        }
        let error = "brotli".parse::<Compression>().unwrap_err();
        assert!(
            error.to_string().contains("none, gzip, snappy, lz4, zstd"),
            "{error}"
        );
    }

    #[test]
    fn levels_are_checked_where_they_exist() {
        assert_eq!(Codec::new(Compression::Gzip, Some(-1)).unwrap().level(), 3);
        assert_eq!(Codec::new(Compression::Zstd, Some(-1)).unwrap().level(), -1);
        assert_eq!(Codec::new(Compression::Lz4, Some(17)).unwrap().level(), 17);
        assert_eq!(
            Codec::new(Compression::Snappy, Some(99)).unwrap().level(),
            0
        );
        let error = Codec::new(Compression::Zstd, Some(23)).unwrap_err();
        assert!(error.to_string().contains("22"), "{error}");
    }
}
