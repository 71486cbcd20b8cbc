//! Made-up traffic: clicks of made-up users, a known share of them malformed in ways that happen.
//!
//! A sequence that depends on its seed alone, but for timestamps. Every fiftieth click is malformed, by each mistake
//! in turn, so that it is known how many of which kind there must be.

use fastrand::Rng;

use crate::click::Kind;

/// Makes clicks without end.
#[derive(Debug)]
pub struct Generator {
    rng: Rng,
    made: u64,
}

/// A record to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The user.
    pub key: String,
    /// A click, or what somebody took for one.
    pub value: Option<Vec<u8>>,
    /// What is wrong with it; `None` if it is valid.
    pub mistake: Option<Kind>,
}

impl Generator {
    /// The same seed makes the same users, pages and addresses.
    pub fn new(seed: u64) -> Generator {
        Generator {
            rng: Rng::with_seed(seed),
            made: 0,
        }
    }

    /// The next click, made at `now_ms`.
    pub fn click(&mut self, now_ms: i64) -> Generated {
        self.made += 1;
        let user = self.rng.u32(..USERS);
        let key = format!("user-{user:05}");
        // Visits last for a while, so that neighbours share one.
        let visit = self.made / 10_000;
        let mut click = serde_json::json!({
            "user_id": key,
            "session_id": format!("{user:05}-{visit:04}"),
            "timestamp": now_ms,
            "url": format!("https://shop.example/{}", self.rng.choice(PAGES).unwrap_or(&"")),
            "ip": self.address(),
        });
        if !self.made.is_multiple_of(ONE_MALFORMED_IN) {
            let value = Some(click.to_string().into_bytes());
            return Generated {
                key,
                value,
                mistake: None,
            };
        }
        let turn = self.made / ONE_MALFORMED_IN - 1;
        let mistake = &MISTAKES[(turn % MISTAKES.len() as u64) as usize];
        let value = match mistake {
            Mistake::Tombstone => None,
            Mistake::CutShort => {
                let mut bytes = click.to_string().into_bytes();
                bytes.truncate(self.rng.usize(1..bytes.len()));
                Some(bytes)
            }
            Mistake::Binary => {
                let mut bytes = vec![0; self.rng.usize(1..200)];
                self.rng.fill(&mut bytes);
                // No JSON begins with this.
                bytes[0] = 0xff;
                Some(bytes)
            }
            Mistake::MissingField => {
                let fields = ["user_id", "session_id", "timestamp", "url", "ip"];
                if let (Some(fields), Some(field)) =
                    (click.as_object_mut(), self.rng.choice(fields))
                {
                    fields.remove(field);
                }
                Some(click.to_string().into_bytes())
            }
            Mistake::WrongType => {
                click["timestamp"] = "yesterday".into();
                Some(click.to_string().into_bytes())
            }
            Mistake::BadIp => {
                click["ip"] = format!("10.{}.1.1", self.rng.u32(256..1000)).into();
                Some(click.to_string().into_bytes())
            }
            Mistake::BadUrl => {
                click["url"] = "javascript:void(0)".into();
                Some(click.to_string().into_bytes())
            }
            Mistake::InFuture => {
                click["timestamp"] = (now_ms + 86_400_000).into();
                Some(click.to_string().into_bytes())
            }
        };
        Generated {
            key,
            value,
            mistake: Some(mistake.kind()),
        }
    }

    /// One of the table's ranges mostly, of one that it does not know now and then.
    fn address(&mut self) -> String {
        let rng = &mut self.rng;
        if rng.u32(..10) == 0 {
            format!("2001:db8:{:x}::{:x}", rng.u16(..), rng.u16(..))
        } else {
            format!("10.{}.{}.{}", rng.u8(..), rng.u8(..), rng.u8(..))
        }
    }
}

/// How a click goes wrong.
enum Mistake {
    Tombstone,
    CutShort,
    Binary,
    MissingField,
    WrongType,
    BadIp,
    BadUrl,
    InFuture,
}

impl Mistake {
    fn kind(&self) -> Kind {
        match self {
            Self::Tombstone => Kind::Empty,
            Self::CutShort | Self::Binary => Kind::NotJson,
            Self::MissingField | Self::WrongType => Kind::BadField,
            Self::BadIp => Kind::BadIp,
            Self::BadUrl => Kind::BadUrl,
            Self::InFuture => Kind::InFuture,
        }
    }
}

const MISTAKES: [Mistake; 8] = [
    Mistake::CutShort,
    Mistake::MissingField,
    Mistake::BadIp,
    Mistake::InFuture,
    Mistake::BadUrl,
    Mistake::Binary,
    Mistake::WrongType,
    Mistake::Tombstone,
];

/// One click in so many is malformed.
const ONE_MALFORMED_IN: u64 = 50;
const USERS: u32 = 20_000;
const PAGES: &[&str] = &[
    "",
    "cart",
    "checkout",
    "search?q=castle",
    "books/the-trial",
    "books/amerika",
    "help",
    "account",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::click::{Click, Malformed};

    const NOW: i64 = 1_700_000_000_000;

    #[test]
    fn the_parser_agrees_on_every_click_and_mistake() {
        let mut generator = Generator::new(7);
        let mut kinds = BTreeMap::new();
        for _ in 0..40_000 {
            let made = generator.click(NOW);
            let parsed = Click::parse(made.value.as_deref(), NOW);
            assert_eq!(
                parsed.as_ref().err().map(Malformed::kind),
                made.mistake,
                "{parsed:?}"
            );
            *kinds.entry(made.mistake).or_insert(0) += 1;
        }
        assert_eq!(kinds.remove(&None), Some(39_200));
        assert_eq!(kinds.values().sum::<u64>(), 800);
        assert_eq!(kinds.len(), Kind::ALL.len());
    }

    #[test]
    fn a_seed_is_one_sequence() {
        let run = |seed| {
            let mut generator = Generator::new(seed);
            (0..200).map(|_| generator.click(NOW)).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
