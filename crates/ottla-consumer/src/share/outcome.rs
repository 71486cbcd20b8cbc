//! What became of acknowledgements.

use std::{ops::RangeInclusive, sync::Arc};

use ottla_wire::ErrorCode;

use crate::TopicPartition;

/// What became of acknowledgements of one partition that were sent together: a broker takes all of them or none.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AcknowledgeOutcome {
    /// By which broker: the [`node`](super::ShareRecord::node) that the records were acquired from.
    pub node: i32,
    /// Of which partition.
    pub partition: TopicPartition,
    /// Of the records at these offsets, in order.
    pub offsets: Vec<RangeInclusive<i64>>,
    /// Whether they are stored. Records whose acknowledgement is not are handed out again, to this member or another, when
    /// their acquisition lock times out; unless the answer was lost, and they were stored after all.
    pub result: Result<(), Fault>,
}

/// Why an acknowledgement is not stored, or why nobody knows.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The broker refused it, or has dropped the share session that the records were acquired in.
    #[error("{}{}", .0, hint(*.0))]
    Broker(ErrorCode),
    /// It was not answered, or not sent.
    #[error("{0}")]
    Net(Arc<ottla_net::Error>),
    /// The broker answered, and said nothing of it.
    #[error("the broker's answer says nothing of the acknowledgements")]
    Unanswered,
}

fn hint(error: ErrorCode) -> &'static str {
    match error {
        ErrorCode::INVALID_RECORD_STATE => {
            "; its acquisition lock has timed out (group.share.record.lock.duration.ms), or another member has it by now"
        }
        ErrorCode::SHARE_SESSION_NOT_FOUND => {
            "; the connection was lost, and the broker has released the records"
        }
        ErrorCode::NOT_LEADER_OR_FOLLOWER => {
            "; the partition has another leader now, which hands the records out again"
        }
        _ => "",
    }
}

/// Is told what becomes of acknowledgements.
///
/// Called on a task of the consumer, for each partition of each request: be quick, and block on nothing. It may call the
/// consumer. A panic in it is written to the log, and costs nothing else.
pub trait AcknowledgeListener: Send + Sync {
    /// Acknowledgements have an outcome.
    fn acknowledged(&self, outcome: &AcknowledgeOutcome);
}

impl<F: Fn(&AcknowledgeOutcome) + Send + Sync> AcknowledgeListener for F {
    fn acknowledged(&self, outcome: &AcknowledgeOutcome) {
        self(outcome);
    }
}
