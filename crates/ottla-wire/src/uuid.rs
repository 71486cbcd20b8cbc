//! Kafka's 16-byte identifiers: topics, directories, members, telemetry clients.

use std::fmt;
use std::str::FromStr;

/// A 128-bit identifier, written as 22 characters of unpadded URL-safe base64.
///
/// ```
/// use ottla_wire::Uuid;
/// let id: Uuid = "AAAAAAAAAAAAAAAAAAAAAQ".parse()?;
/// assert_eq!(id.0[15], 1);
/// assert_eq!(id.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
/// # Ok::<(), ottla_wire::UuidError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// All zeros: "no id". Never sent as a topic's id.
    pub const ZERO: Self = Self([0; 16]);

    /// Whether this is [`Uuid::ZERO`].
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 22];
        let value = u128::from_be_bytes(self.0);
        for (i, out) in text.iter_mut().enumerate() {
            // 128 bits from the top in groups of six; the last group holds two bits and four zeros.
            let shift = 122 - 6 * i as i32;
            let group = if shift >= 0 {
                value >> shift
            } else {
                value << -shift
            };
            *out = ALPHABET[(group & 0x3f) as usize];
        }
        f.pad(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uuid {
    type Err = UuidError;

    fn from_str(text: &str) -> Result<Self, UuidError> {
        // Kafka writes no padding and reads it all the same.
        let digits = text.strip_suffix("==").unwrap_or(text);
        if digits.len() != 22 {
            return Err(UuidError);
        }
        let mut value = 0u128;
        for (i, byte) in digits.bytes().enumerate() {
            let group = ALPHABET.iter().position(|&c| c == byte).ok_or(UuidError)? as u128;
            let shift = 122 - 6 * i as i32;
            if shift >= 0 {
                value |= group << shift;
            } else if group & 0x0f == 0 {
                value |= group >> -shift;
            } else {
                return Err(UuidError);
            }
        }
        Ok(Self(value.to_be_bytes()))
    }
}

/// A text that is not 22 characters of URL-safe base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id: expected 22 characters of URL-safe base64, as Kafka's tools print them")]
pub struct UuidError;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_round_trips(bytes: [u8; 16]) {
            let id = Uuid(bytes);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn foreign_text_never_panics(text: String) {
            let _: Result<Uuid, _> = text.parse();
        }
    }

    #[test]
    fn writes_what_kafka_writes() {
        // Kafka reserves these two; its Uuid.toString prints them so.
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(Uuid([0xff; 16]).to_string(), "_____________________w");
        assert!(
            "_____________________x".parse::<Uuid>().is_err(),
            "stray bits in the last character"
        );
    }
}
