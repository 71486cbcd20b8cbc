//! One instance of a transactional id: a producer from its start to its end, with every call told to the history.
//!
//! In bad weather calls are given up on at any await, and transactions are committed, aborted, dropped or left open
//! too long, at random. Who decides what goes into a transaction is the [`author`](super::author) or the
//! [`copier`](super::copier).

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use fastrand::Rng;
use ottla_net::Cluster;
use ottla_producer::{
    CommitError, Compression, Delivery, ProducerConfig, ProducerRecord, Transaction,
    TransactionError, TransactionalProducer,
};

use super::Stage;
use super::event::{Event, Outcome, Tx};
use crate::faults::FaultKind;
use crate::history::{History, Member, Part, What, record_id};
use crate::tap::Seat;
use crate::world::World;

/// An instance beside its producer, which transactions borrow.
pub(super) struct Instance {
    world: Arc<World>,
    stage: Arc<Stage>,
    pub(super) member: Member,
    net: Cluster,
    seat: Arc<Seat>,
    pub(super) transaction_timeout: Duration,
    max_block: Duration,
    request_timeout: Duration,
    delivery_timeout: Duration,
    pub(super) rng: Rng,
    /// It was told that it can do nothing more.
    pub(super) dead: bool,
}

/// What became of a record's `send`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Taken,
    /// Refused, or the caller gave up: it is not part of the transaction.
    Not,
}

/// How a transaction is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Commit,
    Abort,
    Drop,
}

/// How an instance is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    Close,
    Drop,
    Crash,
}

impl Instance {
    /// Starts an instance of transactional id number `name`; `None` if that did not work.
    ///
    /// # Errors
    /// If it cannot be made at all, or does not start in fair weather.
    pub(super) async fn start(
        world: &Arc<World>,
        stage: &Arc<Stage>,
        name: u8,
        mut rng: Rng,
    ) -> Result<Option<(Self, TransactionalProducer)>, String> {
        let (net, seat) = world.client()?;
        let config = config(name, &mut rng);
        let mut instance = Self {
            world: Arc::clone(world),
            stage: Arc::clone(stage),
            member: world.history.new_member(),
            net: net.clone(),
            seat,
            transaction_timeout: config.transaction_timeout,
            max_block: config.max_block,
            request_timeout: config.request_timeout,
            delivery_timeout: config.delivery_timeout,
            rng,
            dead: false,
        };
        instance.tell(Event::Starting {
            instance: instance.member,
            client: instance.seat.client,
            name,
            timeout_ms: instance.transaction_timeout.as_millis() as u64,
        });
        let calm = instance.stage.is_calm();
        let max_block = instance.max_block;
        let starting = TransactionalProducer::init(net, config);
        match instance.call("init", max_block, starting).await {
            Some(Ok(producer)) => {
                instance.tell(Event::Started {
                    instance: instance.member,
                });
                Ok(Some((instance, producer)))
            }
            Some(Err(error)) => {
                instance.note(&error);
                if calm {
                    return Err(format!("cannot start in fair weather: {error}"));
                }
                instance.net.close().await;
                Ok(None)
            }
            None => {
                if instance.rng.bool() {
                    instance.net.close().await;
                }
                Ok(None)
            }
        }
    }

    /// Begins a transaction; `None` if that did not work.
    pub(super) async fn begin<'a>(
        &mut self,
        producer: &'a mut TransactionalProducer,
    ) -> Option<(Transaction<'a>, Tx)> {
        let max_block = self.max_block;
        match self.call("begin", max_block, producer.begin()).await? {
            Ok(transaction) => {
                let tx = self.stage.next_transaction();
                self.tell(Event::Began {
                    instance: self.member,
                    tx,
                });
                Some((transaction, tx))
            }
            Err(error) => {
                self.heed(&error);
                None
            }
        }
    }

    /// Sends record `number` of transaction `tx`.
    pub(super) async fn send(
        &mut self,
        transaction: &Transaction<'_>,
        (tx, number): (Tx, u32),
        part: Part,
        of: Option<(Part, i64)>,
    ) -> Sent {
        let id = record_id(tx, number);
        let timestamp = self.world.history.timestamp();
        let padding = match self.rng.u32(0..20) {
            0 => self.rng.usize(0..3_000),
            _ => self.rng.usize(0..60),
        };
        let value = format!("{tx}/{number}@{timestamp}.{}", "x".repeat(padding));
        let topic = part.topic_name();
        let record = ProducerRecord::to(&topic)
            .value(&value)
            .partition(part.partition)
            .timestamp(timestamp);
        self.tell(Event::Offered { id, part, of });
        let sent = if self.rng.u32(0..10) == 0 {
            Some(transaction.try_send(record))
        } else {
            let max_block = self.max_block;
            self.call("send", max_block, transaction.send(record)).await
        };
        match sent {
            Some(Ok(delivery)) => {
                self.tell(Event::Accepted { id });
                self.follow(id, delivery);
                Sent::Taken
            }
            Some(Err(error)) => {
                self.note(&error);
                Sent::Not
            }
            None => Sent::Not,
        }
    }

    /// Hears of a record's delivery, or does not care.
    fn follow(&mut self, id: u64, delivery: Delivery) {
        if self.rng.u32(0..4) == 0 {
            return;
        }
        let history = Arc::clone(&self.world.history);
        tokio::spawn(async move {
            if let Ok(metadata) = delivery.await
                && let Some(offset) = metadata.offset()
            {
                history.record(What::Transactional(Event::Delivered { id, offset }));
            }
        });
    }

    /// Makes positions of a group part of the transaction. Whether the application goes on to commit.
    pub(super) async fn send_offsets(
        &mut self,
        transaction: &Transaction<'_>,
        tx: Tx,
        group: u8,
        offsets: &[(Part, i64)],
        metadata: &ottla_net::GroupMetadata,
    ) -> bool {
        self.tell(Event::Offsets {
            tx,
            group,
            offsets: offsets.to_vec(),
        });
        loop {
            let sent = offsets
                .iter()
                .map(|(part, offset)| (part.topic_name(), part.partition, *offset));
            let max_block = self.max_block;
            let sending = transaction.send_offsets(sent, metadata);
            match self.call("send_offsets", max_block, sending).await {
                Some(Ok(())) => return true,
                // A commit waits for it, or fails.
                None => return self.rng.bool(),
                Some(Err(error)) => {
                    self.heed(&error);
                    if !self.stage.is_calm() && self.rng.u32(0..4) == 0 {
                        // It does not look, and commits all the same: that has to be refused.
                        return true;
                    }
                    if !error.is_retriable() || self.rng.u32(0..3) == 0 {
                        return false;
                    }
                }
            }
        }
    }

    /// Ends the transaction, one way or the other, and says what it was told of it last.
    pub(super) async fn finish(
        &mut self,
        mut transaction: Transaction<'_>,
        tx: Tx,
        how: How,
    ) -> Outcome {
        match how {
            How::Drop => {
                drop(transaction);
                return self.told(tx, Outcome::NotCommitted);
            }
            How::Abort => return self.abort(transaction, tx, Outcome::NotCommitted).await,
            How::Commit => {}
        }
        loop {
            self.tell(Event::Committing { tx });
            let allowed = self.delivery_timeout + self.max_block;
            let committing = transaction.commit();
            let Some(outcome) = self.call("commit", allowed, committing).await else {
                return self.told(tx, Outcome::Unknown);
            };
            let Err(CommitError {
                error,
                transaction: open,
            }) = outcome
            else {
                return self.told(tx, Outcome::Committed);
            };
            self.heed(&error);
            let outcome = match error.possibly_committed() {
                true => Outcome::Unknown,
                false => Outcome::NotCommitted,
            };
            self.told(tx, outcome);
            let Some(open) = open else { return outcome };
            if error.requires_abort() || (!self.stage.is_calm() && self.rng.u32(0..6) == 0) {
                return self.abort(open, tx, outcome).await;
            }
            if !self.stage.is_calm() && self.rng.u32(0..5) == 0 {
                // The next begin finds out.
                return outcome;
            }
            transaction = open;
        }
    }

    async fn abort(&mut self, transaction: Transaction<'_>, tx: Tx, before: Outcome) -> Outcome {
        let allowed = self.request_timeout + self.max_block;
        let outcome = match self.call("abort", allowed, transaction.abort()).await {
            Some(Ok(())) => Outcome::NotCommitted,
            Some(Err(error)) => {
                self.heed(&error);
                before
            }
            None => before,
        };
        self.told(tx, outcome)
    }

    /// Ends the instance.
    ///
    /// # Errors
    /// If it cannot be closed in fair weather.
    pub(super) async fn leave(
        mut self,
        producer: TransactionalProducer,
        how: Leave,
    ) -> Result<(), String> {
        match how {
            Leave::Close => {
                let fair = self.stage.is_calm();
                let patience = match fair {
                    true => Duration::from_secs(120),
                    false => Duration::from_millis(self.rng.u64(0..10_000)),
                };
                let closing = producer.close(patience);
                let closed = self.call("close", patience, closing).await;
                self.net.close().await;
                match closed {
                    Some(Err(error)) if error.is_fatal() => {
                        self.heed(&error);
                        Ok(())
                    }
                    Some(Err(error)) if fair => {
                        Err(format!("close() failed in fair weather: {error}"))
                    }
                    _ => Ok(()),
                }
            }
            Leave::Drop => {
                self.fault(FaultKind::ClientDropped);
                drop(producer);
                let pause = Duration::from_millis(self.rng.u64(0..3_000));
                tokio::time::sleep(pause).await;
                self.net.close().await;
                Ok(())
            }
            Leave::Crash => {
                self.fault(FaultKind::ClientCrashed);
                self.seat.die();
                drop(producer);
                Ok(())
            }
        }
    }

    /// Waits for a call, and somewhat longer than it is allowed to take; in bad weather sometimes not to its end.
    async fn call<T>(
        &mut self,
        name: &'static str,
        allowed: Duration,
        future: impl Future<Output = T>,
    ) -> Option<T> {
        let mut future = pin!(future);
        if !self.stage.is_calm() && self.rng.u32(0..25) == 0 {
            self.fault(FaultKind::CallerCancelled);
            if self.rng.bool() {
                let patience = Duration::from_millis(self.rng.u64(0..3_000));
                return tokio::time::timeout(patience, future).await.ok();
            }
            // At one of its awaits.
            let mut turns = self.rng.u32(0..4);
            let ended = std::future::poll_fn(|context| match future.as_mut().poll(context) {
                Poll::Ready(ended) => Poll::Ready(Some(ended)),
                Poll::Pending if turns == 0 => Poll::Ready(None),
                Poll::Pending => {
                    turns -= 1;
                    Poll::Pending
                }
            });
            // Who is never woken again is not given another turn.
            return tokio::time::timeout(allowed, ended).await.ok().flatten();
        }
        self.history()
            .timed(self.member, name, allowed, future)
            .await
    }

    fn heed(&mut self, error: &TransactionError) {
        if error.is_fatal() {
            self.dead = true;
            self.tell(Event::Fatal {
                instance: self.member,
                error: error.to_string(),
            });
        } else {
            self.note(error);
        }
    }

    fn told(&self, tx: Tx, outcome: Outcome) -> Outcome {
        self.tell(Event::Told { tx, outcome });
        outcome
    }

    fn tell(&self, event: Event) {
        self.history().record(What::Transactional(event));
    }

    fn note(&self, error: &dyn std::fmt::Display) {
        self.history().note(format!("i{}: {error}", self.member));
    }

    pub(super) fn fault(&self, kind: FaultKind) {
        self.world.weather.faults().note(kind);
        self.history().record(What::Fault(kind));
    }

    fn history(&self) -> &History {
        &self.world.history
    }
}

fn config(name: u8, rng: &mut Rng) -> ProducerConfig {
    let seconds = |rng: &mut Rng, choices: [u64; 4]| {
        Duration::from_secs(rng.choice(choices).unwrap_or(choices[0]))
    };
    let buffer_memory = rng.choice([10_000, 100_000, 1 << 20]).unwrap_or(100_000);
    let codecs = [
        Compression::None,
        Compression::None,
        Compression::Lz4,
        Compression::Zstd,
    ];
    ProducerConfig {
        transactional_id: Some(transactional_id(name)),
        transaction_timeout: seconds(rng, [2, 10, 60, 60]),
        linger: Duration::from_millis(rng.choice([0, 0, 5, 100]).unwrap_or(0)),
        batch_size: rng.choice([200, 2_000, 100_000]).unwrap_or(2_000),
        buffer_memory,
        max_request_size: buffer_memory,
        delivery_timeout: seconds(rng, [8, 15, 60, 120]),
        request_timeout: Duration::from_secs(5),
        max_block: seconds(rng, [3, 10, 30, 60]),
        max_in_flight: rng.usize(1..=5),
        compression: rng.choice(codecs).unwrap_or(Compression::None),
        blocking_threads: false,
        ..ProducerConfig::default()
    }
}

pub(super) fn transactional_id(name: u8) -> String {
    format!("tx-{name}")
}
