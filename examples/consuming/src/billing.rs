//! Exactly once: an invoice for each order, whatever happens to members, coordinators and brokers.
//!
//! Each partition has a session of its own, and that a producer of its own. What is written for a batch, and that the batch is
//! processed, become visible in one transaction: who reads invoices with `isolation.level=read_committed` sees one for each
//! order. `ottla::exactly_once` does the rest; docs/architecture.md says why it is enough.

use std::time::Duration;

use ottla::consumer::{self, IsolationLevel, PartitionStream};
use ottla::exactly_once::{ExactlyOnce, SessionError, Step};
use ottla::prelude::*;
use ottla::producer::ProducerConfig;
use tokio::task::JoinSet;

/// Where orders come from.
pub const ORDERS: &str = "orders";
/// Where invoices go.
pub const INVOICES: &str = "invoices";

/// Why billing ended before it was told to. Nothing is lost or billed twice: a successor goes on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The consumer could not be made.
    #[error(transparent)]
    Setup(#[from] ottla::Error),
    /// Orders cannot be read.
    #[error(transparent)]
    Read(#[from] consumer::Error),
    /// A transaction failed for good: another member has taken the partition over, or the producer is misconfigured.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// The next batch could not be begun.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// Bills orders as a member of `group` until `stop`.
///
/// # Errors
/// What cannot be repaired by waiting. The consumer is closed all the same.
pub async fn run(
    client: &Client,
    group: &str,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let mut config = client.consumer_config();
    config.group_id = Some(group.to_owned());
    config.enable_auto_commit = false;
    config.isolation_level = IsolationLevel::ReadCommitted;
    config.auto_offset_reset = OffsetReset::Earliest;
    let consumer = client.consumer_with(config)?;
    consumer.subscribe([ORDERS])?;
    let mut tasks = JoinSet::new();
    let outcome = hand_out(client, group, &consumer, &mut tasks, stop).await;
    // Batches that were begun are finished; their partitions go to others then.
    let (closed, ()) = tokio::join!(consumer.close(CLOSE_TIMEOUT), async {
        while let Some(ended) = tasks.join_next().await {
            // Why it ends is known already, or it is told to.
            let _ = judge(ended);
        }
    });
    outcome?;
    Ok(closed?)
}

async fn hand_out(
    client: &Client,
    group: &str,
    consumer: &Consumer,
    tasks: &mut JoinSet<Result<(), Error>>,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let mut stop = std::pin::pin!(stop);
    let mut partitions = consumer.split()?;
    loop {
        tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            Some(ended) = tasks.join_next() => judge(ended)?,
            stream = partitions.next_partition() => match stream {
                Ok(stream) => {
                    tasks.spawn(bill_partition(client.clone(), group.to_owned(), stream));
                }
                Err(error) if error.is_retriable() => {
                    tracing::warn!(%error, "cannot get partitions for now");
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

async fn bill_partition(
    client: Client,
    group: String,
    stream: PartitionStream,
) -> Result<(), Error> {
    // The group's name and the partition: whoever gets the partition next fences this producer off.
    let producer = client.transactional_producer_with(ProducerConfig {
        transactional_id: Some(format!("{group}-{}", stream.topic_partition())),
        ..client.producer_config()
    });
    let mut session = ExactlyOnce::new(stream, producer.await?)?;
    let outcome = bill_batches(&mut session).await;
    let closed = session.close(CLOSE_TIMEOUT).await;
    outcome?;
    Ok(closed?)
}

async fn bill_batches(session: &mut ExactlyOnce) -> Result<(), Error> {
    loop {
        match session.next().await {
            Ok(None) => return Ok(()),
            Ok(Some(step)) => {
                match bill(&step).await {
                    Ok(()) => {}
                    // Damaged on the way, perhaps: it is fetched anew.
                    Err(error) if error.is_retriable() => {
                        tracing::warn!(%error, "an order cannot be read for now");
                        drop(step);
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                }
                // Committed or aborted: the next batch is the right one.
                match step.commit().await {
                    Ok(outcome) => tracing::debug!(?outcome, "a batch is done"),
                    Err(error) if error.is_retriable() => {
                        tracing::warn!(%error, "the session finds out what became of it");
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Err(SessionError::Read(error)) if error.is_retriable() => {
                tracing::warn!(%error, "cannot read for now");
            }
            Err(SessionError::Transaction(error)) if !error.is_fatal() => {
                tracing::warn!(%error, "cannot begin for now");
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// An invoice for each order of a batch. Deliveries are not awaited: the commit waits for them.
async fn bill(step: &Step<'_>) -> Result<(), consumer::Error> {
    for order in step.batch() {
        let order = order?;
        let Some(cents) = cents(order.value()) else {
            tracing::error!(offset = order.offset(), "not an order; left out");
            continue;
        };
        let invoice = format!("{}", cents * 119 / 100);
        let invoice = ProducerRecord {
            key: order.key(),
            value: Some(invoice.as_bytes()),
            ..ProducerRecord::to(INVOICES)
        };
        if let Err(error) = step.send(invoice).await {
            // The commit finds that it must abort, and the batch comes again.
            tracing::warn!(%error, "an invoice was not sent");
            break;
        }
    }
    Ok(())
}

/// An order is what it costs, in cents.
fn cents(order: Option<&[u8]>) -> Option<u64> {
    std::str::from_utf8(order?).ok()?.parse().ok()
}

/// What the end of a partition's task means for the others. One whose transactions failed was mostly fenced off by the
/// partition's next owner; should it be ours, it is handed out again.
fn judge(ended: Result<Result<(), Error>, tokio::task::JoinError>) -> Result<(), Error> {
    match ended {
        Ok(Err(error @ (Error::Transaction(_) | Error::Session(SessionError::Transaction(_))))) => {
            tracing::warn!(%error, "a partition's billing ended");
            Ok(())
        }
        Ok(outcome) => outcome,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

const PAUSE: Duration = Duration::from_secs(1);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
