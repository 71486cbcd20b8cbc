//! A Kafka cluster of one's own: started, waited for, controlled, and removed on drop.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    Distribution, Error, NodeId, Proxy, Tools, Version,
    by_hand::Broker,
    node::{self, Node, START_LIMIT},
    settings, topic,
    watchdog::Watchdog,
};

/// What cluster to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// The version of Kafka.
    pub version: Version,
    /// How many nodes, each broker and controller: 1, or 3 to survive the loss of one.
    pub nodes: usize,
    /// Heap of each node in MiB.
    pub heap_mb: u32,
    /// Broker settings that differ from the harness's own.
    pub properties: Vec<(String, String)>,
    /// The first node's port, the others' following; free ports when `None`.
    pub first_port: Option<u16>,
    /// Whether each node has a [`Proxy`] that its clients can be sent through.
    pub proxied: bool,
    /// Whether each node stands in a rack of its own, `rack-1` and so on, and leaders send readers to the replica in
    /// their rack (KIP-392).
    pub racked: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            version: Version::default(),
            nodes: 1,
            heap_mb: 256,
            properties: Vec::new(),
            first_port: None,
            proxied: false,
            racked: false,
        }
    }
}

impl Options {
    /// This, with the broker setting `key` at `value`.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.properties.push((key.to_owned(), value.to_string()));
        self
    }
}

/// A running cluster.
///
/// Dropping it kills its nodes and removes its directories, but keeps the directories when the
/// thread is panicking, and says where they are.
#[derive(Debug)]
pub struct KafkaCluster {
    kafka: Distribution,
    dir: PathBuf,
    nodes: Vec<Mutex<Node>>,
    proxies: Vec<Proxy>,
}

impl KafkaCluster {
    /// Starts a cluster and waits until every node serves and knows all the others.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] when the machine lacks what Kafka needs, [`Error::Failed`] with the end
    /// of a broker's log when a node did not come up.
    pub fn start(options: Options) -> Result<Self, Error> {
        Self::start_on(&Distribution::get(options.version)?, options)
    }

    pub(crate) fn start_on(kafka: &Distribution, options: Options) -> Result<Self, Error> {
        // A port that was free a moment ago may be taken by the time the broker binds it.
        for _ in 0..4 {
            let cluster = Self::launch(kafka, &options)?;
            match cluster.wait_until_ready() {
                Ok(()) => return Ok(cluster),
                Err(error) => {
                    let taken = cluster
                        .nodes()
                        .any(|id| cluster.node(id).found_its_port_taken());
                    if !taken || options.first_port.is_some() {
                        Watchdog::keep(&cluster.dir);
                        return Err(error);
                    }
                }
            }
        }
        Err(Error::failed("every port tried was taken by someone else"))
    }

    fn launch(kafka: &Distribution, options: &Options) -> Result<Self, Error> {
        let dir = Watchdog::get()?.directory(&format!("kafka-{}", kafka.version().number()))?;
        let proxies = (0..options.nodes)
            .filter(|_| options.proxied)
            .map(|_| Proxy::unconnected())
            .collect::<Result<Vec<_>, Error>>()?;
        let ports = (0..options.nodes)
            .map(|index| {
                let proxy = proxies.get(index).map(|proxy| proxy.address().port());
                let mut ports = node::free_ports(proxy)?;
                if let Some(first) = options.first_port {
                    ports.broker = first + index as u16;
                }
                Ok(ports)
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let format_and_start = |index: usize| {
            let dir = dir.join(format!("node-{}", index + 1));
            let data = node::data(&dir);
            let mut properties = Vec::new();
            if options.racked {
                properties.push(("broker.rack".to_owned(), format!("rack-{}", index + 1)));
                properties.push(("replica.selector.class".to_owned(), RACK_AWARE.to_owned()));
            }
            properties.extend(options.properties.iter().cloned());
            let text = settings::server_properties(index, &ports, &data, &properties);
            let heap = options.heap_mb;
            let mut node = Node::format(kafka, dir, ports[index], heap, CLUSTER_ID, &text)?;
            node.start(kafka)?;
            Ok(Mutex::new(node))
        };
        let nodes = thread::scope(|scope| {
            let starting: Vec<_> = (0..options.nodes)
                .map(|index| scope.spawn(move || format_and_start(index)))
                .collect();
            starting
                .into_iter()
                .map(|thread| thread.join().expect("starting a node does not panic"))
                .collect::<Result<Vec<_>, Error>>()
        })?;
        let cluster = Self {
            kafka: kafka.clone(),
            dir,
            nodes,
            proxies,
        };
        for (id, proxy) in cluster.nodes().zip(&cluster.proxies) {
            if let Some(upstream) = cluster.node(id).proxied_address() {
                proxy.connect(upstream);
            }
        }
        Ok(cluster)
    }

    /// The addresses of all nodes, as `bootstrap.servers` takes them.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<_> = self
            .nodes()
            .map(|id| self.address(id).to_string())
            .collect();
        addresses.join(",")
    }

    /// The proxy before node `id`: clients that start from it stay on proxies throughout.
    ///
    /// # Panics
    ///
    /// Unless the cluster was started with [`Options::proxied`].
    pub fn proxy(&self, id: NodeId) -> &Proxy {
        let index = usize::try_from(id - 1).unwrap_or(usize::MAX);
        self.proxies
            .get(index)
            .expect("the cluster was started with Options::proxied")
    }

    /// The addresses of all proxies, as `bootstrap.servers` takes them.
    pub fn proxied_bootstrap(&self) -> String {
        let addresses: Vec<_> = self
            .proxies
            .iter()
            .map(|p| p.address().to_string())
            .collect();
        addresses.join(",")
    }

    /// The ids of the nodes, running or not.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        1..=self.nodes.len() as NodeId
    }

    /// Where node `id` listens, running or not.
    pub fn address(&self, id: NodeId) -> SocketAddr {
        self.node(id).address()
    }

    /// Where node `id` keeps its partitions, one directory `topic-partition` each.
    pub fn log_dir(&self, id: NodeId) -> PathBuf {
        self.node(id).data()
    }

    /// The operating system's id of node `id`'s process, while it runs.
    pub fn process_id(&self, id: NodeId) -> Option<u32> {
        self.node(id).process_id()
    }

    /// Kafka's own tools, of the cluster's version, pointed at this cluster.
    pub fn tools(&self) -> Tools {
        Tools::new(self.kafka.clone(), self.bootstrap())
    }

    /// The same tools, whose requests and replies pass the proxies.
    ///
    /// Without [`Options::proxied`] they would find nobody.
    pub fn proxied_tools(&self) -> Tools {
        Tools::new(self.kafka.clone(), self.proxied_bootstrap())
    }

    /// Creates a topic on all the nodes there are, three at most, and waits until it has leaders.
    ///
    /// # Panics
    ///
    /// When that fails.
    pub fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let replicas = self.nodes.len().min(3) as i16;
        topic::create(&self.bootstrap(), name, partitions, replicas, configs);
    }

    /// Whether the process of node `id` is there; a paused one is.
    pub fn is_running(&self, id: NodeId) -> bool {
        self.node(id).is_running()
    }

    /// Kills node `id` with -9 and returns when it is gone.
    pub fn kill(&self, id: NodeId) {
        self.node(id).kill();
    }

    /// Asks node `id` to shut down, which moves its leaderships away first, and returns when it
    /// has; kills it if it has not within a minute.
    pub fn stop(&self, id: NodeId) {
        self.node(id).stop();
    }

    /// Starts node `id` again on the port and data it had. Returns when it serves.
    ///
    /// # Errors
    ///
    /// When it does not come up; with the end of its log.
    pub fn restart(&self, id: NodeId) -> Result<(), Error> {
        self.node(id).start(&self.kafka)?;
        self.wait_until_ready()
    }

    /// Stops node `id` in its tracks: its connections stay open and nothing answers on them.
    pub fn pause(&self, id: NodeId) {
        self.node(id).pause();
    }

    /// Lets a paused node go on.
    pub fn resume(&self, id: NodeId) {
        self.node(id).signal(Signal::CONT);
    }

    /// Waits until every node whose process runs answers and knows all running nodes.
    ///
    /// # Errors
    ///
    /// When that takes more than three minutes or a node dies; with the end of its log.
    pub fn wait_until_ready(&self) -> Result<(), Error> {
        let deadline = Instant::now() + START_LIMIT;
        let running: Vec<_> = self.nodes().filter(|&id| self.is_running(id)).collect();
        for &id in &running {
            let address = self.address(id);
            loop {
                let answer = Broker::connect(address).and_then(|mut broker| broker.brokers());
                match answer {
                    Ok(known) if running.iter().all(|id| known.contains(id)) => break,
                    _ if !self.is_running(id) => {
                        let log = self.node(id).log_tail();
                        return Err(Error::failed(format!("node {id} ended; {log}")));
                    }
                    _ if Instant::now() > deadline => {
                        let log = self.node(id).log_tail();
                        return Err(Error::failed(format!(
                            "node {id} at {address} is not ready after {START_LIMIT:?}, it \
                             answered {answer:?}; {log}"
                        )));
                    }
                    _ => thread::sleep(Duration::from_millis(50)),
                }
            }
        }
        Ok(())
    }

    /// Keeps the cluster's directories, and says on standard error where they are.
    pub fn keep_logs(&self) {
        Watchdog::keep(&self.dir);
        eprintln!(
            "the brokers' logs and data are kept in {}",
            self.dir.display()
        );
    }

    fn node(&self, id: NodeId) -> MutexGuard<'_, Node> {
        let index = usize::try_from(id - 1).unwrap_or(usize::MAX);
        match self.nodes.get(index) {
            Some(node) => node.lock().unwrap_or_else(PoisonError::into_inner),
            None => panic!(
                "no node {id}: this cluster has nodes 1 to {}",
                self.nodes.len()
            ),
        }
    }
}

impl Drop for KafkaCluster {
    fn drop(&mut self) {
        for id in self.nodes() {
            self.node(id).kill();
        }
        if thread::panicking() {
            self.keep_logs();
        }
        if !self.dir.join("keep").exists() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

const RACK_AWARE: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
const CLUSTER_ID: &str = "T3R0bGEtdW5kZXItdGVzdA";
