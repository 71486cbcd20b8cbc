//! Turns closed batches into sealed ones: compression and checksum.
//!
//! Small ones, and all when there is no codec, in passing by whoever takes them; large ones, and those that a caller has just
//! filled, on blocking threads, as many at once as there are cores, so that neither callers nor the
//! tasks that talk to brokers wait for a codec. Order within a partition is kept by its queue.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ottla_wire::compress::{Codec, Compression, Compressor, Decompressor};
use ottla_wire::record::{SealOptions, next_sequence, split};
use parking_lot::Mutex;

use crate::batch::{Batch, OpenBatch, Payload, Stamp};
use crate::client::Client;
use crate::delivery::Outcome;
use crate::error::SendError;
use crate::topics::{Partition, TopicShared};

/// How a topic's batches are sealed.
#[derive(Debug)]
pub(crate) struct Sealing {
    options: SealOptions,
    in_passing: usize,
}

impl Sealing {
    /// The level was validated; one that is not the codec's is left out.
    pub(crate) fn new(compression: Compression, level: Option<i32>) -> Self {
        let level = compression.levels().and(level);
        let codec = Codec::new(compression, level)
            // A level out of range was refused with the configuration.
            .unwrap_or_else(|_| Codec::from(compression));
        // About 200 µs of work at most.
        let in_passing = match compression {
            Compression::None => usize::MAX,
            Compression::Lz4 | Compression::Snappy => 64 << 10,
            Compression::Zstd => 32 << 10,
            Compression::Gzip => 4 << 10,
        };
        Self {
            options: SealOptions { codec },
            in_passing,
        }
    }

    /// Whether batches are not compressed.
    pub(crate) fn is_plain(&self) -> bool {
        self.options.codec.compression() == Compression::None
    }

    /// The largest batch, in plain bytes, to be sealed by whoever takes it.
    pub(crate) fn in_passing(&self) -> usize {
        self.in_passing
    }
}

#[derive(Debug)]
pub(crate) struct Sealer {
    workers_max: usize,
    work: Mutex<Work>,
}

thread_local! {
    /// Codec contexts cannot move between threads (structured-zstd's are not `Send`), so each thread
    /// that seals keeps its own, built when first used.
    static COMPRESSOR: RefCell<Compressor> = RefCell::default();
}

#[derive(Debug, Default)]
struct Work {
    jobs: VecDeque<Job>,
    workers: usize,
}

#[derive(Debug)]
enum Job {
    /// The partition's oldest plain batch.
    Oldest(Arc<Partition>),
    /// The batch the partition's queue knows by this number.
    This(Arc<Partition>, u64, OpenBatch),
}

impl Sealer {
    pub(crate) fn new() -> Self {
        Self {
            workers_max: std::thread::available_parallelism().map_or(1, usize::from),
            work: Mutex::default(),
        }
    }

    /// A partition has a full batch.
    pub(crate) fn submit(&self, client: &Arc<Client>, partition: Arc<Partition>) {
        self.enqueue(client, Job::Oldest(partition));
    }

    /// A batch too large to be sealed in passing.
    pub(crate) fn submit_batch(
        &self,
        client: &Arc<Client>,
        partition: Arc<Partition>,
        number: u64,
        batch: OpenBatch,
    ) {
        self.enqueue(client, Job::This(partition, number, batch));
    }

    /// Seals here and now. `None` if the codec failed; the records' outcome then says so.
    pub(crate) fn seal(
        &self,
        client: &Client,
        topic: &TopicShared,
        batch: OpenBatch,
    ) -> Option<Box<Batch>> {
        COMPRESSOR.with_borrow_mut(|compressor| self.seal_with(compressor, client, topic, batch))
    }

    /// Cuts a batch that a broker found too large. The pieces keep their records' sequences.
    pub(crate) fn split(
        &self,
        client: &Client,
        topic: &TopicShared,
        batch: Box<Batch>,
    ) -> Vec<Batch> {
        topic.ratio.reset();
        let Payload::Stamped { bytes, .. } = &batch.payload else {
            return vec![*batch]; // Never sent: nobody can have found it too large.
        };
        let plain_max = (batch.len() / 2).max(SPLIT_MIN);
        let mut decompressor = Decompressor::default();
        let parts = COMPRESSOR.with_borrow_mut(|compressor| {
            let options = &topic.settings.sealing.options;
            contain(|| split(bytes, plain_max, options, compressor, &mut decompressor))
        });
        let parts = match parts.and_then(|parts| parts.map_err(|error| error.to_string())) {
            Ok(parts) => parts,
            Err(reason) => {
                tracing::error!(topic = %topic.name, reason, "a batch of ours cannot be split");
                COMPRESSOR.set(Compressor::new());
                let topic = topic.name.clone();
                let problem =
                    format!("its batch is too large and cannot be split: {reason}").into();
                let error = SendError::InvalidRecord { topic, problem };
                batch.settle(error.into(), &client.supplies.buffers);
                return Vec::new();
            }
        };
        let Batch {
            mut memory,
            resolver,
            opened,
            place,
            stamp,
            attempts,
            first_sent,
            last_error,
            ..
        } = *batch;
        let Some(resolver) = resolver else {
            return Vec::new(); // Its callers were told already.
        };
        let (mut first, mut pieces, mut tickets) = (0, Vec::new(), Vec::new());
        for part in parts {
            let own = resolver.sibling();
            tickets.push((first, own.ticket().clone()));
            let records = part.record_count();
            let reserved = memory.split(part.len());
            pieces.push(Batch {
                place: (place.0, place.1 + first),
                stamp: stamp.map(|stamp| Stamp {
                    sequence: next_sequence(stamp.sequence, first as i32),
                    ..stamp
                }),
                attempts,
                first_sent,
                last_error: last_error.clone(),
                ..*Batch::new(part, own, reserved, opened)
            });
            first += records as u32;
        }
        resolver.resolve(Outcome::Split(tickets));
        pieces
    }

    fn enqueue(&self, client: &Arc<Client>, job: Job) {
        let mut work = self.work.lock();
        work.jobs.push_back(job);
        if work.workers < self.workers_max {
            work.workers += 1;
            drop(work);
            let client = client.clone();
            let runtime = client.runtime.clone();
            if client.config.blocking_threads {
                runtime.spawn_blocking(move || client.sealer.work(&client));
            } else {
                runtime.spawn(async move { client.sealer.work(&client) });
            }
        }
    }

    /// One worker: ends when there is nothing left to do.
    fn work(&self, client: &Arc<Client>) {
        loop {
            let mut work = self.work.lock();
            let Some(job) = work.jobs.pop_front() else {
                work.workers -= 1;
                return;
            };
            drop(work);
            let (partition, number, batch) = match job {
                Job::This(partition, number, batch) => (partition, number, batch),
                Job::Oldest(partition) => {
                    let taken = partition.front.lock().queue.take_plain();
                    // None: the broker's sender was quicker.
                    let Some((number, batch)) = taken else {
                        continue;
                    };
                    (partition, number, batch)
                }
            };
            let sealed = self.seal(client, &partition.topic, batch);
            if sealed.is_none() {
                client.keep_gapless("a batch could not be sealed");
            }
            let mut front = partition.front.lock();
            if front.ended {
                drop(front);
                if let Some(batch) = sealed {
                    let fatal = client.core.lock().fatal().cloned();
                    let outcome = fatal.unwrap_or(SendError::Closed).into();
                    batch.settle(outcome, &client.supplies.buffers);
                }
                continue;
            }
            match front.queue.put_sealed(number, sealed) {
                Ok(true) => client.tell_due(&partition, &mut front),
                Ok(false) => {}
                Err(purged) => {
                    drop(front);
                    purged.settle(SendError::Purged.into(), &client.supplies.buffers);
                }
            }
        }
    }

    fn seal_with(
        &self,
        compressor: &mut Compressor,
        client: &Client,
        topic: &TopicShared,
        batch: OpenBatch,
    ) -> Option<Box<Batch>> {
        let OpenBatch {
            writer,
            resolver,
            mut memory,
            opened,
        } = batch;
        let plain = writer.len();
        let buffers = &client.supplies.buffers;
        let options = &topic.settings.sealing.options;
        let spare = |bytes| buffers.take_within(bytes, memory.bytes());
        let seal = contain(|| writer.seal_into(options, compressor, spare));
        let mut sealed = match seal.and_then(|sealed| sealed.map_err(|error| error.to_string())) {
            Ok(sealed) => sealed,
            Err(reason) => {
                // It may be in the middle of anything.
                *compressor = Compressor::new();
                let topic = topic.name.clone();
                let problem = format!("its batch cannot be sealed: {reason}").into();
                resolver.resolve(SendError::InvalidRecord { topic, problem }.into());
                return None;
            }
        };
        client
            .supplies
            .outstanding
            .meters
            .sealed(plain, sealed.len());
        if !topic.settings.sealing.is_plain() {
            topic.ratio.learn(plain, sealed.len());
        }
        if let Some(spare) = sealed.take_spare() {
            buffers.give_back(spare);
            memory.shrink_to(sealed.capacity());
        }
        Some(Batch::new(sealed, resolver, memory, opened))
    }
}

/// A codec that panics must cost one batch: not the worker that runs it, and with it the partition, whose
/// queue would wait for that batch for ever.
fn contain<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|_| "the codec panicked; please report it".to_owned())
}

/// Pieces smaller than this are not worth their headers; a record larger than its share still gets a
/// piece of its own.
const SPLIT_MIN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_codec_that_panics_is_an_error() {
        let panicked: Result<(), _> = contain(|| panic!("on these records"));
        assert!(panicked.unwrap_err().contains("panicked"));
        assert_eq!(contain(|| 1), Ok(1));
    }
}
