//! Reads all topics back and counts, without believing anything that was counted before.
//!
//! For every click in the log it works out what must have become of it, and looks for exactly that among the results.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clickstream::{Click, ERROR_KIND, Source, Topics};
use ottla::Client;
use ottla::consumer::{Consumer, Offset, RecordRef};
use tokio::time::Instant;

use crate::exit::Failure;

/// What is in the topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) clicks: u64,
    pub(super) enriched: u64,
    pub(super) dead_letters: u64,
    /// Dead letters by the mistake that they name.
    pub(super) mistakes: BTreeMap<String, u64>,
    /// Clicks of which nothing has become.
    pub(super) lost: u64,
    /// Results beyond the first of a click.
    pub(super) repeated: u64,
    /// Results that are not what their click must become, or belong to none.
    pub(super) wrong: u64,
    /// Clicks before the offsets that the group has committed.
    pub(super) committed: u64,
}

pub(super) async fn read_back(
    client: &Client,
    topics: &Topics,
    group: &str,
) -> Result<Found, Failure> {
    let mut config = client.consumer_config();
    config.group_id = None;
    let consumer = client.consumer_with(config)?;
    let mut found = Found::default();
    let mut clicks: HashMap<(i32, i64), Fate> = HashMap::new();
    let now_ms = now_ms();
    read(&consumer, &topics.clicks, |partition, record| {
        found.clicks += 1;
        clicks.insert((partition, record.offset()), Fate::of(&record, now_ms));
    })
    .await?;
    for topic in [&topics.enriched, &topics.dead_letters] {
        let dead = *topic == topics.dead_letters;
        read(&consumer, topic, |_, record| {
            match dead {
                true => found.dead_letters += 1,
                false => found.enriched += 1,
            }
            if let Some(kind) = mistake(&record) {
                *found.mistakes.entry(kind).or_default() += 1;
            }
            let click = Source::read(record.headers())
                .filter(|source| source.topic == topics.clicks)
                .and_then(|source| clicks.get_mut(&(source.partition, source.offset)));
            match click {
                Some(fate) => {
                    found.repeated += u64::from(fate.results > 0);
                    found.wrong += u64::from(fate.digest != digest(&record, record.value(), dead));
                    fate.results += 1;
                }
                None => found.wrong += 1,
            }
        })
        .await?;
    }
    found.lost = clicks.values().filter(|fate| fate.results == 0).count() as u64;
    consumer.close(Duration::from_secs(5)).await?;
    for offset in client.admin().group_offsets(group).await? {
        // The demo's topics begin at 0 and have no gaps.
        found.committed += u64::try_from(offset.offset).unwrap_or(0);
    }
    Ok(found)
}

/// What must become of a click, and what has.
struct Fate {
    digest: u64,
    results: u32,
}

impl Fate {
    fn of(click: &RecordRef<'_>, now_ms: i64) -> Fate {
        let digest = match Click::parse(click.value(), now_ms) {
            Ok(valid) => match serde_json::to_vec(&valid.enrich()) {
                Ok(json) => digest(click, Some(&json), false),
                // Strings and numbers can be written; if not, nothing would match.
                Err(_) => 0,
            },
            Err(_) => digest(click, click.value(), true),
        };
        Fate { digest, results: 0 }
    }
}

/// Of a result: its key, its value, its time and which topic it belongs to.
fn digest(record: &RecordRef<'_>, value: Option<&[u8]>, dead: bool) -> u64 {
    let mut hasher = DefaultHasher::new();
    (record.key(), value, record.timestamp(), dead).hash(&mut hasher);
    hasher.finish()
}

fn mistake(record: &RecordRef<'_>) -> Option<String> {
    let (_, kind) = record
        .headers()
        .find(|(name, _)| *name == ERROR_KIND.as_bytes())?;
    Some(String::from_utf8_lossy(kind?).into_owned())
}

/// Lends every record that is in a topic now.
async fn read(
    consumer: &Consumer,
    topic: &str,
    mut lend: impl FnMut(i32, RecordRef<'_>),
) -> Result<(), Failure> {
    let partitions = consumer.partitions_of(topic).await?;
    let mut left = consumer.end_offsets(&partitions).await?;
    left.retain(|_, end| *end > 0);
    consumer.unsubscribe().await?;
    consumer.assign(partitions.into_iter().map(|p| (p, Offset::Beginning)))?;
    let mut latest = Instant::now();
    while !left.is_empty() {
        let batches = consumer.poll_max(10_000, Duration::from_secs(1)).await?;
        if !batches.is_empty() {
            latest = Instant::now();
        } else if latest.elapsed() > PATIENCE {
            return Err(Failure::failed(format!(
                "reading {topic} back: nothing more came for {} seconds, and {} partitions are not \
                 at their end",
                PATIENCE.as_secs(),
                left.len()
            )));
        }
        for batch in &batches {
            for record in batch {
                lend(batch.partition(), record?);
            }
            let partition = batch.topic_partition();
            if left
                .get(partition)
                .is_some_and(|end| batch.next_offset() >= *end)
            {
                left.remove(partition);
            }
        }
    }
    Ok(())
}

fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

const PATIENCE: Duration = Duration::from_secs(30);
