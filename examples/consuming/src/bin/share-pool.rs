//! A pool of workers on a share group: `cargo run -p consuming --bin share-pool`.
#![forbid(unsafe_code)]

use std::time::Duration;

use consuming::demo::{self, Demo, Failure};
use consuming::pool::{self, Verdict};
use ottla::consumer::{
    ShareAcknowledgementMode, ShareAcquireMode, ShareConsumerConfig, ShareRecord,
};

const TOPIC: &str = "pictures";
const GROUP: &str = "thumbnails";
const WORKERS: usize = 8;
const PICTURES: u64 = 200;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // More workers than partitions: here that is of use.
    let demo = Demo::start(&[(TOPIC, 2)], |client| client).await?;
    demo::share_from_the_beginning(&demo.client, GROUP).await?;
    let pictures = (0..PICTURES).map(|n| (n.to_string(), format!("picture {n}")));
    demo::write(&demo.client, TOPIC, pictures).await?;

    let consumer = demo.client.share_consumer_with(ShareConsumerConfig {
        group_id: GROUP.into(),
        acknowledgement_mode: ShareAcknowledgementMode::Explicit,
        acquire_mode: ShareAcquireMode::RecordLimit,
        max_poll_records: WORKERS,
        ..demo.client.share_consumer_config()
    })?;
    consumer.subscribe([TOPIC])?;
    let watched = consumer.clone();
    let stop = async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let m = watched.metrics();
            println!(
                "{} records ({} of them again): {} done, {} to be tried again, {} set aside, {} at work",
                m.records,
                m.records_redelivered,
                m.accepted,
                m.released,
                m.rejected,
                m.records_held
            );
            if m.accepted + m.rejected >= PICTURES {
                return;
            }
        }
    };
    pool::run(consumer, WORKERS, 3, make_thumbnail, stop).await?;
    demo.end().await;
    Ok(())
}

/// Takes a moment, and fails now and then: one picture in ten at the first attempt, and one in fifty each time.
async fn make_thumbnail(picture: ShareRecord) -> Verdict {
    tokio::time::sleep(Duration::from_millis(30)).await;
    match picture.offset() % 50 {
        7 => Verdict::TryAgain,
        n if n % 10 == 3 && picture.delivery_count() == 1 => Verdict::TryAgain,
        _ => Verdict::Done,
    }
}
