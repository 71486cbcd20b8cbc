//! Where a broker listens: `host:port`, as written in `bootstrap.servers` and as brokers advertise it.
//!
//! Owns the parsing of addresses. Never resolves a name: the transport does, at every connect.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;
use std::sync::Arc;

/// A host name or address literal, and a port.
///
/// Parsed from `host:port`, `192.0.2.1:9092`, `[2001:db8::1]:9092` or `[fe80::1%eth0]:9092`. The
/// port may be left out: [`Address::DEFAULT_PORT`]. Shown in the same form, so that what is shown
/// can be parsed. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// An IPv6 literal is held without its brackets.
    host: Arc<str>,
    port: u16,
}

impl Address {
    /// Kafka's customary port.
    pub const DEFAULT_PORT: u16 = 9092;

    /// An address from its parts, as a broker's metadata carries them. The host is taken as it is.
    pub fn new(host: &str, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }

    /// The name or literal, an IPv6 literal without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, never 0 when parsed.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Parses a comma-separated list, as in `bootstrap.servers`. Empty items are passed over, and
    /// an address given twice counts once.
    ///
    /// # Errors
    /// The first item that does not parse, or a list with no item.
    pub fn parse_list(list: &str) -> Result<Vec<Self>, ParseAddressError> {
        let mut addresses = Vec::new();
        for item in list.split(',').map(str::trim).filter(|i| !i.is_empty()) {
            let address = item.parse()?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return Err(ParseAddressError::new(list, "holds no address"));
        }
        Ok(addresses)
    }
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let error = |reason| Err(ParseAddressError::new(text, reason));
        if text.contains("://") {
            return error("is a URL; write host:port, without the scheme");
        }

        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let Some((literal, after)) = rest.split_once(']') else {
                return error("opens a bracket and never closes it");
            };
            // The zone, as in fe80::1%eth0, is the system resolver's to understand.
            let number = literal.split_once('%').map_or(literal, |(n, _)| n);
            if number.parse::<Ipv6Addr>().is_err() {
                return error("has no IPv6 address between its brackets");
            }
            match after.strip_prefix(':') {
                Some(port) => (literal, Some(port)),
                None if after.is_empty() => (literal, None),
                None => return error("has something other than :port after its bracket"),
            }
        } else if text.matches(':').count() > 1 {
            return error("has several colons; an IPv6 address goes in brackets: [::1]:9092");
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };

        if host.is_empty() {
            return error("names no host");
        }
        if host.chars().any(|c| {
            c.is_whitespace() || c.is_control() || matches!(c, '/' | '@' | ',' | '[' | ']')
        }) {
            return error("has a character that no host name can have");
        }
        let port = match port {
            None => Self::DEFAULT_PORT,
            Some(digits) => match digits.parse() {
                // `parse` would take a leading plus sign.
                Ok(port) if port != 0 && digits.bytes().all(|b| b.is_ascii_digit()) => port,
                _ => return error("has a port that is not a number from 1 to 65535"),
            },
        };
        Ok(Self::new(host, port))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not the address of a broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the broker address {text:?} {reason}")]
pub struct ParseAddressError {
    text: String,
    reason: &'static str,
}

impl ParseAddressError {
    fn new(text: &str, reason: &'static str) -> Self {
        Self {
            text: text.chars().take(TEXT_SHOWN_MAX).collect(),
            reason,
        }
    }
}

/// How much of a mistaken address an error repeats, in characters.
const TEXT_SHOWN_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_every_form_and_shows_it_so_that_it_parses_again() {
        for (text, host, port) in [
            ("kafka-1.example.com:19092", "kafka-1.example.com", 19092),
            ("kafka", "kafka", 9092),
            ("192.0.2.7:1", "192.0.2.7", 1),
            ("[::1]:9093", "::1", 9093),
            ("[2001:db8::7]", "2001:db8::7", 9092),
            ("[fe80::1%eth0]:9092", "fe80::1%eth0", 9092),
            (" kafka:65535 ", "kafka", 65535),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.host(), address.port()), (host, port), "{text}");
            assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
        }
    }

    #[test]
    fn refuses_what_is_no_address_and_says_why() {
        for (text, hint) in [
            ("", "names no host"),
            (":9092", "names no host"),
            ("kafka:", "port"),
            ("kafka:0", "port"),
            ("kafka:65536", "port"),
            ("kafka:+1", "port"),
            ("kafka:http", "port"),
            ("::1", "brackets"),
            ("::1:9092", "brackets"),
            ("[::1", "never closes"),
            ("[::1]9092", "after its bracket"),
            ("[kafka]:9092", "IPv6"),
            ("http://kafka:9092", "URL"),
            ("a b:9092", "character"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(hint), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_list_passes_over_blanks_and_repeats() {
        let list = Address::parse_list("a:1, b:2,,a:1 ,").unwrap();
        assert_eq!(list, [Address::new("a", 1), Address::new("b", 2)]);
        assert!(Address::parse_list(" , ").is_err());
        assert!(Address::parse_list("a:1,b:x").is_err());
    }
}
