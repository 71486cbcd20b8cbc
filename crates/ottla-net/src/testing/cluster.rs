//! Several scripted brokers with a common view of the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_wire::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use ottla_wire::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use ottla_wire::{ErrorCode, Str, Uuid};
use parking_lot::Mutex;

use crate::address::Address;
use crate::cluster::Cluster;
use crate::config::ClusterConfig;
use crate::testing::broker::{Reply, ScriptedBroker};
use crate::transport::memory::MemoryNetwork;

/// Brokers 1, 2, 3 … of one cluster, which agree on topics, leaders and coordinators.
///
/// Broker 1 is the controller. The leader of a new topic's partition *p* is broker *p* mod *n* + 1, in
/// epoch 0. All coordinators are broker 1 unless set.
#[derive(Debug, Clone)]
pub struct ScriptedCluster {
    network: MemoryNetwork,
    brokers: Vec<ScriptedBroker>,
    view: Arc<Mutex<View>>,
}

#[derive(Debug, Default)]
struct View {
    cluster_id: Str,
    addresses: BTreeMap<i32, Address>,
    racks: BTreeMap<i32, Str>,
    topics: BTreeMap<Str, ScriptedTopic>,
    coordinators: BTreeMap<Str, Result<i32, ErrorCode>>,
    next_topic_id: u8,
}

#[derive(Debug, Clone)]
struct ScriptedTopic {
    id: Uuid,
    error: ErrorCode,
    leaders: Vec<(i32, i32)>,
}

impl ScriptedCluster {
    /// Starts `count` brokers on a network of their own.
    pub fn start(count: i32) -> Self {
        Self::start_on(&MemoryNetwork::new(), count)
    }

    /// Starts `count` brokers on a network.
    pub fn start_on(network: &MemoryNetwork, count: i32) -> Self {
        let view = Arc::new(Mutex::new(View {
            cluster_id: Str::from_static("scripted"),
            ..View::default()
        }));
        let mut brokers = Vec::new();
        for node in 1..=count {
            let address = Address::new(&format!("broker-{node}"), Address::DEFAULT_PORT);
            view.lock().addresses.insert(node, address.clone());
            let broker = ScriptedBroker::start(network, node, address);
            let known = view.clone();
            broker.on::<MetadataRequest>(move |request, _| known.lock().metadata(&request).into());
            let known = view.clone();
            broker.on::<FindCoordinatorRequest>(move |request, call| {
                Reply::from(known.lock().find_coordinator(&request, call.version))
            });
            brokers.push(broker);
        }
        Self {
            network: network.clone(),
            brokers,
            view,
        }
    }

    /// The broker with this id, from 1.
    ///
    /// # Panics
    /// If there is none.
    pub fn broker(&self, node: i32) -> &ScriptedBroker {
        let found = self.brokers.iter().find(|broker| broker.node() == node);
        found.unwrap_or_else(|| panic!("no broker {node} was started"))
    }

    /// All brokers, by id.
    pub fn brokers(&self) -> &[ScriptedBroker] {
        &self.brokers
    }

    /// The network they are on.
    pub fn network(&self) -> &MemoryNetwork {
        &self.network
    }

    /// Settings that lead to these brokers.
    pub fn config(&self) -> ClusterConfig {
        ClusterConfig::new(self.brokers.iter().map(|broker| broker.address().clone()))
    }

    /// A client of these brokers, with the settings of [`ScriptedCluster::config`].
    pub fn connect(&self) -> Cluster {
        self.connect_with(self.config())
    }

    /// A client of these brokers.
    ///
    /// # Panics
    /// If a setting cannot work.
    pub fn connect_with(&self, config: ClusterConfig) -> Cluster {
        match Cluster::new(config, self.network.connector()) {
            Ok(cluster) => cluster,
            Err(error) => panic!("{error}"),
        }
    }

    /// Creates a topic, or creates it anew with another id. Returns its id.
    pub fn add_topic(&self, name: &str, partitions: i32) -> Uuid {
        let count = self.brokers.len() as i32;
        let mut view = self.view.lock();
        view.next_topic_id += 1;
        let mut id = [0; 16];
        id[15] = view.next_topic_id;
        let topic = ScriptedTopic {
            id: Uuid(id),
            error: ErrorCode::NONE,
            leaders: (0..partitions).map(|p| (p % count + 1, 0)).collect(),
        };
        view.topics.insert(Str::from(name.to_owned()), topic);
        Uuid(id)
    }

    /// Adds partitions to a topic, up to `partitions` in all.
    pub fn grow_topic(&self, name: &str, partitions: i32) {
        let count = self.brokers.len() as i32;
        self.change(name, |topic| {
            let from = topic.leaders.len() as i32;
            topic
                .leaders
                .extend((from..partitions).map(|p| (p % count + 1, 0)));
        });
    }

    /// Deletes a topic.
    pub fn remove_topic(&self, name: &str) {
        self.view.lock().topics.remove(name);
    }

    /// Has the brokers answer with an error about a topic; [`ErrorCode::NONE`] ends that.
    pub fn fail_topic(&self, name: &str, error: ErrorCode) {
        self.change(name, |topic| topic.error = error);
    }

    /// Gives a partition a leader (-1: none), one epoch on. Returns the epoch.
    pub fn move_leader(&self, name: &str, partition: i32, node: i32) -> i32 {
        let mut epoch = -1;
        self.change(name, |topic| {
            let leader = &mut topic.leaders[partition as usize];
            *leader = (node, leader.1 + 1);
            epoch = leader.1;
        });
        epoch
    }

    /// Puts a broker into a rack.
    pub fn set_rack(&self, node: i32, rack: &str) {
        let rack = Str::from(rack.to_owned());
        self.view.lock().racks.insert(node, rack);
    }

    /// Who coordinates a group or transaction, or the error that says why nobody does.
    pub fn set_coordinator(&self, key: &str, coordinator: Result<i32, ErrorCode>) {
        let mut view = self.view.lock();
        let key = Str::from(key.to_owned());
        view.coordinators.insert(key, coordinator);
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut ScriptedTopic)) {
        let mut view = self.view.lock();
        let topic = view.topics.get_mut(name);
        change(topic.unwrap_or_else(|| panic!("no topic {name} was added")));
    }
}

impl View {
    fn metadata(&self, request: &MetadataRequest) -> MetadataResponse {
        let named: Vec<Str> = match &request.topics {
            Some(topics) => topics
                .iter()
                .filter_map(|topic| topic.name.clone())
                .collect(),
            None => self.topics.keys().cloned().collect(),
        };
        MetadataResponse {
            brokers: self
                .addresses
                .iter()
                .map(|(&node_id, address)| MetadataResponseBroker {
                    node_id,
                    host: address.host().to_owned().into(),
                    port: address.port().into(),
                    rack: self.racks.get(&node_id).cloned(),
                    ..Default::default()
                })
                .collect(),
            cluster_id: Some(self.cluster_id.clone()),
            controller_id: 1,
            topics: named.into_iter().map(|name| self.topic(name)).collect(),
            ..Default::default()
        }
    }

    fn topic(&self, name: Str) -> MetadataResponseTopic {
        let Some(topic) = self.topics.get(&name) else {
            return MetadataResponseTopic {
                error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                name: Some(name),
                ..Default::default()
            };
        };
        if topic.error.is_err() {
            return MetadataResponseTopic {
                error_code: topic.error,
                name: Some(name),
                ..Default::default()
            };
        }
        MetadataResponseTopic {
            name: Some(name),
            topic_id: topic.id,
            partitions: (0..)
                .zip(&topic.leaders)
                .map(
                    |(partition_index, &(leader_id, leader_epoch))| MetadataResponsePartition {
                        error_code: if leader_id < 0 {
                            ErrorCode::LEADER_NOT_AVAILABLE
                        } else {
                            ErrorCode::NONE
                        },
                        partition_index,
                        leader_id,
                        leader_epoch,
                        replica_nodes: self.addresses.keys().copied().collect(),
                        isr_nodes: self.addresses.keys().copied().collect(),
                        ..Default::default()
                    },
                )
                .collect(),
            ..Default::default()
        }
    }

    fn find_coordinator(
        &self,
        request: &FindCoordinatorRequest,
        version: i16,
    ) -> FindCoordinatorResponse {
        if version >= 4 {
            return FindCoordinatorResponse {
                coordinators: request
                    .coordinator_keys
                    .iter()
                    .map(|key| self.coordinator(key))
                    .collect(),
                ..Default::default()
            };
        }
        let found = self.coordinator(&request.key);
        FindCoordinatorResponse {
            error_code: found.error_code,
            node_id: found.node_id,
            host: found.host,
            port: found.port,
            ..Default::default()
        }
    }

    fn coordinator(&self, key: &Str) -> Coordinator {
        let node = self.coordinators.get(key).copied().unwrap_or(Ok(1));
        let address = node.ok().and_then(|node| self.addresses.get(&node));
        Coordinator {
            key: key.clone(),
            node_id: node.unwrap_or(-1),
            host: address.map_or(Str::default(), |a| a.host().to_owned().into()),
            port: address.map_or(-1, |address| address.port().into()),
            error_code: node.err().unwrap_or(ErrorCode::NONE),
            ..Default::default()
        }
    }
}
