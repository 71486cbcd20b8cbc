//! `ottla consume`: records become lines.

mod envelope;
mod fields;
mod format;
mod progress;
mod start;

use std::time::Duration;

use ottla::Client;
use ottla::consumer::{Consumer, Offset as Start, RecordBatch, TimestampType, TopicPartition};

pub(crate) use self::start::Offset;

use self::fields::Fields;
use self::format::Format;
use self::progress::Ends;
use self::start::Span;
use crate::args::ConsumeArgs;
use crate::exit::Failure;
use crate::session::{Session, interrupted};
use crate::stdout::Output;

/// Whether a format can be used; clap keeps the text.
pub(crate) fn check_format(text: &str) -> Result<String, String> {
    Format::parse(text, b"").map(|_| text.to_owned())
}

pub(crate) async fn run(mut session: Session, args: ConsumeArgs) -> Result<(), Failure> {
    let span = Span::of(&args.offsets).map_err(Failure::usage)?;
    let printer = Printer::new(&args)?;
    session.option("-G", "group.id", args.group.as_deref())?;
    if span.start == Some(Offset::Stored) && !session.config.is_set("group.id") {
        return Err(Failure::usage(
            "-o stored needs a group: set it with -X group.id=NAME",
        ));
    }
    if args.group.is_some() && !session.config.is_set("auto.offset.reset") {
        // A group without a position begins where a reader without a group does.
        session.config.set("auto.offset.reset", "earliest")?;
    }
    let client = session.connect().await?;
    let mut settings = client.consumer_config();
    let records_per_poll = match session.config.is_set("max.poll.records") {
        true => settings.max_poll_records,
        false => POLL_RECORDS,
    };
    if !session.config.is_set("enable.auto.commit") {
        let keeps_positions = args.group.is_some() || span.start == Some(Offset::Stored);
        settings.enable_auto_commit &= keeps_positions;
    }
    let consumer = client.consumer_with(settings)?;
    let ends = begin(&session, &client, &consumer, &args, span).await?;
    let mut run = Run {
        args: &args,
        span,
        consumer: &consumer,
        printer,
        ends,
        records_per_poll,
        printed: 0,
    };
    let outcome = run.read().await;
    let closed = consumer.close(CLOSE_TIMEOUT).await;
    client.close().await;
    outcome?;
    closed.map_err(Failure::from)
}

/// Assigns or subscribes, and finds out where to stop.
async fn begin(
    session: &Session,
    client: &Client,
    consumer: &Consumer,
    args: &ConsumeArgs,
    span: Span,
) -> Result<Ends, Failure> {
    let mut ends = Ends::new(args.exit_at_end);
    let Some(name) = &args.topic else {
        let names: Vec<_> = args.topics.iter().map(String::as_str).collect();
        session.find_topics(client, &names).await?;
        consumer.subscribe(args.topics.clone())?;
        return Ok(ends);
    };
    let found = session.find_topics(client, &[name]).await?;
    let all: Vec<i32> = found
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|p| p.index))
        .collect();
    if let Some(missing) = args.partitions.iter().find(|p| !all.contains(p)) {
        return Err(Failure::not_found(format!(
            "topic `{name}` has no partition {missing}; it has {}, counted from 0",
            all.len()
        )));
    }
    let chosen = if args.partitions.is_empty() {
        &all
    } else {
        &args.partitions
    };
    let start = match span.start.unwrap_or(Offset::Beginning) {
        Offset::Beginning => Start::Beginning,
        Offset::End => Start::End,
        Offset::Stored => Start::Committed,
        Offset::Absolute(offset) => Start::At(offset),
        Offset::Tail(count) => Start::Tail(count.unsigned_abs()),
        Offset::StartTime(ms) => Start::Timestamp(ms),
        // `Span` keeps it apart.
        Offset::StopTime(_) => Start::Beginning,
    };
    let partitions: Vec<_> = chosen
        .iter()
        .map(|p| (TopicPartition::new(name.clone(), *p), start))
        .collect();
    ends.find(consumer, partitions.iter().map(|(tp, _)| tp))
        .await?;
    consumer.assign(partitions)?;
    Ok(ends)
}

/// One run: what is read, and how far.
struct Run<'a> {
    args: &'a ConsumeArgs,
    span: Span,
    consumer: &'a Consumer,
    printer: Printer,
    ends: Ends,
    records_per_poll: usize,
    printed: u64,
}

impl Run<'_> {
    async fn read(&mut self) -> Result<(), Failure> {
        if self.args.count == Some(0) {
            return Ok(());
        }
        let mut out = Output::new();
        let mut interrupt = std::pin::pin!(interrupted());
        let group = self.args.group.is_some();
        loop {
            let wanted = self
                .args
                .count
                .map_or(u64::MAX, |count| count - self.printed);
            let wanted = usize::try_from(wanted)
                .unwrap_or(usize::MAX)
                .min(self.records_per_poll);
            let mut batches = self.poll(wanted, Duration::ZERO).await?;
            if batches.is_empty() {
                out.flush()?;
                if self.is_done().await? {
                    return Ok(());
                }
                if out.is_closed() {
                    return Err(Failure::nobody_listens());
                }
                batches = tokio::select! {
                    biased;
                    () = &mut interrupt => return Ok(()),
                    batches = self.poll(wanted, IDLE) => batches?,
                };
            }
            let printed = self.print(&batches, &mut out);
            // What is committed has been printed: a group's records leave before more are asked for.
            let flushed = out.flush_if(group || self.args.unbuffered);
            if let Err(failure) = printed.and(flushed) {
                // What nobody has read is read again next time.
                self.rewind(&batches);
                return Err(failure);
            }
            if self.args.count.is_some_and(|count| self.printed >= count) {
                return out.flush();
            }
            if self.ends.all_reached() && self.is_done().await? {
                return out.flush();
            }
            tokio::select! {
                biased;
                () = &mut interrupt => return out.flush(),
                () = std::future::ready(()) => {}
            }
        }
    }

    async fn poll(&self, records: usize, timeout: Duration) -> Result<Vec<RecordBatch>, Failure> {
        self.consumer
            .poll_max(records, timeout)
            .await
            .map_err(Failure::from)
    }

    fn print(&mut self, batches: &[RecordBatch], out: &mut Output) -> Result<(), Failure> {
        for batch in batches {
            let partition = batch.topic_partition();
            if self.ends.is_past_time(partition) {
                continue;
            }
            for record in batch {
                let record = record?;
                if self
                    .span
                    .stop_ms
                    .is_some_and(|stop| record.timestamp() >= stop)
                {
                    self.ends.reach_time(partition);
                    // A partition that was just lost needs no pause.
                    let _ = self.consumer.pause(std::slice::from_ref(partition));
                    break;
                }
                if self.ends.is_past(partition, record.offset()) {
                    break;
                }
                let fields = Fields {
                    topic: batch.topic(),
                    partition: batch.partition(),
                    offset: record.offset(),
                    timestamp: record.timestamp(),
                    log_append_time: batch.timestamp_type() == TimestampType::LogAppendTime,
                    key: record.key(),
                    value: record.value(),
                    headers: if self.printer.needs_headers() {
                        record.headers().collect()
                    } else {
                        Vec::new()
                    },
                };
                self.printer.print(&fields, out.buffer());
                out.spill()?;
                self.printed += 1;
            }
            self.ends.advance(partition, batch.next_offset());
        }
        Ok(())
    }

    /// Whether everything that was there has been read.
    async fn is_done(&mut self) -> Result<bool, Failure> {
        if !self.args.exit_at_end && self.span.stop_ms.is_none() {
            return Ok(false);
        }
        let assigned = self.consumer.assignment();
        if assigned.is_empty() {
            return Ok(false);
        }
        if self.args.exit_at_end {
            self.ends.find(self.consumer, &assigned).await?;
            for partition in &assigned {
                // Past what is no record: the marker of a transaction, or a gap that compaction left.
                if let Ok(Some(position)) = self.consumer.position(partition) {
                    self.ends.advance(partition, position);
                }
            }
        }
        Ok(self.ends.reached(&assigned))
    }

    /// Puts back records that were handed out and not printed, so that they are not committed.
    fn rewind(&self, batches: &[RecordBatch]) {
        for batch in batches.iter().rev() {
            if let Some(Ok(first)) = batch.records().next() {
                // Fails for a partition that is no longer ours: then its position is not ours to keep.
                let _ = self
                    .consumer
                    .seek(batch.topic_partition(), Start::At(first.offset()));
            }
        }
    }
}

/// How records are printed.
enum Printer {
    Json,
    Format(Format),
}

impl Printer {
    fn new(args: &ConsumeArgs) -> Result<Printer, Failure> {
        let null: &[u8] = if args.null { b"NULL" } else { b"" };
        if args.json {
            return Ok(Printer::Json);
        }
        let format = match &args.format {
            Some(format) => Format::parse(format, null).map_err(Failure::usage)?,
            None => {
                let delimiter = args.delimiter.as_ref().map_or(&b"\n"[..], |d| &d.0);
                Format::plain(
                    args.key_delimiter.as_ref().map(|d| &d.0[..]),
                    delimiter,
                    null,
                )
            }
        };
        Ok(Printer::Format(format))
    }

    fn needs_headers(&self) -> bool {
        match self {
            Printer::Json => true,
            Printer::Format(format) => format.needs_headers(),
        }
    }

    fn print(&self, record: &Fields<'_>, out: &mut Vec<u8>) {
        match self {
            Printer::Json => envelope::write(record, out),
            Printer::Format(format) => format.write(record, out),
        }
    }
}

/// How long to wait for records before looking whether anybody still reads what is printed.
const IDLE: Duration = Duration::from_millis(250);
/// How long leaving a group and committing may take at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Enough records at once that a poll's own cost does not show.
const POLL_RECORDS: usize = 10_000;
