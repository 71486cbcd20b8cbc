//! What the nodes of an embedded cluster agree on: who is up, which topics there are, who leads what.
//!
//! Owns nodes, topics and partitions, and the rules by which leaders are chosen and moved. All nodes live in
//! one process and share one log per partition, so an in-sync replica is a node that is up: there is no copying
//! between them. Nothing here waits or does I/O but through [`Log`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ottla_wire::{ErrorCode, Uuid};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::group::consumer::TopicsView;
use crate::log::Log;
use crate::topic_config::TopicConfig;

/// The cluster as a whole.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) id: String,
    pub(crate) nodes: BTreeMap<i32, Node>,
    /// Shared with the requests that are about them: a request finds a topic without copying it.
    topics: BTreeMap<String, Arc<Topic>>,
    names_by_id: HashMap<Uuid, String>,
    next_producer_id: i64,
    /// Coordinators that tests chose, by group or transactional id.
    appointed: HashMap<String, i32>,
    /// What groups see of the topics, made when it is first wanted after a change, and how many were made.
    view: Mutex<(u64, Option<Arc<TopicsView>>)>,
}

/// One broker.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) id: i32,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) rack: Option<String>,
    pub(crate) up: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    pub(crate) internal: bool,
    pub(crate) config: Arc<TopicConfig>,
    pub(crate) partitions: Vec<Arc<Partition>>,
}

/// One partition: who leads it, and its log.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) index: i32,
    pub(crate) state: Mutex<PartitionState>,
}

/// What changes about a partition. One lock holds leadership and log together, so that no batch is written
/// under a leader that has just been moved away.
#[derive(Debug)]
pub(crate) struct PartitionState {
    /// In order of preference; never empty.
    pub(crate) replicas: Vec<i32>,
    pub(crate) leader: Option<i32>,
    pub(crate) leader_epoch: i32,
    /// Replicas that are up, in order of preference; the last ones that were, if none is.
    pub(crate) in_sync: Vec<i32>,
    pub(crate) log: Log,
    /// Up to where followers have the log that a test lets lag behind.
    follower_ends: BTreeMap<i32, i64>,
    /// Fetches that wait for something to be appended here, or for the leader to move.
    waiting: Vec<Arc<Notify>>,
}

impl Cluster {
    pub(crate) fn new(id: String, nodes: Vec<Node>) -> Self {
        Self {
            id,
            nodes: nodes.into_iter().map(|node| (node.id, node)).collect(),
            topics: BTreeMap::new(),
            names_by_id: HashMap::new(),
            next_producer_id: 0,
            appointed: HashMap::new(),
            view: Mutex::default(),
        }
    }

    pub(crate) fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    pub(crate) fn topic_by_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.topics.get(self.names_by_id.get(&id)?)
    }

    pub(crate) fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// Which topics there are, as groups see it.
    pub(crate) fn topics_view(&self) -> Arc<TopicsView> {
        let mut kept = self.view.lock();
        let (version, view) = &mut *kept;
        let view = view.get_or_insert_with(|| {
            *version += 1;
            let of = |topic: &Topic| (topic.id, topic.partitions.len() as i32);
            let topics = self.topics.values();
            Arc::new(TopicsView {
                version: *version,
                by_name: topics
                    .map(|topic| (topic.name.clone(), of(topic)))
                    .collect(),
            })
        });
        Arc::clone(view)
    }

    fn forget_view(&mut self) {
        self.view.get_mut().1 = None;
    }

    /// Partitions of all topics together.
    pub(crate) fn partition_count(&self) -> usize {
        self.topics
            .values()
            .map(|topic| topic.partitions.len())
            .sum()
    }

    /// The node that clients take for the controller: the first that is up.
    pub(crate) fn controller(&self) -> Option<i32> {
        self.nodes.values().find(|node| node.up).map(|node| node.id)
    }

    /// The node that coordinates the group or transactional id `key`: one that was appointed, or one of those
    /// that are up, by the key's hash.
    pub(crate) fn coordinator(&self, key: &str) -> Option<&Node> {
        let appointed = self.appointed.get(key).and_then(|id| self.nodes.get(id));
        if let Some(node) = appointed.filter(|node| node.up) {
            return Some(node);
        }
        let live: Vec<&Node> = self.nodes.values().filter(|node| node.up).collect();
        let hash = crc32c::crc32c(key.as_bytes()) as usize;
        live.get(hash.checked_rem(live.len())?).copied()
    }

    /// Makes `node` the coordinator of `key` for as long as it is up.
    pub(crate) fn appoint(&mut self, key: &str, node: i32) {
        self.appointed.insert(key.to_owned(), node);
    }

    pub(crate) fn allocate_producer_id(&mut self) -> i64 {
        let id = self.next_producer_id;
        self.next_producer_id += 1;
        id
    }

    /// No producer id below `next` is handed out any more, for logs that were recovered know them.
    pub(crate) fn reserve_producer_ids(&mut self, next: i64) {
        self.next_producer_id = self.next_producer_id.max(next);
    }

    /// Replicas for a new partition: nodes in turn, so that leaders spread. A new topic (`grown` is none) starts at
    /// another node than the one before; a topic that grows goes on where its first partitions left off.
    pub(crate) fn place(
        &self,
        grown: Option<&Topic>,
        partition: i32,
        replication: usize,
    ) -> Vec<i32> {
        let nodes: Vec<i32> = self.nodes.keys().copied().collect();
        let of_first = || {
            let partition = grown?.partitions.first()?;
            let first = *partition.state.lock().replicas.first()?;
            nodes.iter().position(|id| *id == first)
        };
        let shift = of_first().unwrap_or(self.topics.len()) + partition as usize;
        (0..replication.min(nodes.len()))
            .map(|i| nodes[(shift + i) % nodes.len()])
            .collect()
    }

    pub(crate) fn add_topic(&mut self, topic: Topic) {
        self.forget_view();
        self.names_by_id.insert(topic.id, topic.name.clone());
        self.topics.insert(topic.name.clone(), Arc::new(topic));
    }

    pub(crate) fn remove_topic(&mut self, name: &str) -> Option<Arc<Topic>> {
        let topic = self.topics.remove(name)?;
        self.forget_view();
        self.names_by_id.remove(&topic.id);
        for partition in &topic.partitions {
            let mut state = partition.state.lock();
            state.leader = None;
            state.leader_epoch += 1;
            state.log.abandon();
            state.wake();
        }
        Some(topic)
    }

    pub(crate) fn topic_mut(&mut self, name: &str) -> Option<&mut Topic> {
        self.forget_view();
        self.topics.get_mut(name).map(Arc::make_mut)
    }

    /// A node went down or came back: leaders move to replicas that are up.
    pub(crate) fn set_node_up(&mut self, id: i32, up: bool) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.up = up;
        }
        let live = self.live();
        for topic in self.topics.values() {
            for partition in &topic.partitions {
                partition.follow_liveness(&live);
            }
        }
    }

    /// The nodes that are up.
    pub(crate) fn live(&self) -> BTreeSet<i32> {
        self.nodes
            .values()
            .filter(|node| node.up)
            .map(|node| node.id)
            .collect()
    }

    /// Those of `replicas` that are not up.
    pub(crate) fn offline(&self, replicas: &[i32]) -> Vec<i32> {
        let is_up = |id: &i32| self.nodes.get(id).is_some_and(|node| node.up);
        replicas.iter().copied().filter(|id| !is_up(id)).collect()
    }

    /// Hands a partition's leadership to `node`, which must be one of its replicas and up.
    pub(crate) fn move_leader(
        &self,
        topic: &str,
        partition: i32,
        node: i32,
    ) -> Result<(), ErrorCode> {
        let partition = self.can_lead(topic, partition, node)?;
        partition.state.lock().lead(Some(node));
        Ok(())
    }

    /// The partition, which `node` may lead: it is one of its replicas, and up.
    pub(crate) fn can_lead(
        &self,
        topic: &str,
        partition: i32,
        node: i32,
    ) -> Result<&Arc<Partition>, ErrorCode> {
        let partition = self
            .topic(topic)
            .and_then(|topic| topic.partition(partition))
            .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        if !partition.state.lock().replicas.contains(&node) {
            return Err(ErrorCode::INVALID_REPLICA_ASSIGNMENT);
        }
        if !self.nodes.get(&node).is_some_and(|node| node.up) {
            return Err(ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE);
        }
        Ok(partition)
    }
}

impl Topic {
    pub(crate) fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

impl Partition {
    pub(crate) fn new(index: i32, replicas: Vec<i32>, live: &BTreeSet<i32>, log: Log) -> Self {
        let in_sync: Vec<i32> = replicas
            .iter()
            .copied()
            .filter(|id| live.contains(id))
            .collect();
        let leader = in_sync.first().copied();
        let leader_epoch = log.latest_epoch() + 1;
        let state = PartitionState {
            replicas,
            leader,
            leader_epoch,
            in_sync,
            log,
            follower_ends: BTreeMap::new(),
            waiting: Vec::new(),
        };
        Self {
            index,
            state: Mutex::new(state),
        }
    }

    fn follow_liveness(&self, live: &BTreeSet<i32>) {
        self.state.lock().follow_liveness(live);
    }
}

impl PartitionState {
    fn follow_liveness(&mut self, live: &BTreeSet<i32>) {
        let in_sync: Vec<i32> = self
            .replicas
            .iter()
            .copied()
            .filter(|id| live.contains(id))
            .collect();
        let leads = |leader| live.contains(&leader) && self.replicas.contains(&leader);
        let leader_stays = self.leader.is_some_and(leads);
        if !in_sync.is_empty() {
            self.in_sync = in_sync;
        }
        if !leader_stays {
            let successor = self.in_sync.iter().copied().find(|id| live.contains(id));
            if successor != self.leader {
                self.lead(successor);
            }
        }
    }

    /// Moves the partition to other nodes, of which one at least must be up. The leader stays if it is among them.
    pub(crate) fn reassign(&mut self, replicas: Vec<i32>, live: &BTreeSet<i32>) {
        self.replicas = replicas;
        self.follow_liveness(live);
    }

    /// Gives the partition another leader, in a new epoch.
    pub(crate) fn lead(&mut self, leader: Option<i32>) {
        self.leader = leader;
        self.leader_epoch += 1;
        self.wake();
    }

    /// Whether a node has the log and does not lead.
    pub(crate) fn is_follower(&self, node: i32) -> bool {
        self.leader.is_some_and(|leader| leader != node) && self.in_sync.contains(&node)
    }

    /// Up to where a node has the log.
    pub(crate) fn end_at(&self, node: i32) -> i64 {
        let end = self.log.end_offset();
        match self.follower_ends.get(&node) {
            Some(lagging) if self.leader != Some(node) => end.min(*lagging),
            _ => end,
        }
    }

    /// Lets a node lag behind, or with `None` catch up.
    pub(crate) fn set_follower_end(&mut self, node: i32, end: Option<i64>) {
        match end {
            Some(end) => drop(self.follower_ends.insert(node, end)),
            None => drop(self.follower_ends.remove(&node)),
        }
        self.wake();
    }

    /// Asks to be notified at the next append or change of leader.
    pub(crate) fn wait(&mut self, waiter: &Arc<Notify>) {
        self.waiting.push(Arc::clone(waiter));
    }

    /// How many wish to be notified.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a wish to be notified back.
    pub(crate) fn stop_waiting(&mut self, waiter: &Arc<Notify>) {
        self.waiting.retain(|other| !Arc::ptr_eq(other, waiter));
    }

    pub(crate) fn wake(&mut self) {
        for waiter in self.waiting.drain(..) {
            waiter.notify_one();
        }
    }

    /// Whether `node` may serve this partition to a client that believes in `epoch` (-1: in any).
    pub(crate) fn check_leader(&self, node: i32, epoch: i32) -> Result<(), ErrorCode> {
        if self.leader != Some(node) {
            return Err(match self.leader {
                Some(_) => ErrorCode::NOT_LEADER_OR_FOLLOWER,
                None => ErrorCode::LEADER_NOT_AVAILABLE,
            });
        }
        self.check_epoch(epoch)
    }

    /// Whether a client that believes in `epoch` (-1: in any) is right.
    pub(crate) fn check_epoch(&self, epoch: i32) -> Result<(), ErrorCode> {
        match epoch {
            -1 => Ok(()),
            epoch if epoch < self.leader_epoch => Err(ErrorCode::FENCED_LEADER_EPOCH),
            epoch if epoch > self.leader_epoch => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
            _ => Ok(()),
        }
    }
}
