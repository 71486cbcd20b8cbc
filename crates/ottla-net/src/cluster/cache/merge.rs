//! What stays of what was known when there is news of a topic, a broker or a leader: pure functions.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_wire::messages::metadata::MetadataResponseTopic;
use ottla_wire::{ErrorCode, Str, Uuid};

use super::Endpoint;
use crate::address::Address;
use crate::cluster::metadata::{Broker, LeaderHint, Metadata, Partition, Topic};

pub(super) fn merge_topic(
    known: Option<&Topic>,
    name: &str,
    news: &MetadataResponseTopic,
) -> Topic {
    // Without ids the name is all there is to go by.
    let same = known.filter(|known| {
        known.id == news.topic_id || known.id == Uuid::ZERO || news.topic_id == Uuid::ZERO
    });
    if news.error_code.is_err()
        && news.partitions.is_empty()
        && let Some(known) = known
    {
        return Topic {
            error: news.error_code,
            ..known.clone()
        };
    }
    let mut partitions: Vec<Partition> = news
        .partitions
        .iter()
        .map(|partition| Partition {
            index: partition.partition_index,
            leader: (partition.leader_id >= 0).then_some(partition.leader_id),
            leader_epoch: partition.leader_epoch,
            replicas: partition.replica_nodes.clone(),
            isr: partition.isr_nodes.clone(),
            offline_replicas: partition.offline_replicas.clone(),
            error: partition.error_code,
        })
        .collect();
    partitions.sort_by_key(|partition| partition.index);
    partitions.dedup_by_key(|partition| partition.index);
    // Brokers list all partitions, and number them from 0. An index beyond the list would have whoever counts
    // partitions by it make that many.
    let listed = partitions.len();
    partitions.retain(|partition| usize::try_from(partition.index).is_ok_and(|i| i < listed));
    if partitions.len() < listed {
        tracing::warn!(
            topic = name,
            listed,
            "partitions with impossible numbers are left out"
        );
    }
    if let Some(same) = same {
        for partition in &mut partitions {
            if let Some(known) = same.partition(partition.index)
                && partition.leader_epoch >= 0
                && known.leader_epoch > partition.leader_epoch
            {
                *partition = known.clone();
            }
        }
        // Partitions are only ever added: a shorter list is an older one.
        let lacks = |index| {
            let found = partitions.binary_search_by_key(&index, |p: &Partition| p.index);
            news.error_code.is_ok() && found.is_err()
        };
        let missing: Vec<_> = same
            .partitions
            .iter()
            .filter(|known| lacks(known.index))
            .cloned()
            .collect();
        if !missing.is_empty() {
            partitions.extend(missing);
            partitions.sort_by_key(|partition| partition.index);
        }
    }
    Topic {
        name: known.map_or_else(|| Str::from(name.to_owned()), |known| known.name.clone()),
        id: news.topic_id,
        is_internal: news.is_internal,
        error: news.error_code,
        partitions,
    }
}

pub(super) fn take_endpoint(next: &mut Metadata, endpoint: &Endpoint<'_>) -> bool {
    let Some(broker) = endpoint.to_broker(&next.brokers) else {
        return false;
    };
    if next.brokers.get(&endpoint.node) == Some(&broker) {
        return false;
    }
    Arc::make_mut(&mut next.brokers).insert(endpoint.node, broker);
    true
}

pub(super) fn take_hint(next: &mut Metadata, hint: &LeaderHint<'_>) -> bool {
    let newer = next
        .partition(hint.topic, hint.partition)
        .is_some_and(|known| hint.leader_epoch > known.leader_epoch);
    // A leader that cannot be reached is no help: the refresh that follows tells where it is.
    if hint.leader < 0 || !newer || !next.brokers.contains_key(&hint.leader) {
        return false;
    }
    let Some(topic) = next.topics.get_mut(hint.topic) else {
        return false;
    };
    let topic = Arc::make_mut(topic);
    for partition in &mut topic.partitions {
        if partition.index == hint.partition {
            partition.leader = Some(hint.leader);
            partition.leader_epoch = hint.leader_epoch;
            partition.error = ErrorCode::NONE;
        }
    }
    true
}

impl Endpoint<'_> {
    /// The broker, as known before if nothing changed; `None` if the address cannot be one.
    pub(super) fn to_broker(self, known: &BTreeMap<i32, Arc<Broker>>) -> Option<Arc<Broker>> {
        let port = u16::try_from(self.port).ok()?;
        if let Some(broker) = known.get(&self.node)
            && broker.address.host() == self.host
            && broker.address.port() == port
            && broker.rack.as_deref() == self.rack
        {
            return Some(broker.clone());
        }
        Some(Arc::new(Broker {
            id: self.node,
            address: Address::new(self.host, port),
            rack: self.rack.map(|rack| Str::from(rack.to_owned())),
        }))
    }
}
