//! `ottla perf consume`.

use std::time::Duration;

use ottla::admin::OffsetSpec;
use ottla::consumer::{Offset, TopicPartition};
use serde_json::json;

use super::report::{Report, Stopwatch};
use crate::args::PerfConsumeArgs;
use crate::exit::Failure;
use crate::progress::Progress;
use crate::session::{Session, interrupted};

pub(super) async fn run(mut session: Session, args: PerfConsumeArgs) -> Result<(), Failure> {
    session.option("-G", "group.id", args.group.as_deref())?;
    if args.group.is_some() && !session.config.is_set("auto.offset.reset") {
        session.config.set("auto.offset.reset", "earliest")?;
    }
    let client = session.connect().await?;
    let topics = session.find_topics(&client, &[&args.topic]).await?;
    let partitions: Vec<_> = topics
        .iter()
        .flat_map(|t| &t.partitions)
        .map(|p| p.index)
        .collect();
    let there = match args.records {
        Some(records) => records,
        None => count(&session, &client, &args.topic, &partitions).await?,
    };
    let consumer = client.consumer()?;
    match args.group {
        Some(_) => consumer.subscribe([args.topic.clone()])?,
        None => {
            let assigned = partitions.iter().map(|p| {
                (
                    TopicPartition::new(args.topic.clone(), *p),
                    Offset::Beginning,
                )
            });
            consumer.assign(assigned)?;
        }
    }
    let progress = Progress::new(session.quiet, Some(there), "records");
    let mut interrupt = std::pin::pin!(interrupted());
    let (mut records, mut bytes, mut batches) = (0_u64, 0_u64, 0_u64);
    let mut first = None;
    let mut idle = 0;
    let mut stopwatch = Stopwatch::start();
    let begun = stopwatch.elapsed();
    let mut stopped = false;
    while records < there {
        let polled = tokio::select! {
            biased;
            () = &mut interrupt => { stopped = true; break }
            polled = consumer.poll_max(POLL_RECORDS, POLL) => polled?,
        };
        if polled.is_empty() {
            idle += 1;
            // Compaction and transactions leave offsets without records.
            if idle >= IDLE_POLLS_MAX && args.records.is_none() {
                break;
            }
            continue;
        }
        idle = 0;
        if first.is_none() {
            // Joining a group and connecting are told apart from reading.
            first = Some(stopwatch.elapsed());
            stopwatch = Stopwatch::start();
        }
        for batch in &polled {
            batches += 1;
            for record in batch {
                let record = record?;
                records += 1;
                bytes += (record.key().map_or(0, <[u8]>::len)
                    + record.value().map_or(0, <[u8]>::len)) as u64;
            }
        }
        progress.set(records);
    }
    let rates = stopwatch.stop(records, bytes);
    drop(progress);
    let closed = consumer.close(Duration::from_secs(10)).await;
    client.close().await;
    Report {
        what: "consume",
        topic: args.topic.clone(),
        rates,
        failed: 0,
        latencies: Vec::new(),
        details: json!({
            "batches": batches,
            "first_record_seconds": first.map(|f| (f - begun).as_secs_f64()),
            "group": args.group,
        }),
    }
    .print(args.json.json)?;
    closed?;
    if stopped {
        Err(Failure::interrupted())
    } else {
        Ok(())
    }
}

/// How many offsets there are now.
async fn count(
    session: &Session,
    client: &ottla::Client,
    topic: &str,
    partitions: &[i32],
) -> Result<u64, Failure> {
    let admin = session.admin(client);
    let mut count = 0;
    for (spec, sign) in [(OffsetSpec::Latest, 1), (OffsetSpec::Earliest, -1)] {
        let asked: Vec<_> = partitions.iter().map(|p| (topic, *p, spec)).collect();
        for (_, listed) in admin.list_offsets(&asked).await {
            count += sign * listed?.offset.unwrap_or(0);
        }
    }
    Ok(u64::try_from(count).unwrap_or(0))
}

const POLL: Duration = Duration::from_millis(500);
const POLL_RECORDS: usize = 100_000;
/// Two seconds without a record: there is none left.
const IDLE_POLLS_MAX: u32 = 4;
