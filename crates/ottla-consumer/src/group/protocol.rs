//! The "consumer" protocol: what members of a classic group tell each other through the
//! coordinator, which passes the bytes on unread. Schemas `ConsumerProtocolSubscription` and
//! `ConsumerProtocolAssignment`, versions 0 to 3.
//!
//! Another member wrote these bytes, so they are foreign: counts are checked against what is there.

use std::collections::BTreeMap;

use crate::{Bytes, Str};
use bytes::{Buf, BufMut};

use crate::TopicPartition;

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
        let mut out = Vec::with_capacity(64);
        out.put_i16(VERSION);
        out.put_i32(self.topics.len() as i32);
        for topic in &self.topics {
            put_str(&mut out, topic);
        }
        put_nullable_bytes(&mut out, self.user_data.as_ref());
        put_partitions(&mut out, &self.owned);
        out.put_i32(self.generation.unwrap_or(-1));
        match &self.rack {
            Some(rack) => put_str(&mut out, rack),
            None => out.put_i16(-1),
        }
        out.into()
    }

    pub(crate) fn decode(mut input: Bytes) -> Result<Self, Malformed> {
        // A later version only adds to the end.
        let version = input.try_get_i16().map_err(|_| Malformed)?;
        if version < 0 {
            return Err(Malformed);
        }
        let count = count(&mut input, 2)?;
        let mut subscription = Self {
            topics: (0..count)
                .map(|_| str(&mut input))
                .collect::<Result<_, _>>()?,
            user_data: nullable_bytes(&mut input)?,
            ..Self::default()
        };
        if version >= 1 {
            subscription.owned = partitions(&mut input)?;
        }
        if version >= 2 {
            let generation = input.try_get_i32().map_err(|_| Malformed)?;
            subscription.generation = (generation >= 0).then_some(generation);
        }
        if version >= 3 {
            subscription.rack = nullable_str(&mut input)?;
        }
        Ok(subscription)
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
        let mut out = Vec::with_capacity(64);
        out.put_i16(VERSION);
        put_partitions(&mut out, &self.partitions);
        put_nullable_bytes(&mut out, self.user_data.as_ref());
        out.into()
    }

    /// No bytes at all is an empty assignment: what a member gets that the leader did not know.
    pub(crate) fn decode(mut input: Bytes) -> Result<Self, Malformed> {
        if input.is_empty() {
            return Ok(Self::default());
        }
        let version = input.try_get_i16().map_err(|_| Malformed)?;
        if version < 0 {
            return Err(Malformed);
        }
        Ok(Self {
            partitions: partitions(&mut input)?,
            user_data: nullable_bytes(&mut input)?,
        })
    }
}

/// The bytes are not what the protocol says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

fn put_str(out: &mut Vec<u8>, value: &str) {
    // Topic names, racks: the broker holds them to less than 32 KiB.
    out.put_i16(value.len() as i16);
    out.put_slice(value.as_bytes());
}

fn put_nullable_bytes(out: &mut Vec<u8>, value: Option<&Bytes>) {
    match value {
        Some(bytes) => {
            out.put_i32(bytes.len() as i32);
            out.put_slice(bytes);
        }
        None => out.put_i32(-1),
    }
}

fn put_partitions(out: &mut Vec<u8>, partitions: &[TopicPartition]) {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for TopicPartition { topic, partition } in partitions {
        topics.entry(topic).or_default().push(*partition);
    }
    out.put_i32(topics.len() as i32);
    for (topic, partitions) in topics {
        put_str(out, topic);
        out.put_i32(partitions.len() as i32);
        for partition in partitions {
            out.put_i32(partition);
        }
    }
}

/// The count in front of a list whose elements take at least `each` bytes.
fn count(input: &mut Bytes, each: usize) -> Result<usize, Malformed> {
    let count = input.try_get_i32().map_err(|_| Malformed)?;
    let count = usize::try_from(count).map_err(|_| Malformed)?;
    if count > input.remaining() / each {
        Err(Malformed)
    } else {
        Ok(count)
    }
}

fn str(input: &mut Bytes) -> Result<Str, Malformed> {
    nullable_str(input)?.ok_or(Malformed)
}

fn nullable_str(input: &mut Bytes) -> Result<Option<Str>, Malformed> {
    let len = input.try_get_i16().map_err(|_| Malformed)?;
    if len == -1 {
        return Ok(None);
    }
    let len = usize::try_from(len).map_err(|_| Malformed)?;
    if len > input.remaining() {
        return Err(Malformed);
    }
    Str::try_from(input.split_to(len))
        .map(Some)
        .map_err(|_| Malformed)
}

fn nullable_bytes(input: &mut Bytes) -> Result<Option<Bytes>, Malformed> {
    let len = input.try_get_i32().map_err(|_| Malformed)?;
    if len == -1 {
        return Ok(None);
    }
    let len = usize::try_from(len).map_err(|_| Malformed)?;
    if len > input.remaining() {
        Err(Malformed)
    } else {
        Ok(Some(input.split_to(len)))
    }
}

fn partitions(input: &mut Bytes) -> Result<Vec<TopicPartition>, Malformed> {
    let mut all = Vec::new();
    for _ in 0..count(input, 6)? {
        let topic = str(input)?;
        for _ in 0..count(input, 4)? {
            let partition = input.try_get_i32().map_err(|_| Malformed)?;
            all.push(TopicPartition {
                topic: topic.clone(),
                partition,
            });
        }
    }
    Ok(all)
}

const VERSION: i16 = 3;

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
        assert_eq!(Subscription::decode(hostile.clone()), Err(Malformed));
        assert_eq!(Assignment::decode(hostile), Err(Malformed));
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
