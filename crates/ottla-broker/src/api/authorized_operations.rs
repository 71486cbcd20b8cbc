//! What a client may do (KIP-430): without an authorizer everything that can be done to a thing of that kind, as
//! bits numbered by the codes of the operations.

/// The answer to whether `wanted` was asked for.
pub(super) fn authorized_operations(wanted: bool, of: &[u8]) -> i32 {
    if !wanted {
        return NOT_ASKED;
    }
    of.iter().fold(0, |bits, operation| bits | 1 << operation)
}

pub(super) const TOPIC_OPERATIONS: &[u8] = &[
    READ,
    WRITE,
    CREATE,
    DELETE,
    ALTER,
    DESCRIBE,
    DESCRIBE_CONFIGS,
    ALTER_CONFIGS,
];
pub(super) const GROUP_OPERATIONS: &[u8] =
    &[READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS];
pub(super) const CLUSTER_OPERATIONS: &[u8] = &[
    CREATE,
    ALTER,
    DESCRIBE,
    CLUSTER_ACTION,
    DESCRIBE_CONFIGS,
    ALTER_CONFIGS,
    IDEMPOTENT_WRITE,
];

const READ: u8 = 3;
const WRITE: u8 = 4;
const CREATE: u8 = 5;
const DELETE: u8 = 6;
const ALTER: u8 = 7;
const DESCRIBE: u8 = 8;
const CLUSTER_ACTION: u8 = 9;
const DESCRIBE_CONFIGS: u8 = 10;
const ALTER_CONFIGS: u8 = 11;
const IDEMPOTENT_WRITE: u8 = 12;

const NOT_ASKED: i32 = i32::MIN;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_are_those_of_kafka() {
        // What `AclEntry.supportedOperations` of Kafka 4.3.1 says.
        assert_eq!(authorized_operations(true, TOPIC_OPERATIONS), 3576);
        assert_eq!(authorized_operations(true, GROUP_OPERATIONS), 3400);
        assert_eq!(authorized_operations(true, CLUSTER_OPERATIONS), 8096);
        assert_eq!(authorized_operations(false, TOPIC_OPERATIONS), i32::MIN);
    }
}
