//! Share sessions (KIP-932): what each member of a share group fetches from a node without naming it again.
//!
//! A session belongs to the connection that opened it, and ends with it.

use std::collections::{BTreeMap, BTreeSet};

use ottla_wire::ErrorCode;

use crate::group::consumer::TopicPartition;

/// All share sessions of all nodes.
#[derive(Debug, Default)]
pub(crate) struct ShareSessions {
    sessions: BTreeMap<Key, Session>,
}

/// Whose session with which node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) node: i32,
    pub(crate) group: String,
    pub(crate) member: String,
}

#[derive(Debug)]
struct Session {
    /// Of the next request.
    epoch: i32,
    partitions: BTreeSet<TopicPartition>,
    connection: u64,
}

impl ShareSessions {
    /// Opens a session, in place of one that there may be.
    pub(crate) fn open(
        &mut self,
        key: Key,
        connection: u64,
        partitions: BTreeSet<TopicPartition>,
    ) -> Result<(), ErrorCode> {
        if !self.sessions.contains_key(&key) && self.sessions.len() >= SESSIONS_MAX {
            return Err(ErrorCode::SHARE_SESSION_LIMIT_REACHED);
        }
        if partitions.len() > PARTITIONS_MAX {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let session = Session {
            epoch: 1,
            partitions,
            connection,
        };
        self.sessions.insert(key, session);
        Ok(())
    }

    /// The next request of a session, which adds and forgets partitions. All that it has then, in order.
    pub(crate) fn go_on(
        &mut self,
        key: &Key,
        epoch: i32,
        add: impl IntoIterator<Item = TopicPartition>,
        forget: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<BTreeSet<TopicPartition>, ErrorCode> {
        let session = self
            .sessions
            .get_mut(key)
            .ok_or(ErrorCode::SHARE_SESSION_NOT_FOUND)?;
        if session.epoch != epoch {
            return Err(ErrorCode::INVALID_SHARE_SESSION_EPOCH);
        }
        session.partitions.extend(add);
        for partition in forget {
            session.partitions.remove(&partition);
        }
        if session.partitions.len() > PARTITIONS_MAX {
            self.sessions.remove(key);
            return Err(ErrorCode::INVALID_REQUEST);
        }
        session.epoch = epoch.checked_add(1).unwrap_or(1);
        Ok(session.partitions.clone())
    }

    /// Ends a session. Whether there was one.
    pub(crate) fn close(&mut self, key: &Key) -> Result<(), ErrorCode> {
        let closed = self.sessions.remove(key);
        closed.map(drop).ok_or(ErrorCode::SHARE_SESSION_NOT_FOUND)
    }

    /// A connection is gone. The sessions that were its.
    pub(crate) fn disconnected(&mut self, connection: u64) -> Vec<Key> {
        let gone = self
            .sessions
            .extract_if(.., |_, session| session.connection == connection);
        gone.map(|(key, _)| key).collect()
    }
}

/// `group.share.max.share.sessions`, Kafka's default.
const SESSIONS_MAX: usize = 2_000;

/// Partitions of one session; a member that names more does not mean it.
const PARTITIONS_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use ottla_wire::Uuid;

    use super::*;

    fn key(member: &str) -> Key {
        Key {
            node: 1,
            group: "g".to_owned(),
            member: member.to_owned(),
        }
    }

    fn set(indexes: &[i32]) -> BTreeSet<TopicPartition> {
        indexes
            .iter()
            .map(|index| (Uuid([7; 16]), *index))
            .collect()
    }

    #[test]
    fn a_session_goes_on_from_epoch_to_epoch_and_ends_with_its_connection() {
        let mut sessions = ShareSessions::default();
        let missing = sessions.go_on(&key("a"), 1, [], []);
        assert_eq!(missing, Err(ErrorCode::SHARE_SESSION_NOT_FOUND));
        sessions.open(key("a"), 5, set(&[0, 1])).unwrap();
        let next = sessions.go_on(&key("a"), 1, set(&[2]), set(&[0]));
        assert_eq!(next, Ok(set(&[1, 2])));
        let again = sessions.go_on(&key("a"), 1, [], []);
        assert_eq!(again, Err(ErrorCode::INVALID_SHARE_SESSION_EPOCH));
        assert!(sessions.disconnected(6).is_empty());
        assert_eq!(sessions.disconnected(5), [key("a")]);
        assert_eq!(
            sessions.close(&key("a")),
            Err(ErrorCode::SHARE_SESSION_NOT_FOUND)
        );
    }

    #[test]
    fn there_are_only_so_many() {
        let mut sessions = ShareSessions::default();
        for member in 0..SESSIONS_MAX {
            sessions
                .open(key(&member.to_string()), 1, set(&[]))
                .unwrap();
        }
        let full = sessions.open(key("one more"), 1, set(&[]));
        assert_eq!(full, Err(ErrorCode::SHARE_SESSION_LIMIT_REACHED));
        assert!(sessions.open(key("7"), 2, set(&[0])).is_ok());
    }
}
