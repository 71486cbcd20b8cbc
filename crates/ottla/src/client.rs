//! The client of one cluster: where producers, consumers and administration come from.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use ottla_admin::Admin;
use ottla_consumer::{Consumer, ConsumerConfig, GroupProtocol, ShareConsumer, ShareConsumerConfig};
use ottla_net::{Cluster, ClusterConfig, Connector};
use ottla_producer::{Producer, ProducerConfig, TransactionError, TransactionalProducer};

use crate::config::{Config, ConfigError, Named, Settings};
use crate::error::Error;

/// A client of one cluster. Cheap to clone; clones are the same client.
///
/// What it hands out shares its connections and its knowledge of the cluster. Nothing is connected
/// before something is asked for.
///
/// ```no_run
/// use std::time::Duration;
/// use ottla::prelude::*;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::builder()
///     .bootstrap_servers("localhost:9092")
///     .set("compression.type", "lz4")
///     .producer(|p| p.linger = Duration::from_millis(20))
///     .build()?;
///
/// let producer = client.producer()?;
/// let delivery = producer.send(ProducerRecord::to("clicks").key("user-7").value("{}")).await?;
/// println!("written at offset {:?}", delivery.await?.offset());
///
/// producer.close(Duration::from_secs(30)).await?;
/// client.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    /// What was named, and is not for consumers to say where the brokers divide the partitions of a group.
    brokers_say: Option<Named>,
    cluster: Cluster,
}

impl Client {
    /// A client with the settings of `config`. What they have no effect on goes to the log as
    /// warnings ([`Config::warnings`]).
    ///
    /// Connects to nothing yet. Must be called within a tokio runtime with its I/O and time drivers,
    /// whose tasks and timers it uses from then on.
    ///
    /// # Errors
    /// [`Error::Config`] without `bootstrap.servers`; [`Error::Net`] for a setting that cannot work.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(config: Config) -> Result<Client, Error> {
        Client::builder().config(config).build()
    }

    /// Gathers settings for a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            config: Config::new(),
            tweaks: Vec::new(),
            connector: None,
            error: None,
        }
    }

    /// A new producer. Each has a buffer, batches and sequence numbers of its own: one for a whole
    /// program is usual.
    ///
    /// # Errors
    /// [`Error::Producer`] for a setting that cannot work, and with `transactional.id`, which asks for a
    /// [transactional one](Client::transactional_producer).
    pub fn producer(&self) -> Result<Producer, Error> {
        self.producer_with(self.producer_config())
    }

    /// A new producer with settings of its own.
    ///
    /// # Errors
    /// As [`Client::producer`].
    pub fn producer_with(&self, config: ProducerConfig) -> Result<Producer, Error> {
        Ok(Producer::new(self.inner.cluster.clone(), config)?)
    }

    /// A new transactional producer, named by `transactional.id`. Fences off older instances of that name.
    ///
    /// Its name is what must differ between producers that write at the same time: for more than one,
    /// use [`Client::transactional_producer_with`].
    ///
    /// ```no_run
    /// use ottla::prelude::*;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::builder()
    ///     .bootstrap_servers("localhost:9092")
    ///     .set("transactional.id", "transfers-1")
    ///     .build()?;
    /// let mut producer = client.transactional_producer().await?;
    /// producer
    ///     .run(3, async |transaction: &Transaction<'_>| {
    ///         let _sent = transaction.send(ProducerRecord::to("debits").key("7").value("-100")).await?;
    ///         let _sent = transaction.send(ProducerRecord::to("credits").key("8").value("100")).await?;
    ///         Ok::<_, ottla::producer::SendError>(())
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Work that borrows from around it, in a task of its own (`tokio::spawn`), is for [`TransactionalProducer::attempts`].
    ///
    /// # Errors
    /// As [`TransactionalProducer::init`].
    pub async fn transactional_producer(&self) -> Result<TransactionalProducer, TransactionError> {
        self.transactional_producer_with(self.producer_config())
            .await
    }

    /// A new transactional producer with settings of its own.
    ///
    /// # Errors
    /// As [`TransactionalProducer::init`].
    pub async fn transactional_producer_with(
        &self,
        config: ProducerConfig,
    ) -> Result<TransactionalProducer, TransactionError> {
        TransactionalProducer::init(self.inner.cluster.clone(), config).await
    }

    /// A new consumer.
    ///
    /// # Errors
    /// [`Error::Consumer`] for a setting that cannot work; [`Error::Config`] for one that was named though it is the brokers' to
    /// say with `group.protocol` = `consumer`, whatever its value.
    pub fn consumer(&self) -> Result<Consumer, Error> {
        let by_brokers = self.inner.settings.consumer.group_protocol == GroupProtocol::Consumer;
        if by_brokers && let Some(set) = &self.inner.brokers_say {
            return Err(Error::Config(set.refused()));
        }
        self.consumer_with(self.consumer_config())
    }

    /// A new consumer with settings of its own.
    ///
    /// # Errors
    /// [`Error::Consumer`] for a setting that cannot work.
    pub fn consumer_with(&self, config: ConsumerConfig) -> Result<Consumer, Error> {
        Ok(Consumer::new(self.inner.cluster.clone(), config)?)
    }

    /// A new share consumer: a member of the share group `group.id`, whose members are each handed other records of the same
    /// partitions (KIP-932).
    ///
    /// # Errors
    /// [`Error::Consumer`] for a setting that cannot work, and without `group.id`.
    pub fn share_consumer(&self) -> Result<ShareConsumer, Error> {
        self.share_consumer_with(self.share_consumer_config())
    }

    /// A new share consumer with settings of its own.
    ///
    /// # Errors
    /// As [`Client::share_consumer`].
    pub fn share_consumer_with(&self, config: ShareConsumerConfig) -> Result<ShareConsumer, Error> {
        Ok(ShareConsumer::new(self.inner.cluster.clone(), config)?)
    }

    /// Administration, whose calls take `default.api.timeout.ms` at most.
    pub fn admin(&self) -> Admin {
        Admin::new(self.inner.cluster.clone()).with_timeout(self.inner.settings.admin_timeout)
    }

    /// The connections and the knowledge of the cluster that everything shares.
    pub fn cluster(&self) -> &Cluster {
        &self.inner.cluster
    }

    /// The settings that [`Client::producer`] uses, as a start for [`Client::producer_with`].
    pub fn producer_config(&self) -> ProducerConfig {
        self.inner.settings.producer.clone()
    }

    /// The settings that [`Client::consumer`] uses, as a start for [`Client::consumer_with`].
    pub fn consumer_config(&self) -> ConsumerConfig {
        self.inner.settings.consumer.clone()
    }

    /// The settings that [`Client::share_consumer`] uses, as a start for [`Client::share_consumer_with`].
    pub fn share_consumer_config(&self) -> ShareConsumerConfig {
        self.inner.settings.share_consumer()
    }

    /// Ends the connections. Close producers and consumers before: what they still have to say needs
    /// the connections. Always ends, after a second at the most; may be called more than once.
    pub async fn close(&self) {
        self.inner.cluster.close().await;
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("cluster", &self.inner.cluster)
            .finish_non_exhaustive()
    }
}

/// Gathers settings for a [`Client`]: by name, and typed ones, which come last.
///
/// The first mistake is kept, and is what [`ClientBuilder::build`] returns.
#[must_use = "nothing happens before `build`"]
pub struct ClientBuilder {
    config: Config,
    tweaks: Vec<Tweak>,
    connector: Option<Arc<dyn Connector>>,
    error: Option<ConfigError>,
}

type Tweak = Box<dyn FnOnce(&mut Settings) + Send>;

impl ClientBuilder {
    /// Brokers to learn the cluster from, as `host:port`, comma separated (`bootstrap.servers`).
    pub fn bootstrap_servers(self, servers: impl ToString) -> Self {
        self.set("bootstrap.servers", servers)
    }

    /// A name for this program in the brokers' logs, metrics and quotas (`client.id`).
    pub fn client_id(self, id: impl ToString) -> Self {
        self.set("client.id", id)
    }

    /// The group of this client's consumers (`group.id`).
    pub fn group_id(self, id: impl ToString) -> Self {
        self.set("group.id", id)
    }

    /// Any setting, by Java's or librdkafka's name.
    pub fn set(self, key: impl AsRef<str>, value: impl ToString) -> Self {
        self.then(|config| config.set(key, value).map(drop))
    }

    /// Any setting that may differ by topic, for one topic; see [`Config::set_for_topic`].
    pub fn set_for_topic(
        self,
        topic: impl Into<String>,
        key: impl AsRef<str>,
        value: impl ToString,
    ) -> Self {
        self.then(|config| config.set_for_topic(topic, key, value).map(drop))
    }

    /// The settings of a Java `.properties` file, see [`Config::load_properties_file`].
    pub fn properties_file(self, path: impl AsRef<Path>) -> Self {
        self.then(|config| config.load_properties_file(path).map(drop))
    }

    /// The settings of the environment, see [`Config::load_environment`].
    pub fn environment(self) -> Self {
        self.then(|config| config.load_environment().map(drop))
    }

    /// Everything that is set in `config`.
    pub fn config(self, config: Config) -> Self {
        self.then(|own| {
            own.merge(config);
            Ok(())
        })
    }

    /// Typed settings of producers, after those by name.
    pub fn producer(self, tweak: impl FnOnce(&mut ProducerConfig) + Send + 'static) -> Self {
        self.tweak(|settings| tweak(&mut settings.producer))
    }

    /// Typed settings of consumers, after those by name.
    pub fn consumer(self, tweak: impl FnOnce(&mut ConsumerConfig) + Send + 'static) -> Self {
        self.tweak(|settings| tweak(&mut settings.consumer))
    }

    /// Typed settings of connections and metadata, after those by name.
    pub fn cluster(self, tweak: impl FnOnce(&mut ClusterConfig) + Send + 'static) -> Self {
        self.tweak(|settings| tweak(&mut settings.cluster))
    }

    /// Reaches brokers through `connector` instead of TCP: a tunnel, a network in memory, a proxy that a
    /// test puts in between. It is asked for the addresses of `bootstrap.servers`, and those that brokers
    /// tell. Settings of sockets have no effect then.
    pub fn connector(mut self, connector: Arc<dyn Connector>) -> Self {
        self.connector = Some(connector);
        self
    }

    /// The client. Connects to nothing yet; see [`Client::new`] for the runtime it needs.
    ///
    /// # Errors
    /// The first setting that was wrong; [`Error::Config`] without `bootstrap.servers`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn build(self) -> Result<Client, Error> {
        if let Some(error) = self.error {
            return Err(error.into());
        }
        for warning in self.config.warnings() {
            tracing::warn!("{warning}");
        }
        let mut settings = self.config.settings();
        for tweak in self.tweaks {
            tweak(&mut settings);
        }
        if settings.cluster.bootstrap_servers.is_empty() {
            return Err(Error::Config(ConfigError::Missing {
                key: "bootstrap.servers",
                hint: "name at least one broker as host:port, or set OTTLA_BOOTSTRAP and load the \
                       environment",
            }));
        }
        let cluster = match self.connector {
            Some(connector) => Cluster::new(settings.cluster.clone(), connector)?,
            None => Cluster::over_tcp(settings.cluster.clone())?,
        };
        let brokers_say = self.config.set_for_members();
        Ok(Client {
            inner: Arc::new(Inner {
                settings,
                brokers_say,
                cluster,
            }),
        })
    }

    fn then(mut self, step: impl FnOnce(&mut Config) -> Result<(), ConfigError>) -> Self {
        if self.error.is_none() {
            self.error = step(&mut self.config).err();
        }
        self
    }

    fn tweak(mut self, tweak: impl FnOnce(&mut Settings) + Send + 'static) -> Self {
        self.tweaks.push(Box::new(tweak));
        self
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("config", &self.config)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ottla_consumer::{ShareAcknowledgementMode, ShareAcquireMode};

    use super::*;

    #[tokio::test]
    async fn the_first_mistake_is_returned() {
        let error = Client::builder()
            .bootstrap_servers("kafka:9092")
            .set("linger", 5)
            .set("acks", "many")
            .build()
            .unwrap_err();
        assert!(
            error.to_string().contains("did you mean `linger.ms`?"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_client_needs_servers() {
        let error = Client::new(Config::new()).unwrap_err().to_string();
        assert!(
            error.contains("bootstrap.servers") && error.contains("OTTLA_BOOTSTRAP"),
            "{error}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_connector_of_the_programs_own_is_asked_for_the_bootstrap_servers() {
        let network = ottla_net::transport::memory::MemoryNetwork::new();
        let mut listener = network.listen("there:1".parse().unwrap());
        let client = Client::builder()
            .bootstrap_servers("there:1")
            .connector(network.connector())
            .build()
            .unwrap();
        let admin = client.admin();
        tokio::select! {
            _ = listener.accept() => {}
            found = admin.list_topics() => panic!("nobody answered, and yet: {found:?}"),
        }
        client.close().await;
    }

    #[tokio::test]
    async fn what_the_brokers_say_is_refused_also_where_it_is_what_they_say() {
        let client = |protocol: &str, key: Option<(&str, &str)>| {
            let builder = Client::builder()
                .bootstrap_servers("127.0.0.1:1")
                .group_id("workers")
                .set("group.protocol", protocol);
            let builder = match key {
                Some((key, value)) => builder.set(key, value),
                None => builder,
            };
            builder.build().unwrap()
        };
        for (key, default) in [
            ("session.timeout.ms", "45000"),
            ("heartbeat.interval.ms", "3000"),
            ("partition.assignment.strategy", "range"),
        ] {
            let error = client("consumer", Some((key, default))).consumer();
            let error = error.unwrap_err().to_string();
            assert!(
                error.contains(key) && error.contains("leave it out"),
                "{error}"
            );
            for by_members in ["classic", "auto"] {
                client(by_members, Some((key, default))).consumer().unwrap();
            }
            // Who does not read as a member of that kind is not asked.
            client("consumer", Some((key, default))).producer().unwrap();
        }
        client("consumer", None).consumer().unwrap();
    }

    #[tokio::test]
    async fn typed_settings_come_after_named_ones() {
        let client = Client::builder()
            .bootstrap_servers("127.0.0.1:1")
            .producer(|p| p.linger = Duration::ZERO)
            .set("linger.ms", 50)
            .set("group.id", "workers")
            .set("share.acknowledgement.mode", "explicit")
            .set("share.acquire.mode", "record_limit")
            .consumer(|c| c.max_poll_records = 7)
            .cluster(|c| c.client_id = "typed".into())
            .build()
            .unwrap();
        assert_eq!(client.producer_config().linger, Duration::ZERO);
        assert_eq!(client.consumer_config().max_poll_records, 7);
        let share = client.share_consumer_config();
        assert_eq!((&*share.group_id, share.max_poll_records), ("workers", 7));
        assert_eq!(
            share.acknowledgement_mode,
            ShareAcknowledgementMode::Explicit
        );
        assert_eq!(share.acquire_mode, ShareAcquireMode::RecordLimit);
        assert_eq!(client.cluster().config().client_id, "typed");
        client.close().await;
    }
}
