//! Requests that no honest client sends, to every API and version that the broker serves: it answers so that a client can
//! read it, or closes the connection; it does not panic, stays within bounded memory, and goes on serving others.
#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use allocation_counter::measure;
use bytes::Bytes;
use fastrand::Rng;
use ottla_wire::introspect::{MessageInfo, Random, messages};
use ottla_wire::messages::api_versions::ApiVersionsRequest;
use ottla_wire::messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use ottla_wire::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use ottla_wire::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use ottla_wire::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use ottla_wire::{ApiKey, Writer};

#[allow(unreachable_pub, reason = "public where the fuzzer includes it")]
#[path = "../../../fuzz/src/broker.rs"]
mod feed;
mod support;
use feed::{RAW, Request, broker, runtime, still_serves};
use support::{Client, batch};

/// What answering one request of a few kilobytes may hold at once. Most of it is a topic of the largest number of
/// partitions that a request may ask for.
const BYTES_MAX: u64 = 24 << 20;

/// Panics of tasks, which end as closed connections otherwise.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            print(panic);
        }));
    });
}

/// Every API that the broker says it serves, with the first and last version.
fn served() -> Vec<(ApiKey, i16, i16)> {
    runtime().block_on(async {
        let cluster = broker();
        let mut client = Client::new(cluster.connect(1).unwrap());
        let answer = client.ask(&ApiVersionsRequest::default(), 3).await.unwrap();
        assert!(answer.api_keys.len() > 20);
        answer
            .api_keys
            .iter()
            .map(|api| {
                let key = ApiKey::try_from(api.api_key).unwrap();
                (key, api.min_version, api.max_version)
            })
            .collect()
    })
}

/// Feeds bodies that `make` makes for a version of an API to a broker of their own.
fn feed(api: ApiKey, version: i16, bodies: impl IntoIterator<Item = Vec<u8>>) {
    watch_panics();
    runtime().block_on(async {
        let cluster = broker();
        let mut connection = None;
        for (correlation_id, body) in (0..).zip(bodies) {
            let request = Request {
                api: api as i16,
                version,
                correlation_id,
                body: &body,
            };
            let stream = connection.get_or_insert_with(|| cluster.connect(1).unwrap());
            if !request.run(stream).await {
                connection = None;
            }
            let panics = PANICS.load(Ordering::SeqCst);
            assert_eq!(panics, 0, "{api} {version}: {body:02x?}");
        }
        drop(connection);
        still_serves(&cluster).await;
        cluster.stop().await;
    });
}

/// The version, or the nearest that the codec can write: a broker says that it knows some that it refuses.
fn writable(info: &MessageInfo, version: i16) -> i16 {
    version.clamp(info.versions.min, info.versions.max)
}

fn info(api: ApiKey) -> MessageInfo {
    let name = format!("{api}Request");
    messages()
        .into_iter()
        .find(|info| info.name == name)
        .unwrap()
}

/// A valid request with random contents, some of which mean something to the broker.
fn random_request(info: &MessageInfo, version: i16, seed: u64) -> Vec<u8> {
    let version = writable(info, version);
    let words = [
        "t",
        "g",
        "consumer",
        "range",
        "1",
        "retention.ms",
        "cleanup.policy",
        "",
    ];
    let blobs = [batch(&[b"value"]), batch(&[b"a", b"b"]), Bytes::new()];
    let mut random = Random::new(seed, version).with_words(&words, &blobs);
    let request = (info.random)(&mut random);
    let mut out = Writer::new();
    request.encode(version, &mut out).unwrap();
    out.into_chunks().concat()
}

fn each_version(check: impl Fn(ApiKey, i16, &mut Rng)) {
    for (api, min, max) in served() {
        for version in min..=max {
            check(api, version, &mut Rng::with_seed(u64::from(version as u16)));
        }
    }
}

#[test]
fn random_bytes() {
    each_version(|api, version, rng| {
        feed(
            api,
            version,
            (0..15).map(|_| {
                let mut body = vec![0; rng.usize(..80)];
                rng.fill(&mut body);
                if rng.bool() {
                    // More zeros, so that lengths and counts are often right.
                    body.iter_mut()
                        .for_each(|byte| *byte &= rng.u8(..) & rng.u8(..));
                }
                body
            }),
        );
    });
}

#[test]
fn valid_requests_with_senseless_contents() {
    each_version(|api, version, _| {
        let info = info(api);
        feed(
            api,
            version,
            (0..15).map(|seed| random_request(&info, version, seed)),
        );
    });
}

#[test]
fn valid_requests_with_changed_bytes() {
    const HOSTILE: [&[u8]; 5] = [
        b"\x7f\xff\xff\xff",
        b"\xff\xff\xff\xff\x07",
        b"\x80\x00\x00\x00",
        b"\x00\x00\x01\x00",
        b"\xff",
    ];
    each_version(|api, version, rng| {
        let info = info(api);
        feed(
            api,
            version,
            (0..30).map(|seed| {
                let mut body = random_request(&info, version, seed / 4);
                for _ in 0..rng.usize(1..4) {
                    let at = rng.usize(..=body.len());
                    match rng.u8(..5) {
                        0 => body.truncate(at),
                        1 => body.insert(at, rng.u8(..)),
                        2 => {
                            let patch = HOSTILE[rng.usize(..HOSTILE.len())];
                            let end = body.len().min(at + patch.len());
                            body.splice(at..end, patch.iter().copied());
                        }
                        _ if at < body.len() => body[at] = rng.u8(..),
                        _ => {}
                    }
                }
                body
            }),
        );
    });
}

/// What the fuzzer does, with streams of requests that are mostly valid.
#[test]
fn streams_of_requests() {
    watch_panics();
    let served = served();
    for seed in 0..100 {
        let mut rng = Rng::with_seed(seed);
        let mut data = Vec::new();
        for _ in 0..rng.usize(1..16) {
            let (api, min, max) = served[rng.usize(..served.len())];
            let version = rng.i16(min..=max);
            let mut body = random_request(&info(api), version, rng.u64(..));
            if !body.is_empty() && rng.u8(..8) == 0 {
                let at = rng.usize(..body.len());
                body[at] = rng.u8(..);
            }
            data.extend([api as u8, version as u8]);
            data.extend((body.len() as u16).to_le_bytes());
            data.extend(body);
        }
        feed::requests(&data);
        assert_eq!(PANICS.load(Ordering::SeqCst), 0, "seed {seed}");
    }
}

#[test]
fn unknown_apis_versions_and_headers() {
    watch_panics();
    runtime().block_on(async {
        let cluster = broker();
        let mut rng = Rng::with_seed(1);
        for round in 0..1500 {
            let mut header = vec![0; rng.usize(..24)];
            rng.fill(&mut header);
            if round % 2 == 0 && header.len() > 3 {
                header[0] = 0;
                header[1] %= 100;
                header[2] = 0;
                header[3] %= 20;
            }
            let request = Request {
                api: RAW,
                version: 0,
                correlation_id: 0,
                body: &header,
            };
            request.run(&mut cluster.connect(1).unwrap()).await;
        }
        still_serves(&cluster).await;
        assert_eq!(PANICS.load(Ordering::SeqCst), 0);
    });
}

/// Requests that are valid, small, and would be large in memory if they were believed.
#[test]
fn memory_is_bounded_whatever_is_asked_for() {
    watch_panics();
    for (name, bodies) in greedy() {
        let runtime = runtime();
        let used = measure(|| {
            runtime.block_on(async {
                let cluster = broker();
                let mut stream = cluster.connect(1).unwrap();
                for (api, version, body) in &bodies {
                    let request = Request {
                        api: *api as i16,
                        version: *version,
                        correlation_id: 1,
                        body,
                    };
                    if !request.run(&mut stream).await {
                        stream = cluster.connect(1).unwrap();
                    }
                }
                still_serves(&cluster).await;
            });
        });
        let sent: usize = bodies.iter().map(|(_, _, body)| body.len()).sum();
        println!(
            "{name}: {sent} bytes sent, {} bytes held at most",
            used.bytes_max
        );
        assert!(used.bytes_max < BYTES_MAX, "{name}: {}", used.bytes_max);
    }
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
}

type Bodies = Vec<(ApiKey, i16, Vec<u8>)>;

fn greedy() -> Vec<(&'static str, Bodies)> {
    let topic = |name: String, partitions| CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: -1,
        ..Default::default()
    };
    let many_partitions = |validate_only| CreateTopicsRequest {
        topics: (0..100).map(|i| topic(format!("x{i}"), 100_000)).collect(),
        validate_only,
        ..Default::default()
    };
    let largest = CreateTopicsRequest {
        topics: vec![topic("large".into(), 10_000)],
        ..Default::default()
    };
    let again_and_again = MetadataRequest {
        topics: Some(
            (0..300)
                .map(|_| MetadataRequestTopic {
                    name: Some("large".into()),
                    ..Default::default()
                })
                .collect(),
        ),
        ..Default::default()
    };
    let grow = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: "t".into(),
            count: i32::MAX,
            ..Default::default()
        }],
        ..Default::default()
    };
    let same_partition = FetchRequest {
        max_wait_ms: 100,
        min_bytes: i32::MAX,
        max_bytes: i32::MAX,
        session_epoch: 0,
        topics: vec![FetchTopic {
            topic: "t".into(),
            partitions: vec![
                FetchPartition {
                    partition_max_bytes: i32::MAX,
                    ..Default::default()
                };
                3000
            ],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut bomb = vec![0; 20 << 20];
    bomb[0] = 1;
    let bomb = support::compressed(&bomb);
    assert!(bomb.len() < 10_000, "{}", bomb.len());
    let bomb = support::produce_request("t", 0, bomb);
    vec![
        (
            "topics of very many partitions",
            vec![encoded(&many_partitions(false), 5)],
        ),
        (
            "the same, only validated",
            vec![encoded(&many_partitions(true), 5)],
        ),
        ("a topic that grows without end", vec![encoded(&grow, 1)]),
        (
            "a large topic described again and again",
            vec![encoded(&largest, 5), encoded(&again_and_again, 9)],
        ),
        (
            "one partition fetched many times over",
            vec![encoded(&same_partition, 11)],
        ),
        (
            "a small batch that is large inside",
            vec![encoded(&bomb, 9)],
        ),
    ]
}

fn encoded<R: ottla_wire::Request>(request: &R, version: i16) -> (ApiKey, i16, Vec<u8>) {
    let mut out = Writer::new();
    request.encode(version, &mut out).unwrap();
    (R::KEY, version, out.into_chunks().concat())
}
