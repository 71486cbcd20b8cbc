use ottla_net::testing::ScriptedCluster;

use super::*;
use crate::{Consumer, ConsumerConfig};

fn consumer() -> (ScriptedCluster, Consumer) {
    let cluster = ScriptedCluster::start(1);
    cluster.add_topic("t", 1);
    let config = ConsumerConfig {
        group_id: Some("g".into()),
        ..Default::default()
    };
    let consumer = Consumer::new(cluster.connect(), config).unwrap();
    (cluster, consumer)
}

/// A refusal that is noticed only when there is another subscription is none of its business.
#[tokio::test(start_paused = true)]
async fn what_refused_an_earlier_subscription_is_forgotten() {
    let (_cluster, consumer) = consumer();
    let shared = consumer.shared();
    let late = || {
        refused(shared, ErrorCode::GROUP_AUTHORIZATION_FAILED);
        shared.reader.lock().fatal.take()
    };
    assert!(late().is_none(), "it never subscribed");
    consumer.subscribe(["t"]).unwrap();
    assert!(late().is_none(), "it has just subscribed");
    let group = shared.group.as_ref().unwrap();
    group.lock().membership.leave("refused");
    assert!(matches!(late(), Some(Error::Group { .. })));
}

/// Between the membership's word and the deed the application may have unsubscribed, and subscribed again: what the group
/// gave to the member that it was is not this one's, and nobody would take it away again.
#[tokio::test(start_paused = true)]
async fn what_was_given_to_a_member_that_left_is_not_adopted() {
    let (_cluster, consumer) = consumer();
    let late = || adopt(consumer.shared(), vec![TopicPartition::new("t", 0)], 1);
    late();
    assert_eq!(consumer.assignment(), [], "it never subscribed");
    consumer.subscribe(["t"]).unwrap();
    late();
    assert_eq!(consumer.assignment(), [], "it has just subscribed");
}
