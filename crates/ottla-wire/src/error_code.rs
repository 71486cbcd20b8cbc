//! The error codes of Kafka's protocol and what each asks of a client.
//!
//! A code is a plain number, so that codes newer than this library pass through; the table below names those of Kafka 4.3
//! and classifies them. What a code means *for one API* is decided where that API is called.

use std::fmt;

/// An error code in a response; 0 is success.
///
/// ```
/// use ottla_wire::ErrorCode;
/// let code = ErrorCode::NOT_LEADER_OR_FOLLOWER;
/// assert!(code.is_retriable() && code.refreshes_metadata() && !code.is_fatal());
/// assert_eq!(code.to_string(), "NOT_LEADER_OR_FOLLOWER (6): the broker does not lead this partition, nor host a replica of it");
/// assert_eq!(ErrorCode(9999).to_string(), "UNKNOWN (9999): an error code newer than this library");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ErrorCode(pub i16);

impl ErrorCode {
    /// Whether there was no error.
    #[inline]
    pub const fn is_ok(self) -> bool {
        self.0 == 0
    }

    /// Whether there was an error.
    #[inline]
    pub const fn is_err(self) -> bool {
        self.0 != 0
    }

    /// `Ok` without an error, else the code.
    #[inline]
    pub const fn ok(self) -> Result<(), Self> {
        if self.is_ok() { Ok(()) } else { Err(self) }
    }

    /// Kafka's name, such as `NOT_LEADER_OR_FOLLOWER`; `UNKNOWN` for a code newer than this library.
    pub fn name(self) -> &'static str {
        self.entry().map_or("UNKNOWN", |entry| entry.name)
    }

    /// What it means, as the end of a sentence.
    pub fn meaning(self) -> &'static str {
        self.entry()
            .map_or("an error code newer than this library", |entry| {
                entry.meaning
            })
    }

    /// Whether the same request may succeed later, perhaps at another broker.
    pub fn is_retriable(self) -> bool {
        self.has(RETRY)
    }

    /// Whether cluster metadata is out of date and should be fetched before trying again.
    pub fn refreshes_metadata(self) -> bool {
        self.has(METADATA)
    }

    /// Whether the group or transaction has another coordinator by now, which must be looked up before trying again.
    pub fn rediscovers_coordinator(self) -> bool {
        self.has(COORDINATOR)
    }

    /// Whether the client cannot go on with its present identity, permissions or settings: neither trying again nor trying
    /// something smaller will help.
    pub fn is_fatal(self) -> bool {
        self.has(FATAL)
    }

    /// Every code this library knows, ascending.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|entry| Self(entry.code))
    }

    fn has(self, flag: u8) -> bool {
        self.entry().is_some_and(|entry| entry.flags & flag != 0)
    }

    fn entry(self) -> Option<&'static Entry> {
        // The codes follow one another from -1.
        usize::try_from(i32::from(self.0) + 1)
            .ok()
            .and_then(|i| TABLE.get(i))
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.name(), self.0, self.meaning())
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

impl From<i16> for ErrorCode {
    fn from(code: i16) -> Self {
        Self(code)
    }
}

struct Entry {
    code: i16,
    name: &'static str,
    meaning: &'static str,
    flags: u8,
}

const RETRY: u8 = 1;
const METADATA: u8 = 2;
const COORDINATOR: u8 = 4;
const FATAL: u8 = 8;

macro_rules! codes {
    ($($code:literal $name:ident $(+ $flag:ident)* $meaning:literal)*) => {
        impl ErrorCode {
            $(
                #[doc = concat!("Code ", $code, ": ", $meaning, ".")]
                pub const $name: Self = Self($code);
            )*
        }

        const TABLE: &[Entry] = &[$(
            Entry { code: $code, name: stringify!($name), meaning: $meaning, flags: 0 $(| $flag)* },
        )*];
    };
}

codes! {
    -1 UNKNOWN_SERVER_ERROR "the broker failed in a way it has no code for; its log says more"
    0 NONE "no error"
    1 OFFSET_OUT_OF_RANGE "the offset lies outside what the broker keeps of this partition"
    2 CORRUPT_MESSAGE + RETRY "a record batch is damaged, too large, or has a null key on a compacted topic"
    3 UNKNOWN_TOPIC_OR_PARTITION + RETRY + METADATA "this broker knows no such topic or partition"
    4 INVALID_FETCH_SIZE "the fetch size is not valid"
    5 LEADER_NOT_AVAILABLE + RETRY + METADATA "the partition has no leader at the moment"
    6 NOT_LEADER_OR_FOLLOWER + RETRY + METADATA "the broker does not lead this partition, nor host a replica of it"
    7 REQUEST_TIMED_OUT + RETRY "the broker gave up on the request within its own timeout; it may have been carried out"
    8 BROKER_NOT_AVAILABLE "the broker is not available"
    9 REPLICA_NOT_AVAILABLE + RETRY + METADATA "the broker does not have the replica asked for"
    10 MESSAGE_TOO_LARGE "a record batch is larger than the broker or topic accepts (message.max.bytes, max.message.bytes)"
    11 STALE_CONTROLLER_EPOCH "the controller has moved to another node"
    12 OFFSET_METADATA_TOO_LARGE "the text committed beside an offset is longer than the broker accepts"
    13 NETWORK_EXCEPTION + RETRY + METADATA "the connection was lost before the answer came"
    14 COORDINATOR_LOAD_IN_PROGRESS + RETRY "the coordinator is still loading its state"
    15 COORDINATOR_NOT_AVAILABLE + RETRY + COORDINATOR "there is no coordinator at the moment"
    16 NOT_COORDINATOR + RETRY + COORDINATOR "the broker does not coordinate this group or transaction"
    17 INVALID_TOPIC_EXCEPTION "the topic's name is not allowed, or the topic is internal"
    18 RECORD_LIST_TOO_LARGE "a record batch is larger than a segment of the log"
    19 NOT_ENOUGH_REPLICAS + RETRY "fewer replicas are in sync than min.insync.replicas asks for; nothing was written"
    20 NOT_ENOUGH_REPLICAS_AFTER_APPEND + RETRY "fewer replicas are in sync than min.insync.replicas asks for, found out after writing"
    21 INVALID_REQUIRED_ACKS + FATAL "acks must be 0, 1 or -1"
    22 ILLEGAL_GENERATION "the group has moved on to another generation"
    23 INCONSISTENT_GROUP_PROTOCOL + FATAL "the member shares no protocol or assignor with the group's other members"
    24 INVALID_GROUP_ID + FATAL "the group id is not allowed"
    25 UNKNOWN_MEMBER_ID "the coordinator does not know this member (any more)"
    26 INVALID_SESSION_TIMEOUT + FATAL "the session timeout lies outside what the broker allows"
    27 REBALANCE_IN_PROGRESS "the group is rebalancing; the member has to join again"
    28 INVALID_COMMIT_OFFSET_SIZE "the commit is larger than the broker accepts"
    29 TOPIC_AUTHORIZATION_FAILED "not permitted for this topic"
    30 GROUP_AUTHORIZATION_FAILED + FATAL "not permitted for this group"
    31 CLUSTER_AUTHORIZATION_FAILED + FATAL "not permitted for this cluster"
    32 INVALID_TIMESTAMP "a record's timestamp is too far from the broker's clock"
    33 UNSUPPORTED_SASL_MECHANISM + FATAL "the broker does not offer this SASL mechanism"
    34 ILLEGAL_SASL_STATE + FATAL "the request is not allowed at this point of the authentication"
    35 UNSUPPORTED_VERSION + FATAL "the broker does not speak this version of the API"
    36 TOPIC_ALREADY_EXISTS "there is a topic of that name already"
    37 INVALID_PARTITIONS "the number of partitions is not valid"
    38 INVALID_REPLICATION_FACTOR "the replication factor is below 1 or above the number of brokers"
    39 INVALID_REPLICA_ASSIGNMENT "the assignment of replicas to brokers is not valid"
    40 INVALID_CONFIG "a setting or its value is not valid"
    41 NOT_CONTROLLER + RETRY + METADATA "the node is not the controller (any more)"
    42 INVALID_REQUEST "the broker finds the request malformed or contradictory; its log says more"
    43 UNSUPPORTED_FOR_MESSAGE_FORMAT "the topic's message format is too old for this"
    44 POLICY_VIOLATION "a policy of the cluster forbids this"
    45 OUT_OF_ORDER_SEQUENCE_NUMBER "a batch's sequence does not follow the producer's last one"
    46 DUPLICATE_SEQUENCE_NUMBER "the batch was written before, longer ago than the broker can tell where"
    47 INVALID_PRODUCER_EPOCH "the producer's epoch is older than the broker knows"
    48 INVALID_TXN_STATE + FATAL "the transaction is not in a state that allows this"
    49 INVALID_PRODUCER_ID_MAPPING "the producer id does not belong to this transactional id (any more)"
    50 INVALID_TRANSACTION_TIMEOUT + FATAL "the transaction timeout is above the broker's transaction.max.timeout.ms"
    51 CONCURRENT_TRANSACTIONS + RETRY "the previous transaction of this transactional id is still being completed"
    52 TRANSACTION_COORDINATOR_FENCED "another coordinator has taken over the transaction"
    53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED + FATAL "not permitted for this transactional id"
    54 SECURITY_DISABLED "the cluster has no authorizer"
    55 OPERATION_NOT_ATTEMPTED "another part of the request failed, so this part was not tried"
    56 KAFKA_STORAGE_ERROR + RETRY + METADATA "the broker cannot use the disk of this partition"
    57 LOG_DIR_NOT_FOUND "the broker has no such log directory"
    58 SASL_AUTHENTICATION_FAILED + FATAL "the broker refused the credentials"
    59 UNKNOWN_PRODUCER_ID "the broker has forgotten this producer, since its last records were deleted"
    60 REASSIGNMENT_IN_PROGRESS "the partition is being reassigned"
    61 DELEGATION_TOKEN_AUTH_DISABLED "the cluster has no delegation tokens"
    62 DELEGATION_TOKEN_NOT_FOUND "the cluster knows no such delegation token"
    63 DELEGATION_TOKEN_OWNER_MISMATCH "only the delegation token's owner or renewers may do this"
    64 DELEGATION_TOKEN_REQUEST_NOT_ALLOWED "delegation tokens need an authenticated connection that did not itself use one"
    65 DELEGATION_TOKEN_AUTHORIZATION_FAILED "not permitted for this delegation token"
    66 DELEGATION_TOKEN_EXPIRED "the delegation token has expired"
    67 INVALID_PRINCIPAL_TYPE "the type of principal is not supported"
    68 NON_EMPTY_GROUP "the group still has members"
    69 GROUP_ID_NOT_FOUND "there is no such group"
    70 FETCH_SESSION_ID_NOT_FOUND + RETRY "the broker has dropped the fetch session"
    71 INVALID_FETCH_SESSION_EPOCH + RETRY "the fetch session's epoch is not the one the broker expects"
    72 LISTENER_NOT_FOUND + RETRY + METADATA "the leader has no listener of the name this client is connected to"
    73 TOPIC_DELETION_DISABLED "the cluster does not allow topics to be deleted"
    74 FENCED_LEADER_EPOCH + RETRY + METADATA "the leader epoch in the request is older than the broker's"
    75 UNKNOWN_LEADER_EPOCH + RETRY "the leader epoch in the request is newer than the broker's, which has yet to catch up"
    76 UNSUPPORTED_COMPRESSION_TYPE "the compression is not supported at this version of the API"
    77 STALE_BROKER_EPOCH "the broker has re-registered since"
    78 OFFSET_NOT_AVAILABLE + RETRY "a new leader cannot tell its high watermark yet"
    79 MEMBER_ID_REQUIRED "the member has to join again with the id in this answer"
    80 PREFERRED_LEADER_NOT_AVAILABLE + RETRY + METADATA "the preferred leader is not available"
    81 GROUP_MAX_SIZE_REACHED + FATAL "the group has as many members as the broker allows (group.max.size)"
    82 FENCED_INSTANCE_ID + FATAL "another member has taken over this group.instance.id"
    83 ELIGIBLE_LEADERS_NOT_AVAILABLE + RETRY + METADATA "no replica is eligible to lead"
    84 ELECTION_NOT_NEEDED + RETRY + METADATA "the partition already has the leader asked for"
    85 NO_REASSIGNMENT_IN_PROGRESS "the partition is not being reassigned"
    86 GROUP_SUBSCRIBED_TO_TOPIC "the group still subscribes to the topic"
    87 INVALID_RECORD "the broker finds a record or its batch invalid"
    88 UNSTABLE_OFFSET_COMMIT + RETRY "an open transaction is about to commit an offset of this partition"
    89 THROTTLING_QUOTA_EXCEEDED + RETRY "a quota is used up for now"
    90 PRODUCER_FENCED + FATAL "a newer producer uses the same transactional id"
    91 RESOURCE_NOT_FOUND "there is no such resource"
    92 DUPLICATE_RESOURCE "the request names a resource twice"
    93 UNACCEPTABLE_CREDENTIAL "the new credential does not meet the broker's rules"
    94 INCONSISTENT_VOTER_SET "sender or receiver is not among the expected voters"
    95 INVALID_UPDATE_VERSION "the feature's new version is not valid"
    96 FEATURE_UPDATE_FAILED "the controller could not update the features"
    97 PRINCIPAL_DESERIALIZATION_FAILURE "the controller could not read the principal a broker forwarded"
    98 SNAPSHOT_NOT_FOUND "there is no such snapshot"
    99 POSITION_OUT_OF_RANGE "the position lies outside the snapshot"
    100 UNKNOWN_TOPIC_ID + RETRY + METADATA "this broker knows no topic of this id"
    101 DUPLICATE_BROKER_REGISTRATION "the broker id is in use"
    102 BROKER_ID_NOT_REGISTERED "no broker of this id is registered"
    103 INCONSISTENT_TOPIC_ID + RETRY + METADATA "the topic of this name has another id by now"
    104 INCONSISTENT_CLUSTER_ID + FATAL "the request is meant for another cluster"
    105 TRANSACTIONAL_ID_NOT_FOUND "the cluster knows no such transactional id"
    106 FETCH_SESSION_TOPIC_ID_ERROR + RETRY "the fetch session mixes topic ids and names"
    107 INELIGIBLE_REPLICA "a replica is not eligible to be in sync"
    108 NEW_LEADER_ELECTED "the change was made and the partition has a new leader"
    109 OFFSET_MOVED_TO_TIERED_STORAGE "the offset is in tiered storage by now"
    110 FENCED_MEMBER_EPOCH "the group has moved on; the member must give up its partitions and join again"
    111 UNRELEASED_INSTANCE_ID + FATAL "another member still holds this group.instance.id"
    112 UNSUPPORTED_ASSIGNOR + FATAL "the group does not support the assignor"
    113 STALE_MEMBER_EPOCH "the member's epoch is old; the next heartbeat brings the new one"
    114 MISMATCHED_ENDPOINT_TYPE "the request went to a controller and is for brokers, or the other way round"
    115 UNSUPPORTED_ENDPOINT_TYPE "this type of endpoint is not supported"
    116 UNKNOWN_CONTROLLER_ID "no controller of this id is known"
    117 UNKNOWN_SUBSCRIPTION_ID "the telemetry subscription has changed and must be fetched again"
    118 TELEMETRY_TOO_LARGE "the telemetry is larger than the broker accepts"
    119 INVALID_REGISTRATION "the controller finds the broker's registration invalid"
    120 TRANSACTION_ABORTABLE "the transaction has failed; after an abort the producer can go on"
    121 INVALID_RECORD_STATE "the record is not in a state that can be acknowledged so"
    122 SHARE_SESSION_NOT_FOUND + RETRY "the broker has dropped the share session"
    123 INVALID_SHARE_SESSION_EPOCH + RETRY "the share session's epoch is not the one the broker expects"
    124 FENCED_STATE_EPOCH "the share group's state epoch is not the coordinator's"
    125 INVALID_VOTER_KEY "the voter's key is not the receiver's"
    126 DUPLICATE_VOTER "the node is a voter already"
    127 VOTER_NOT_FOUND "the node is not a voter"
    128 INVALID_REGULAR_EXPRESSION + FATAL "the regular expression of the subscription is not valid"
    129 REBOOTSTRAP_REQUIRED + METADATA "the client's metadata is too old to go on with; it has to start from its bootstrap servers again"
    130 STREAMS_INVALID_TOPOLOGY + FATAL "the topology is not valid"
    131 STREAMS_INVALID_TOPOLOGY_EPOCH + FATAL "the topology's epoch is not valid"
    132 STREAMS_TOPOLOGY_FENCED + FATAL "the group has a newer topology"
    133 SHARE_SESSION_LIMIT_REACHED + RETRY "the broker has as many share sessions as it allows"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_follow_one_another() {
        for (i, entry) in TABLE.iter().enumerate() {
            assert_eq!(i32::from(entry.code), i as i32 - 1, "{}", entry.name);
            assert_eq!(ErrorCode(entry.code).name(), entry.name);
        }
        assert_eq!(
            ErrorCode::all().last(),
            Some(ErrorCode::SHARE_SESSION_LIMIT_REACHED)
        );
    }

    #[test]
    fn foreign_codes_are_harmless() {
        for code in [i16::MIN, -2, 134, i16::MAX] {
            let code = ErrorCode(code);
            assert_eq!(code.name(), "UNKNOWN");
            assert!(!code.is_retriable() && !code.is_fatal() && code.is_err());
        }
    }

    #[test]
    fn classes_do_not_contradict() {
        for code in ErrorCode::all() {
            assert!(!(code.is_fatal() && code.is_retriable()), "{code:?}");
            assert!(
                !code.rediscovers_coordinator() || code.is_retriable(),
                "{code:?}"
            );
        }
        assert!(ErrorCode::NONE.ok().is_ok());
        assert!(ErrorCode::NOT_COORDINATOR.rediscovers_coordinator());
        assert_eq!(
            ErrorCode::REBALANCE_IN_PROGRESS.ok(),
            Err(ErrorCode::REBALANCE_IN_PROGRESS)
        );
    }
}
