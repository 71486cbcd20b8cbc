//! A small order service, to show how such a thing is tested: `tests/` runs it against a cluster in memory whose
//! nodes stop and whose answers get lost. `docs/guides/testing-your-service.md` goes through it.
//!
//! [`Shop::place`] takes an order and returns when it is safely in the topic `orders`. A [`Biller`] reads orders in
//! a group and writes an invoice for each to `invoices`, keyed by the order, at least once: offsets are committed
//! when the invoices are acknowledged.
//!
//! Neither knows how to reach a cluster. They take a [`Client`], which is what makes them testable.
#![forbid(unsafe_code)]

use std::time::Duration;

use ottla::Client;
use ottla::consumer;
use ottla::prelude::*;
use ottla::producer::SendError;
use serde::{Deserialize, Serialize};

/// What somebody buys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Chosen by whoever places it, so that placing it again is known for what it is.
    pub id: String,
    /// Who buys; orders of one customer are billed in their order.
    pub customer: String,
    /// What it costs.
    pub cents: u64,
}

/// What somebody has to pay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// For which order.
    pub order: String,
    /// Who pays.
    pub customer: String,
    /// How much, with tax.
    pub cents: u64,
}

/// Where orders are placed.
#[derive(Debug)]
pub struct Shop {
    producer: Producer,
}

/// What a customer is told when an order was not (certainly) placed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It is not in the topic. It may be placed again.
    #[error("the order was not placed: {0}")]
    NotPlaced(SendError),
    /// It may be in the topic or not. Placed again, it may be there twice, with the same id.
    #[error("nobody knows whether the order was placed: {0}")]
    Unknown(SendError),
}

impl Shop {
    /// A shop whose customers wait for `patience` at the most.
    ///
    /// # Errors
    /// Settings that do not fit together.
    pub fn open(client: &Client, patience: Duration) -> Result<Shop, ottla::Error> {
        let mut config = client.producer_config();
        // Somebody waits for each order, so that none waits for company.
        config.linger = Duration::ZERO;
        config.max_block = patience;
        config.delivery_timeout = patience;
        config.request_timeout = patience.min(config.request_timeout);
        Ok(Shop {
            producer: client.producer_with(config)?,
        })
    }

    /// Places an order, and returns when it is written.
    ///
    /// # Errors
    /// [`PlaceError`], after twice the patience at the latest.
    pub async fn place(&self, order: &Order) -> Result<(), PlaceError> {
        let json = serde_json::to_vec(order)
            .expect("strings and numbers are written to memory, which cannot fail");
        let record = ProducerRecord::to(ORDERS).key(&order.customer).value(&json);
        let delivery = self
            .producer
            .send(record)
            .await
            .map_err(PlaceError::NotPlaced)?;
        match delivery.await {
            Ok(_) => Ok(()),
            Err(error) if error.possibly_written() => Err(PlaceError::Unknown(error)),
            Err(error) => Err(PlaceError::NotPlaced(error)),
        }
    }
}

/// Writes invoices for orders.
#[derive(Debug)]
pub struct Biller {
    consumer: Consumer,
    producer: Producer,
}

/// Why a biller ended. Its successor goes on with the first order that has no invoice for certain.
#[derive(Debug, thiserror::Error)]
pub enum BillError {
    /// Orders cannot be read.
    #[error(transparent)]
    Consumer(#[from] consumer::Error),
    /// An invoice was not (certainly) written.
    #[error(transparent)]
    Send(#[from] SendError),
}

impl Biller {
    /// One of the group `billing`.
    ///
    /// # Errors
    /// Settings that do not fit together.
    pub fn new(client: &Client) -> Result<Biller, ottla::Error> {
        let mut config = client.consumer_config();
        config.group_id = Some("billing".into());
        config.enable_auto_commit = false;
        config.auto_offset_reset = OffsetReset::Earliest;
        let consumer = client.consumer_with(config)?;
        consumer.subscribe([ORDERS])?;
        Ok(Biller {
            consumer,
            producer: client.producer()?,
        })
    }

    /// Bills until something goes wrong that does not pass, or the future is dropped.
    ///
    /// # Errors
    /// [`BillError`].
    pub async fn run(&self) -> Result<(), BillError> {
        loop {
            self.step().await?;
        }
    }

    /// Polls once, writes invoices, and commits when they are acknowledged.
    async fn step(&self) -> Result<(), BillError> {
        let batches = match self.consumer.poll(Duration::from_secs(1)).await {
            Ok(batches) => batches,
            Err(error) if error.is_retriable() => {
                tracing::warn!(%error, "cannot read orders for now");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let mut deliveries = Vec::new();
        for batch in &batches {
            for record in batch {
                let record = record?;
                // Only the shop writes here; what is no order was written by mistake, and is told and passed over.
                match serde_json::from_slice::<Order>(record.value().unwrap_or_default()) {
                    Ok(order) => deliveries.push(self.bill(&order).await?),
                    Err(error) => {
                        tracing::error!(%error, offset = record.offset(), "not an order");
                    }
                }
            }
        }
        for delivery in deliveries {
            delivery.await?;
        }
        if !batches.is_empty()
            && let Err(error) = self.consumer.commit().await
        {
            // These orders are billed again by whoever reads them next. Invoices have the order's key, and the
            // same content: to write one twice is to write it once.
            tracing::warn!(%error, "a commit did not succeed");
        }
        Ok(())
    }

    async fn bill(&self, order: &Order) -> Result<ottla::producer::Delivery, SendError> {
        let invoice = Invoice {
            order: order.id.clone(),
            customer: order.customer.clone(),
            cents: order.cents + order.cents / 5,
        };
        let json = serde_json::to_vec(&invoice)
            .expect("strings and numbers are written to memory, which cannot fail");
        let record = ProducerRecord::to(INVOICES).key(&order.id).value(&json);
        self.producer.send(record).await
    }
}

/// The topic of orders, keyed by customer.
pub const ORDERS: &str = "orders";
/// The topic of invoices, keyed by order.
pub const INVOICES: &str = "invoices";
