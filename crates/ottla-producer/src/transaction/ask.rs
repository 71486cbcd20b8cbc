//! One request to a coordinator, tried again until it is answered for good; and what came of it, in words.
//!
//! Knows no transaction's state. Which step comes when is decided by [`State`](super::state::State), what an
//! answer means by [`Reply`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ottla_net::{CoordinatorKind, Lane, To};
use ottla_wire::{ErrorCode, Request};
use tokio::time::{Instant, sleep};

use super::error::TransactionError;
use super::reply::{Reply, Step};
use crate::client::Client;
use crate::error::SendError;

/// What came of a request.
pub(super) struct Asked<T> {
    pub(super) result: Result<T, Failed>,
    /// An attempt left, or may have, and has no answer: it may be carried out, even later.
    pub(super) lost: bool,
}

pub(super) enum Failed {
    /// A broker's last word.
    Refused(Reply, ErrorCode),
    /// Not in time; with what was last wrong.
    Late(Arc<str>),
    /// An error of the connection that trying again cannot mend.
    Broken(Arc<str>),
    Closed,
}

/// Makes a request until it is answered for good. `codes` finds the error codes in the answer.
pub(super) async fn ask<R: Request>(
    client: &Client,
    step: Step,
    to: To<'_>,
    version_max: i16,
    request: impl Fn(i16) -> R,
    codes: impl Fn(&R::Response) -> Vec<ErrorCode>,
    deadline: Instant,
) -> Asked<R::Response> {
    let (made, answered) = (AtomicU32::new(0), AtomicU32::new(0));
    let counted = |version| {
        made.fetch_add(1, Ordering::Relaxed);
        request(version)
    };
    let check = |response: &R::Response| {
        answered.fetch_add(1, Ordering::Relaxed);
        let again = |code: &ErrorCode| Reply::of(step, *code) == Reply::Again;
        match codes(response).into_iter().find(again) {
            // The caller below knows only of retriable codes.
            Some(code) if !code.is_retriable() => ErrorCode::REQUEST_TIMED_OUT,
            Some(code) => code,
            None => ErrorCode::NONE,
        }
    };
    let result = loop {
        let lane = Lane::Coordination;
        let outcome = client
            .cluster
            .call_checked(to, lane, version_max, &counted, check, deadline)
            .await;
        match outcome {
            Ok(response) => {
                let replies = codes(&response)
                    .into_iter()
                    .map(|code| (Reply::of(step, code), code));
                let worst = replies
                    .filter(|(reply, _)| *reply != Reply::Done)
                    .max_by_key(|(reply, _)| severity(*reply));
                match worst {
                    None => break Ok(response),
                    Some((Reply::Again, code)) => break Err(Failed::Late(code.to_string().into())),
                    Some((Reply::AgainSoon, code)) => {
                        if Instant::now() + SOON >= deadline {
                            break Err(Failed::Late(code.to_string().into()));
                        }
                        sleep(SOON).await;
                    }
                    Some((reply, code)) => break Err(Failed::Refused(reply, code)),
                }
            }
            Err(ottla_net::Error::Closed) => break Err(Failed::Closed),
            Err(error) if error.is_retriable() || error.is_timeout() => {
                break Err(Failed::Late(error.to_string().into()));
            }
            Err(error) => {
                // An answer that cannot be read leaves open what it said.
                break Err(Failed::Broken(error.to_string().into()));
            }
        }
    };
    Asked {
        result,
        lost: made.load(Ordering::Relaxed) > answered.load(Ordering::Relaxed),
    }
}

/// As [`ask`], of a coordinator of this producer's, for an answer with one error code.
pub(super) async fn ask_one<R: Request>(
    client: &Client,
    step: Step,
    version_max: i16,
    request: impl Fn(i16) -> R,
    code: impl Fn(&R::Response) -> ErrorCode,
    deadline: Instant,
) -> Asked<R::Response> {
    let codes = |response: &R::Response| vec![code(response)];
    let to = client.coordinator();
    ask(client, step, to, version_max, request, codes, deadline).await
}

impl Client {
    pub(super) fn failure(&self, step: Step, failed: Failed) -> TransactionError {
        match failed {
            Failed::Closed => TransactionError::Closed,
            Failed::Refused(Reply::Fenced, code) => TransactionError::Fenced {
                step: step.name(),
                transactional_id: self.transactions.name.clone(),
                code,
                possibly_committed: false,
            },
            Failed::Refused(Reply::MustAbort | Reply::Skipped, code) => {
                TransactionError::MustAbort {
                    step: step.name(),
                    code: Some(code),
                    reason: format!("{code}{}", hint(code)).into(),
                }
            }
            Failed::Refused(_, code) => TransactionError::Refused {
                step: step.name(),
                code: Some(code),
                reason: format!("{code}{}", hint(code)).into(),
                possibly_committed: false,
            },
            Failed::Late(last) => TransactionError::NotReached {
                step: step.name(),
                waited: self.config.max_block,
                last,
            },
            Failed::Broken(reason) => TransactionError::Refused {
                step: step.name(),
                code: None,
                reason,
                possibly_committed: false,
            },
        }
    }

    /// What a failed delivery means for its transaction.
    pub(super) fn of_delivery(&self, failure: SendError) -> TransactionError {
        let step = "writing a record (Produce)";
        match &failure {
            SendError::Refused { code, .. } => match *code {
                code @ ErrorCode::PRODUCER_FENCED => TransactionError::Fenced {
                    step,
                    transactional_id: self.transactions.name.clone(),
                    code,
                    possibly_committed: false,
                },
                code @ (ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
                | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
                | ErrorCode::INVALID_PRODUCER_ID_MAPPING) => TransactionError::Refused {
                    step,
                    code: Some(code),
                    reason: format!("{failure}{}", hint(code)).into(),
                    possibly_committed: false,
                },
                // Also INVALID_PRODUCER_EPOCH: the partition's leader cannot tell a newer instance
                // from a transaction that timed out. The coordinator can, when it is told to abort.
                _ => TransactionError::Delivery(failure),
            },
            SendError::Closed => TransactionError::Closed,
            _ => TransactionError::Delivery(failure),
        }
    }

    pub(super) fn coordinator(&self) -> To<'_> {
        let id = self.transactions.id.as_deref().unwrap_or_default();
        To::Coordinator(CoordinatorKind::Transaction, id)
    }

    pub(super) fn step_deadline(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(self.config.max_block)
            .unwrap_or_else(|| now + LIFETIME)
    }
}

/// The codes of all `count` parts of a request; those that the answer leaves out failed.
pub(super) fn all_answered(codes: impl Iterator<Item = ErrorCode>, count: usize) -> Vec<ErrorCode> {
    let mut codes: Vec<_> = codes.collect();
    if codes.len() < count {
        codes.push(ErrorCode::UNKNOWN_SERVER_ERROR);
    }
    codes
}

/// Of several answers the one that decides.
fn severity(reply: Reply) -> u8 {
    match reply {
        Reply::Done => 0,
        Reply::Skipped => 1,
        Reply::AgainSoon => 2,
        Reply::Again => 3,
        Reply::Nothing | Reply::MustAbort => 4,
        Reply::Fatal => 5,
        Reply::Fenced => 6,
    }
}

fn hint(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED => {
            "; grant Write and Describe on the transactional id"
        }
        ErrorCode::CLUSTER_AUTHORIZATION_FAILED => "; grant IdempotentWrite on the cluster",
        // What coordinators with transactions V2 say of a transaction that they have aborted themselves.
        ErrorCode::INVALID_TXN_STATE => "; was it open for longer than transaction.timeout.ms?",
        ErrorCode::ILLEGAL_GENERATION | ErrorCode::UNKNOWN_MEMBER_ID => {
            "; the group has given the partitions to others: seek back to what is committed"
        }
        ErrorCode::INVALID_TRANSACTION_TIMEOUT => {
            "; lower transaction.timeout.ms, or raise that setting of the brokers"
        }
        _ => "",
    }
}

/// How soon to ask again while the previous transaction is being completed.
const SOON: Duration = Duration::from_millis(20);

const LIFETIME: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
