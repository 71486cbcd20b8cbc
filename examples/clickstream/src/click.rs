//! The event: its form in JSON, what makes one malformed, and what it looks like with a country.
//!
//! Bytes come in, a valid value or the reason against it goes out. Knows nothing of topics.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::country;

/// Somebody looked at a page. A value of this type is valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Click<'a> {
    /// Who.
    pub user_id: Cow<'a, str>,
    /// In which visit.
    pub session_id: Cow<'a, str>,
    /// When, in milliseconds since 1970.
    pub timestamp: i64,
    /// At what; `http` or `https`.
    pub url: Cow<'a, str>,
    /// From where.
    pub ip: IpAddr,
}

impl<'a> Click<'a> {
    /// Reads a click from a record's value.
    ///
    /// # Errors
    /// [`Malformed`], the first reason found.
    pub fn parse(value: Option<&'a [u8]>, now_ms: i64) -> Result<Self, Malformed> {
        let written: Written<'a> =
            serde_json::from_slice(value.ok_or(Malformed::Empty)?).map_err(|error| {
                // Valid JSON with the wrong things in it is another mistake than no JSON at all.
                if error.is_data() {
                    Malformed::BadField(error)
                } else {
                    Malformed::NotJson(error)
                }
            })?;
        let ip = written
            .ip
            .parse()
            .map_err(|_| Malformed::BadIp(shortened(&written.ip)))?;
        let host = ["https://", "http://"]
            .iter()
            .find_map(|scheme| written.url.strip_prefix(scheme));
        if host.is_none_or(|rest| rest.is_empty() || rest.starts_with('/')) {
            return Err(Malformed::BadUrl(shortened(&written.url)));
        }
        let ahead_ms = written.timestamp.saturating_sub(now_ms);
        if ahead_ms > AHEAD_MS_MAX {
            return Err(Malformed::InFuture { ahead_ms });
        }
        Ok(Click {
            user_id: written.user_id,
            session_id: written.session_id,
            timestamp: written.timestamp,
            url: written.url,
            ip,
        })
    }

    /// Adds the country of its address.
    pub fn enrich(self) -> EnrichedClick<'a> {
        EnrichedClick {
            country: country::of(self.ip),
            click: self,
        }
    }
}

/// A click and the country it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EnrichedClick<'a> {
    /// The click, its fields beside the country in JSON.
    #[serde(flatten)]
    pub click: Click<'a>,
    /// Two letters; null if the table does not know the address.
    pub country: Option<&'static str>,
}

/// Why a record is no click.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// The record has a null value.
    #[error("the record has no value")]
    Empty,
    /// The value cannot be read at all.
    #[error("not JSON: {0}")]
    NotJson(serde_json::Error),
    /// A field is missing, or of another type.
    #[error("not a click: {0}")]
    BadField(serde_json::Error),
    /// The address is none.
    #[error("`{0}` is no IP address")]
    BadIp(String),
    /// The URL has another scheme, or no host.
    #[error("`{0}` is no http or https URL with a host")]
    BadUrl(String),
    /// It is said to happen later, by more than clocks differ.
    #[error("it happens {ahead_ms} ms from now; a clock is wrong")]
    InFuture {
        /// By how much, in milliseconds.
        ahead_ms: i64,
    },
}

/// The reasons of [`Malformed`], to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// [`Malformed::Empty`]
    Empty,
    /// [`Malformed::NotJson`]
    NotJson,
    /// [`Malformed::BadField`]
    BadField,
    /// [`Malformed::BadIp`]
    BadIp,
    /// [`Malformed::BadUrl`]
    BadUrl,
    /// [`Malformed::InFuture`]
    InFuture,
}

impl Malformed {
    /// Which reason it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Empty => Kind::Empty,
            Self::NotJson(_) => Kind::NotJson,
            Self::BadField(_) => Kind::BadField,
            Self::BadIp(_) => Kind::BadIp,
            Self::BadUrl(_) => Kind::BadUrl,
            Self::InFuture { .. } => Kind::InFuture,
        }
    }
}

impl Kind {
    /// Every reason.
    pub const ALL: [Kind; 6] = [
        Kind::Empty,
        Kind::NotJson,
        Kind::BadField,
        Kind::BadIp,
        Kind::BadUrl,
        Kind::InFuture,
    ];

    /// Its name in the header `error.kind`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Empty => "empty",
            Kind::NotJson => "not_json",
            Kind::BadField => "bad_field",
            Kind::BadIp => "bad_ip",
            Kind::BadUrl => "bad_url",
            Kind::InFuture => "in_future",
        }
    }
}

/// The fields as they are written, each of the right type and nothing more is known of it.
#[derive(Deserialize)]
struct Written<'a> {
    #[serde(borrow)]
    user_id: Cow<'a, str>,
    #[serde(borrow)]
    session_id: Cow<'a, str>,
    timestamp: i64,
    #[serde(borrow)]
    url: Cow<'a, str>,
    #[serde(borrow)]
    ip: Cow<'a, str>,
}

/// Error messages go into headers; what somebody sent may be a megabyte.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Clocks differ by less.
const AHEAD_MS_MAX: i64 = 5 * 60 * 1000;
const QUOTED_CHARS_MAX: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn json(changes: &[(&str, serde_json::Value)]) -> Vec<u8> {
        let mut click = serde_json::json!({
            "user_id": "u-1", "session_id": "s-1", "timestamp": NOW,
            "url": "https://shop.example/cart", "ip": "10.0.0.1",
        });
        for (field, value) in changes {
            click[field] = value.clone();
        }
        serde_json::to_vec(&click).unwrap()
    }

    #[test]
    fn a_click_is_read_and_written_with_its_country() {
        let bytes = json(&[("browser", "unknown fields are fine".into())]);
        let click = Click::parse(Some(&bytes), NOW).unwrap();
        assert!(matches!(click.user_id, Cow::Borrowed("u-1")), "not copied");
        let written = serde_json::to_value(click.enrich()).unwrap();
        assert_eq!(
            written,
            serde_json::json!({
                "user_id": "u-1", "session_id": "s-1", "timestamp": NOW,
                "url": "https://shop.example/cart", "ip": "10.0.0.1", "country": "AT",
            })
        );
    }

    #[test]
    fn every_mistake_has_its_kind() {
        let whole = json(&[]);
        let cases: [(Vec<u8>, Kind); 10] = [
            (whole[..whole.len() / 2].to_vec(), Kind::NotJson),
            (b"\xff\xfe".to_vec(), Kind::NotJson),
            (b"".to_vec(), Kind::NotJson),
            (b"[1]".to_vec(), Kind::BadField),
            (br#"{"user_id":"u"}"#.to_vec(), Kind::BadField),
            (json(&[("timestamp", "yesterday".into())]), Kind::BadField),
            (json(&[("ip", "300.1.2.3".into())]), Kind::BadIp),
            (json(&[("url", "javascript:alert(1)".into())]), Kind::BadUrl),
            (json(&[("url", "https:///cart".into())]), Kind::BadUrl),
            (
                json(&[("timestamp", (NOW + AHEAD_MS_MAX + 1).into())]),
                Kind::InFuture,
            ),
        ];
        for (bytes, kind) in cases {
            let error = Click::parse(Some(&bytes), NOW).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
        }
        assert_eq!(Click::parse(None, NOW).unwrap_err().kind(), Kind::Empty);
    }

    #[test]
    fn clocks_may_differ_a_little() {
        let bytes = json(&[("timestamp", (NOW + AHEAD_MS_MAX).into())]);
        assert!(Click::parse(Some(&bytes), NOW).is_ok());
    }

    #[test]
    fn a_long_value_is_quoted_in_part() {
        let bytes = json(&[("ip", "é".repeat(100_000).into())]);
        let error = Click::parse(Some(&bytes), NOW).unwrap_err().to_string();
        assert!(error.len() < 250 && error.contains('…'), "{error}");
    }
}
