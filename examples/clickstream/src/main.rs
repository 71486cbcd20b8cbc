//! A worker of the clickstream against any Kafka: `OTTLA_BOOTSTRAP=host:port cargo run -p clickstream`.
//!
//! The topics must exist; `ottla topics create user_clicks enriched_clicks user_clicks_dlq -p 12` makes them. Start
//! several to share the partitions. Settings come from the environment, as `OTTLA_CONFIG_COMPRESSION_TYPE=lz4`.
#![forbid(unsafe_code)]

use std::time::Duration;

use clickstream::{Topics, Worker};
use ottla::Client;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("OTTLA_LOG"))
        .with_writer(std::io::stderr)
        .init();
    let client = Client::builder().environment().build()?;
    let producer = client.producer()?;
    let worker = Worker::new(&client, producer.clone(), "clickstream", Topics::default())?;
    let counts = worker.counts();
    let outcome = worker
        .run(async {
            // Without a way to hear of Ctrl-C, it works until it is killed, which is safe as well.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
        .await;
    producer.close(Duration::from_secs(10)).await?;
    client.close().await;
    println!("{counts:?}");
    Ok(outcome?)
}
