//! The server.properties of a node: KRaft, broker and controller in one process, loopback only.

use std::{fmt::Write as _, path::Path};

use crate::node::{Ports, Proxied};

/// The settings of node `index` of the nodes that listen on `all`.
pub(crate) fn server_properties(
    index: usize,
    all: &[Ports],
    data: &Path,
    overrides: &[(String, String)],
) -> String {
    let nodes = all.len();
    let replicas = nodes.min(3);
    let id = index + 1;
    let Ports {
        broker, controller, ..
    } = all[index];
    let voters: Vec<_> = all
        .iter()
        .enumerate()
        .map(|(index, ports)| format!("{}@127.0.0.1:{}", index + 1, ports.controller))
        .collect();
    let voters = voters.join(",");
    let mut text = format!(
        "process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
# A test says which topics it means.
auto.create.topics.enable=false
default.replication.factor={replicas}
# Internal topics small enough for a machine with two cores.
offsets.topic.num.partitions=3
offsets.topic.replication.factor={replicas}
transaction.state.log.num.partitions=3
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=3
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr=1
log.index.size.max.bytes=1048576
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=2
# No waiting where a test would only wait.
group.initial.rebalance.delay.ms=0
group.consumer.min.heartbeat.interval.ms=100
group.consumer.heartbeat.interval.ms=500
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=4000
controlled.shutdown.enable=true
",
        data = data.display(),
    );
    if let Some(Proxied { port, proxy }) = all[index].proxied {
        let _ = write!(
            text,
            "# Who comes by this listener is sent on through the proxy.
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller},PROXIED://127.0.0.1:{port}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker},PROXIED://127.0.0.1:{proxy}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT
",
        );
    }
    for (key, value) in overrides {
        // Java's properties take the last of several values of a key.
        let _ = writeln!(text, "{key}={value}");
    }
    text
}
