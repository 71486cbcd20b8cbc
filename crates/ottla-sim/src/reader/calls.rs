//! The calls an application makes, each as the history has to hear of it.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ottla_consumer::{CommittedOffset, Consumer, Error, Offset, Record};
use tokio::time::Instant;

use super::{Application, Life, name, part, positions, tell_positions};
use crate::faults::FaultKind;
use crate::history::{Member, Start, What};

impl Application {
    /// In fair weather a commit works.
    pub(super) async fn last_commit(&mut self, life: &Life) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            let number = self.history().new_number();
            let member = life.member;
            self.history().record(What::Done { member });
            self.commit_called(&life.consumer, member, number);
            let error = match life.consumer.commit().await {
                Ok(()) => {
                    self.history().record(What::CommitAcked { member, number });
                    return Ok(());
                }
                Err(error) => error,
            };
            // Others leave at the same time: the group rebalances, and new positions have to be found out.
            if Instant::now() > deadline {
                return Err(format!("commit() fails in fair weather: {error}"));
            }
            self.history().note(format!("m{member}: {error}"));
            self.poll(life).await?;
            if self.refused {
                // It never was a member, and has nothing to commit.
                return Ok(());
            }
        }
    }

    pub(super) async fn receive(&mut self, life: &Life) -> Result<(), String> {
        self.come(life);
        let longest = if self.rng.u32(0..4) == 0 { 4_000 } else { 50 };
        let patience = Duration::from_millis(self.rng.u64(0..longest));
        let mut receiving = pin!(life.consumer.recv());
        if let Ok(taken) = tokio::time::timeout(patience, &mut receiving).await {
            return self.take(life, Some(taken));
        }
        // Whatever happened in this instant must have reached it by the time everybody else has had their turn.
        for _ in 0..SETTLING_TURNS {
            tokio::task::yield_now().await;
            let polled =
                std::future::poll_fn(|context| Poll::Ready(receiving.as_mut().poll(context)));
            if let Poll::Ready(taken) = polled.await {
                return self.take(life, Some(taken));
            }
        }
        if let Some(taken) = life.consumer.try_recv().transpose() {
            if let Ok(record) = &taken
                && let Some(part) = part(record.topic_partition())
            {
                self.history().record(What::Overslept {
                    member: life.member,
                    part,
                });
            }
            return self.take(life, Some(taken));
        }
        self.world.weather.faults().note(FaultKind::CallerCancelled);
        Ok(())
    }

    pub(super) async fn poll(&mut self, life: &Life) -> Result<(), String> {
        self.come(life);
        let patience = Duration::from_millis(self.rng.u64(0..1_000));
        let max = self.rng.choice([1, 2, 50, usize::MAX]).unwrap_or(1);
        let polling = life.consumer.poll_max(max, patience);
        let polled = if self.rng.u32(0..8) == 0 {
            // Gives up on it, at some await or other.
            let short = Duration::from_millis(self.rng.u64(0..200));
            self.world.weather.faults().note(FaultKind::CallerCancelled);
            match tokio::time::timeout(short, polling).await {
                Ok(polled) => polled,
                Err(_) => return Ok(()),
            }
        } else {
            match self
                .history()
                .timed(life.member, "poll", patience, polling)
                .await
            {
                Some(polled) => polled,
                None => return Ok(()),
            }
        };
        let batches = match polled {
            Ok(batches) => batches,
            Err(error) => return self.heed(life, &error),
        };
        for record in batches.into_iter().flatten() {
            self.take(life, Some(record))?;
        }
        Ok(())
    }

    pub(super) async fn commit(&mut self, life: &Life) {
        if self.mode.group_id().is_none() {
            return;
        }
        let (member, number) = (life.member, self.history().new_number());
        self.history().record(What::Done { member });
        self.commit_called(&life.consumer, member, number);
        let committing = life.consumer.commit();
        let outcome = if self.rng.u32(0..4) == 0 {
            let patience = Duration::from_millis(self.rng.u64(0..100));
            self.world.weather.faults().note(FaultKind::CallerCancelled);
            tokio::time::timeout(patience, committing).await.ok()
        } else {
            self.history()
                .timed(member, "commit", life.api_timeout, committing)
                .await
        };
        if let Some(Ok(())) = outcome {
            self.history().record(What::CommitAcked { member, number });
        }
    }

    pub(super) async fn commit_async(&mut self, life: &Life) {
        if self.mode.group_id().is_none() {
            return;
        }
        let (member, number) = (life.member, self.history().new_number());
        self.history().record(What::Done { member });
        self.commit_called(&life.consumer, member, number);
        let Ok(committing) = life.consumer.commit_async() else {
            return;
        };
        if self.rng.bool() {
            let history = Arc::clone(self.history());
            // It goes on by itself, and outlives the consumer if it must.
            tokio::spawn(async move {
                if committing.await.is_ok() {
                    history.record(What::CommitAcked { member, number });
                }
            });
        }
    }

    /// Commits what it got of one partition, itself.
    pub(super) async fn commit_offsets(&mut self, life: &Life) {
        if self.mode.group_id().is_none() {
            return;
        }
        let member = life.member;
        self.positions(life);
        let positions = positions(&life.consumer);
        let Some((part, offset)) = self.rng.choice(positions) else {
            return;
        };
        self.history().record(What::Done { member });
        let offset = CommittedOffset::from(offset);
        let committing = life.consumer.commit_offsets([(name(part), offset)]);
        self.history()
            .timed(member, "commit_offsets", life.api_timeout, committing)
            .await;
    }

    /// Questions whose answers nothing depends on: they must end, and disturb nobody.
    pub(super) async fn ask(&mut self, life: &Life) {
        let Some(part) = self.rng.choice(&self.parts).copied() else {
            return;
        };
        let names = [name(part)];
        let (member, timeout) = (life.member, life.api_timeout);
        match self.rng.u32(0..3) {
            0 => {
                let asking = life.consumer.end_offsets(&names);
                self.history()
                    .timed(member, "end_offsets", timeout, asking)
                    .await;
            }
            1 => {
                let asking = life.consumer.beginning_offsets(&names);
                self.history()
                    .timed(member, "beginning_offsets", timeout, asking)
                    .await;
            }
            _ => {
                let time = self.history().now_ms() as i64 / 2;
                let asking = life.consumer.offsets_for_times([(name(part), time)]);
                self.history()
                    .timed(member, "offsets_for_times", timeout, asking)
                    .await;
            }
        }
    }

    pub(super) fn positions(&self, life: &Life) {
        tell_positions(self.history(), &life.consumer, life.member);
    }

    /// It comes for records, and is done with those it has.
    pub(super) fn come(&self, life: &Life) {
        life.presence.come();
        self.history().record(What::Done {
            member: life.member,
        });
    }

    pub(super) fn take(
        &mut self,
        life: &Life,
        taken: Option<Result<Record, Error>>,
    ) -> Result<(), String> {
        match taken {
            None => Ok(()),
            Some(Err(error)) => self.heed(life, &error),
            Some(Ok(record)) => {
                let metadata = life.consumer.group_metadata();
                let generation = metadata.map_or(-1, |metadata| metadata.generation_id);
                let value = record.value().unwrap_or_default();
                let Some((id, _)) = crate::writer::read_value(value) else {
                    return Err(format!("nobody wrote the value {value:?}"));
                };
                let Some(part) = part(record.topic_partition()) else {
                    return Err(format!("a record of {}", record.topic_partition()));
                };
                self.history().record(What::Delivered {
                    member: life.member,
                    generation: if self.mode.subscribes { generation } else { -1 },
                    part,
                    offset: record.offset(),
                    id,
                });
                Ok(())
            }
        }
    }

    pub(super) fn heed(&mut self, life: &Life, error: &Error) -> Result<(), String> {
        self.history().note(format!("m{}: {error}", life.member));
        match error {
            Error::NoOffset { partition } | Error::OffsetOutOfRange { partition, .. } => {
                if let Some(part) = part(partition) {
                    let start = self.world.bounds(part).0;
                    // Not assigned any more: nothing to heed.
                    if life.consumer.seek(partition, Offset::Beginning).is_ok() {
                        self.history().record(What::Sought {
                            member: life.member,
                            part,
                            to: Start::Beginning(start),
                        });
                    }
                }
                Ok(())
            }
            Error::Group { error, .. } if self.mode.may_be_refused(*error) => {
                // One that crashed before the change is still counted among the members.
                self.refused = true;
                Ok(())
            }
            Error::Unreadable { .. }
            | Error::Group { .. }
            | Error::Closed
            | Error::LogTruncated { .. } => {
                Err(format!("m{} meets what cannot be: {error}", life.member))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn commit_called(&self, consumer: &Consumer, member: Member, number: u64) {
        let positions = positions(consumer);
        self.history().record(What::CommitCalled {
            member,
            number,
            positions,
        });
    }
}

/// So often everybody else has a turn before somebody who waits for records must have been woken.
pub(super) const SETTLING_TURNS: usize = 64;
