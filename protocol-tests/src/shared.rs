//! The one Kafka that all tests of a test binary share.

use std::{
    ops::Deref,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{Distribution, Error, KafkaCluster, Options, Tools, Version, or_skip, topic};

/// A Kafka to test against: a node started for this test binary, or someone else's cluster.
#[derive(Debug)]
pub struct Kafka {
    bootstrap: String,
    tools: Distribution,
    cluster: Option<KafkaCluster>,
}

impl Kafka {
    /// The Kafka of this test binary: the cluster that `OTTLA_BOOTSTRAP` names, else one node of
    /// the newest version, started by the first test that asks.
    ///
    /// Topics and groups are shared with the other tests, so name them with [`unique`].
    /// `None` when the test is to be skipped.
    pub fn shared() -> Option<Lease> {
        static KAFKA: OnceLock<Result<Kafka, (bool, String, String)>> = OnceLock::new();
        let started = KAFKA.get_or_init(|| {
            Self::find_or_start().map_err(|error| match error {
                Error::Missing { what, remedy } => (true, what, remedy),
                Error::Failed(what) => (false, what, String::new()),
            })
        });
        let found = match started {
            Ok(kafka) => Ok(kafka),
            Err((true, what, remedy)) => Err(Error::missing(what, remedy)),
            Err((false, what, _)) => Err(Error::failed(what)),
        };
        or_skip(found).map(|kafka| Lease { kafka })
    }

    fn find_or_start() -> Result<Self, Error> {
        let version = Version::default();
        let tools = Distribution::get(version)?;
        let external = std::env::var("OTTLA_BOOTSTRAP").unwrap_or_default();
        if !external.is_empty() {
            return Ok(Self {
                bootstrap: external,
                tools,
                cluster: None,
            });
        }
        let cluster = KafkaCluster::start_on(
            &tools,
            Options {
                version,
                ..Options::default()
            },
        )?;
        Ok(Self {
            bootstrap: cluster.bootstrap(),
            tools,
            cluster: Some(cluster),
        })
    }

    /// The addresses to start from, as `bootstrap.servers` takes them.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The cluster that was started, for tests that look into its directories.
    ///
    /// `None`, after saying so, when the cluster is someone else's.
    pub fn cluster(&self) -> Option<&KafkaCluster> {
        let external = || {
            Error::missing(
                "the cluster of OTTLA_BOOTSTRAP cannot be looked into",
                "unset OTTLA_BOOTSTRAP to run this test too",
            )
        };
        or_skip(self.cluster.as_ref().ok_or_else(external))
    }

    /// Creates a topic of one replica and waits until it has leaders.
    ///
    /// # Panics
    ///
    /// When that fails.
    pub fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        topic::create(&self.bootstrap, name, partitions, 1, configs);
    }

    /// Kafka's own tools, pointed at this Kafka.
    pub fn tools(&self) -> Tools {
        Tools::new(self.tools.clone(), self.bootstrap.clone())
    }
}

/// One test's use of the shared Kafka: keeps the broker's logs if the test fails.
#[derive(Debug)]
pub struct Lease {
    kafka: &'static Kafka,
}

impl Deref for Lease {
    type Target = Kafka;

    fn deref(&self) -> &Kafka {
        self.kafka
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if thread::panicking()
            && let Some(cluster) = &self.kafka.cluster
        {
            cluster.keep_logs();
        }
    }
}

/// `prefix` made into a name that no other test, process or earlier run uses.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let millis = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    format!("{prefix}-{:x}-{millis:x}-{number}", std::process::id())
}
