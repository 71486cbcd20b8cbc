//! What is known of a cluster at one moment: brokers, topics, leaders.
//!
//! A [`Metadata`] never changes; the [cache](super::cache) makes a new one for every piece of news, which
//! shares what stayed the same with the one before.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ottla_wire::{ErrorCode, Str, Uuid};

use crate::address::Address;
use crate::error::Peer;

/// An immutable snapshot of a cluster.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    pub(super) generation: u64,
    pub(super) cluster_id: Option<Str>,
    pub(super) controller: Option<i32>,
    pub(super) brokers: Arc<BTreeMap<i32, Arc<Broker>>>,
    pub(super) topics: BTreeMap<Str, Arc<Topic>>,
    pub(super) names: HashMap<Uuid, Str>,
    pub(super) has_all_topics: bool,
}

impl Metadata {
    /// Rises with every snapshot; 0 before anything is known.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    /// The broker to send a controller's requests to.
    pub fn controller(&self) -> Option<i32> {
        self.controller
    }

    /// A broker by id.
    pub fn broker(&self, node: i32) -> Option<&Arc<Broker>> {
        self.brokers.get(&node)
    }

    /// All brokers, by id.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &Arc<Broker>> {
        self.brokers.values()
    }

    /// A topic by name, if it has been asked for: also one that the brokers report an error about
    /// ([`Topic::error`]).
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// A topic by id.
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.topic(self.names.get(&id)?)
    }

    /// All topics that have been asked for, by name.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// Whether these are all topics that the brokers would tell of, and not only those that were asked for by
    /// name: from the first answer after [`Cluster::track_all`](crate::Cluster::track_all).
    pub fn has_all_topics(&self) -> bool {
        self.has_all_topics
    }

    /// A partition.
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&Partition> {
        self.topic(topic)?.partition(partition)
    }

    /// The leader of a partition and its epoch, when it has a leader that is known.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<(i32, i32)> {
        let partition = self.partition(topic, partition)?;
        Some((partition.leader?, partition.leader_epoch))
    }
}

/// A broker of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Its id.
    pub id: i32,
    /// The address it advertises.
    pub address: Address,
    /// `broker.rack`.
    pub rack: Option<Str>,
}

impl Broker {
    /// As errors and logs name it.
    pub fn peer(&self) -> Peer {
        Peer {
            node: Some(self.id),
            address: self.address.clone(),
        }
    }
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: Str,
    /// Its id; [`Uuid::ZERO`] where brokers do not tell. A topic deleted and created again has another.
    pub id: Uuid,
    /// Whether it is the cluster's own, such as `__consumer_offsets`.
    pub is_internal: bool,
    /// What the brokers last said of the topic as a whole. A topic that was known keeps its partitions
    /// here when an error follows, because it may be a broker that lags behind.
    pub error: ErrorCode,
    /// Ordered by index, which is mostly but not always the place in this list: see
    /// [`Topic::partition`].
    pub partitions: Vec<Partition>,
}

impl Topic {
    /// Whether the brokers know it and it has partitions. They may still be without a leader.
    pub fn is_usable(&self) -> bool {
        self.error.is_ok() && !self.partitions.is_empty()
    }

    /// A partition by index.
    pub fn partition(&self, index: i32) -> Option<&Partition> {
        let expected = usize::try_from(index).ok()?;
        // Without gaps, index and place agree.
        match self.partitions.get(expected) {
            Some(partition) if partition.index == index => Some(partition),
            _ => {
                let place = self.partitions.binary_search_by_key(&index, |p| p.index);
                place.ok().map(|place| &self.partitions[place])
            }
        }
    }
}

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its index.
    pub index: i32,
    /// The broker that leads it; `None` while there is none.
    pub leader: Option<i32>,
    /// The leader's epoch; -1 where brokers do not tell (before Kafka 2.1's Metadata version 7).
    pub leader_epoch: i32,
    /// The brokers that hold it, the preferred leader first.
    pub replicas: Vec<i32>,
    /// The replicas that are in sync.
    pub isr: Vec<i32>,
    /// The replicas that are offline.
    pub offline_replicas: Vec<i32>,
    /// What the brokers last said of it.
    pub error: ErrorCode,
}

/// A leader that an error reply told of (KIP-951).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderHint<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The partition's index.
    pub partition: i32,
    /// Who leads it now; negative if unknown.
    pub leader: i32,
    /// The leader's epoch. A hint that is not newer than what is known is passed over.
    pub leader_epoch: i32,
}
