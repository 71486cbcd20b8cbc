//! Topics for tests: created in milliseconds, where Kafka's own tool would take a second.

use std::{
    net::ToSocketAddrs as _,
    thread,
    time::{Duration, Instant},
};

use crate::by_hand::{Broker, NewTopic};

/// Creates a topic, and waits until all its partitions have leaders.
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
        let led = broker.led_partitions(name);
        match led {
            Ok(led) if led == partitions => return,
            _ if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            led => panic!("topic {name} has leaders for {led:?} of {partitions} partitions"),
        }
    }
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
