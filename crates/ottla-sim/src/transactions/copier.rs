//! An application that reads, transforms and writes exactly once: what it writes and how far it has read are one
//! transaction.
//!
//! Reads only what is committed, as a member of a group. After every transaction that was not certainly committed it
//! goes back to what is committed, as it must.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use ottla_consumer::{Consumer, IsolationLevel, Offset, OffsetReset, Record, TopicPartition};
use ottla_net::GroupMetadata;
use ottla_producer::TransactionalProducer;

use super::Stage;
use super::event::Outcome;
use super::instance::{How, Instance, Leave, Sent};
use crate::consume::group_name;
use crate::faults::FaultKind;
use crate::history::Part;
use crate::reader::Mode;
use crate::tap::Seat;
use crate::world::World;

/// A place for one consumer and producer at a time.
pub(super) struct Copier {
    pub(super) world: Arc<World>,
    pub(super) stage: Arc<Stage>,
    pub(super) name: u8,
    pub(super) group: u8,
    pub(super) mode: Mode,
    pub(super) sources: Vec<Part>,
    pub(super) results: Vec<Part>,
    /// Another one works under the same transactional id, and this one leaves it alone in fair weather.
    pub(super) second: bool,
    pub(super) rng: Rng,
}

/// A consumer and what the network knows of it.
struct Reader {
    consumer: Consumer,
    net: ottla_net::Cluster,
    seat: Arc<Seat>,
}

impl Copier {
    pub(super) async fn run(mut self) -> Result<(), String> {
        let first = Duration::from_millis(self.rng.u64(0..3_000));
        tokio::time::sleep(first).await;
        while !self.is_over() {
            let reader = self.subscribe()?;
            let (world, stage, rng) = (&self.world, &self.stage, self.rng.fork());
            let started = Instance::start(world, stage, self.name, rng).await?;
            if let Some((mut instance, mut producer)) = started {
                self.live(&reader, &mut instance, &mut producer).await?;
                let how = match self.rng.u32(0..10) {
                    _ if self.stage.is_calm() => Leave::Close,
                    0..6 => Leave::Close,
                    6..8 => Leave::Drop,
                    _ => Leave::Crash,
                };
                if how == Leave::Crash {
                    reader.seat.die();
                }
                instance.leave(producer, how).await?;
            }
            let patience = Duration::from_millis(self.rng.u64(0..5_000));
            // In bad weather leaving may take longer.
            let _ = reader.consumer.close(patience).await;
            reader.net.close().await;
            let longest = if self.stage.is_calm() { 100 } else { 8_000 };
            let absence = Duration::from_millis(self.rng.u64(0..longest));
            tokio::time::sleep(absence).await;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.stage.is_over() || self.second && self.stage.is_calm()
    }

    fn subscribe(&mut self) -> Result<Reader, String> {
        let (net, seat) = self.world.client()?;
        let config = ottla_consumer::ConsumerConfig {
            group_id: Some(group_name(self.group)),
            isolation_level: IsolationLevel::ReadCommitted,
            enable_auto_commit: false,
            auto_offset_reset: OffsetReset::Earliest,
            ..self.mode.config(0, &mut self.rng)
        };
        let consumer = Consumer::new(net.clone(), config).map_err(|error| error.to_string())?;
        let mut topics: Vec<String> = self.sources.iter().map(|part| part.topic_name()).collect();
        topics.dedup();
        consumer
            .subscribe(topics)
            .map_err(|error| format!("cannot subscribe: {error}"))?;
        Ok(Reader {
            consumer,
            net,
            seat,
        })
    }

    async fn live(
        &mut self,
        reader: &Reader,
        instance: &mut Instance,
        producer: &mut TransactionalProducer,
    ) -> Result<(), String> {
        loop {
            let calm = self.stage.is_calm();
            if self.is_over() || instance.dead || (!calm && self.rng.u32(0..60) == 0) {
                return Ok(());
            }
            let patience = Duration::from_millis(self.rng.u64(0..1_000));
            let max = self.rng.choice([1, 5, 50, 500]).unwrap_or(5);
            let batches = match reader.consumer.poll_max(max, patience).await {
                Ok(batches) => batches,
                Err(error) => {
                    let member = instance.member;
                    self.world.history.note(format!("i{member}: {error}"));
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            // Who it was when it was handed these records.
            let Some(metadata) = reader.consumer.group_metadata() else {
                return Err("a member of a group has no group metadata".to_owned());
            };
            let mut records = Vec::new();
            for record in batches.into_iter().flatten() {
                records.push(record.map_err(|error| format!("unreadable: {error}"))?);
            }
            if records.is_empty() {
                continue;
            }
            // Where the network takes no time, work still does.
            tokio::time::sleep(Duration::from_millis(1)).await;
            let outcome = self
                .transaction(instance, producer, &records, &metadata)
                .await;
            if outcome != Some(Outcome::Committed) && !instance.dead {
                self.rewind(&reader.consumer);
            }
        }
    }

    /// Writes a result for each record. What came of it, if it was begun.
    async fn transaction(
        &mut self,
        instance: &mut Instance,
        producer: &mut TransactionalProducer,
        records: &[Record],
        metadata: &GroupMetadata,
    ) -> Option<Outcome> {
        let (transaction, tx) = instance.begin(producer).await?;
        let mut offsets: Vec<(Part, i64)> = Vec::new();
        let mut sound = true;
        for (number, record) in (1..).zip(records) {
            let at = record.topic_partition();
            let (Some(part), Some(to)) = (
                Part::named(&at.topic, at.partition),
                self.rng.choice(&self.results).copied(),
            ) else {
                sound = false;
                break;
            };
            let of = Some((part, record.offset()));
            sound = instance.send(&transaction, (tx, number), to, of).await == Sent::Taken;
            if !sound {
                break;
            }
            let next = record.offset() + 1;
            match offsets.iter_mut().find(|(known, _)| *known == part) {
                Some((_, offset)) => *offset = next,
                None => offsets.push((part, next)),
            }
        }
        if self.rng.u32(0..50) == 0 && !self.stage.is_calm() {
            instance.fault(FaultKind::ApplicationStalled);
            let nap = Duration::from_millis(self.rng.u64(0..30_000));
            tokio::time::sleep(nap).await;
        }
        if sound {
            sound = instance
                .send_offsets(&transaction, tx, self.group, &offsets, metadata)
                .await;
        }
        let how = match self.rng.u32(0..20) {
            _ if !sound => How::Abort,
            0 if !self.stage.is_calm() => How::Abort,
            1 if !self.stage.is_calm() => How::Drop,
            _ => How::Commit,
        };
        Some(instance.finish(transaction, tx, how).await)
    }

    /// Goes back to what is committed.
    fn rewind(&self, consumer: &Consumer) {
        for partition in consumer.assignment() {
            let partition: TopicPartition = partition;
            // Refused if it was given up just now, which is as good.
            let _ = consumer.seek(&partition, Offset::Committed);
        }
    }
}
