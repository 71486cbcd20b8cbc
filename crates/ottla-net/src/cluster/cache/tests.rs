use super::*;
use ottla_wire::messages::metadata::{MetadataResponseBroker, MetadataResponsePartition};

const AGE: Duration = Duration::from_secs(300);
const SECOND: Duration = Duration::from_secs(1);

struct Bench {
    cache: MetadataCache,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self {
            cache: MetadataCache::new(Policy {
                max_age: AGE,
                max_idle: AGE,
                retry: Backoff::new(Duration::from_millis(100), SECOND),
                rebootstrap_after: Some(AGE),
                auto_create: false,
            }),
            now: Instant::now(),
        }
    }

    fn wait(&mut self, duration: Duration) {
        self.now += duration;
    }

    /// The topics asked for now, if a query is due; it stays under way.
    fn query(&mut self) -> Option<Query> {
        self.cache.poll_query(self.now)
    }

    /// Answers what is due now with these topics. Returns the names asked for, and whether that was
    /// news.
    fn answer(&mut self, topics: Vec<MetadataResponseTopic>) -> (Vec<String>, bool) {
        let query = self.query().expect("a query is due");
        let changed = self.respond(&query, topics);
        let names = query.topics.unwrap_or_default();
        (names.iter().map(ToString::to_string).collect(), changed)
    }

    fn respond(&mut self, query: &Query, topics: Vec<MetadataResponseTopic>) -> bool {
        let response = MetadataResponse {
            topics,
            ..response()
        };
        self.cache.handle_response(self.now, query, &response, 0.5)
    }

    fn fail(&mut self) {
        self.query().expect("a query is due");
        self.cache.handle_failure(self.now, 0.5);
    }

    /// Milliseconds until the next query.
    fn next_in(&self) -> Option<u128> {
        let at = self.cache.next_query_at()?;
        Some(at.saturating_duration_since(self.now).as_millis())
    }

    fn leader(&self, topic: &str, partition: i32) -> Option<(i32, i32)> {
        self.cache.snapshot().leader(topic, partition)
    }
}

fn response() -> MetadataResponse {
    MetadataResponse {
        cluster_id: Some("c".into()),
        controller_id: 1,
        brokers: (1..=3)
            .map(|node_id| MetadataResponseBroker {
                node_id,
                host: format!("broker-{node_id}").into(),
                port: 9092,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

/// A topic with these leaders and epochs.
fn topic(name: &str, id: u8, leaders: &[(i32, i32)]) -> MetadataResponseTopic {
    MetadataResponseTopic {
        name: Some(Str::from(name.to_owned())),
        topic_id: Uuid([id; 16]),
        partitions: (0..)
            .zip(leaders)
            .map(
                |(partition_index, &(leader_id, leader_epoch))| MetadataResponsePartition {
                    partition_index,
                    leader_id,
                    leader_epoch,
                    ..Default::default()
                },
            )
            .collect(),
        ..Default::default()
    }
}

fn failed(name: &str, error_code: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic {
        name: Some(Str::from(name.to_owned())),
        error_code,
        ..Default::default()
    }
}

const UNKNOWN: ErrorCode = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;

#[test]
fn asks_nothing_before_somebody_wants_something() {
    let mut bench = Bench::new();
    assert_eq!((bench.query(), bench.next_in()), (None, None));
    bench.cache.request_refresh(bench.now);
    assert_eq!(bench.next_in(), Some(0));
    let (names, changed) = bench.answer(vec![]);
    assert!(names.is_empty() && changed);
    let snapshot = bench.cache.snapshot();
    assert_eq!(
        (snapshot.brokers().len(), snapshot.controller()),
        (3, Some(1))
    );
    assert_eq!(
        snapshot.broker(2).unwrap().address.to_string(),
        "broker-2:9092"
    );
    assert_eq!(bench.next_in(), Some(AGE.as_millis()));
}

#[test]
fn older_news_never_wins() {
    let mut bench = Bench::new();
    bench.cache.track(bench.now, "t");
    bench.answer(vec![topic("t", 7, &[(1, 5), (2, 5)])]);
    let refresh = |bench: &mut Bench, leaders: &[(i32, i32)]| {
        bench.wait(SECOND);
        bench.cache.request_refresh(bench.now);
        bench.answer(vec![topic("t", 7, leaders)]).1
    };
    assert!(
        !refresh(&mut bench, &[(3, 4), (2, 5)]),
        "an older epoch is no news"
    );
    assert_eq!(bench.leader("t", 0), Some((1, 5)));
    assert!(refresh(&mut bench, &[(3, 6), (1, 2)]));
    assert_eq!(
        (bench.leader("t", 0), bench.leader("t", 1)),
        (Some((3, 6)), Some((2, 5)))
    );
    assert!(refresh(&mut bench, &[(-1, 7), (2, 5)]));
    assert_eq!(bench.leader("t", 0), None);
    // A broker too old to tell epochs is believed.
    assert!(refresh(&mut bench, &[(2, -1), (2, 5)]));
    assert_eq!(bench.leader("t", 0), Some((2, -1)));
    // Partitions are only ever added.
    refresh(&mut bench, &[(1, 8), (2, 6), (3, 0)]);
    refresh(&mut bench, &[(1, 8), (2, 6)]);
    assert_eq!(bench.leader("t", 2), Some((3, 0)));
}

#[test]
fn a_topic_with_a_new_id_is_a_new_topic() {
    let mut bench = Bench::new();
    bench.cache.track(bench.now, "t");
    bench.answer(vec![topic("t", 7, &[(1, 50), (2, 50)])]);
    bench.wait(SECOND);
    bench.cache.request_refresh(bench.now);
    bench.answer(vec![topic("t", 8, &[(3, 0)])]);
    assert_eq!(
        (bench.leader("t", 0), bench.leader("t", 1)),
        (Some((3, 0)), None)
    );
    let snapshot = bench.cache.snapshot();
    assert!(snapshot.topic_by_id(Uuid([7; 16])).is_none());
    assert_eq!(&*snapshot.topic_by_id(Uuid([8; 16])).unwrap().name, "t");
}

#[test]
fn partial_answers_evict_nothing() {
    let mut bench = Bench::new();
    bench.cache.track(bench.now, "a");
    bench.answer(vec![topic("a", 1, &[(1, 0)])]);
    bench.cache.track(bench.now, "b");
    assert_eq!(
        bench.next_in(),
        Some(0),
        "a topic never asked for does not wait"
    );
    let (names, _) = bench.answer(vec![topic("b", 2, &[(2, 0)])]);
    assert_eq!(names, ["b"]);
    assert!(bench.leader("a", 0).is_some() && bench.leader("b", 0).is_some());
}

#[test]
fn two_topics_used_in_turn_past_the_age_both_stay() {
    let mut bench = Bench::new();
    bench.cache.track(bench.now, "a");
    bench.cache.track(bench.now, "b");
    let both = || vec![topic("a", 1, &[(1, 0)]), topic("b", 2, &[(2, 0)])];
    bench.answer(both());
    for _ in 0..5 {
        bench.wait(AGE);
        let (names, changed) = bench.answer(both());
        assert_eq!(
            (names, changed),
            (vec!["a".to_owned(), "b".to_owned()], false)
        );
    }
    assert!(bench.leader("a", 0).is_some() && bench.leader("b", 0).is_some());
}

#[test]
fn topics_nobody_wants_are_forgotten_after_a_while() {
    let mut bench = Bench::new();
    bench.cache.track(bench.now, "t");
    bench.cache.track(bench.now, "t");
    bench.answer(vec![topic("t", 1, &[(1, 0)])]);
    bench.cache.untrack(bench.now, "t");
    bench.wait(AGE);
    assert_eq!(
        bench.answer(vec![topic("t", 1, &[(1, 0)])]).0,
        ["t"],
        "tracked twice"
    );
    bench.cache.untrack(bench.now, "t");
    bench.wait(AGE / 2);
    bench.cache.request_refresh(bench.now);
    assert_eq!(
        bench.answer(vec![topic("t", 1, &[(1, 0)])]).0,
        ["t"],
        "idle, not for long"
    );
    bench.wait(AGE);
    assert!(bench.answer(vec![]).0.is_empty());
    assert!(bench.cache.snapshot().topic("t").is_none());
}

#[test]
fn an_unknown_topic_is_asked_for_again_while_somebody_waits() {
    let mut bench = Bench::new();
    bench.cache.begin_wait(bench.now, "t");
    let mut waits = Vec::new();
    for _ in 0..6 {
        let (names, _) = bench.answer(vec![failed("t", UNKNOWN)]);
        assert_eq!(names, ["t"]);
        waits.push(bench.next_in().unwrap());
        bench.wait(bench.cache.next_query_at().unwrap() - bench.now);
    }
    // Backing off, because nothing new comes.
    assert_eq!(waits, [100, 100, 200, 400, 800, 1000]);
    bench.answer(vec![topic("t", 1, &[(1, 0)])]);
    assert_eq!(bench.next_in(), Some(AGE.as_millis() - 2600));
    bench.cache.end_wait(bench.now, "t");

    bench.cache.begin_wait(bench.now, "u");
    bench.answer(vec![failed("u", UNKNOWN)]);
    bench.cache.end_wait(bench.now, "u");
    assert!(bench.next_in().unwrap() > 1000, "nobody waits any more");
}

#[test]
fn a_topic_without_partitions_is_not_there_yet() {
    let mut bench = Bench::new();
    bench.cache.begin_wait(bench.now, "t");
    bench.answer(vec![topic("t", 1, &[])]);
    assert_eq!(bench.next_in(), Some(100));
}

#[test]
fn a_refused_topic_is_asked_for_again_only_by_who_comes_later() {
    let mut bench = Bench::new();
    bench.cache.begin_wait(bench.now, "t");
    let before = bench.cache.answers();
    bench.answer(vec![failed("t", ErrorCode::TOPIC_AUTHORIZATION_FAILED)]);
    assert!(bench.cache.is_answered_since("t", before));
    assert!(bench.next_in().unwrap() > 1000);
    bench.cache.end_wait(bench.now, "t");

    bench.wait(SECOND);
    let before = bench.cache.answers();
    bench.cache.begin_wait(bench.now, "t");
    assert!(!bench.cache.is_answered_since("t", before));
    assert_eq!(bench.next_in(), Some(0));
}

#[test]
fn an_error_does_not_make_a_known_topic_unknown() {
    let mut bench = Bench::new();
    bench.cache.track(bench.now, "t");
    bench.answer(vec![topic("t", 1, &[(1, 3)])]);
    bench.wait(SECOND);
    bench.cache.request_refresh(bench.now);
    bench.answer(vec![failed("t", UNKNOWN)]);
    let snapshot = bench.cache.snapshot().clone();
    assert_eq!(snapshot.topic("t").unwrap().error, UNKNOWN);
    assert_eq!(bench.leader("t", 0), Some((1, 3)));
    assert_eq!(
        bench.next_in(),
        Some(100),
        "asked again soon, as it may be a broker that lags"
    );
    bench.wait(SECOND);
    bench.answer(vec![topic("t", 1, &[(2, 2)])]);
    assert_eq!(
        bench.leader("t", 0),
        Some((1, 3)),
        "the epoch is remembered through the error"
    );
}

#[test]
fn refreshes_on_demand_keep_their_distance() {
    let mut bench = Bench::new();
    bench.cache.request_refresh(bench.now);
    bench.answer(vec![]);
    let mut distances = Vec::new();
    for _ in 0..5 {
        bench.cache.request_refresh(bench.now);
        bench.cache.request_refresh(bench.now);
        distances.push(bench.next_in().unwrap());
        bench.wait(bench.cache.next_query_at().unwrap() - bench.now);
        bench.answer(vec![]);
    }
    assert_eq!(distances, [100, 100, 200, 400, 800]);
}

#[test]
fn a_demand_during_a_query_makes_another() {
    let mut bench = Bench::new();
    bench.cache.request_refresh(bench.now);
    let query = bench.query().unwrap();
    assert_eq!(
        (bench.query(), bench.next_in()),
        (None, None),
        "one at a time"
    );
    // The answer may have been made before what led to this demand.
    bench.cache.request_refresh(bench.now);
    bench.respond(&query, vec![]);
    assert_eq!(bench.next_in(), Some(100));
}

#[test]
fn failures_back_off_and_are_made_up_for() {
    let mut bench = Bench::new();
    bench.cache.track(bench.now, "t");
    let mut waits = Vec::new();
    for _ in 0..6 {
        bench.fail();
        waits.push(bench.next_in().unwrap());
        bench.wait(bench.cache.next_query_at().unwrap() - bench.now);
    }
    assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
    // Not even a new topic is asked for while nobody answers.
    bench.fail();
    bench.cache.track(bench.now, "u");
    assert_eq!(bench.next_in(), Some(1000));
    bench.wait(SECOND);
    let (names, _) = bench.answer(vec![topic("t", 1, &[(1, 0)]), topic("u", 2, &[(1, 0)])]);
    assert_eq!(names, ["t", "u"]);
    assert!(bench.next_in().unwrap() > 1000);
}

#[test]
fn brokers_that_stay_without_answer_lead_back_to_the_bootstrap_servers() {
    let mut bench = Bench::new();
    bench.cache.request_refresh(bench.now);
    bench.answer(vec![]);
    bench.wait(AGE);
    bench.fail();
    bench.wait(SECOND);
    assert!(!bench.query().unwrap().rebootstrap);
    bench.cache.handle_failure(bench.now, 0.5);
    bench.wait(AGE);
    let query = bench.query().unwrap();
    assert!(query.rebootstrap);
    // No help from there either: the brokers get their turn again.
    bench.cache.handle_failure(bench.now, 0.5);
    bench.cache.handle_rebootstrap_failure(bench.now);
    bench.wait(SECOND);
    assert!(!bench.query().unwrap().rebootstrap);
}

#[test]
fn a_broker_can_send_us_back_to_the_bootstrap_servers() {
    let mut bench = Bench::new();
    bench.cache.request_refresh(bench.now);
    let query = bench.query().unwrap();
    let response = MetadataResponse {
        error_code: ErrorCode::REBOOTSTRAP_REQUIRED,
        ..Default::default()
    };
    assert!(
        !bench
            .cache
            .handle_response(bench.now, &query, &response, 0.5)
    );
    assert_eq!(bench.next_in(), Some(0));
    let query = bench.query().unwrap();
    assert!(query.rebootstrap);
    bench.respond(&query, vec![]);
    bench.cache.request_refresh(bench.now);
    bench.wait(SECOND);
    assert!(!bench.query().unwrap().rebootstrap);
}

#[test]
fn hints_move_leaders_forward_only() {
    let mut bench = Bench::new();
    bench.cache.track(bench.now, "t");
    bench.answer(vec![topic("t", 1, &[(1, 5)])]);
    let mut learn = |leader, leader_epoch, endpoint: Option<Endpoint<'_>>| {
        let hint = LeaderHint {
            topic: "t",
            partition: 0,
            leader,
            leader_epoch,
        };
        bench.cache.learn(&[hint], endpoint.as_slice())
    };
    assert!(!learn(2, 5, None) && !learn(2, 4, None) && !learn(-1, 9, None));
    assert!(!learn(9, 9, None), "a broker whose address nobody told");
    assert!(learn(2, 6, None));
    let endpoint = Endpoint {
        node: 9,
        host: "broker-9",
        port: 9093,
        rack: Some("r"),
    };
    assert!(learn(9, 7, Some(endpoint)));
    assert!(!learn(9, 7, Some(endpoint)), "twice is no news");
    assert_eq!(bench.leader("t", 0), Some((9, 7)));
    let snapshot = bench.cache.snapshot();
    assert_eq!(
        snapshot.broker(9).unwrap().address.to_string(),
        "broker-9:9093"
    );
    let unknown = LeaderHint {
        topic: "u",
        partition: 3,
        leader: 1,
        leader_epoch: 1,
    };
    assert!(!bench.cache.learn(&[unknown], &[]));
}

#[test]
fn all_topics_are_listed_and_the_gone_ones_dropped() {
    let mut bench = Bench::new();
    bench.cache.track(bench.now, "mine");
    bench.cache.track_all(bench.now);
    let query = bench.query().unwrap();
    assert_eq!(query.topics, None);
    bench.respond(
        &query,
        vec![topic("mine", 1, &[(1, 0)]), topic("other", 2, &[(1, 0)])],
    );
    assert_eq!(bench.cache.snapshot().topics().len(), 2);
    assert!(bench.cache.snapshot().has_all_topics());
    bench.wait(AGE);
    let query = bench.query().unwrap();
    bench.respond(&query, vec![]);
    let snapshot = bench.cache.snapshot().clone();
    assert!(snapshot.topic("other").is_none() && snapshot.topic("mine").is_some());
    bench.wait(Duration::from_secs(2));
    assert_eq!(bench.answer(vec![]).0, ["mine"], "it may be gone");
    bench.cache.untrack_all();
    bench.wait(AGE);
    assert_eq!(bench.answer(vec![]).0, ["mine"]);
    assert!(!bench.cache.snapshot().has_all_topics());
}

#[test]
fn that_there_are_no_topics_is_news_too() {
    let mut bench = Bench::new();
    bench.cache.track(bench.now, "mine");
    bench.answer(vec![topic("mine", 1, &[(1, 0)])]);
    assert!(!bench.cache.snapshot().has_all_topics());
    bench.cache.track_all(bench.now);
    bench.wait(AGE);
    let query = bench.query().unwrap();
    let mut same = response();
    same.topics = vec![topic("mine", 1, &[(1, 0)])];
    assert!(bench.cache.handle_response(bench.now, &query, &same, 0.5));
    assert!(bench.cache.snapshot().has_all_topics());
}

#[test]
fn hostile_answers_are_survived() {
    let mut bench = Bench::new();
    bench.cache.track(bench.now, "t");
    let query = bench.query().unwrap();
    let mut odd = topic("t", 1, &[(1, 0), (2, 0)]);
    for (partition, index) in odd.partitions.iter_mut().zip([i32::MAX, -7]) {
        partition.partition_index = index;
    }
    odd.partitions.push(odd.partitions[0].clone());
    let mut nameless = topic("x", 2, &[]);
    nameless.name = None;
    let mut answer = response();
    answer.brokers[0].port = -1;
    answer.brokers[1].port = 70_000;
    answer.controller_id = -9;
    answer.topics = vec![odd, nameless, topic("never asked for", 3, &[(1, 0)])];
    assert!(bench.cache.handle_response(bench.now, &query, &answer, 0.5));
    let snapshot = bench.cache.snapshot();
    assert_eq!((snapshot.brokers().len(), snapshot.controller()), (1, None));
    // Whoever counted partitions by the highest number would have made two thousand million of them.
    let topic = snapshot.topic("t").unwrap();
    assert!(topic.partitions.is_empty() && !topic.is_usable());
    assert!(snapshot.topic("never asked for").is_none());
}

#[test]
fn partitions_that_a_list_can_hold_outlive_impossible_ones() {
    let mut bench = Bench::new();
    bench.cache.track(bench.now, "t");
    let mut odd = topic("t", 1, &[(1, 0), (2, 0), (3, 0)]);
    odd.partitions[2].partition_index = 1 << 20;
    bench.answer(vec![odd]);
    assert_eq!(bench.leader("t", 1), Some((2, 0)));
    assert_eq!(bench.leader("t", 1 << 20), None);
}

#[test]
fn a_cluster_that_sends_us_back_for_ever_is_asked_at_leisure() {
    let mut bench = Bench::new();
    bench.cache.request_refresh(bench.now);
    let response = MetadataResponse {
        error_code: ErrorCode::REBOOTSTRAP_REQUIRED,
        ..Default::default()
    };
    let mut asked = 0;
    let end = bench.now + Duration::from_secs(10);
    while bench.now < end {
        let next = bench.next_in().expect("goes on asking") as u64;
        bench.wait(Duration::from_millis(next));
        let query = bench.query().unwrap();
        bench
            .cache
            .handle_response(bench.now, &query, &response, 0.5);
        asked += 1;
        assert!(asked < 30, "a busy loop");
    }
}

#[test]
fn a_wish_is_asked_about_once_and_again_when_it_is_renewed() {
    let mut bench = Bench::new();
    bench.cache.track(bench.now, "known");
    bench.answer(vec![topic("known", 1, &[(1, 0)])]);
    bench.cache.wish(bench.now, "new");
    assert_eq!(bench.next_in(), Some(0));
    assert_eq!(bench.answer(vec![failed("new", UNKNOWN)]).0, ["new"]);
    bench.wait(SECOND);
    assert!(bench.query().is_none(), "nobody waits for it");
    bench.cache.wish(bench.now, "new");
    assert_eq!(bench.answer(vec![topic("new", 2, &[(2, 0)])]).0, ["new"]);
    assert_eq!(bench.leader("new", 0), Some((2, 0)));
    bench.cache.wish(bench.now, "new");
    assert!(bench.query().is_none(), "it is known");
}
