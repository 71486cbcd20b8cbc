//! What a producer was told of its numbered records, and whether the log bears it out.

use std::collections::HashMap;

use ottla_producer::{RecordMetadata, SendError};

/// What became of one record, by its producer's account.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    /// Written there; the offset where it is known.
    At(i32, Option<i64>),
    /// Certainly not written.
    Not(String),
    /// Written or not.
    Unknown(String),
}

impl From<Result<RecordMetadata, SendError>> for Fate {
    fn from(outcome: Result<RecordMetadata, SendError>) -> Self {
        match outcome {
            Ok(at) => Self::At(at.partition(), at.offset()),
            Err(error) if error.possibly_written() => Self::Unknown(error.to_string()),
            Err(error) => Self::Not(error.to_string()),
        }
    }
}

/// A record in the log.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) value: String,
}

/// The fates of the records 0, 1, 2, …, which were sent in this order by one task.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) fates: Vec<Fate>,
    /// Records before this one went to a topic that is no more, perhaps.
    pub(crate) since: usize,
}

impl Ledger {
    /// What records failed with.
    pub(crate) fn failures(&self) -> Vec<String> {
        let failures = self
            .fates
            .iter()
            .enumerate()
            .filter_map(|(number, fate)| match fate {
                Fate::At(..) => None,
                Fate::Not(error) | Fate::Unknown(error) => {
                    Some(format!("record {number}: {error}"))
                }
            });
        failures.take(200).collect()
    }

    /// Nothing acknowledged is missing or elsewhere, nothing refused is there, nothing is there twice, and each
    /// partition has its records in the order in which they were sent.
    pub(crate) fn check(&self, log: &[Stored]) {
        let mut places = HashMap::with_capacity(log.len());
        let mut last = HashMap::new();
        let mut in_order: Vec<_> = log.iter().collect();
        in_order.sort_by_key(|stored| (stored.partition, stored.offset));
        for stored in in_order {
            let number: usize = stored.value.parse().unwrap();
            let place = (stored.partition, stored.offset);
            if let Some(first) = places.insert(number, place) {
                panic!("record {number} is there twice: {first:?} and {place:?}");
            }
            let before = last.insert(stored.partition, number);
            assert!(before < Some(number), "record {number} after {before:?}");
        }
        let mut acknowledged = 0;
        for (number, fate) in self.fates.iter().enumerate() {
            match (fate, places.get(&number)) {
                (Fate::At(..), None) => {
                    assert!(number < self.since, "record {number} is lost: {fate:?}");
                }
                (Fate::At(partition, offset), Some(place)) => {
                    acknowledged += 1;
                    // Where it was in a topic that is no more, it need not be in this one.
                    let here = *partition == place.0 && offset.is_none_or(|at| at == place.1);
                    assert!(
                        here || number < self.since,
                        "record {number} is at {place:?}, said to be {fate:?}"
                    );
                }
                (Fate::Not(error), Some(place)) => {
                    panic!("record {number} is at {place:?}, and was refused: {error}")
                }
                (Fate::Not(_), None) | (Fate::Unknown(_), _) => {}
            }
        }
        let (all, stored) = (self.fates.len(), log.len());
        println!(
            "{all} records sent, {acknowledged} acknowledged are among the {stored} in the log"
        );
        assert!(acknowledged > 0, "nothing was acknowledged");
        assert!(
            places.keys().all(|&number| number < all),
            "none from elsewhere"
        );
    }
}
