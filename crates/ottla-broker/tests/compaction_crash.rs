//! kill -9 of a broker that compacts all the time: the newest acknowledged value of every key is there.
#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

mod in_memory;
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use in_memory::sealed;
use ottla_broker::{BrokerOptions, EmbeddedCluster};
use support::process::{DIR, Process};
use support::{Client, produce_request};
use tokio::net::TcpStream;

const KEYS: u64 = 40;
/// Two batches fill a segment.
const BATCH: u64 = 8;
const ROUNDS: u64 = 12;

fn options(dir: &Path) -> BrokerOptions {
    let mut options = BrokerOptions {
        data_dir: Some(dir.to_owned()),
        topics: vec![("t".to_owned(), 1)],
        cleaner_backoff: Duration::from_millis(1),
        ..Default::default()
    };
    for (name, value) in [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "1024"),
        ("min.cleanable.dirty.ratio", "0"),
    ] {
        options.set(name, value).unwrap();
    }
    options
}

#[tokio::test]
#[ignore = "started by the other test, as a process of its own"]
async fn broker_process() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let options = options(Path::new(&dir));
    let cluster = EmbeddedCluster::start(options).await.unwrap();
    println!("listening on {}", cluster.bootstrap_servers());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn no_newest_value_is_lost_when_the_process_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut next = 0;
    for round in 0..ROUNDS {
        let process = Process::start(dir.path(), "").expect("the broker starts");
        let mut client = Client::new(TcpStream::connect(&process.address).await.unwrap());
        let kill_at = tokio::time::Instant::now() + Duration::from_millis(80 + 29 * (round % 5));
        while tokio::time::Instant::now() < kill_at {
            let entries: Vec<(String, String)> = (next..next + BATCH)
                .map(|value| ((value % KEYS).to_string(), format!("{value:040}")))
                .collect();
            let entries: Vec<_> = entries
                .iter()
                .map(|(key, value)| (Some(key.as_str()), Some(value.as_str())))
                .collect();
            let batch = sealed(&entries, 1000).freeze();
            let answer = client
                .ask(&produce_request("t", 0, batch), 9)
                .await
                .unwrap();
            assert!(
                answer.responses[0].partition_responses[0]
                    .error_code
                    .is_ok()
            );
            next += BATCH;
        }
        // SIGKILL, in the middle of whatever it does.
        drop(process);
        let cluster = EmbeddedCluster::start_in_memory(options(dir.path())).unwrap();
        assert!(cluster.damage().is_empty(), "{:?}", cluster.damage());
        let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
        let records = cluster.records("t", 0).unwrap();
        for (offset, value) in &records {
            let value = String::from_utf8(value.clone().unwrap()).unwrap();
            let value: u64 = value.parse().unwrap();
            assert_eq!(
                *offset, value as i64,
                "every record stands where it was acknowledged"
            );
            newest.insert(value % KEYS, value);
        }
        let expected = next.saturating_sub(KEYS)..next;
        assert_eq!(
            newest
                .into_values()
                .collect::<std::collections::BTreeSet<_>>(),
            expected.collect()
        );
        assert_eq!(cluster.offsets("t", 0), Some((0, next as i64)));
        assert!(
            round < 3 || records.len() < next as usize,
            "it never compacted"
        );
        cluster.stop().await;
    }
    assert!(next > 1000, "{next} records are no load");
}
