//! What a broker's answer for one partition means for the batch.

use ottla_wire::ErrorCode;

/// What to do about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// In the log, by this attempt or an earlier one.
    Written,
    /// Try again. `maybe_written` unless the broker decides so before it appends.
    Retry { maybe_written: bool },
    /// The sequences do not follow what the broker has. Not written by any attempt: a written batch
    /// would have been recognised.
    OutOfOrder,
    /// The broker knows nothing of this producer. Not written, as far as the log reaches back.
    UnknownProducer,
    /// The partition has seen a newer epoch of this producer id, or the id is not ours. Not written.
    ForeignIdentity,
    /// The batch is larger than the broker takes. Not written.
    TooLarge,
    /// No for good. Not written.
    Refused,
}

impl Verdict {
    pub(crate) fn of(code: ErrorCode) -> Self {
        match code {
            ErrorCode::NONE | ErrorCode::DUPLICATE_SEQUENCE_NUMBER => Self::Written,
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER => Self::OutOfOrder,
            ErrorCode::UNKNOWN_PRODUCER_ID => Self::UnknownProducer,
            ErrorCode::INVALID_PRODUCER_EPOCH
            | ErrorCode::INVALID_PRODUCER_ID_MAPPING
            | ErrorCode::PRODUCER_FENCED => Self::ForeignIdentity,
            ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => Self::TooLarge,
            // These are found out before anything is appended.
            ErrorCode::NOT_ENOUGH_REPLICAS
            | ErrorCode::CORRUPT_MESSAGE
            | ErrorCode::CONCURRENT_TRANSACTIONS
            | ErrorCode::THROTTLING_QUOTA_EXCEEDED => Self::Retry {
                maybe_written: false,
            },
            // A broker that fails inside the append says no more than this.
            ErrorCode::UNKNOWN_SERVER_ERROR => Self::Retry {
                maybe_written: true,
            },
            // Among them NOT_LEADER_OR_FOLLOWER, which is also the answer when leadership moves while a
            // written batch waits for its replicas.
            _ if code.is_retriable() => Self::Retry {
                maybe_written: true,
            },
            _ => Self::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubt_is_kept_where_there_is_any() {
        let doubt = Verdict::Retry {
            maybe_written: true,
        };
        for code in [
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ErrorCode::REQUEST_TIMED_OUT,
            ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode::UNKNOWN_TOPIC_ID,
            ErrorCode::KAFKA_STORAGE_ERROR,
        ] {
            assert_eq!(Verdict::of(code), doubt, "{code}");
        }
        assert_eq!(
            Verdict::of(ErrorCode::NOT_ENOUGH_REPLICAS),
            Verdict::Retry {
                maybe_written: false
            }
        );
        for code in [
            ErrorCode::TOPIC_AUTHORIZATION_FAILED,
            ErrorCode::INVALID_TIMESTAMP,
            ErrorCode::INVALID_RECORD,
            ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        ] {
            assert_eq!(Verdict::of(code), Verdict::Refused, "{code}");
        }
    }
}
