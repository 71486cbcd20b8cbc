//! The "consumer" protocol: what members of a classic group tell each other through the
//! coordinator, which passes the bytes on unread. Between the wire's messages and what a membership is
//! about.
//!
//! Another member wrote these bytes, so they are foreign: the wire checks counts against what is there.

use std::collections::BTreeMap;

use ottla_wire::{
    DecodeError, Message, decode_versioned, encode_versioned,
    messages::{
        consumer_protocol_assignment::{self, ConsumerProtocolAssignment},
        consumer_protocol_subscription::{self, ConsumerProtocolSubscription},
    },
};

use crate::{Bytes, Str, TopicPartition};

/// What a member of the group asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) topics: Vec<Str>,
    pub(crate) user_data: Option<Bytes>,
    pub(crate) owned: Vec<TopicPartition>,
    pub(crate) generation: Option<i32>,
    pub(crate) rack: Option<Str>,
}

impl Subscription {
    pub(crate) fn encode(&self) -> Bytes {
        encode(&ConsumerProtocolSubscription {
            topics: self.topics.clone(),
            user_data: self.user_data.clone(),
            owned_partitions: by_topic(&self.owned)
                .map(
                    |(topic, partitions)| consumer_protocol_subscription::TopicPartition {
                        topic,
                        partitions,
                        ..Default::default()
                    },
                )
                .collect(),
            generation_id: self.generation.unwrap_or(-1),
            rack_id: self.rack.clone(),
            ..Default::default()
        })
    }

    pub(crate) fn decode(input: Bytes) -> Result<Self, DecodeError> {
        let (_, told) = decode_versioned::<ConsumerProtocolSubscription>(input)?;
        let owned = told.owned_partitions.into_iter();
        Ok(Self {
            topics: told.topics,
            user_data: told.user_data,
            owned: flatten(owned.map(|owned| (owned.topic, owned.partitions))),
            generation: Some(told.generation_id).filter(|generation| *generation >= 0),
            rack: told.rack_id,
        })
    }
}

/// What the leader gives a member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) partitions: Vec<TopicPartition>,
    pub(crate) user_data: Option<Bytes>,
}

impl Assignment {
    pub(crate) fn encode(&self) -> Bytes {
        encode(&ConsumerProtocolAssignment {
            assigned_partitions: by_topic(&self.partitions)
                .map(
                    |(topic, partitions)| consumer_protocol_assignment::TopicPartition {
                        topic,
                        partitions,
                        ..Default::default()
                    },
                )
                .collect(),
            user_data: self.user_data.clone(),
            ..Default::default()
        })
    }

    /// No bytes at all is an empty assignment: what a member gets that the leader did not know.
    pub(crate) fn decode(input: Bytes) -> Result<Self, DecodeError> {
        if input.is_empty() {
            return Ok(Self::default());
        }
        let (_, told) = decode_versioned::<ConsumerProtocolAssignment>(input)?;
        let assigned = told.assigned_partitions.into_iter();
        Ok(Self {
            partitions: flatten(assigned.map(|of| (of.topic, of.partitions))),
            user_data: told.user_data,
        })
    }
}

fn encode<M: Message>(message: &M) -> Bytes {
    encode_versioned(message, M::VERSIONS.max).unwrap_or_else(|error| {
        // Only a name longer than 32 KiB, which an assignor of the application's own may make up. Without
        // bytes the member gets nothing.
        tracing::error!(%error, "what the group is to be told cannot be expressed");
        Bytes::new()
    })
}

fn by_topic(partitions: &[TopicPartition]) -> impl Iterator<Item = (Str, Vec<i32>)> {
    let mut topics: BTreeMap<Str, Vec<i32>> = BTreeMap::new();
    for TopicPartition { topic, partition } in partitions {
        topics.entry(topic.clone()).or_default().push(*partition);
    }
    topics.into_iter()
}

fn flatten(topics: impl Iterator<Item = (Str, Vec<i32>)>) -> Vec<TopicPartition> {
    topics
        .flat_map(|(topic, partitions)| {
            let of = move |partition| TopicPartition {
                topic: topic.clone(),
                partition,
            };
            partitions.into_iter().map(of)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tp(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition::new(topic.to_owned(), partition)
    }

    #[test]
    fn subscription_is_java_s_bytes() {
        let subscription = Subscription {
            topics: vec!["ab".into()],
            owned: vec![tp("ab", 1), tp("ab", 2)],
            generation: Some(7),
            ..Default::default()
        };
        let bytes = b"\0\x03\0\0\0\x01\0\x02ab\xff\xff\xff\xff\
            \0\0\0\x01\0\x02ab\0\0\0\x02\0\0\0\x01\0\0\0\x02\0\0\0\x07\xff\xff";
        assert_eq!(&subscription.encode()[..], &bytes[..]);
        assert_eq!(
            Subscription::decode(subscription.encode()),
            Ok(subscription)
        );
    }

    #[test]
    fn older_and_newer_versions_are_read() {
        let v0 = Bytes::from_static(b"\0\0\0\0\0\x01\0\x01a\0\0\0\x01!");
        let subscription = Subscription::decode(v0).unwrap();
        assert_eq!(subscription.topics, ["a"]);
        assert_eq!(subscription.user_data.as_deref(), Some(&b"!"[..]));
        let mut v9 = vec![0, 9];
        v9.extend_from_slice(&Subscription::default().encode()[2..]);
        v9.extend_from_slice(b"what version 9 adds");
        assert_eq!(Subscription::decode(v9.into()), Ok(Subscription::default()));
    }

    #[test]
    fn an_absent_assignment_is_empty() {
        assert_eq!(Assignment::decode(Bytes::new()), Ok(Assignment::default()));
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused() {
        let hostile = Bytes::from_static(b"\0\x03\x7f\xff\xff\xff");
        assert!(Subscription::decode(hostile.clone()).is_err());
        assert!(Assignment::decode(hostile).is_err());
    }

    proptest! {
        #[test]
        fn assignment_round_trips(parts in prop::collection::btree_set(("[a-c]{1,3}", 0..9_i32), 0..9)) {
            let assignment = Assignment {
                partitions: parts.iter().map(|(t, p)| tp(t, *p)).collect(),
                user_data: Some(Bytes::from_static(b"u")),
            };
            prop_assert_eq!(Assignment::decode(assignment.encode()), Ok(assignment));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Subscription::decode(bytes.clone().into());
            let _ = Assignment::decode(bytes.into());
        }
    }
}
