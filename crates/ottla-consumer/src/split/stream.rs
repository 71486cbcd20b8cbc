//! One partition of a consumer that is split.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll, Waker, ready},
};

use futures_core::{FusedStream, Stream};
use tokio::task::coop;

use crate::{
    CommittedOffset, Consumer, Error, GroupMetadata, Offset, Record, RecordBatch, Str, StreamEnd,
    TopicPartition,
    consumer::committing::{behind, behind_batch},
    core::{Core, LeaseHandout, Leased, Position, Token},
    current::{Current, Next},
    driver::{commit::CommitBy, now},
    listener::check_not_in_listener,
    payload::{DecodeLimits, Payload},
};

/// The records of one partition, in order. From [`PartitionStreams`](crate::PartitionStreams); see [`Consumer::split`] for
/// what counts as progress and what happens in a rebalance.
///
/// To ask for more is to say that one is done with what was handed out before. When the partition is to be given up, the
/// stream ends, and [`PartitionStream::end`] says why. **Drop it then**, after what is left to do: the group waits for
/// that.
///
/// Dropped before, it gives the partition back: another stream of it comes from the `PartitionStreams`, and goes on where this one
/// was. What this one handed out last, and was neither asked for more after nor told to be processed (by a commit, a stored
/// offset, or [`PartitionStream::finish`]), comes again: a task that dies with a record in its hands loses none.
/// Nothing of that is downloaded twice.
///
/// Also a [`Stream`] of records.
#[derive(Debug)]
pub struct PartitionStream {
    consumer: Consumer,
    leased: Leased,
    limits: DecodeLimits,
    /// The batch whose records are handed out.
    current: Option<Current>,
    /// Whether all that was left of it was handed out as a batch.
    lent: bool,
    /// Records before this offset are processed, the application says; of the place where it was told so.
    confirmed: i64,
    /// Where the latest batch was taken.
    place: Option<Token>,
    waiting: bool,
    ended: bool,
}

/// What came of asking for the next batch.
enum Loaded {
    Batch,
    Nothing,
    End,
}

impl PartitionStream {
    pub(super) fn new(consumer: Consumer, leased: Leased) -> Self {
        Self {
            limits: DecodeLimits::of(&consumer.shared().config),
            consumer,
            leased,
            current: None,
            lent: false,
            confirmed: 0,
            place: None,
            waiting: false,
            ended: false,
        }
    }

    /// The partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.leased.name
    }

    /// Its topic.
    pub fn topic(&self) -> &Str {
        &self.leased.name.topic
    }

    /// Its number.
    pub fn partition(&self) -> i32 {
        self.leased.name.partition
    }

    /// The consumer whose partition it is.
    pub fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    /// The next record; `None` when the stream has ended. Waits for as long as it takes.
    ///
    /// Cancel-safe: a record is taken and returned in one go.
    ///
    /// # Errors
    /// What concerns this partition: as [`Consumer::recv`]. Calling again goes on. [`Error::Usage`] from within a
    /// rebalance listener.
    pub async fn recv(&mut self) -> Result<Option<Record>, Error> {
        let call = Reading(self);
        poll_fn(|cx| call.0.poll_record(cx)).await
    }

    /// The next records, as they lie in one batch of the log; `None` when the stream has ended. Waits for as long as
    /// it takes. Read them by borrowing from the batch, and none of them costs an allocation or a reference count.
    ///
    /// Cancel-safe: a batch is taken and returned in one go.
    ///
    /// # Errors
    /// As [`PartitionStream::recv`]. A batch that turns out to be damaged within says so with its last item, as with
    /// [`Consumer::poll`].
    pub async fn next_batch(&mut self) -> Result<Option<RecordBatch>, Error> {
        let call = Reading(self);
        poll_fn(|cx| call.0.poll_batch(cx)).await
    }

    /// Why the stream has ended, or is about to: a task that is busy for long may look, and stop.
    pub fn end(&self) -> Option<StreamEnd> {
        let end = |core: &mut Core<Payload>| core.lease_end(self.leased.id);
        self.consumer.shared().core(end)
    }

    /// The offset of the next record to be handed out, if it is known already.
    pub fn position(&self) -> Option<i64> {
        self.place().map(|position| position.offset)
    }

    /// Goes on reading at `to`, as [`Consumer::seek`].
    ///
    /// # Errors
    /// [`Error::NotAssigned`] after the stream has ended; [`Error::Usage`] for a negative offset.
    pub fn seek(&mut self, to: Offset) -> Result<(), Error> {
        let id = self.leased.id;
        if !self.consumer.shared().core(|core| core.lease_holds(id)) {
            return Err(Error::NotAssigned(self.leased.name.clone()));
        }
        self.consumer.seek(&self.leased.name, to)
    }

    /// Who reads this partition, to commit offsets of it in a transaction (KIP-447): those are refused once the group may
    /// have given the partition to another member. None without `group.id`, and if it may have by now.
    pub fn group_metadata(&self) -> Option<GroupMetadata> {
        self.consumer.shared().metadata_of_lease(self.leased.id)
    }

    /// Commits that all that was handed out is processed, and waits for the outcome, for up to `default.api.timeout.ms`.
    ///
    /// Goes through until the stream is dropped, also after it was told to end, unless its partition was lost.
    /// It cannot concern a partition that the group took away and gave back: a stream is not of both.
    ///
    /// Cancel-safe: when dropped, the commit goes on.
    ///
    /// # Errors
    /// [`Error::NotAssigned`] if the partition is not this consumer's any more; otherwise as [`Consumer::commit`].
    pub async fn commit(&mut self) -> Result<(), Error> {
        let Some(place) = self.place() else {
            return Ok(());
        };
        self.commit_offset(CommittedOffset {
            offset: place.offset,
            leader_epoch: place.leader_epoch,
            metadata: Str::new(),
        })
        .await
    }

    /// Commits that this record, and all before it, are processed; as [`PartitionStream::commit`].
    ///
    /// # Errors
    /// As [`PartitionStream::commit`]; [`Error::Usage`] for a record of another partition.
    pub async fn commit_record(&mut self, record: &Record) -> Result<(), Error> {
        self.check(record.topic_partition(), record.since())?;
        self.commit_offset(behind(record)).await
    }

    /// Commits that this batch, and all before it, is processed; as [`PartitionStream::commit`].
    ///
    /// # Errors
    /// As [`PartitionStream::commit_record`].
    pub async fn commit_batch(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        self.check(batch.topic_partition(), batch.since())?;
        self.commit_offset(behind_batch(batch)).await
    }

    /// Commits this offset, that of the next record to read; as [`PartitionStream::commit`].
    ///
    /// # Errors
    /// As [`PartitionStream::commit`]; [`Error::Usage`] for a negative offset.
    pub async fn commit_offset(&mut self, offset: CommittedOffset) -> Result<(), Error> {
        self.confirm(&offset, false)?;
        let name = self.leased.name.clone();
        let offsets = [(name, offset)].into_iter().collect();
        self.consumer
            .start_commit(|| offsets, CommitBy::Stream(self.leased.id))?
            .await
    }

    /// Has automatic commit write that this record, and all before it, are processed; as [`Consumer::store_offset`], for
    /// `enable.auto.offset.store` = `false`.
    ///
    /// # Errors
    /// [`Error::Usage`] with `enable.auto.offset.store` = `true`, or for a record of another partition;
    /// [`Error::NotAssigned`] if the partition is not this consumer's any more.
    pub fn store_offset(&mut self, record: &Record) -> Result<(), Error> {
        self.check(record.topic_partition(), record.since())?;
        self.confirm(&behind(record), true)
    }

    /// The same for a batch.
    ///
    /// # Errors
    /// As [`PartitionStream::store_offset`].
    pub fn store_batch(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        self.check(batch.topic_partition(), batch.since())?;
        self.confirm(&behind_batch(batch), true)
    }

    /// Says that all that was handed out is processed, without asking for more: for a program that keeps offsets elsewhere, or
    /// commits them in transactions.
    pub fn mark_processed(&mut self) {
        if let Some(place) = self.place() {
            let id = self.leased.id;
            let shared = self.consumer.shared();
            // Of a partition that is gone there is nothing left to say.
            if shared
                .core(|core| core.confirm(id, place, None, now()))
                .is_ok()
            {
                self.confirmed = self.confirmed.max(place.offset);
            }
        }
    }

    /// Lets go of the partition, being done with all that was handed out. Unless it is to be given up, another stream
    /// of it goes on behind that.
    pub fn finish(mut self) {
        self.mark_processed();
    }

    /// Behind all that was handed out.
    fn place(&self) -> Option<Position> {
        let name = &self.leased.name;
        self.consumer.shared().core(|core| {
            let holds = core.lease_holds(self.leased.id);
            match &self.current {
                // Unless the partition was sought since.
                Some(current) if !holds || core.is_current(current.token) => {
                    Some(match self.lent {
                        true => current.end,
                        false => current.at(current.handed),
                    })
                }
                _ => holds.then(|| core.position(name))?.ok().flatten(),
            }
        })
    }

    /// Whether this was read of the partition, since it has been this consumer's.
    fn check(&self, name: &TopicPartition, since: u64) -> Result<(), Error> {
        if *name != self.leased.name {
            return Err(Error::Usage(
                "a stream of one partition commits and stores its own records alone",
            ));
        }
        let shared = self.consumer.shared();
        if shared.is_subscribed() && !shared.core(|core| core.is_assigned_since(name, since)) {
            return Err(Error::NotAssigned(name.clone()));
        }
        Ok(())
    }

    /// Notes what is processed.
    fn confirm(&mut self, offset: &CommittedOffset, store: bool) -> Result<(), Error> {
        if offset.offset < 0 {
            return Err(Error::Usage("offsets are not negative"));
        }
        let shared = self.consumer.shared();
        if store && shared.config.enable_auto_offset_store {
            return Err(Error::Usage(
                "offsets are stored as records are handed out: set enable.auto.offset.store to false \
                 to store them by hand",
            ));
        }
        let position = Position {
            offset: offset.offset,
            leader_epoch: offset.leader_epoch,
        };
        let metadata = store.then(|| offset.metadata.clone());
        let id = self.leased.id;
        shared.core(|core| core.confirm(id, position, metadata, now()))?;
        self.confirmed = self.confirmed.max(offset.offset);
        Ok(())
    }

    fn poll_record(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Record>, Error>> {
        loop {
            let signal = &self.leased.signal;
            let undisturbed = !self.lent && !signal.look.load(Ordering::Acquire);
            if let Some(current) = self.current.as_mut().filter(|_| undisturbed) {
                let done = current.handed;
                match current.next_record() {
                    Next::Record(record) => {
                        signal.done.store(done, Ordering::Relaxed);
                        signal.next.store(current.handed, Ordering::Relaxed);
                        return Poll::Ready(Ok(Some(record)));
                    }
                    Next::Finished => {}
                    Next::Fault(source) => {
                        let error = current.origin.unreadable(current.handed, source);
                        let (token, at) = (current.token, current.at(current.handed));
                        self.current = None;
                        self.consumer.shared().core(|core| {
                            core.advance(token, at);
                            core.handle_unreadable(token, now());
                        });
                        return Poll::Ready(Err(error));
                    }
                }
            }
            match ready!(self.poll_load(cx))? {
                Loaded::Batch | Loaded::Nothing => {}
                Loaded::End => return Poll::Ready(Ok(None)),
            }
        }
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RecordBatch>, Error>> {
        loop {
            match ready!(self.poll_load(cx))? {
                Loaded::End => return Poll::Ready(Ok(None)),
                Loaded::Batch | Loaded::Nothing => {}
            }
            if let Some(current) = &self.current {
                self.lent = true;
                let signal = &self.leased.signal;
                signal.next.store(current.end.offset, Ordering::Relaxed);
                return Poll::Ready(Ok(Some(current.rest())));
            }
        }
    }

    /// Makes the next batch the current one, or waits.
    fn poll_load(&mut self, cx: &mut Context<'_>) -> Poll<Result<Loaded, Error>> {
        // A reader that always finds something must let others have their turn.
        let turn = ready!(coop::poll_proceed(cx));
        let loaded = self.load(Some(cx.waker()));
        self.waiting = matches!(loaded, Ok(Loaded::Nothing));
        if self.waiting {
            check_not_in_listener()?;
            return Poll::Pending;
        }
        turn.made_progress();
        Poll::Ready(loaded)
    }

    /// Takes the next batch: the application is done with all that it was handed.
    fn load(&mut self, waker: Option<&Waker>) -> Result<Loaded, Error> {
        let shared = self.consumer.shared();
        let id = self.leased.id;
        // Before the core is asked: what happens later is worth another look.
        self.leased.signal.look.store(false, Ordering::Release);
        let (current, lent) = (self.current.take(), std::mem::take(&mut self.lent));
        let now = now();
        let handout = shared.core(|core| {
            let handed = current.and_then(|current| {
                if lent || current.records.left() == 0 {
                    return Some((current.token, current.end));
                }
                give_back(core, &current, current.handed);
                None
            });
            core.next_of_lease(id, handed, waker, now)
        });
        let delivery = match handout {
            LeaseHandout::Nothing => return Ok(Loaded::Nothing),
            LeaseHandout::Error(error) => return Err(error),
            LeaseHandout::End => return Ok(Loaded::End),
            LeaseHandout::Batch(delivery) => delivery,
        };
        let decode = |data| shared.decompressors.decode(data, self.limits);
        match Current::open(delivery, true, &shared.spans, decode) {
            Ok(current) => {
                if self.place.replace(current.token) != Some(current.token) {
                    // It was sought.
                    self.confirmed = 0;
                }
                self.current = Some(current);
                Ok(Loaded::Batch)
            }
            Err((token, error)) => {
                shared.core(|core| core.handle_unreadable(token, now));
                Err(error)
            }
        }
    }

    fn stop_waiting(&mut self) {
        if std::mem::take(&mut self.waiting) {
            let id = self.leased.id;
            let shared = self.consumer.shared();
            shared.core(|core| core.stop_waiting(id, now()));
        }
    }
}

impl Stream for PartitionStream {
    type Item = Result<Record, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = ready!(self.poll_record(cx)).transpose();
        self.ended = next.is_none();
        Poll::Ready(next)
    }
}

impl FusedStream for PartitionStream {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl Drop for PartitionStream {
    fn drop(&mut self) {
        let (id, current, lent) = (self.leased.id, self.current.take(), self.lent);
        let confirmed = self.confirmed;
        self.consumer.shared().core(|core| {
            if let Some(current) = current {
                // Nobody knows what became of what was handed out last.
                let done = match current.done {
                    Some(done) if !lent => done,
                    _ => current.handed,
                };
                let done = done.max(confirmed);
                give_back(core, &current, done);
                core.set_processed(current.token, current.at(done));
            }
            core.drop_lease(id, now());
        });
    }
}

/// A call that waits for records. Whatever ends it ends the waiting.
struct Reading<'a>(&'a mut PartitionStream);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.stop_waiting();
    }
}

/// Gives a batch back, to be handed out from `at` on.
fn give_back(core: &mut Core<Payload>, current: &Current, at: i64) {
    if at >= current.end.offset {
        return core.advance(current.token, current.end);
    }
    let batch = current.batch();
    let bytes = batch.body_len();
    core.put_back(
        current.token,
        Payload::Decoded(batch),
        current.at(at),
        current.end,
        bytes,
    );
}
