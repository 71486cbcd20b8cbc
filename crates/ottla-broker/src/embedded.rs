//! The embedded cluster: starts its nodes, lets a program control them, and stops them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ottla_wire::compress::Decompressor;
use ottla_wire::record::{Batch, Batches};
use ottla_wire::{ErrorCode, Uuid};
use parking_lot::Mutex;
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::cluster::{Cluster, Node};
use crate::context::Shared;
use crate::damage::Damage;
use crate::error::{Error, Refused};
use crate::features::TRANSACTION_VERSION;
use crate::group::Groups;
use crate::group::classic::GroupSettings;
use crate::group::consumer::ConsumerGroupSettings;
use crate::log::READ_STEP;
use crate::options::BrokerOptions;
use crate::recovery;
use crate::script::Rule;
use crate::server;
use crate::storage::DataDir;
use crate::topic_config::TopicConfig;
use crate::topics::{self, NewTopic};

/// A running cluster of one or several nodes in this process. Dropping it stops it at once, without waiting.
#[derive(Debug)]
pub struct EmbeddedCluster {
    shared: Arc<Shared>,
    nodes: Mutex<BTreeMap<i32, RunningNode>>,
    damage: Vec<Damage>,
    background: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct RunningNode {
    /// Ends the node's listener and every connection.
    stop: Arc<Stop>,
    /// Every connection in memory has a receiver of it, for as long as it lasts.
    open: watch::Sender<()>,
    task: JoinHandle<()>,
}

/// A wish to stop. Whoever waits for it is woken in the order of waiting, so that simulations run the same every time.
#[derive(Debug, Default)]
struct Stop {
    asked: AtomicBool,
    news: Notify,
}

impl Stop {
    fn ask(&self) {
        self.asked.store(true, Ordering::Release);
        self.news.notify_waiters();
    }

    /// Waits until it is asked for, which may have been before. Cancel-safe.
    async fn asked(&self) {
        let news = self.news.notified();
        tokio::pin!(news);
        // In this order: what is asked for in between is not missed.
        news.as_mut().enable();
        if !self.asked.load(Ordering::Acquire) {
            news.await;
        }
    }
}

impl EmbeddedCluster {
    /// Starts the cluster; when this returns, every node accepts connections. Needs a tokio runtime with time
    /// and I/O enabled.
    ///
    /// # Errors
    /// If the options make no sense, an address cannot be listened on, or the data directory is in use, of
    /// another version, or unreadable.
    pub async fn start(options: BrokerOptions) -> Result<Self, Error> {
        check_nodes(&options)?;
        let (host, port) = options
            .listen
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host.to_owned(), port.parse::<u16>().ok()?)))
            .ok_or_else(|| {
                Error::Options(format!("listen={}: expected HOST:PORT", options.listen))
            })?;
        if port != 0 && port.checked_add(options.nodes - 1).is_none() {
            return Err(Error::Options(format!(
                "listen={}: the {} nodes take the ports from there on, and there are none above 65535",
                options.listen, options.nodes
            )));
        }
        let mut listeners = Vec::new();
        for index in 0..options.nodes {
            // Cannot overflow: the last one was checked.
            let port = if port == 0 { 0 } else { port + index };
            let address = format!("{host}:{port}");
            let listener = TcpListener::bind(&address)
                .await
                .map_err(|source| Error::Listen {
                    address: address.clone(),
                    source,
                })?;
            listeners.push(listener);
        }
        let mut nodes = Vec::new();
        for (index, listener) in listeners.iter().enumerate() {
            let address = listener.local_addr().map_err(|source| Error::Listen {
                address: options.listen.clone(),
                source,
            })?;
            // Clients must be able to connect to what is advertised, which nobody can to 0.0.0.0.
            let unspecified = address.ip().is_unspecified();
            let host = host.trim_start_matches('[').trim_end_matches(']');
            nodes.push(Node {
                id: index as i32 + 1,
                host: if unspecified {
                    "127.0.0.1".to_owned()
                } else {
                    host.to_owned()
                },
                port: address.port(),
                rack: options.racks.get(index).cloned(),
                up: true,
            });
        }
        let cluster = Self::with_nodes(options, nodes)?;
        for (id, listener) in (1..).zip(listeners) {
            cluster.run_node(id, Some(listener));
        }
        Ok(cluster)
    }

    /// Starts a cluster without sockets: clients reach it through [`Self::connect`] only.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_in_memory(options: BrokerOptions) -> Result<Self, Error> {
        check_nodes(&options)?;
        let nodes: Vec<Node> = (0..options.nodes)
            .map(|index| Node {
                id: i32::from(index) + 1,
                host: "memory".to_owned(),
                port: index + 1,
                rack: options.racks.get(usize::from(index)).cloned(),
                up: true,
            })
            .collect();
        let ids: Vec<i32> = nodes.iter().map(|node| node.id).collect();
        let cluster = Self::with_nodes(options, nodes)?;
        for id in ids {
            cluster.run_node(id, None);
        }
        Ok(cluster)
    }

    fn with_nodes(options: BrokerOptions, nodes: Vec<Node>) -> Result<Self, Error> {
        TopicConfig::with_defaults(&options.topic_defaults, []).map_err(Error::Options)?;
        let data_dir = match &options.data_dir {
            None => None,
            Some(path) => Some(DataDir::open(path, || random_id().to_string())?),
        };
        let cluster_id = data_dir.as_ref().map_or_else(
            || random_id().to_string(),
            |dir| dir.cluster_id().to_owned(),
        );
        let classic = GroupSettings {
            session_timeout_min: Duration::from_secs(1),
            session_timeout_max: Duration::from_secs(1800),
            initial_rebalance_delay: options.initial_rebalance_delay,
            members_max: 10_000,
        };
        let consumer = ConsumerGroupSettings {
            session_timeout: options.consumer_session_timeout,
            heartbeat_interval: options.consumer_heartbeat_interval,
            members_max: 10_000,
            migration: options.consumer_migration,
        };
        let groups = Groups::new(classic, consumer);
        let wanted = options.topics.clone();
        let shared = Arc::new(Shared::new(
            options,
            Cluster::new(cluster_id, nodes),
            groups,
            data_dir,
        ));
        let damage = recovery::recover(&shared)?;
        for (name, partitions) in wanted {
            let missing = shared.cluster.read().topic(&name).is_none();
            if missing {
                let new = NewTopic {
                    name,
                    partitions: Some(partitions),
                    ..NewTopic::default()
                };
                let topic = new.name.clone();
                topics::create(&shared, &new, false).map_err(|error| Error::Topic {
                    topic,
                    message: error.message,
                })?;
            }
        }
        let background = vec![
            tokio::spawn(Arc::clone(&shared).run_group_clock()),
            tokio::spawn(Arc::clone(&shared).run_retention()),
            tokio::spawn(Arc::clone(&shared).run_cleaner()),
            tokio::spawn(Arc::clone(&shared).run_transaction_clock()),
            tokio::spawn(Arc::clone(&shared).run_offsets_retention()),
        ];
        Ok(Self {
            shared,
            nodes: Mutex::default(),
            damage,
            background,
        })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn run_node(&self, id: i32, listener: Option<TcpListener>) {
        let stop = Arc::new(Stop::default());
        let shared = Arc::clone(&self.shared);
        let task = match listener {
            Some(listener) => tokio::spawn(accept(shared, id, listener, Arc::clone(&stop))),
            None => tokio::spawn(async {}),
        };
        let open = watch::Sender::new(());
        let node = RunningNode { stop, open, task };
        self.nodes.lock().insert(id, node);
    }

    /// What clients are to be given as `bootstrap.servers`: `host:port` of every node, separated by commas.
    #[must_use]
    pub fn bootstrap_servers(&self) -> String {
        let cluster = self.shared.cluster.read();
        let nodes: Vec<String> = cluster
            .nodes
            .values()
            .map(|node| format!("{}:{}", node.host, node.port))
            .collect();
        nodes.join(",")
    }

    /// The cluster's id, which a data directory keeps.
    #[must_use]
    pub fn cluster_id(&self) -> String {
        self.shared.cluster.read().id.clone()
    }

    /// The ids of all nodes, up or not.
    #[must_use]
    pub fn node_ids(&self) -> Vec<i32> {
        self.shared.cluster.read().nodes.keys().copied().collect()
    }

    /// Connects to a node over memory, as if over a socket. `None` if there is no such node or it is down.
    #[must_use]
    pub fn connect(&self, node: i32) -> Option<DuplexStream> {
        let nodes = self.nodes.lock();
        let running = nodes.get(&node)?;
        let (stop, open) = (Arc::clone(&running.stop), running.open.subscribe());
        let (client, server) = tokio::io::duplex(MEMORY_PIPE);
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let _open = open;
            tokio::select! {
                biased;
                () = stop.asked() => {}
                () = server::serve(shared, node, "memory".to_owned(), server) => {}
            }
        });
        Some(client)
    }

    /// Creates a topic with the broker's default replication.
    ///
    /// # Errors
    /// [`Error::Topic`] if it exists or the name or number is invalid.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), Error> {
        self.create_topic_with(name, partitions, &[])
    }

    /// Creates a topic with settings by Kafka's names, such as `("cleanup.policy", "compact")`.
    ///
    /// # Errors
    /// [`Error::Topic`] if it exists, or the name, the number or a setting is invalid.
    pub fn create_topic_with(
        &self,
        name: &str,
        partitions: i32,
        config: &[(&str, &str)],
    ) -> Result<(), Error> {
        let config = config
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let new = NewTopic {
            name: name.to_owned(),
            partitions: Some(partitions),
            config: config.collect(),
            ..NewTopic::default()
        };
        match topics::create(&self.shared, &new, false) {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::Topic {
                topic: name.to_owned(),
                message: error.message,
            }),
        }
    }

    /// The id of a topic.
    #[must_use]
    pub fn topic_id(&self, name: &str) -> Option<Uuid> {
        Some(self.shared.cluster.read().topic(name)?.id)
    }

    /// Adds a fault to the script: what happens to the n-th request of a kind.
    pub fn inject(&self, rule: Rule) {
        self.shared.script.add(rule);
    }

    /// Removes every fault.
    pub fn clear_faults(&self) {
        self.shared.script.clear();
    }

    /// How often each kind of fault struck a request so far, by [`Fault::name`](crate::Fault::name); a rule that
    /// never met its request does not count.
    #[must_use]
    pub fn faults_struck(&self) -> BTreeMap<&'static str, u64> {
        self.shared.script.struck()
    }

    /// Makes everything before `offset` of a partition unreadable, as DeleteRecords does.
    ///
    /// # Errors
    /// [`Error::Broker`] if the partition is unknown, the offset behind its end, or the disk fails.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) -> Result<i64, Error> {
        let refused = |error| Error::Broker {
            what: format!("delete records of {topic}-{partition} before {offset}"),
            error,
        };
        let cluster = self.shared.cluster.read();
        let mut state = cluster
            .topic(topic)
            .and_then(|topic| topic.partition(partition))
            .ok_or_else(|| refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION))?
            .state
            .lock();
        if !(0..=state.log.end_offset()).contains(&offset) {
            return Err(refused(ErrorCode::OFFSET_OUT_OF_RANGE));
        }
        state.log.delete_before(offset).map_err(|error| {
            tracing::error!(topic, partition, %error, "cannot delete");
            refused(ErrorCode::KAFKA_STORAGE_ERROR)
        })
    }

    /// What a group has committed for a partition.
    #[must_use]
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let groups = self.shared.groups.lock();
        let committed = groups.get(group)?.offsets.get(topic, partition)?;
        Some(committed.offset)
    }

    /// The first offset of a partition that a share group is not done with: it is to be acquired, or acquired, or was
    /// never acquired. None if the group has not begun to read the partition.
    #[must_use]
    pub fn share_start(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let id = (self.topic_id(topic)?, partition);
        let groups = self.shared.groups.lock();
        let share = groups.get(group)?.share.as_ref()?;
        Some(share.partitions.get(&id)?.progress().start)
    }

    /// Gives a share group settings, such as `share.record.lock.duration.ms`, as IncrementalAlterConfigs does. The group
    /// need not exist.
    ///
    /// # Errors
    /// [`Error::Options`] for a setting or value that there is not.
    pub fn set_share_group(&self, group: &str, settings: &[(&str, &str)]) -> Result<(), Error> {
        let changes = settings.iter().map(|(name, value)| (*name, Some(*value)));
        let changed = self.shared.change_settings(false, |settings| {
            let changed = settings.groups.change(group, changes);
            changed.map_err(|message| Refused {
                error: ErrorCode::INVALID_CONFIG,
                message,
            })
        });
        changed.map_err(|refused| Error::Options(refused.message))
    }

    /// Moves a partition's leadership to `node`.
    ///
    /// # Errors
    /// [`Error::Broker`] if the partition is unknown, or the node is no replica of it or down.
    pub fn move_leader(&self, topic: &str, partition: i32, node: i32) -> Result<(), Error> {
        self.shared
            .cluster
            .read()
            .move_leader(topic, partition, node)
            .map_err(|error| Error::Broker {
                what: format!("leader of {topic}-{partition} to node {node}"),
                error,
            })
    }

    /// Who leads a partition.
    #[must_use]
    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        let cluster = self.shared.cluster.read();
        cluster
            .topic(topic)?
            .partition(partition)?
            .state
            .lock()
            .leader
    }

    /// The first and the next offset of a partition.
    #[must_use]
    pub fn offsets(&self, topic: &str, partition: i32) -> Option<(i64, i64)> {
        let cluster = self.shared.cluster.read();
        let state = cluster.topic(topic)?.partition(partition)?.state.lock();
        Some((state.log.start_offset(), state.log.end_offset()))
    }

    /// What was found wrong in the data directory at the start, and what became of it; nothing in memory.
    #[must_use]
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Fills the disk, for tests: the data directory takes only so many more bytes, then every write ends in the
    /// middle. `None` makes room again. Nothing in memory.
    ///
    /// While it is full, producing fails with `KAFKA_STORAGE_ERROR`, and what was acknowledged can still be read.
    pub fn limit_disk(&self, bytes: Option<u64>) {
        if let Some(data_dir) = &self.shared.data_dir {
            data_dir.limit(bytes);
        }
    }

    /// Every record of a partition, as offset and value, read straight from the log. `None` if there is no such
    /// partition, or its log cannot be read.
    #[must_use]
    pub fn records(&self, topic: &str, partition: i32) -> Option<Vec<(i64, Option<Vec<u8>>)>> {
        let start = self.offsets(topic, partition)?.0;
        let mut records = Vec::new();
        for batch in self.batches(topic, partition)? {
            if batch.is_control() {
                continue;
            }
            let decoded = batch.decode(&mut Decompressor::new(), usize::MAX).ok()?;
            for record in decoded.records() {
                let record = record.ok()?;
                if record.offset() >= start {
                    records.push((record.offset(), record.value().map(<[u8]>::to_vec)));
                }
            }
        }
        Some(records)
    }

    /// Every batch of a partition, the markers of transactions among them, read straight from the log. The first
    /// may begin before the log does. `None` if there is no such partition, or its log cannot be read.
    #[must_use]
    pub fn batches(&self, topic: &str, partition: i32) -> Option<Vec<Batch>> {
        let partition = self
            .shared
            .cluster
            .read()
            .topic(topic)?
            .partition(partition)?
            .clone();
        let state = partition.state.lock();
        let (mut offset, end) = (state.log.start_offset(), state.log.end_offset());
        let mut batches = Vec::new();
        while offset < end {
            let bytes = state.log.read(offset, end, READ_STEP, true).ok()?;
            for batch in Batches::new(bytes) {
                let batch = batch.ok()?;
                offset = batch.next_offset();
                batches.push(batch);
            }
        }
        Some(batches)
    }

    /// Sets `transaction.version`, as UpdateFeatures does: with 2, the default, producers use the flow of KIP-890,
    /// below it the one before. A producer learns of it with its next connection.
    ///
    /// # Errors
    /// [`Error::Broker`] if it is not 0, 1 or 2, or cannot be kept.
    pub fn set_transaction_version(&self, level: i16) -> Result<(), Error> {
        let refused = |error| Error::Broker {
            what: format!("transaction.version={level}"),
            error,
        };
        if !(0..=TRANSACTION_VERSION.max).contains(&level) {
            return Err(refused(ErrorCode::INVALID_UPDATE_VERSION));
        }
        let changed = self.shared.change_settings(false, |settings| {
            settings.levels.change([(TRANSACTION_VERSION, level)]);
            Ok(())
        });
        changed.map_err(|reason| refused(reason.error))
    }

    /// Compacts a partition of a topic with `cleanup.policy=compact` at once, the records that were just written
    /// included, whatever `min.cleanable.dirty.ratio` says; `min.compaction.lag.ms` is obeyed. Blocks until it is done.
    ///
    /// Tombstones go if an earlier compaction has seen them and `delete.retention.ms` has passed since.
    ///
    /// # Errors
    /// [`Error::Broker`] if the partition is unknown, its topic is not compacted, or its log cannot be rewritten.
    pub fn compact(&self, topic: &str, partition: i32) -> Result<(), Error> {
        let refused = |error| Error::Broker {
            what: format!("compaction of {topic}-{partition}"),
            error,
        };
        let found = self.shared.cluster.read().topic(topic).cloned();
        let found = found.ok_or(refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION))?;
        if !found.config.log.compact {
            return Err(refused(ErrorCode::POLICY_VIOLATION));
        }
        let partition = found
            .partition(partition)
            .ok_or(refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION))?;
        let log = &mut partition.state.lock().log;
        let now_ms = self.shared.now_ms();
        let compacted = log.roll(now_ms).and_then(|()| {
            if let Some(job) = log.cleaning_job(now_ms, true)? {
                log.install(job.run()?)?;
            }
            Ok(())
        });
        compacted.map_err(|error| {
            tracing::error!(topic, %error, "cannot compact");
            refused(ErrorCode::KAFKA_STORAGE_ERROR)
        })
    }

    /// Makes `node` the coordinator of a group.
    pub fn move_coordinator(&self, group: &str, node: i32) {
        self.shared.cluster.write().appoint(group, node);
    }

    /// Stops a node as a crash would: its connections break at once, its leaderships move to other nodes.
    /// Returns when its listener is closed.
    ///
    /// # Errors
    /// [`Error::Broker`] if there is no such node or it is down already.
    pub async fn stop_node(&self, id: i32) -> Result<(), Error> {
        let running = self
            .nodes
            .lock()
            .remove(&id)
            .ok_or_else(|| no_such_node(id))?;
        running.stop.ask();
        // The accept loop cannot fail but by a panic, which has been printed.
        let _ = running.task.await;
        self.shared.sessions.lock().forget_node(id);
        self.shared.cluster.write().set_node_up(id, false);
        Ok(())
    }

    /// Starts a node that was stopped, on its old port.
    ///
    /// # Errors
    /// [`Error::Listen`] if the port was taken meanwhile; [`Error::Broker`] if there is no such node or it runs.
    pub async fn start_node(&self, id: i32) -> Result<(), Error> {
        let node = self.shared.cluster.read().nodes.get(&id).cloned();
        let node = node
            .filter(|node| !node.up)
            .ok_or_else(|| no_such_node(id))?;
        let listener = if node.host == "memory" {
            None
        } else {
            let address = format!("{}:{}", node.host, node.port);
            let bound = TcpListener::bind(&address).await;
            Some(bound.map_err(|source| Error::Listen { address, source })?)
        };
        self.shared.cluster.write().set_node_up(id, true);
        self.run_node(id, listener);
        Ok(())
    }

    /// Stops every node, lets connections end, and puts what was written on the disk.
    pub async fn stop(mut self) {
        let nodes = std::mem::take(&mut *self.nodes.lock());
        for node in nodes.values() {
            node.stop.ask();
        }
        for node in nodes.into_values() {
            let _ = node.task.await;
            // Connections in memory have no listener to wait for; what they hold has to be let go of too.
            node.open.closed().await;
        }
        for task in self.background.drain(..) {
            task.abort();
            let _ = task.await;
        }
        if self.shared.data_dir.is_some() {
            // What members that were cut off gave back.
            let unkept = self.shared.groups.lock().unkept_shares();
            for group in unkept {
                if let Err(error) = self.shared.group_kept(&group).await {
                    tracing::error!(group, %error, "cannot write a group");
                }
            }
        }
        for topic in self.shared.cluster.read().topics() {
            for partition in &topic.partitions {
                if let Err(error) = partition.state.lock().log.sync() {
                    tracing::error!(topic = topic.name, partition = partition.index, %error, "cannot flush");
                }
            }
        }
    }
}

impl Drop for EmbeddedCluster {
    fn drop(&mut self) {
        for node in self.nodes.lock().values() {
            node.stop.ask();
            node.task.abort();
        }
        for task in &self.background {
            task.abort();
        }
    }
}

fn check_nodes(options: &BrokerOptions) -> Result<(), Error> {
    if (1..=100).contains(&options.nodes) {
        return Ok(());
    }
    Err(Error::Options(format!(
        "nodes={}: 1 to 100 are possible",
        options.nodes
    )))
}

async fn accept(shared: Arc<Shared>, id: i32, listener: TcpListener, stop: Arc<Stop>) {
    let permits = Arc::new(Semaphore::new(shared.options.connections_max));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.asked() => break,
            // Finished connections are let go of as they end.
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                    tracing::warn!(node = id, %peer, "refused: max.connections is reached");
                    continue;
                };
                let _ = stream.set_nodelay(true);
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let _permit = permit;
                    server::serve(shared, id, peer.ip().to_string(), stream).await;
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely; it passes when connections end.
                tracing::warn!(node = id, %error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    connections.shutdown().await;
}

fn no_such_node(id: i32) -> Error {
    Error::Broker {
        what: format!("node {id}"),
        error: ErrorCode::BROKER_NOT_AVAILABLE,
    }
}

fn random_id() -> Uuid {
    Uuid(fastrand::u128(..).to_be_bytes())
}

/// How much an in-memory connection holds in each direction.
const MEMORY_PIPE: usize = 256 << 10;
