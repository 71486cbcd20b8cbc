//! librdkafka through rust-rdkafka, on its fastest paths: a `BaseProducer` with a polling thread that
//! is told of failures only, and the batch queue of a consumer.

use std::error::Error;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use ottla_bench::contestant::{self, Args, Mode, Outcome, Phase, paced};
use ottla_bench::workload::Workload;
use rdkafka::bindings::{
    rd_kafka_consume_batch_queue, rd_kafka_message_destroy, rd_kafka_message_t,
    rd_kafka_queue_get_consumer, rd_kafka_queue_t,
};
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let pool = Workload::load(&args.workload)?;
    match args.mode {
        Mode::Produce => {
            let failed = Arc::new(AtomicU64::new(0));
            let producer: ThreadedProducer<Failures> = producer_config(&args, "5")
                .set("delivery.report.only.error", "true")
                .create_with_context(Failures(Arc::clone(&failed)))?;
            contestant::run(&args, |phase| {
                produce(&args, &pool, &producer, &failed, phase)
            })
        }
        Mode::Consume => {
            let queue = Queue::open(&args)?;
            contestant::run(&args, |phase| queue.consume(phase))
        }
        Mode::Latency => {
            let (sender, acknowledged) = sync_channel(1);
            let producer: ThreadedProducer<Acknowledged> =
                producer_config(&args, "0").create_with_context(Acknowledged(sender))?;
            contestant::run(&args, |phase| {
                paced(phase, args.rate, &pool, |event| {
                    let started = Instant::now();
                    let record = BaseRecord::to(&args.topic)
                        .key(event.key)
                        .payload(event.value);
                    producer.send(record).map_err(|(error, _)| error)?;
                    if !acknowledged.recv()? {
                        return Err(Failure::from("a record was not acknowledged"));
                    }
                    Ok(started.elapsed())
                })
            })
        }
        Mode::Endtoend => {
            let producer: ThreadedProducer<Failures> = producer_config(&args, "0")
                .set("delivery.report.only.error", "true")
                .create_with_context(Failures(Arc::default()))?;
            let queue = Queue::open(&args)?;
            contestant::run(&args, |phase| {
                queue.drain();
                paced(phase, args.rate, &pool, |event| {
                    let started = Instant::now();
                    let record = BaseRecord::to(&args.topic)
                        .key(event.key)
                        .payload(event.value);
                    producer.send(record).map_err(|(error, _)| error)?;
                    while queue.next(Duration::from_secs(5), 1)?.records == 0 {}
                    Ok::<_, Failure>(started.elapsed())
                })
            })
        }
    }
}

fn producer_config(args: &Args, linger_ms: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &args.bootstrap)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", &args.codec)
        .set("partitioner", "murmur2_random")
        .set("linger.ms", linger_ms)
        .set("batch.size", args.client_batch_bytes().to_string())
        // Counts must not end batches before bytes do.
        .set("batch.num.messages", "1000000")
        .set("queue.buffering.max.messages", "2000000")
        .set("queue.buffering.max.kbytes", "65536");
    config
}

fn produce(
    args: &Args,
    pool: &Workload,
    producer: &ThreadedProducer<Failures>,
    failed: &AtomicU64,
    phase: Phase,
) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    while phase.open(outcome.records) {
        for _ in 0..256 {
            let event = pool.event(outcome.records as usize % pool.len());
            let mut record = BaseRecord::to(&args.topic)
                .key(event.key)
                .payload(event.value);
            while let Err((error, back)) = producer.send(record) {
                if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                record = back;
                thread::sleep(Duration::from_millis(1));
            }
            outcome.records += 1;
            outcome.value_bytes += event.value.len() as u64;
        }
    }
    producer.flush(Duration::from_secs(60))?;
    match failed.load(Relaxed) {
        0 => Ok(outcome),
        failed => Err(format!("{failed} records were not acknowledged").into()),
    }
}

/// Counts records that were not delivered.
struct Failures(Arc<AtomicU64>);

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.fetch_add(1, Relaxed);
        }
    }
}

/// Says of every record whether it was delivered.
struct Acknowledged(SyncSender<bool>);

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        // Nobody listens any more at the very end.
        let _ = self.0.send(result.is_ok());
    }
}

/// A consumer of all partitions and its one queue.
struct Queue {
    /// Keeps the queue alive.
    _consumer: BaseConsumer,
    queue: *mut rd_kafka_queue_t,
}

/// Of one call.
const MESSAGES_MAX: usize = 10_000;

impl Queue {
    fn open(args: &Args) -> Result<Self, Failure> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &args.bootstrap)
            .set("group.id", "ottla-bench")
            .set("enable.auto.commit", "false")
            // Off by default; everyone else checks.
            .set("check.crcs", "true")
            .set("queued.min.messages", "1000000")
            .set("queued.max.messages.kbytes", "65536")
            // A full queue makes it pause for a second by default.
            .set("fetch.queue.backoff.ms", "5")
            .create()?;
        let mut partitions = TopicPartitionList::new();
        for partition in 0..args.partitions as i32 {
            partitions.add_partition_offset(&args.topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&partitions)?;
        // SAFETY: the client lives as long as `_consumer`, next to which the queue is kept.
        let queue = unsafe { rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        Ok(Self {
            _consumer: consumer,
            queue,
        })
    }

    /// What already lies in the topic is not ours.
    fn drain(&self) {
        while self
            .next(Duration::from_millis(700), MESSAGES_MAX)
            .is_ok_and(|outcome| outcome.records > 0)
        {}
    }

    fn consume(&self, phase: Phase) -> Result<Outcome, Failure> {
        let mut total = Outcome::default();
        while phase.open(total.records) {
            let batch = self.next(phase.remaining().min(Duration::from_millis(100)), MESSAGES_MAX)?;
            total.records += batch.records;
            total.value_bytes += batch.value_bytes;
        }
        Ok(total)
    }

    /// Takes what comes until there are `most` messages or the time is up, and touches each value.
    fn next(&self, wait: Duration, most: usize) -> Result<Outcome, Failure> {
        let mut messages = [ptr::null_mut::<rd_kafka_message_t>(); MESSAGES_MAX];
        let most = most.min(messages.len());
        let wait_ms = wait.as_millis() as i32;
        // SAFETY: the queue is open, and the array has room for as many messages as it says.
        let count = unsafe {
            rd_kafka_consume_batch_queue(self.queue, wait_ms, messages.as_mut_ptr(), most)
        };
        let count = usize::try_from(count).map_err(|_| "the queue cannot be read")?;
        let mut outcome = Outcome::default();
        let mut touched = 0_u64;
        for &message in &messages[..count] {
            // SAFETY: librdkafka filled in the first `count` messages; each is read before it is
            // given back, exactly once.
            unsafe {
                let (error, len) = ((*message).err, (*message).len);
                if error == rdkafka::bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                    touched += u64::from(*(*message).payload.cast::<u8>());
                    outcome.records += 1;
                    outcome.value_bytes += len as u64;
                }
                rd_kafka_message_destroy(message);
            }
        }
        std::hint::black_box(touched);
        Ok(outcome)
    }
}
