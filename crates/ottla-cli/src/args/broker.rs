//! `ottla broker`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use super::JsonArgs;

#[derive(Debug, Args)]
pub(crate) struct BrokerArgs {
    /// Where node 1 listens: HOST:PORT, HOST or PORT. Further nodes take the ports after it; port 0 takes free
    /// ones
    #[arg(
        short = 'l',
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:9092"
    )]
    pub(crate) listen: Listen,
    /// How many nodes
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) nodes: u16,
    /// Keeps records and committed offsets in this directory [default: in memory, gone at the end]
    #[arg(short = 'd', long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// A topic to create unless it is there; without PARTITIONS it gets num.partitions. May be given several
    /// times
    #[arg(short = 't', long = "topic", value_name = "NAME[:PARTITIONS]")]
    pub(crate) topics: Vec<TopicSpec>,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    /// An IPv6 address in brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |digits: &str| {
            digits
                .parse()
                .map_err(|_| format!("`{digits}` is no port; ports are numbers from 0 to 65535"))
        };
        let colon_in_host = |host: &str| host.contains(':') && !host.ends_with(']');
        let (host, port) = match text.rsplit_once(':') {
            _ if text.contains('/') => {
                return Err("expected HOST:PORT, without a scheme or path".into());
            }
            _ if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
                (LOCALHOST, port(text)?)
            }
            _ if text.starts_with('[') && text.ends_with(']') => (text, DEFAULT_PORT),
            Some((host, _)) if colon_in_host(host) => {
                return Err("an IPv6 address stands in brackets, as in [::1]:9092".into());
            }
            Some(("", _)) => {
                return Err("name the address too; 0.0.0.0:PORT listens on all of them".into());
            }
            Some((host, digits)) => (host, port(digits)?),
            None => (text, DEFAULT_PORT),
        };
        if host.is_empty() {
            return Err("expected HOST:PORT".into());
        }
        Ok(Listen {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicSpec {
    pub(crate) name: String,
    pub(crate) partitions: Option<i32>,
}

impl FromStr for TopicSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A topic's name holds no colon.
        let (name, partitions) = match text.split_once(':') {
            None => (text, None),
            Some((name, count)) => match count.parse() {
                Ok(count @ 1..) => (name, Some(count)),
                _ => {
                    return Err(format!("`{count}` is no number of partitions: 1, or more"));
                }
            },
        };
        if name.is_empty() {
            return Err("expected NAME:PARTITIONS".into());
        }
        Ok(TopicSpec {
            name: name.to_owned(),
            partitions,
        })
    }
}

const LOCALHOST: &str = "127.0.0.1";
const DEFAULT_PORT: u16 = 9092;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_every_form() {
        for (text, expected) in [
            ("127.0.0.1:9094", "127.0.0.1:9094"),
            ("localhost", "localhost:9092"),
            ("0", "127.0.0.1:0"),
            ("19092", "127.0.0.1:19092"),
            ("[::1]:1", "[::1]:1"),
            ("[::1]", "[::1]:9092"),
        ] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), expected);
        }
        for (text, word) in [
            ("", "HOST:PORT"),
            ("99999", "65535"),
            ("localhost:", "no port"),
            ("localhost:http", "no port"),
            ("localhost:-1", "no port"),
            (":9092", "0.0.0.0:PORT"),
            ("::1", "brackets"),
            ("::1:9092", "brackets"),
            ("http://localhost:9092", "scheme"),
        ] {
            let error = text.parse::<Listen>().unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn topics_with_and_without_a_number() {
        let spec = |text: &str| text.parse::<TopicSpec>().map(|s| (s.name, s.partitions));
        assert_eq!(spec("a.b-c_d"), Ok(("a.b-c_d".into(), None)));
        assert_eq!(spec("a:12"), Ok(("a".into(), Some(12))));
        for text in [
            "",
            ":3",
            "a:",
            "a:0",
            "a:-1",
            "a:b",
            "a:1:2",
            "a:2147483648",
        ] {
            assert!(spec(text).is_err(), "{text}");
        }
    }
}
