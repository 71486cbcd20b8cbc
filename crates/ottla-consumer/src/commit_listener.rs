//! What became of commits, for an application that does not wait for them.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use ottla_wire::Str;

use crate::{
    CommittedOffset, ConsumerConfig, Error, TopicPartition,
    driver::now,
    group::commit::{Offsets, Outcome},
};

/// What became of one commit.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CommitOutcome {
    /// What was to be committed, in order of partitions.
    pub offsets: Vec<(TopicPartition, CommittedOffset)>,
    /// Whether it was an automatic one (`enable.auto.commit`), which nobody else hears of.
    pub automatic: bool,
    /// Whether it is stored. [`Error::CommitRefused`] names the partition that was refused, if it is one; others of the same
    /// commit may be stored. What an automatic commit did not store, the next one tries again.
    pub result: Result<(), Error>,
}

/// Is told what becomes of commits: of all that this consumer sends or refuses, automatic ones among them. Offsets that a
/// transaction carries are the producer's. Set it as
/// [`ConsumerConfig::commit_listener`](crate::ConsumerConfig::commit_listener).
///
/// Called on a task of the consumer, in the order of the outcomes: be quick, and block on nothing. It may call the consumer. A
/// panic in it is written to the log, and costs nothing else.
pub trait CommitListener: Send + Sync {
    /// A commit has an outcome.
    fn committed(&self, outcome: &CommitOutcome);
}

impl<F: Fn(&CommitOutcome) + Send + Sync> CommitListener for F {
    fn committed(&self, outcome: &CommitOutcome) {
        self(outcome);
    }
}

impl fmt::Debug for dyn CommitListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CommitListener")
    }
}

/// What the application's listener is to be told of a commit.
#[derive(Debug)]
pub(crate) struct Report {
    offsets: Vec<(TopicPartition, CommittedOffset)>,
    automatic: bool,
    since: Instant,
}

impl Report {
    /// None if nobody listens, or nothing is to be committed.
    pub(crate) fn of(config: &ConsumerConfig, offsets: &Offsets, automatic: bool) -> Option<Self> {
        config.commit_listener.as_ref()?;
        (!offsets.is_empty()).then(|| Self {
            offsets: offsets.clone().into_iter().collect(),
            automatic,
            since: now(),
        })
    }

    /// `outcome`: None if the consumer ended before there was one.
    pub(crate) fn outcome(
        self,
        config: &ConsumerConfig,
        outcome: Option<Outcome>,
    ) -> CommitOutcome {
        let group = config.group_id.clone().unwrap_or_default().into();
        let waited = now().saturating_duration_since(self.since);
        CommitOutcome {
            offsets: self.offsets,
            automatic: self.automatic,
            result: result(group, outcome, waited),
        }
    }
}

/// What a commit's outcome means to an application that waited for it for so long.
pub(crate) fn result(group: Str, outcome: Option<Outcome>, waited: Duration) -> Result<(), Error> {
    match outcome {
        Some(Outcome::Committed) => Ok(()),
        Some(Outcome::Refused { partition, error }) => Err(Error::CommitRefused {
            group,
            partition,
            error,
        }),
        Some(Outcome::Expired { sent: true, last }) => Err(Error::CommitUnknown { group, last }),
        Some(Outcome::Expired { sent: false, last }) => Err(Error::Timeout {
            what: "committing offsets",
            waited,
            last: last.to_string(),
        }),
        None => Err(Error::Closed),
    }
}

/// To be called with no lock held: it may do anything.
pub(crate) fn tell(listener: &dyn CommitListener, outcomes: &[CommitOutcome]) {
    for outcome in outcomes {
        // A panic in it must not end what sends commits, nor keep the other outcomes from being told.
        if catch_unwind(AssertUnwindSafe(|| listener.committed(outcome))).is_err() {
            tracing::error!("the commit listener panicked; going on without");
        }
    }
}
