//! The client of one cluster, for programs without tokio.

use std::sync::Arc;

use super::consumer::Consumer;
use super::error::Error;
use super::listener::{OnThread, RebalanceListener};
use super::producer::Producer;
use super::runtime::{Held, Runtime};
use super::share::ShareConsumer;
use super::transaction::TransactionalProducer;
use crate::config::Config;
use crate::consumer::{ConsumerConfig, ShareConsumerConfig};
use crate::producer::ProducerConfig;
use crate::{Client as AsyncClient, ClientBuilder};

/// A client of one cluster. Cheap to clone; clones are the same client. See [`blocking`](super).
#[derive(Clone, Debug)]
pub struct Client {
    held: Held<AsyncClient>,
}

impl Client {
    /// A client with the settings of `config`, as [`crate::Client::new`], and a runtime of its own.
    ///
    /// # Errors
    /// [`Error::Client`] for a setting that cannot work; [`Error::Runtime`] if the system has no threads left.
    pub fn new(config: Config) -> Result<Self, Error> {
        AsyncClient::builder().config(config).build_blocking()
    }

    /// A new producer, as [`crate::Client::producer`].
    ///
    /// # Errors
    /// [`Error::Client`] for a setting that cannot work.
    pub fn producer(&self) -> Result<Producer, Error> {
        self.producer_with(self.producer_config())
    }

    /// A new producer with settings of its own.
    ///
    /// # Errors
    /// As [`Client::producer`].
    pub fn producer_with(&self, config: ProducerConfig) -> Result<Producer, Error> {
        let runtime = &self.held.runtime;
        let _here = runtime.enter();
        let producer = self.held.get().producer_with(config)?;
        Ok(Producer::new(producer, runtime.clone()))
    }

    /// A new transactional producer, as [`crate::Client::transactional_producer`].
    ///
    /// # Errors
    /// [`Error::Transaction`]; [`Error::InsideRuntime`].
    pub fn transactional_producer(&self) -> Result<TransactionalProducer, Error> {
        self.transactional_producer_with(self.producer_config())
    }

    /// A new transactional producer with settings of its own.
    ///
    /// # Errors
    /// As [`Client::transactional_producer`].
    pub fn transactional_producer_with(
        &self,
        config: ProducerConfig,
    ) -> Result<TransactionalProducer, Error> {
        let runtime = &self.held.runtime;
        let init = self.held.get().transactional_producer_with(config);
        let producer = runtime.wait("blocking::Client::transactional_producer", init)??;
        Ok(TransactionalProducer::new(producer, runtime.clone()))
    }

    /// A new consumer, as [`crate::Client::consumer`].
    ///
    /// # Errors
    /// [`Error::Client`] for a setting that cannot work.
    pub fn consumer(&self) -> Result<Consumer, Error> {
        let runtime = &self.held.runtime;
        let _here = runtime.enter();
        let consumer = self.held.get().consumer()?;
        Ok(Consumer::new(consumer, runtime.clone()))
    }

    /// A new consumer with settings of its own.
    ///
    /// # Errors
    /// As [`Client::consumer`].
    pub fn consumer_with(&self, config: ConsumerConfig) -> Result<Consumer, Error> {
        let runtime = &self.held.runtime;
        let _here = runtime.enter();
        let consumer = self.held.get().consumer_with(config)?;
        Ok(Consumer::new(consumer, runtime.clone()))
    }

    /// A new consumer with settings of its own, and a listener that is told when the group gives partitions to it or takes
    /// them away. It takes the place of one in the settings.
    ///
    /// # Errors
    /// As [`Client::consumer`].
    pub fn consumer_with_listener(
        &self,
        mut config: ConsumerConfig,
        listener: impl RebalanceListener,
    ) -> Result<Consumer, Error> {
        let listener = OnThread::new(listener, &self.held.runtime);
        config.rebalance_listener = Some(Arc::new(listener));
        self.consumer_with(config)
    }

    /// A new share consumer, as [`crate::Client::share_consumer`].
    ///
    /// # Errors
    /// [`Error::Client`] for a setting that cannot work, and without `group.id`.
    pub fn share_consumer(&self) -> Result<ShareConsumer, Error> {
        self.share_consumer_with(self.share_consumer_config())
    }

    /// A new share consumer with settings of its own.
    ///
    /// # Errors
    /// As [`Client::share_consumer`].
    pub fn share_consumer_with(&self, config: ShareConsumerConfig) -> Result<ShareConsumer, Error> {
        let runtime = &self.held.runtime;
        let _here = runtime.enter();
        let consumer = self.held.get().share_consumer_with(config)?;
        Ok(ShareConsumer::new(consumer, runtime.clone()))
    }

    /// The settings that [`Client::producer`] uses, as a start for [`Client::producer_with`].
    pub fn producer_config(&self) -> ProducerConfig {
        self.held.get().producer_config()
    }

    /// The settings that [`Client::consumer`] uses, as a start for [`Client::consumer_with`].
    pub fn consumer_config(&self) -> ConsumerConfig {
        self.held.get().consumer_config()
    }

    /// The settings that [`Client::share_consumer`] uses, as a start for [`Client::share_consumer_with`].
    pub fn share_consumer_config(&self) -> ShareConsumerConfig {
        self.held.get().share_consumer_config()
    }

    /// Ends the connections. Close producers and consumers before. Always ends, after a second at the most.
    ///
    /// # Errors
    /// [`Error::InsideRuntime`].
    pub fn close(&self) -> Result<(), Error> {
        let close = self.held.get().close();
        self.held.runtime.wait("blocking::Client::close", close)
    }
}

impl ClientBuilder {
    /// As [`build`](ClientBuilder::build), for programs without tokio: the client comes with a runtime of its own, and may be made
    /// anywhere. See [`blocking`](super).
    ///
    /// # Errors
    /// [`Error::Client`] with the first setting that was wrong; [`Error::Runtime`] if the system has no threads left.
    pub fn build_blocking(self) -> Result<Client, Error> {
        let runtime = Runtime::start()?;
        let client = {
            let _here = runtime.enter();
            self.build()?
        };
        Ok(Client {
            held: Held::new(client, runtime),
        })
    }
}
