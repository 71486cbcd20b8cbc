//! One member of a classic group: what it said of itself, and what it waits for.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_wire::ErrorCode;

use super::message::{Action, Join, Joined, Synced, Waiter};

/// A member as DescribeGroups shows it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) assignment: Bytes,
    /// Assignors in order of preference, each with the member's metadata for it.
    pub(crate) protocols: Vec<(String, Bytes)>,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    /// When the member counts as gone; while it waits for a reply of ours, only if it is new.
    pub(crate) expires: Instant,
    /// It has not heard of its first generation yet, and so could not send a heartbeat.
    pub(crate) is_new: bool,
    pub(crate) joining: Option<Waiter>,
    pub(crate) syncing: Option<Waiter>,
}

impl Member {
    pub(super) fn new(id: String, waiter: Waiter, join: Join, now: Instant) -> Self {
        Self {
            id,
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            assignment: Bytes::new(),
            protocols: join.protocols,
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            // A client that gave up waiting would come again under another id; it must not leave one member
            // behind each time.
            expires: now + NEW_MEMBER_JOIN_TIMEOUT,
            is_new: true,
            joining: Some(waiter),
            syncing: None,
        }
    }

    pub(super) fn touch(&mut self, now: Instant) {
        self.expires = now + self.session_timeout;
    }

    /// When the member counts as gone; `None` while it waits for us.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let waits = self.joining.is_some() || self.syncing.is_some();
        (self.is_new || !waits).then_some(self.expires)
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    /// Answers what the member waits for with `error`.
    pub(super) fn refuse(&self, error: ErrorCode, actions: &mut Vec<Action>) {
        if let Some(waiter) = self.joining {
            actions.push(Action::Joined(waiter, Joined::refused(error, &self.id)));
        }
        if let Some(waiter) = self.syncing {
            actions.push(Action::Synced(waiter, Synced::refused(error)));
        }
    }
}

/// How long a new member may wait for its first generation, as in Kafka.
const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(300);
