//! kill -9 of a broker while members of a share group read, again and again: what was acknowledged is delivered to nobody
//! any more, and all else to somebody.
#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ottla_broker::{BrokerOptions, EmbeddedCluster};
use ottla_wire::ErrorCode;
use tokio::net::TcpStream;

mod support;
use support::Client;
use support::process::{DIR, Process};
use support::share::{ACCEPT, Member, REJECT, RELEASE, set};

const MEMBERS: u64 = 3;
const PARTITIONS: i32 = 2;
const ROUNDS: u64 = 12;

#[tokio::test]
#[ignore = "started by the other tests, as a process of its own"]
async fn broker_process() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let options = BrokerOptions {
        data_dir: Some(dir.into()),
        topics: vec![("t".into(), PARTITIONS)],
        ..Default::default()
    };
    let cluster = EmbeddedCluster::start(options).await.unwrap();
    println!("listening on {}", cluster.bootstrap_servers());
    std::future::pending::<()>().await;
}

/// A record's partition and offset.
type Place = (i32, i64);

/// What members were promised, and saw.
#[derive(Debug, Default)]
struct Ledger {
    produced: BTreeSet<Place>,
    /// Acknowledged, and the broker said that it is.
    ended: BTreeSet<Place>,
    /// The broker died before it answered: they may be acknowledged, or not.
    unknown: BTreeSet<Place>,
    /// How often the broker said that it took them back.
    released: BTreeMap<Place, i16>,
}

impl Ledger {
    fn extend(&mut self, other: Ledger) {
        self.produced.extend(other.produced);
        self.ended.extend(other.ended);
        self.unknown.extend(other.unknown);
        for (place, times) in other.released {
            *self.released.entry(place).or_default() += times;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledgement_is_lost_when_the_process_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::default();
    for round in 0..ROUNDS {
        let process = Process::start(dir.path(), "").expect("the broker starts");
        let address = process.address.clone();
        let mut client = Client::new(TcpStream::connect(&address).await.unwrap());
        let earliest = set(&mut client, "g", "share.auto.offset.reset", "earliest").await;
        assert_eq!(earliest.unwrap(), ErrorCode::NONE);
        let often = set(&mut client, "g", "share.delivery.count.limit", "100").await;
        assert_eq!(often.unwrap(), ErrorCode::NONE);
        let stop = Arc::new(AtomicBool::new(false));
        let before = Arc::new(std::mem::take(&mut ledger));
        let members: Vec<_> = (0..MEMBERS)
            .map(|number| {
                let (address, stop) = (address.clone(), Arc::clone(&stop));
                tokio::spawn(read(address, number, round, Arc::clone(&before), stop))
            })
            .collect();
        let producer = tokio::spawn(produce(address.clone(), Arc::clone(&stop)));
        tokio::time::sleep(Duration::from_millis(100 + 37 * (round % 5))).await;
        // SIGKILL, in the middle of whatever it does.
        drop(process);
        stop.store(true, Ordering::Relaxed);
        let mut seen = vec![producer.await.unwrap()];
        for member in members {
            seen.push(member.await.unwrap());
        }
        ledger = Arc::into_inner(before).expect("all members ended");
        for seen in seen {
            ledger.extend(seen);
        }
    }
    drain(dir.path(), &ledger).await;
    println!(
        "{} produced, {} acknowledged, {} unknown, {} released",
        ledger.produced.len(),
        ledger.ended.len(),
        ledger.unknown.len(),
        ledger.released.len()
    );
    assert!(ledger.ended.len() > 50 && ledger.released.len() > 10);
}

async fn produce(address: String, stop: Arc<AtomicBool>) -> Ledger {
    let mut ledger = Ledger::default();
    let mut client = Client::new(TcpStream::connect(address).await.unwrap());
    for partition in (0..PARTITIONS).cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let Ok(answer) = client.produce("t", partition, &[b"1", b"2", b"3"]).await else {
            break;
        };
        let offsets = answer.base_offset..answer.base_offset + 3;
        ledger
            .produced
            .extend(offsets.map(|offset| (partition, offset)));
    }
    ledger
}

/// Reads one partition until the broker dies, and says this and that of what comes.
async fn read(
    address: String,
    number: u64,
    round: u64,
    before: Arc<Ledger>,
    stop: Arc<AtomicBool>,
) -> Ledger {
    let mut ledger = Ledger::default();
    let partition = (number % PARTITIONS as u64) as i32;
    let stream = TcpStream::connect(address).await.unwrap();
    let Ok(mut member) = Member::join(stream, "g", &format!("m{number}"), "t").await else {
        return ledger;
    };
    let mut rng = fastrand::Rng::with_seed(round * 100 + number);
    while !stop.load(Ordering::Relaxed) {
        let Ok(acquired) = member.acquire(partition, rng.i32(1..20)).await else {
            break;
        };
        for (first, last, deliveries) in acquired {
            for offset in first..=last {
                check(&before, (partition, offset), deliveries);
                let ended = ledger.ended.contains(&(partition, offset));
                assert!(!ended, "{offset} of {partition} comes again");
            }
            // Now and then it keeps what it has.
            let kind = [ACCEPT, ACCEPT, REJECT, RELEASE, RELEASE][rng.usize(..5)];
            if rng.u8(..8) == 0 {
                continue;
            }
            let places = (first..=last).map(|offset| (partition, offset));
            match member.say(partition, kind, &[(first, last)]).await {
                Ok(ErrorCode::NONE) if kind == RELEASE => {
                    for place in places {
                        *ledger.released.entry(place).or_default() += 1;
                    }
                }
                Ok(ErrorCode::NONE) => ledger.ended.extend(places),
                Ok(error) => panic!("{error}: {first} to {last} of {partition}"),
                Err(_) => {
                    if kind != RELEASE {
                        ledger.unknown.extend(places);
                    }
                    return ledger;
                }
            }
        }
    }
    ledger
}

fn check(before: &Ledger, place: Place, deliveries: i16) {
    assert!(!before.ended.contains(&place), "{place:?} was acknowledged");
    let released = before.released.get(&place).copied().unwrap_or(0);
    assert!(
        deliveries > released,
        "{place:?} was released {released} times and comes for the {deliveries}. time"
    );
}

/// All that was not acknowledged is there for a member that comes now.
async fn drain(dir: &std::path::Path, ledger: &Ledger) {
    let options = BrokerOptions {
        data_dir: Some(dir.to_owned()),
        ..Default::default()
    };
    let cluster = EmbeddedCluster::start_in_memory(options).unwrap();
    let mut came = BTreeSet::new();
    for partition in 0..PARTITIONS {
        let stream = cluster.connect(1).unwrap();
        let id = format!("last{partition}");
        let mut member = Member::join(stream, "g", &id, "t").await.unwrap();
        loop {
            let acquired = member.acquire(partition, 1000).await.unwrap();
            let Some((_, last, _)) = acquired.last().copied() else {
                break;
            };
            for (first, last, deliveries) in &acquired {
                for offset in *first..=*last {
                    check(ledger, (partition, offset), *deliveries);
                    came.insert((partition, offset));
                }
                let said = member.say(partition, ACCEPT, &[(*first, *last)]).await;
                assert_eq!(said.unwrap(), ErrorCode::NONE);
            }
            assert!(last < 1_000_000);
        }
    }
    for place in ledger.produced.difference(&ledger.ended) {
        let gone = !came.contains(place);
        assert!(!gone || ledger.unknown.contains(place), "{place:?} is lost");
    }
    cluster.stop().await;
}
