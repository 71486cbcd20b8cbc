//! What a producer knows of brokers that helps to choose among partitions: who is near, and who is slow.

use std::sync::Arc;
use std::time::Duration;

use crate::client::Client;
use crate::partitioner::BrokerHealth;

/// How the next sticky partition is chosen (KIP-794).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Adapting {
    pub(crate) enabled: bool,
    /// Zero: none.
    pub(crate) availability_timeout: Duration,
}

impl Client {
    /// With `partitioner.rack.aware`: the partitions whose leader is in our rack (KIP-1123).
    pub(crate) fn near(&self, seen: &ottla_net::Topic) -> Vec<u32> {
        let Some(rack) = self.config.client_rack.as_deref().filter(|rack| {
            // An empty rack is none, in Java as in configuration files.
            self.config.partitioner_rack_aware && !rack.is_empty()
        }) else {
            return Vec::new();
        };
        let metadata = self.cluster.metadata();
        let is_near = |partition: &&ottla_net::Partition| {
            let leader = partition.leader.and_then(|leader| metadata.broker(leader));
            leader.is_some_and(|leader| leader.rack.as_deref() == Some(rack))
        };
        let near = seen.partitions.iter().filter(is_near);
        near.map(|partition| partition.index as u32).collect()
    }

    /// What is known of a broker's willingness.
    pub(crate) fn health(&self, broker: i32) -> Arc<BrokerHealth> {
        let mut health = self.health.lock();
        health
            .entry(broker)
            .or_insert_with(BrokerHealth::new)
            .clone()
    }

    /// Whether anybody asks for the health of brokers.
    pub(crate) fn watches_health(&self) -> bool {
        let Adapting {
            enabled,
            availability_timeout,
        } = self.adapting();
        enabled && !availability_timeout.is_zero()
    }

    /// How sticky records find their next partition.
    pub(crate) fn adapting(&self) -> Adapting {
        Adapting {
            enabled: self.config.partitioner_adaptive,
            availability_timeout: self.config.partitioner_availability_timeout,
        }
    }
}
