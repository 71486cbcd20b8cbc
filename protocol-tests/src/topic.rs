//! Topics for tests: created in milliseconds, where Kafka's own tool would take a second.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::ToSocketAddrs as _,
    thread,
    time::{Duration, Instant},
};

use crate::by_hand::{Broker, NewTopic};

/// Creates a topic, and waits until all its partitions have leaders that serve them, so that it is there also for clients
/// that try nothing twice.
///
/// # Panics
///
/// When that fails or takes more than half a minute.
pub(crate) fn create(
    bootstrap: &str,
    name: &str,
    partitions: i32,
    replicas: i16,
    configs: &[(&str, &str)],
) {
    let topic = NewTopic {
        name,
        partitions,
        replicas,
        configs,
    };
    let mut broker = any_broker(bootstrap);
    broker
        .create_topic(&topic)
        .unwrap_or_else(|error| panic!("{error}"));
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let served = served(&mut broker, name);
        match served {
            Ok(served) if served == partitions => return,
            _ if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            served => panic!("of topic {name}, {served:?} of {partitions} partitions are served"),
        }
    }
}

/// How many partitions of `topic` are served by their leaders.
fn served(any: &mut Broker, topic: &str) -> std::io::Result<i32> {
    let mut leaders = HashMap::new();
    let mut served = 0;
    for (partition, address) in any.led_partitions(topic)? {
        let leader = match leaders.entry(address) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Broker::connect(address)?),
        };
        served += i32::from(leader.serves(topic, partition)?);
    }
    Ok(served)
}

fn any_broker(bootstrap: &str) -> Broker {
    let mut errors = Vec::new();
    for name in bootstrap.split(',') {
        let addresses = name.trim().to_socket_addrs();
        let connected = addresses.and_then(|mut addresses| {
            let address = addresses
                .next()
                .ok_or(std::io::ErrorKind::AddrNotAvailable)?;
            Broker::connect(address)
        });
        match connected {
            Ok(broker) => return broker,
            Err(error) => errors.push(format!("{name}: {error}")),
        }
    }
    panic!("no broker answers: {}", errors.join(", "))
}
