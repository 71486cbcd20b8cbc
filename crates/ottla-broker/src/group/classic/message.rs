//! What members ask of a group and what it answers, whatever the version of the API.

use std::time::Duration;

use bytes::Bytes;
use ottla_wire::ErrorCode;

/// Names one parked request; the driver knows whose it is.
pub(crate) type Waiter = u64;

/// What JoinGroup says, whatever its version.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) protocol_type: String,
    pub(crate) protocols: Vec<(String, Bytes)>,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    /// From version 4 a new member is first told its id, and joins with it.
    pub(crate) must_know_its_id: bool,
    /// From version 9 a leader can be told that its assignment still stands.
    pub(crate) can_skip_assignment: bool,
    /// Makes the new member's id unique; drawn by the driver.
    pub(crate) unique: u128,
}

/// The answer to a [`Join`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Joined {
    pub(crate) error: ErrorCode,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: String,
    pub(crate) member_id: String,
    pub(crate) skip_assignment: bool,
    /// Only the leader gets these: member id, instance id, metadata.
    pub(crate) members: Vec<(String, Option<String>, Bytes)>,
}

/// What SyncGroup says.
#[derive(Clone, Debug)]
pub(crate) struct Sync {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignments: Vec<(String, Bytes)>,
}

/// The answer to a [`Sync`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Synced {
    pub(crate) error: ErrorCode,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignment: Bytes,
}

/// A reply that is due.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    Joined(Waiter, Joined),
    Synced(Waiter, Synced),
}

impl Join {
    /// The id of a new member.
    pub(crate) fn new_id(&self) -> String {
        let prefix = self.instance_id.as_deref().unwrap_or(&self.client_id);
        format!("{prefix}-{}", hyphenated(self.unique))
    }
}

impl Joined {
    pub(crate) fn refused(error: ErrorCode, member_id: &str) -> Self {
        Self {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            member_id: member_id.to_owned(),
            skip_assignment: false,
            members: Vec::new(),
        }
    }
}

impl Synced {
    pub(crate) fn refused(error: ErrorCode) -> Self {
        Self {
            error,
            protocol_type: None,
            protocol: None,
            assignment: Bytes::new(),
        }
    }
}

/// `unique` in the form of a UUID.
fn hyphenated(unique: u128) -> String {
    let hex = format!("{unique:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
