//! Where a reader stands in a partition: an offset, or a range as long as nobody knows better.

use std::collections::BTreeSet;

use super::truth::Truth;
use super::{Outcome, Rule, holds};
use crate::history::{Part, Reset};

/// Where a reader stands in a partition.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) place: Place,
    pub(super) why: Why,
    /// Where it stood when it was sent to a place of which nobody knew the offset yet.
    pub(super) from: Option<i64>,
    /// Questions for committed offsets that left since it was sent there.
    pub(super) asked: BTreeSet<u64>,
}

impl Reading {
    /// The reader is at `offset`. From where on it passed over what lies before, on purpose.
    pub(super) fn arrive(&mut self, offset: i64, reset: Reset) -> i64 {
        if exact(self.place) {
            // Where a reset to the end leads is not known before.
            return if reset == Reset::Latest {
                low(self.place)
            } else {
                offset
            };
        }
        let from = self.from.take().unwrap_or(offset);
        let from = if reset == Reset::Latest {
            from.min(low(self.place))
        } else {
            from
        };
        self.place = Place::at(offset);
        from
    }

    /// Nobody knows where it stands now, if it stood somewhere before.
    pub(super) fn anywhere(old: Option<Self>) -> Self {
        let from = old.map(|old| low(old.place).min(old.from.unwrap_or(i64::MAX)));
        Self {
            from,
            ..Self::new(Place::from(0), Why::Committed)
        }
    }

    pub(super) fn new(place: Place, why: Why) -> Self {
        Self {
            place,
            why,
            from: None,
            asked: BTreeSet::new(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// Nobody has told the reader where the group is.
    Unknown,
    /// Its next record is the first one at or behind some offset in this range, both ends included.
    Within {
        low: i64,
        high: i64,
        /// Where the range ends if the log has come to begin behind `low`.
        trimmed: Trimmed,
    },
}

impl Place {
    pub(super) fn at(offset: i64) -> Self {
        Self::Within {
            low: offset,
            high: offset,
            trimmed: Trimmed::Nowhere,
        }
    }

    pub(super) fn from(low: i64) -> Self {
        Self::Within {
            low,
            high: i64::MAX,
            trimmed: Trimmed::Nowhere,
        }
    }
}

/// Where somebody who was sent to a place lands if that has been deleted before it was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trimmed {
    /// Nowhere: it was an offset.
    Nowhere,
    /// At the beginning there is.
    Beginning,
    /// Wherever the next record with such a timestamp is.
    Behind,
}

/// Why it stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Committed,
    Sought,
    Read,
}

/// Whether the next record of a reader that stands there may be the one at `offset`.
pub(super) fn stands(
    truth: &Truth,
    reading: &Reading,
    part: Part,
    offset: i64,
    reset: Reset,
    log_start: i64,
) -> Outcome {
    let Place::Within {
        low,
        mut high,
        trimmed,
    } = reading.place
    else {
        return Err((
            Rule::StartsAtCommitted,
            "although nobody had said where the group is".to_owned(),
        ));
    };
    if log_start > low {
        // What it stands at may be gone.
        match reset {
            Reset::Earliest => high = high.max(log_start),
            Reset::Latest => high = i64::MAX,
            Reset::Fail => {}
        }
        match trimmed {
            Trimmed::Nowhere => {}
            Trimmed::Beginning => high = high.max(log_start),
            Trimmed::Behind => high = i64::MAX,
        }
    }
    let (back, over) = match reading.why {
        Why::Committed => (Rule::StartsAtCommitted, Rule::StartsAtCommitted),
        Why::Sought => (Rule::SeekHolds, Rule::SeekHolds),
        Why::Read => (Rule::NothingRepeated, Rule::NothingSkipped),
    };
    holds(offset >= low, back, || {
        format!("lies before {low}, where it stood")
    })?;
    let last = truth.first(part, high).unwrap_or(i64::MAX);
    holds(offset <= last, over, || {
        format!("lies behind {last}, the first record from where it stood")
    })
}

pub(super) fn low(place: Place) -> i64 {
    match place {
        Place::Unknown => 0,
        Place::Within { low, .. } => low,
    }
}

/// Whether the place is one offset.
pub(super) fn exact(place: Place) -> bool {
    matches!(place, Place::Within { low, high, trimmed: Trimmed::Nowhere } if low == high)
}

/// Two answers before the first record: either may be the one that was heeded.
pub(super) fn either(old: Place, new: Place) -> Place {
    match (old, new) {
        (
            Place::Within { low, high, trimmed },
            Place::Within {
                low: new_low,
                high: new_high,
                trimmed: new_trimmed,
            },
        ) => Place::Within {
            low: low.min(new_low),
            high: high.max(new_high),
            trimmed: trimmed.max(new_trimmed),
        },
        (_, new) => new,
    }
}
