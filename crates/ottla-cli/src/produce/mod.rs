//! `ottla produce`: lines become records.
//!
//! Records are handed to the producer as fast as it takes them; outcomes are looked at a chunk at a
//! time, so nothing waits for one record. The first failures are told with their lines.

mod header;
mod input;

use std::collections::VecDeque;
use std::sync::Arc;

use ottla::producer::{Delivery, Header, Producer, ProducerRecord, SendError};

pub(crate) use self::header::HeaderArg;

use self::input::{Chunk, Input};
use crate::args::ProduceArgs;
use crate::exit::{Failure, say};
use crate::progress::Progress;
use crate::session::{Session, interrupted};
use crate::stdout::Output;

pub(crate) async fn run(mut session: Session, args: ProduceArgs) -> Result<(), Failure> {
    session.option("-z", "compression.type", args.compression.as_deref())?;
    let client = session.connect().await?;
    if !session.may_create_topics() {
        let found = session.find_topics(&client, &[&args.topic]).await?;
        let partitions = found.first().map_or(0, |t| t.partitions.len());
        if let Some(partition) = args.partition
            && usize::try_from(partition).is_ok_and(|p| p >= partitions)
        {
            return Err(Failure::not_found(format!(
                "topic `{}` has no partition {partition}; it has {partitions}, counted from 0",
                args.topic
            )));
        }
    }
    let producer = client.producer()?;
    let mut run = Run::new(&session, &args);
    let outcome = run.copy(&producer).await;
    // What was read goes out in any case.
    let flushed = producer.flush(producer.config().delivery_timeout).await;
    run.settle_all().await;
    client.close().await;
    run.progress.clear();
    run.report(&session, &args.topic);
    outcome?;
    if let Err(error) = flushed
        && run.failed == 0
    {
        return Err(Failure::failed(error));
    }
    match run.failed {
        0 => Ok(()),
        failed => Err(Failure::failed(format!(
            "{failed} of {} records were not delivered to `{}`",
            run.sent, args.topic
        ))),
    }
}

/// One run: what to send, and what became of it.
struct Run<'a> {
    args: &'a ProduceArgs,
    input: Input,
    headers: Vec<Header<'a>>,
    /// In the order sent.
    open: VecDeque<Open>,
    sent: u64,
    failed: u64,
    bytes: u64,
    progress: Progress,
}

/// A record that is on its way.
struct Open {
    source: Arc<str>,
    line: u64,
    delivery: Delivery,
}

impl<'a> Run<'a> {
    fn new(session: &Session, args: &'a ProduceArgs) -> Run<'a> {
        let input = Input {
            files: args.files.clone(),
            delimiter: args
                .delimiter
                .as_ref()
                .map_or_else(|| b"\n".to_vec(), |d| d.0.clone()),
            whole: args.whole,
            record_bytes_max: session.config.producer_config().max_request_size,
        };
        let headers = args
            .headers
            .iter()
            .map(|h| Header {
                key: &h.name,
                value: h.value.as_deref().map(str::as_bytes),
            })
            .collect();
        let size = args
            .files
            .iter()
            .map(|f| {
                std::fs::metadata(f)
                    .ok()
                    .filter(std::fs::Metadata::is_file)
                    .map(|m| m.len())
            })
            .sum::<Option<u64>>()
            .filter(|size| *size > 0);
        let progress = Progress::new(session.quiet, size, "bytes");
        Run {
            args,
            input,
            headers,
            open: VecDeque::new(),
            sent: 0,
            failed: 0,
            bytes: 0,
            progress,
        }
    }

    /// Sends everything there is to read.
    async fn copy(&mut self, producer: &Producer) -> Result<(), Failure> {
        let mut chunks = self.input.clone().start();
        let mut tee = self.args.tee.then(Output::new);
        let mut interrupt = std::pin::pin!(interrupted());
        loop {
            let chunk = tokio::select! {
                biased;
                () = &mut interrupt => return Err(Failure::interrupted()),
                chunk = chunks.recv() => match chunk {
                    Some(chunk) => chunk.map_err(Failure::failed)?,
                    None => return Ok(()),
                },
            };
            let enough = tokio::select! {
                biased;
                () = &mut interrupt => return Err(Failure::interrupted()),
                sent = self.send(producer, &chunk) => sent?,
            };
            if let Some(out) = &mut tee {
                out.buffer().extend_from_slice(&chunk.bytes);
                out.flush()?;
            }
            self.settle().await;
            self.progress.set(self.bytes);
            self.progress.message(format!("{} records", self.sent));
            if enough {
                return Ok(());
            }
        }
    }

    /// Sends the records of a chunk; `true` once as many are sent as were asked for.
    async fn send(&mut self, producer: &Producer, chunk: &Chunk) -> Result<bool, Failure> {
        for (record, line) in self.input.records(&chunk.bytes).zip(chunk.first..) {
            if self.args.count.is_some_and(|count| self.sent >= count) {
                return Ok(true);
            }
            let (key, value) = split(record, self.args);
            let record_to_send = ProducerRecord {
                topic: &self.args.topic,
                partition: self.args.partition,
                key,
                value,
                headers: &self.headers,
                timestamp: self.args.timestamp,
            };
            self.sent += 1;
            self.bytes += record.len() as u64 + 1;
            match producer.send(record_to_send).await {
                Ok(delivery) => {
                    let source = chunk.source.clone();
                    self.open.push_back(Open {
                        source,
                        line,
                        delivery,
                    });
                }
                Err(error) => {
                    fail(&mut self.failed, &chunk.source, line, &error);
                    // The next record would fare no better.
                    if matches!(
                        error,
                        SendError::Closed
                            | SendError::Fatal { .. }
                            | SendError::TopicUnavailable { .. }
                    ) {
                        return Err(Failure::failed(error));
                    }
                }
            }
        }
        Ok(self.args.count.is_some_and(|count| self.sent >= count))
    }

    /// Takes the outcomes that are known by now, from the oldest on.
    async fn settle(&mut self) {
        while let Some(oldest) = self.open.front_mut() {
            let outcome = match oldest.delivery.try_outcome() {
                Some(outcome) => outcome,
                // One partition may lag far behind the others; its oldest record bounds what is
                // remembered of theirs.
                None if self.open.len() > OPEN_MAX => (&mut self.open[0].delivery).await,
                None => return,
            };
            self.take(outcome);
        }
    }

    async fn settle_all(&mut self) {
        while let Some(oldest) = self.open.front_mut() {
            let outcome = (&mut oldest.delivery).await;
            self.take(outcome);
        }
    }

    /// Counts the outcome of the oldest record.
    fn take<T>(&mut self, outcome: Result<T, SendError>) {
        if let Some(oldest) = self.open.pop_front()
            && let Err(error) = outcome
        {
            fail(&mut self.failed, &oldest.source, oldest.line, &error);
        }
    }

    fn report(&self, session: &Session, topic: &str) {
        if self.failed > FAILURES_TOLD {
            say(format_args!("… and {} more", self.failed - FAILURES_TOLD));
        }
        use std::io::IsTerminal as _;
        if !session.quiet && std::io::stderr().is_terminal() {
            say(format_args!(
                "{} records delivered to {topic}",
                self.sent - self.failed
            ));
        }
    }
}

fn fail(failed: &mut u64, source: &str, line: u64, error: &SendError) {
    *failed += 1;
    if *failed <= FAILURES_TOLD {
        say(format_args!("{source}:{line}: {error}"));
    }
}

/// Key and value of one line.
fn split<'a>(record: &'a [u8], args: &'a ProduceArgs) -> (Option<&'a [u8]>, Option<&'a [u8]>) {
    let fixed = args.key.as_deref().map(str::as_bytes);
    let (key, value) = match &args.key_delimiter {
        None => (fixed, record),
        Some(delimiter) => match memchr::memmem::find(record, &delimiter.0) {
            Some(at) => (Some(&record[..at]), &record[at + delimiter.0.len()..]),
            None => (fixed, record),
        },
    };
    let null_if_empty = |bytes: &&[u8]| !(args.null && bytes.is_empty());
    (key.filter(null_if_empty), Some(value).filter(null_if_empty))
}

/// Failures that are told one by one.
const FAILURES_TOLD: u64 = 10;
/// Records in flight that are remembered.
const OPEN_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn args(line: &str) -> ProduceArgs {
        let words = ["ottla", "produce", "-t", "t"]
            .into_iter()
            .chain(line.split_whitespace());
        match Cli::try_parse_from(words).unwrap().command {
            Some(Command::Produce(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn keys_values_and_nulls() {
        type Pair = (Option<&'static [u8]>, Option<&'static [u8]>);
        let cases: [(&str, &'static [u8], Pair); 8] = [
            ("", b"a:b", (None, Some(b"a:b"))),
            ("-K :", b"a:b:c", (Some(b"a"), Some(b"b:c"))),
            ("-K :", b"ab", (None, Some(b"ab"))),
            ("-K :", b":", (Some(b""), Some(b""))),
            ("-K : -Z", b":", (None, None)),
            ("-K : -Z", b"k:", (Some(b"k"), None)),
            ("-K :: -k x", b"a:b", (Some(b"x"), Some(b"a:b"))),
            ("-Z", b"", (None, None)),
        ];
        for (options, line, expected) in cases {
            let args = args(options);
            assert_eq!(split(line, &args), expected, "{options} {line:?}");
        }
    }
}
