//! An application that writes transactions over several topics and partitions, in one instance after the other.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use ottla_producer::TransactionalProducer;

use super::Stage;
use super::event::{Outcome, Tx};
use super::instance::{How, Instance, Leave, Sent};
use crate::faults::FaultKind;
use crate::history::Part;
use crate::world::World;

/// A place for one instance at a time; others of the same transactional id may be in other places.
pub(super) struct Author {
    pub(super) world: Arc<World>,
    pub(super) stage: Arc<Stage>,
    pub(super) name: u8,
    pub(super) parts: Vec<Part>,
    pub(super) rng: Rng,
}

impl Author {
    /// Writes until the weather is fair.
    pub(super) async fn run(mut self) -> Result<(), String> {
        self.pause(3_000).await;
        while !self.stage.is_calm() {
            let (world, stage, rng) = (&self.world, &self.stage, self.rng.fork());
            let started = Instance::start(world, stage, self.name, rng).await?;
            if let Some((mut instance, mut producer)) = started {
                self.live(&mut instance, &mut producer).await;
                let how = match self.rng.u32(0..10) {
                    _ if self.stage.is_calm() => Leave::Close,
                    0..6 => Leave::Close,
                    6..8 => Leave::Drop,
                    _ => Leave::Crash,
                };
                instance.leave(producer, how).await?;
            }
            self.pause(8_000).await;
        }
        Ok(())
    }

    /// In fair weather a new instance of the transactional id commits, and ends.
    pub(super) async fn last_transaction(mut self) -> Result<(), String> {
        let (world, stage, rng) = (&self.world, &self.stage, self.rng.fork());
        let started = Instance::start(world, stage, self.name, rng).await?;
        let (mut instance, mut producer) =
            started.ok_or("it does not start in fair weather, and says nothing")?;
        let began = instance.begin(&mut producer).await;
        let (transaction, tx) = began.ok_or("stuck: no transaction begins in fair weather")?;
        for (number, part) in (1..).zip(self.parts.clone()) {
            instance.send(&transaction, (tx, number), part, None).await;
        }
        let outcome = instance.finish(transaction, tx, How::Commit).await;
        if outcome != Outcome::Committed {
            return Err(format!("in fair weather t{tx} is {outcome:?}"));
        }
        instance.leave(producer, Leave::Close).await
    }

    async fn live(&mut self, instance: &mut Instance, producer: &mut TransactionalProducer) {
        for _ in 0..self.rng.u32(1..12) {
            if self.stage.is_calm() || instance.dead {
                return;
            }
            self.transaction(instance, producer).await;
            if self.rng.u32(0..3) == 0 {
                self.pause(1_500).await;
            }
        }
    }

    async fn transaction(&mut self, instance: &mut Instance, producer: &mut TransactionalProducer) {
        let Some((transaction, tx)) = instance.begin(producer).await else {
            self.pause(300).await;
            return;
        };
        let how = match self.rng.u32(0..20) {
            0..14 => How::Commit,
            14..18 => How::Abort,
            _ => How::Drop,
        };
        let longest = self.rng.choice([1, 3, 10, 40]).unwrap_or(3);
        let count: Tx = self.rng.u32(0..=longest);
        for number in 1..=count {
            let Some(part) = self.rng.choice(&self.parts).copied() else {
                break;
            };
            let sent = instance.send(&transaction, (tx, number), part, None).await;
            if sent == Sent::Not && transaction.failure().is_some() {
                break;
            }
            if self.rng.u32(0..12) == 0 {
                self.pause(600).await;
            }
            if self.rng.u32(0..200) == 0 && instance.transaction_timeout < LONG {
                instance.fault(FaultKind::ApplicationStalled);
                tokio::time::sleep(instance.transaction_timeout.mul_f64(1.2)).await;
            }
        }
        instance.finish(transaction, tx, how).await;
    }

    async fn pause(&mut self, longest_ms: u64) {
        tokio::time::sleep(Duration::from_millis(self.rng.u64(0..longest_ms))).await;
    }
}

/// Nobody waits for a transaction of this length to time out.
const LONG: Duration = Duration::from_secs(60);
