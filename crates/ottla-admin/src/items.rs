//! Results by item, and which items are worth another attempt.
//!
//! Pure: what was asked about and what was answered go in, what is settled and what is to be asked
//! again comes out. The loop that waits and sends is [`Admin`](crate::Admin)'s.

use ottla_wire::ErrorCode;

use crate::Error;

/// What became of each item, in the order in which the items were given.
pub type Results<T> = Vec<(String, Result<T, Error>)>;

/// A broker's answer about one item.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(crate) name: String,
    pub(crate) result: Result<T, Refusal>,
}

/// Why a broker refused an item.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: Option<String>,
    /// Not worth another attempt, whatever is usual for the code.
    pub(crate) settled: bool,
}

impl<T> Answer<T> {
    /// An answer with an error code: `value` if there is none.
    pub(crate) fn new(
        name: impl AsRef<str>,
        code: ErrorCode,
        message: Option<impl AsRef<str>>,
        value: impl FnOnce() -> T,
    ) -> Answer<T> {
        let message = message.map(|m| m.as_ref().to_owned());
        let result = if code.is_ok() {
            Ok(value())
        } else {
            Err(Refusal {
                code,
                message,
                settled: false,
            })
        };
        Answer {
            name: name.as_ref().to_owned(),
            result,
        }
    }

    /// Makes a refusal final if it says that there is no such topic.
    pub(crate) fn settle_if_unknown(&mut self) {
        if let Err(refusal) = &mut self.result {
            let unknown = [
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                ErrorCode::UNKNOWN_TOPIC_ID,
            ];
            refusal.settled |= unknown.contains(&refusal.code);
        }
    }

    /// A refusal that is final here although its code may pass elsewhere.
    pub(crate) fn refused(name: impl AsRef<str>, code: ErrorCode) -> Answer<T> {
        let refusal = Refusal {
            code,
            message: None,
            settled: true,
        };
        Answer {
            name: name.as_ref().to_owned(),
            result: Err(refusal),
        }
    }
}

/// Items on their way to a result.
#[derive(Debug)]
pub(crate) struct Items<T> {
    kind: &'static str,
    /// In the order given; `None` until settled.
    slots: Vec<(String, Option<Result<T, Error>>)>,
}

impl<T> Items<T> {
    /// Items of a `kind` such as `topic`; a name given twice is one item.
    pub(crate) fn new(kind: &'static str, names: impl IntoIterator<Item = String>) -> Items<T> {
        let mut slots: Vec<(String, Option<_>)> = Vec::new();
        for name in names {
            if !slots.iter().any(|(n, _)| *n == name) {
                slots.push((name, None));
            }
        }
        Items { kind, slots }
    }

    /// The names that have no result yet.
    pub(crate) fn open(&self) -> impl Iterator<Item = &str> {
        self.slots
            .iter()
            .filter(|(_, result)| result.is_none())
            .map(|(name, _)| name.as_str())
    }

    /// Takes the answers of one attempt. Items refused for a reason that may pass stay open unless
    /// this was the `last` attempt; others are settled, and so are those left out. Says whether any
    /// stays open.
    pub(crate) fn settle(&mut self, answers: Vec<Answer<T>>, last: bool) -> bool {
        let mut answers: std::collections::HashMap<_, _> =
            answers.into_iter().map(|a| (a.name, a.result)).collect();
        let mut open = false;
        for (name, slot) in self.slots.iter_mut().filter(|(_, slot)| slot.is_none()) {
            let item = || match name.as_str() {
                "" => self.kind.to_owned(),
                name => format!("{} {name:?}", self.kind),
            };
            match answers.remove(name) {
                Some(Ok(value)) => *slot = Some(Ok(value)),
                Some(Err(refusal)) if refusal.code.is_retriable() && !refusal.settled && !last => {
                    open = true;
                }
                Some(Err(Refusal { code, message, .. })) => {
                    *slot = Some(Err(Error::Refused {
                        item: item(),
                        code,
                        message,
                    }));
                }
                None => *slot = Some(Err(Error::LeftOut { item: item() })),
            }
        }
        open
    }

    /// Settles whatever is open with one error.
    pub(crate) fn fail(&mut self, error: &Error) {
        for (_, slot) in self.slots.iter_mut().filter(|(_, slot)| slot.is_none()) {
            *slot = Some(Err(error.clone()));
        }
    }

    /// The results; call once nothing is open.
    pub(crate) fn into_results(self) -> Results<T> {
        let kind = self.kind;
        self.slots
            .into_iter()
            .map(|(name, result)| {
                let result = result.unwrap_or_else(|| {
                    Err(Error::LeftOut {
                        item: format!("{kind} {name:?}"),
                    })
                });
                (name, result)
            })
            .collect()
    }
}

/// The result of a call about one item.
pub(crate) fn only<T>(results: Results<T>) -> Result<T, Error> {
    let first = results.into_iter().next();
    first.map_or_else(
        || {
            Err(Error::LeftOut {
                item: "the resource".into(),
            })
        },
        |(_, result)| result,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(name: &str, code: ErrorCode) -> Answer<u8> {
        Answer::new(name, code, None::<&str>, || 1)
    }

    #[test]
    fn only_what_may_pass_is_asked_again() {
        let names = ["a", "b", "c", "d", "a"].map(String::from);
        let mut items = Items::new("topic", names);
        assert_eq!(items.open().collect::<Vec<_>>(), ["a", "b", "c", "d"]);

        let open = items.settle(
            vec![
                answer("b", ErrorCode::NOT_CONTROLLER),
                answer("a", ErrorCode::NONE),
                answer("c", ErrorCode::TOPIC_ALREADY_EXISTS),
            ],
            false,
        );
        assert!(open);
        assert_eq!(items.open().collect::<Vec<_>>(), ["b"]);

        assert!(!items.settle(vec![answer("b", ErrorCode::NOT_CONTROLLER)], true));
        let results = items.into_results();
        assert_eq!(
            results.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(),
            ["a", "b", "c", "d"]
        );
        assert_eq!(*results[0].1.as_ref().unwrap(), 1);
        let code = |i: usize| results[i].1.as_ref().unwrap_err().code();
        assert_eq!(code(1), Some(ErrorCode::NOT_CONTROLLER));
        assert_eq!(code(2), Some(ErrorCode::TOPIC_ALREADY_EXISTS));
        assert!(matches!(results[3].1, Err(Error::LeftOut { .. })));
    }
}
