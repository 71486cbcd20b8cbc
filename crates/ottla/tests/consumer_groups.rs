//! Groups by the consumer protocol (KIP-848) on the embedded broker: members come, go, die and are put out, brokers
//! restart and coordinators move, and each record is still read.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what cannot go wrong"
)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla::consumer::{ConsumerConfig, Error, GroupProtocol, TopicPattern};
use ottla::prelude::*;
use ottla::testing::{ApiKey, Fault, Rule, TestCluster, TestClusterBuilder};
use ottla_wire::ErrorCode;
use tokio::task::JoinHandle;
use tokio::time::Instant;

const GROUP: &str = "g";

fn kafka() -> TestClusterBuilder {
    TestCluster::builder()
        .set("group.consumer.heartbeat.interval.ms", 500)
        .set("group.consumer.session.timeout.ms", 5000)
}

fn client(kafka: &TestCluster) -> Client {
    kafka
        .client_builder()
        .group_id(GROUP)
        .set("metadata.max.age.ms", 1000)
        .build()
        .unwrap()
}

fn config(client: &Client) -> ConsumerConfig {
    ConsumerConfig {
        group_protocol: GroupProtocol::Consumer,
        auto_offset_reset: OffsetReset::Earliest,
        ..client.consumer_config()
    }
}

async fn write(client: &Client, topic: &str, values: std::ops::Range<u32>) {
    let producer = client.producer().unwrap();
    let mut deliveries = Vec::new();
    for value in values {
        let value = value.to_string();
        let record = ProducerRecord::to(topic).key(&value).value(&value);
        deliveries.push(producer.send(record).await.unwrap());
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    producer.close(Duration::from_secs(60)).await.unwrap();
}

/// A member whose application reads and does nothing else.
struct Member {
    consumer: Consumer,
    seen: Arc<Mutex<Vec<u32>>>,
    errors: Arc<Mutex<Vec<Error>>>,
    task: JoinHandle<()>,
}

impl Member {
    fn new(client: &Client, config: ConsumerConfig) -> Self {
        let member = Self::idle(client, config);
        member.consumer.subscribe(["t"]).unwrap();
        member
    }

    fn idle(client: &Client, config: ConsumerConfig) -> Self {
        let consumer = client.consumer_with(config).unwrap();
        let (seen, errors) = (
            Arc::<Mutex<Vec<_>>>::default(),
            Arc::<Mutex<Vec<_>>>::default(),
        );
        let (reader, tell, complain) = (consumer.clone(), seen.clone(), errors.clone());
        let task = tokio::spawn(async move {
            loop {
                match reader.recv().await {
                    Ok(record) => {
                        let value = std::str::from_utf8(record.value().unwrap()).unwrap();
                        tell.lock().unwrap().push(value.parse().unwrap());
                    }
                    Err(Error::Closed) => return,
                    Err(error) => {
                        complain.lock().unwrap().push(error);
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
        Self {
            consumer,
            seen,
            errors,
            task,
        }
    }

    fn has(&self) -> BTreeSet<TopicPartition> {
        self.consumer.assignment().into_iter().collect()
    }

    fn seen(&self) -> Vec<u32> {
        self.seen.lock().unwrap().clone()
    }

    fn errors(&self) -> Vec<String> {
        let errors = self.errors.lock().unwrap();
        errors.iter().map(ToString::to_string).collect()
    }

    async fn leave(self) -> Vec<u32> {
        assert_eq!(self.errors(), [""; 0]);
        self.consumer.close(Duration::from_secs(30)).await.unwrap();
        self.task.await.unwrap();
        let seen = self.seen.lock().unwrap();
        seen.clone()
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "never: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the members have all partitions of `t`, and as many each as `shares` says.
async fn shares(members: &[&Member], shares: &[usize]) {
    let has = || {
        let mut has: Vec<_> = members.iter().map(|member| member.has().len()).collect();
        has.sort_unstable();
        has
    };
    until(&format!("{shares:?}"), || has() == shares).await;
    let all: BTreeSet<_> = members.iter().flat_map(|member| member.has()).collect();
    assert_eq!(
        all.len(),
        shares.iter().sum::<usize>(),
        "no partition twice"
    );
}

fn sorted(mut values: Vec<u32>) -> Vec<u32> {
    values.sort_unstable();
    values
}

#[tokio::test(start_paused = true)]
async fn members_come_and_go_and_each_record_is_read_once() {
    let kafka = kafka().nodes(3).topic("t", 12).in_memory().unwrap();
    let client = client(&kafka);
    write(&client, "t", 0..100).await;
    let one = Member::new(&client, config(&client));
    shares(&[&one], &[12]).await;
    until("all is read", || one.seen().len() == 100).await;
    let two = Member::new(&client, config(&client));
    shares(&[&one, &two], &[6, 6]).await;
    let kept = one.has();
    write(&client, "t", 100..200).await;
    let three = Member::new(&client, config(&client));
    shares(&[&one, &two, &three], &[4, 4, 4]).await;
    assert!(
        one.has().is_subset(&kept),
        "it gave up, and took nothing else"
    );
    write(&client, "t", 200..300).await;
    let read = |members: &[&Member]| members.iter().map(|m| m.seen().len()).sum::<usize>();
    until("all is read", || read(&[&one, &two, &three]) == 300).await;
    let metrics = one.consumer.metrics();
    assert!(
        metrics.rebalances >= 3 && metrics.heartbeats > 3,
        "{metrics:?}"
    );
    assert_eq!(
        (metrics.partitions_revoked, metrics.partitions_lost),
        (8, 0)
    );
    let metadata = one.consumer.group_metadata().unwrap();
    assert!(
        metadata.generation_id >= 3 && metadata.member_id.len() == 22,
        "{metadata:?}"
    );
    let mut seen = one.leave().await;
    shares(&[&two, &three], &[6, 6]).await;
    write(&client, "t", 300..400).await;
    seen.extend(two.leave().await);
    shares(&[&three], &[12]).await;
    until("the rest is read", || {
        seen.len() + three.seen().len() == 400
    })
    .await;
    seen.extend(three.leave().await);
    assert_eq!(sorted(seen), (0..400).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn lost_answers_and_lost_heartbeats_cost_nothing() {
    let kafka = kafka().topic("t", 6).in_memory().unwrap();
    let client = client(&kafka);
    let one = Member::new(&client, config(&client));
    shares(&[&one], &[6]).await;
    let rule = |api, skip, fault| Rule {
        api,
        node: None,
        skip,
        times: 1,
        fault,
    };
    for skip in 0..4 {
        kafka.inject(rule(
            ApiKey::ConsumerGroupHeartbeat,
            skip * 3,
            Fault::LoseReply,
        ));
        kafka.inject(rule(
            ApiKey::ConsumerGroupHeartbeat,
            skip * 3 + 1,
            Fault::Disconnect,
        ));
        kafka.inject(rule(ApiKey::OffsetCommit, skip, Fault::LoseReply));
        let stale = Fault::Answer(ErrorCode::STALE_MEMBER_EPOCH);
        kafka.inject(rule(ApiKey::OffsetCommit, skip + 1, stale.clone()));
        kafka.inject(rule(ApiKey::OffsetFetch, skip, stale));
    }
    write(&client, "t", 0..10).await;
    let two = Member::new(&client, config(&client));
    shares(&[&one, &two], &[3, 3]).await;
    for round in 1..10 {
        write(&client, "t", round * 10..round * 10 + 10).await;
        // Longer than until the next automatic commit.
        tokio::time::sleep(Duration::from_secs(6)).await;
    }
    shares(&[&one, &two], &[3, 3]).await;
    let struck = kafka.faults_struck();
    assert!(
        struck["lose reply"] >= 6 && struck["disconnect"] == 4 && struck["answer"] >= 4,
        "{struck:?}"
    );
    for member in [&one, &two] {
        let metrics = member.consumer.metrics();
        assert_eq!((metrics.partitions_lost, metrics.commit_failures), (0, 0));
    }
    kafka.clear_faults();
    let mut seen = one.leave().await;
    seen.extend(two.leave().await);
    assert_eq!(sorted(seen), (0..100).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn coordinators_move_and_brokers_restart_one_by_one() {
    let kafka = kafka().nodes(3).topic("t", 6).in_memory().unwrap();
    let client = client(&kafka);
    let members = [
        Member::new(&client, config(&client)),
        Member::new(&client, config(&client)),
    ];
    shares(&[&members[0], &members[1]], &[3, 3]).await;
    let had = [members[0].has(), members[1].has()];
    for node in [2, 3, 1] {
        kafka.move_coordinator(GROUP, node);
        write(&client, "t", 0..10).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    for node in [1, 2, 3] {
        kafka.stop_node(node).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        kafka.start_node(node).await.unwrap();
        write(&client, "t", 0..10).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    assert_eq!(
        had,
        [members[0].has(), members[1].has()],
        "nobody lost anything"
    );
    let [one, two] = members;
    until("all is read", || one.seen().len() + two.seen().len() >= 60).await;
    for member in [&one, &two] {
        assert_eq!(member.consumer.metrics().partitions_lost, 0);
    }
    assert_eq!(one.leave().await.len() + two.leave().await.len(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_pattern_is_matched_by_the_brokers_and_follows_new_topics() {
    let kafka = kafka().topic("a-1", 2).topic("b-1", 2).in_memory().unwrap();
    let client = client(&kafka);
    let names = |member: &Member| -> BTreeSet<String> {
        let has = member.has();
        has.iter().map(|at| at.topic.to_string()).collect()
    };
    let by_brokers = Member::idle(&client, config(&client));
    let pattern = TopicPattern::new("a-.*").unwrap();
    by_brokers
        .consumer
        .subscribe_pattern(pattern.clone())
        .unwrap();
    until("the first topic", || by_brokers.has().len() == 2).await;
    kafka.create_topic("a-2", 3).unwrap();
    kafka.create_topic("c-1", 3).unwrap();
    until("the new topic", || by_brokers.has().len() == 5).await;
    write(&client, "a-2", 0..30).await;
    until("it is read", || by_brokers.seen().len() == 30).await;
    let two = ["a-1".to_owned(), "a-2".to_owned()];
    assert_eq!(names(&by_brokers), two.clone().into());
    let subscribed = by_brokers.consumer.subscription();
    assert_eq!(
        subscribed
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        two
    );

    // What the brokers cannot match the client does.
    let with_exception = pattern.except("a-1").unwrap().or("b-.*").unwrap();
    by_brokers
        .consumer
        .subscribe_pattern(with_exception)
        .unwrap();
    let others = ["a-2".to_owned(), "b-1".to_owned()];
    until("others", || names(&by_brokers) == others.clone().into()).await;
    // And back to names.
    by_brokers.consumer.subscribe(["c-1"]).unwrap();
    until("names", || names(&by_brokers) == ["c-1".to_owned()].into()).await;
    by_brokers.leave().await;

    let bad = Member::idle(&client, config(&client));
    let rule = Rule {
        api: ApiKey::ConsumerGroupHeartbeat,
        node: None,
        skip: 0,
        times: 1,
        fault: Fault::Answer(ErrorCode::INVALID_REGULAR_EXPRESSION),
    };
    kafka.inject(rule);
    bad.consumer
        .subscribe_pattern(TopicPattern::new("[a-c]&&b.*").unwrap())
        .unwrap();
    until("it is told", || !bad.errors().is_empty()).await;
    assert!(bad.errors()[0].contains("RE2/J"), "{:?}", bad.errors());
    // A subscription is a new try.
    bad.consumer
        .subscribe_pattern(TopicPattern::new("b-.*").unwrap())
        .unwrap();
    until("it reads", || bad.has().len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_topic_made_anew_is_read_from_its_beginning() {
    let kafka = kafka().topic("t", 2).in_memory().unwrap();
    let client = client(&kafka);
    let member = Member::new(&client, config(&client));
    write(&client, "t", 0..10).await;
    until("all is read", || member.seen().len() == 10).await;
    let admin = client.admin();
    for (_, outcome) in admin.delete_topics(&["t"]).await {
        outcome.unwrap();
    }
    until("it is taken away", || member.has().is_empty()).await;
    kafka.create_topic("t", 3).unwrap();
    until("it is back", || member.has().len() == 3).await;
    write(&client, "t", 10..20).await;
    until("it is read", || member.seen().len() == 20).await;
    member.leave().await;
}

#[tokio::test(start_paused = true)]
async fn a_static_member_keeps_its_place_while_it_is_away() {
    let kafka = kafka().topic("t", 4).in_memory().unwrap();
    let client = client(&kafka);
    let named = |name: &str| ConsumerConfig {
        group_instance_id: Some(name.into()),
        ..config(&client)
    };
    let one = Member::new(&client, named("one"));
    let two = Member::new(&client, named("two"));
    shares(&[&one, &two], &[2, 2]).await;
    let (had, others) = (one.has(), two.has());
    let rebalances = two.consumer.metrics().rebalances;
    // While it is there, nobody else is it.
    let rival = Member::new(&client, named("one"));
    until("the rival is told", || !rival.errors().is_empty()).await;
    let error = rival.errors().remove(0);
    assert!(error.contains("group.instance.id"), "{error}");
    drop(rival);
    one.leave().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(two.has(), others, "nobody takes its place");
    let back = Member::new(&client, named("one"));
    until("it is back", || back.has() == had).await;
    assert_eq!(two.consumer.metrics().rebalances, rebalances);
    // Away for good, its partitions go to the others when its session is over.
    back.leave().await;
    shares(&[&two], &[4]).await;
    two.leave().await;
}

#[tokio::test(start_paused = true)]
async fn who_stays_away_loses_its_place_and_comes_back() {
    let kafka = kafka().topic("t", 2).in_memory().unwrap();
    let client = client(&kafka);
    write(&client, "t", 0..10).await;
    let slow = ConsumerConfig {
        max_poll_interval: Duration::from_secs(30),
        ..config(&client)
    };
    let consumer = client.consumer_with(slow).unwrap();
    consumer.subscribe(["t"]).unwrap();
    consumer.recv().await.unwrap();
    let other = Member::new(&client, config(&client));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(
        consumer.assignment().len(),
        2,
        "it gives up nothing while it works"
    );
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(consumer.assignment().is_empty());
    assert_eq!(consumer.metrics().partitions_lost, 2);
    shares(&[&other], &[2]).await;
    let refused = consumer.commit().await;
    assert!(
        matches!(refused, Ok(()) | Err(Error::CommitRefused { .. })),
        "{refused:?}"
    );
    while consumer.assignment().len() != 1 {
        consumer.poll(Duration::from_millis(100)).await.unwrap();
    }
    assert_eq!(sorted(other.leave().await), (0..10).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn unsubscribing_and_subscribing_at_once_is_joining_anew() {
    let kafka = kafka().topic("t", 2).in_memory().unwrap();
    let client = client(&kafka);
    let member = Member::new(&client, config(&client));
    shares(&[&member], &[2]).await;
    for _ in 0..3 {
        member.consumer.unsubscribe().await.unwrap();
        member.consumer.subscribe(["t"]).unwrap();
    }
    shares(&[&member], &[2]).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    shares(&[&member], &[2]).await;
    assert_eq!(member.consumer.metrics().partitions_lost, 0);
    // Who unsubscribes and closes right after has left, too.
    for protocol in [GroupProtocol::Consumer, GroupProtocol::Classic] {
        let group = format!("{protocol:?}");
        let consumer = client
            .consumer_with(ConsumerConfig {
                group_id: Some(group.clone()),
                group_protocol: protocol,
                ..config(&client)
            })
            .unwrap();
        consumer.subscribe(["t"]).unwrap();
        while consumer.assignment().is_empty() {
            consumer.poll(Duration::from_millis(10)).await.unwrap();
        }
        consumer.unsubscribe().await.unwrap();
        consumer.close(Duration::from_secs(5)).await.unwrap();
        let described = client.admin().describe_groups(&[&group]).await;
        for (_, group) in described {
            assert!(group.unwrap().members.is_empty(), "{protocol:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_changes_its_protocol_when_it_is_empty() {
    let kafka = kafka().topic("t", 4).in_memory().unwrap();
    let client = client(&kafka);
    let protocols = [
        GroupProtocol::Classic,
        GroupProtocol::Consumer,
        GroupProtocol::Auto,
        GroupProtocol::Classic,
    ];
    for (round, protocol) in (0..).zip(protocols) {
        let (first, next) = (round * 20, (round + 1) * 20);
        write(&client, "t", first..next).await;
        let member = Member::new(
            &client,
            ConsumerConfig {
                group_protocol: protocol,
                ..config(&client)
            },
        );
        until("its round is read", || member.seen().len() == 20).await;
        let seen = sorted(member.leave().await);
        assert_eq!(seen, (first..next).collect::<Vec<_>>(), "{protocol:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn auto_takes_what_there_is() {
    // Classic members are not taken along.
    let kafka = kafka().set("group.consumer.migration.policy", "disabled");
    let kafka = kafka.topic("t", 4).in_memory().unwrap();
    let client = client(&kafka);
    let auto = |group: &str| ConsumerConfig {
        group_id: Some(group.into()),
        group_protocol: GroupProtocol::Auto,
        ..config(&client)
    };
    let member = Member::new(&client, auto("new"));
    shares(&[&member], &[4]).await;
    let id = member.consumer.group_metadata().unwrap().member_id;
    assert_eq!(id.len(), 22, "made by the client: {id}");
    let classic = Member::new(
        &client,
        ConsumerConfig {
            group_protocol: GroupProtocol::Classic,
            ..auto("old")
        },
    );
    shares(&[&classic], &[4]).await;
    let other = Member::idle(&client, auto("old"));
    other
        .consumer
        .subscribe_pattern(TopicPattern::new("t").unwrap())
        .unwrap();
    shares(&[&classic, &other], &[2, 2]).await;
    let refused = Member::new(
        &client,
        ConsumerConfig {
            group_protocol: GroupProtocol::Consumer,
            ..auto("old")
        },
    );
    until("it is told", || !refused.errors().is_empty()).await;
    assert!(
        refused.errors()[0].contains("classic"),
        "{:?}",
        refused.errors()
    );
    for member in [member, classic, other] {
        member.leave().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_changes_its_protocol_member_by_member_and_misses_nothing() {
    let kafka = kafka().topic("t", 4).in_memory().unwrap();
    let client = client(&kafka);
    let by = |protocol| {
        Member::new(
            &client,
            ConsumerConfig {
                group_protocol: protocol,
                ..config(&client)
            },
        )
    };
    let (classic, consumer) = (GroupProtocol::Classic, GroupProtocol::Consumer);
    let mut members = vec![by(classic), by(classic)];
    let mut seen = Vec::new();
    let admin = client.admin();
    let is = async || {
        admin.list_groups().await.unwrap()[0]
            .protocol
            .clone()
            .unwrap()
    };
    // There, and back again.
    let rounds = [
        (consumer, "consumer"),
        (consumer, "consumer"),
        (classic, "consumer"),
        (classic, "classic"),
    ];
    shares(&members.iter().collect::<Vec<_>>(), &[2, 2]).await;
    assert_eq!(is().await, "classic");
    for (round, (next, becomes)) in (0..).zip(rounds) {
        write(&client, "t", round * 20..(round + 1) * 20).await;
        let read = || {
            members
                .iter()
                .map(|member| member.seen().len())
                .sum::<usize>()
        };
        let want = (round as usize + 1) * 20 - seen.len();
        until("the round is read", || read() >= want).await;
        seen.extend(members.remove(0).leave().await);
        members.push(by(next));
        shares(&members.iter().collect::<Vec<_>>(), &[2, 2]).await;
        assert_eq!(is().await, becomes, "after {}", round + 1);
    }
    for member in members {
        seen.extend(member.leave().await);
    }
    assert_eq!(sorted(seen), (0..80).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_full_says_so() {
    let kafka = kafka().topic("t", 2).in_memory().unwrap();
    let client = client(&kafka);
    let full = ErrorCode::GROUP_MAX_SIZE_REACHED;
    kafka.inject(Rule {
        api: ApiKey::ConsumerGroupHeartbeat,
        node: None,
        skip: 0,
        times: 1,
        fault: Fault::Answer(full),
    });
    let member = Member::new(&client, config(&client));
    until("it is told", || !member.errors().is_empty()).await;
    let error = member.errors().remove(0);
    assert!(error.contains(&full.to_string()), "{error}");
    assert!(member.has().is_empty());
    member.consumer.subscribe(["t"]).unwrap();
    shares(&[&member], &[2]).await;
}

#[tokio::test(start_paused = true)]
async fn an_assignor_is_asked_for() {
    let kafka = kafka().topic("t", 3).topic("u", 3).in_memory().unwrap();
    let client = client(&kafka);
    let by = |assignor: &str, group: &str| ConsumerConfig {
        group_id: Some(group.into()),
        group_remote_assignor: Some(assignor.into()),
        ..config(&client)
    };
    // Both take a row of each topic: 2 + 2 to the first, by range; 3 and 3 as uniform has it.
    for (assignor, expected) in [("range", [2, 4]), ("uniform", [3, 3])] {
        let members = [(); 2].map(|()| Member::idle(&client, by(assignor, assignor)));
        for member in &members {
            member.consumer.subscribe(["t", "u"]).unwrap();
        }
        shares(&[&members[0], &members[1]], &expected).await;
    }
    let unknown = Member::new(&client, by("sticky", "none"));
    until("it is told", || !unknown.errors().is_empty()).await;
    let error = unknown.errors().remove(0);
    assert!(error.contains("group.remote.assignor"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_chain_of_transactions_moves_each_record_once() {
    let kafka = kafka().topic("t", 4).topic("out", 4).in_memory().unwrap();
    let client = client(&kafka);
    write(&client, "t", 0..60).await;
    let movers = (0..2).map(|number| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut producing = client.producer_config();
            producing.transactional_id = Some(format!("mover-{number}"));
            let mut producer = client.transactional_producer_with(producing).await.unwrap();
            let reading = ConsumerConfig {
                enable_auto_commit: false,
                max_poll_records: 5,
                ..config(&client)
            };
            let consumer = client.consumer_with(reading).unwrap();
            consumer.subscribe(["t"]).unwrap();
            for _ in 0..40 {
                let batches = consumer.poll(Duration::from_secs(1)).await.unwrap();
                if batches.is_empty() {
                    continue;
                }
                let group = consumer.group_metadata().unwrap();
                let transaction = producer.begin().await.unwrap();
                let mut offsets = Vec::new();
                for batch in &batches {
                    for record in batch {
                        let record = record.unwrap();
                        let value = record.value().unwrap().to_vec();
                        let record = ProducerRecord::to("out").value(&value);
                        transaction.send(record).await.unwrap().await.unwrap();
                    }
                    offsets.push((
                        batch.topic_partition().topic.to_string(),
                        batch.partition(),
                        batch.next_offset(),
                    ));
                }
                let offsets = offsets.iter().map(|(t, p, o)| (t.as_str(), *p, *o));
                match transaction.send_offsets(offsets, &group).await {
                    Ok(()) => transaction.commit().await.unwrap(),
                    // Its partitions are the other's by now, who reads the records again.
                    Err(_) => transaction.abort().await.unwrap(),
                }
            }
            consumer.close(Duration::from_secs(10)).await.unwrap();
        })
    });
    for mover in movers.collect::<Vec<_>>() {
        mover.await.unwrap();
    }
    let read_committed = ConsumerConfig {
        isolation_level: ottla::consumer::IsolationLevel::ReadCommitted,
        group_id: Some("judge".into()),
        ..config(&client)
    };
    let judge = Member::idle(&client, read_committed);
    judge.consumer.subscribe(["out"]).unwrap();
    until("all is there", || judge.seen().len() >= 60).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(sorted(judge.leave().await), (0..60).collect::<Vec<_>>());
}

/// Over sockets, in real time: the process of a member dies without a word.
#[test]
fn the_partitions_of_a_dead_member_go_to_the_others() {
    let (stays, dies) = (runtime(), runtime());
    stays.block_on(async {
        let kafka = kafka()
            .set("group.consumer.heartbeat.interval.ms", 100)
            .set("group.consumer.session.timeout.ms", 1000)
            .topic("t", 4)
            .over_tcp()
            .await
            .unwrap();
        let survivor = client(&kafka);
        let one = Member::new(&survivor, config(&survivor));
        let servers = kafka.bootstrap_servers().to_owned();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        dies.spawn(async move {
            let mortal = Client::builder()
                .bootstrap_servers(servers)
                .group_id(GROUP)
                .build()
                .unwrap();
            let two = Member::new(&mortal, config(&mortal));
            until("its share", || two.has().len() == 2).await;
            ready.send(()).unwrap();
            std::future::pending::<()>().await;
        });
        is_ready.await.unwrap();
        shares(&[&one], &[2]).await;
        dies.shutdown_background();
        shares(&[&one], &[4]).await;
        write(&survivor, "t", 0..20).await;
        until("it reads all", || one.seen().len() == 20).await;
        one.leave().await;
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}
