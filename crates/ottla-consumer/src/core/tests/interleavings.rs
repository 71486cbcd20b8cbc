//! Everything that can happen, in any order.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Fetch(i32),
    Answer {
        node: i32,
        batches: usize,
    },
    Fail {
        node: i32,
        seen: bool,
    },
    Refuse {
        node: i32,
        error: ErrorCode,
    },
    /// Both as brokers of a cluster: 1 to 3.
    Advise {
        node: i32,
        follower: i32,
    },
    Deliver(usize),
    Seek(i32, i64),
    Pause(i32, bool),
    Move(i32, i32),
    Unassign(i32),
    Assign(i32, i64),
    Work,
    Return,
    Truths,
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 1..4_i32;
    let part = || 0..3_i32;
    prop_oneof![
        6 => node().prop_map(Step::Fetch),
        6 => (node(), 0..5_usize).prop_map(|(node, batches)| Step::Answer { node, batches }),
        1 => (node(), any::<bool>()).prop_map(|(node, seen)| Step::Fail { node, seen }),
        1 => (node(), prop::sample::select(vec![
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ErrorCode::UNKNOWN_LEADER_EPOCH,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ])).prop_map(|(node, error)| Step::Refuse { node, error }),
        1 => (node(), 1..4_i32).prop_map(|(node, follower)| Step::Advise { node, follower }),
        8 => (1..6_usize).prop_map(Step::Deliver),
        1 => (part(), 0..200_i64).prop_map(|(p, o)| Step::Seek(p, o)),
        1 => (part(), any::<bool>()).prop_map(|(p, paused)| Step::Pause(p, paused)),
        1 => (part(), node()).prop_map(|(p, n)| Step::Move(p, n)),
        1 => part().prop_map(Step::Unassign),
        1 => (part(), 0..200_i64).prop_map(|(p, o)| Step::Assign(p, o)),
        2 => Just(Step::Work),
        2 => Just(Step::Return),
        3 => Just(Step::Truths),
        1 => Just(Step::Wait),
    ]
}

/// What the broker's session fetches, by the book, plus what is out.
#[derive(Default)]
struct Session {
    held: HashMap<TopicPartition, i64>,
    out: Option<FetchOrder>,
}

impl Session {
    fn receive(&mut self, order: &FetchOrder) {
        if order.session.session_epoch == 0 {
            self.held.clear();
        }
        for (name, want) in &order.session.partitions {
            self.held.insert(name.clone(), want.offset);
        }
        for (name, _) in &order.session.forgotten {
            self.held.remove(name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever happens in whatever order: the application sees each partition without gap, repetition or
    /// reordering, from where it was assigned or sought; paused and lost partitions hand out nothing; the
    /// budget holds; and in the end everything is read.
    #[test]
    fn any_interleaving_reads_each_log_in_order(steps in prop::collection::vec(step(), 1..150)) {
        let mut core: Core<Data> = Core::new(config());
        let mut now = Instant::now();
        let mut sessions: HashMap<i32, Session> = HashMap::new();
        let mut expected: HashMap<i32, i64> = HashMap::new();
        let mut leaders: HashMap<i32, (i32, i32)> = (0..3).map(|p| (p, (1 + p % 2, 1))).collect();
        let mut paused: HashMap<i32, bool> = HashMap::new();
        let mut work = Vec::new();

        // A batch holds five offsets; the log never ends.
        let batches = |offset: i64, n: usize| -> Vec<Entry<Data>> {
            (0..n as i64).map(|i| {
                let first = offset / 5 * 5 + i * 5;
                batch(first, first + 4, 40)
            }).collect()
        };
        for step in steps {
            now += Duration::from_millis(40);
            match step {
                Step::Fetch(node) => {
                    core.new_brokers();
                    let session = sessions.entry(node).or_default();
                    if session.out.is_none()
                        && let FetchPlan::Send(order) = core.plan_fetch(node, false, now)
                    {
                        session.out = Some(order);
                    }
                }
                Step::Answer { node, batches: n } => {
                    let session = sessions.entry(node).or_default();
                    let Some(order) = session.out.take() else { continue };
                    session.receive(&order);
                    let per_partition = (order.max_bytes as usize / 40).max(1).min(n);
                    let mut room = (order.max_bytes as usize / 40).max(1);
                    let mut answers = Vec::new();
                    for (name, offset) in &session.held {
                        let n = per_partition.min(room).min(2);
                        room -= n;
                        answers.push(answer(name.partition, batches(*offset, n)));
                    }
                    core.handle_fetched(node, ErrorCode::NONE, 5, answers, now);
                }
                Step::Fail { node, seen } => {
                    let session = sessions.entry(node).or_default();
                    let Some(order) = session.out.take() else { continue };
                    if seen {
                        session.receive(&order);
                    }
                    core.handle_fetch_failure(node, now);
                }
                Step::Refuse { node, error } => {
                    let session = sessions.entry(node).or_default();
                    let Some(order) = session.out.take() else { continue };
                    session.receive(&order);
                    let answers =
                        session.held.keys().map(|name| refusal(name.partition, error)).collect();
                    core.handle_fetched(node, ErrorCode::NONE, 5, answers, now);
                }
                Step::Advise { node, follower } => {
                    let session = sessions.entry(node).or_default();
                    let Some(order) = session.out.take() else { continue };
                    session.receive(&order);
                    let advice = |name: &TopicPartition| FetchedPartition {
                        follower: Some(follower),
                        ..answer(name.partition, vec![])
                    };
                    let answers = session.held.keys().map(advice).collect();
                    core.handle_fetched(node, ErrorCode::NONE, 5, answers, now);
                }
                Step::Deliver(n) => {
                    for _ in 0..n {
                        let Some((p, first, last)) = deliver(&mut core) else { break };
                        prop_assert_eq!(expected.get(&p), Some(&first), "partition {}", p);
                        prop_assert!(!paused.get(&p).copied().unwrap_or(false));
                        expected.insert(p, last + 1);
                    }
                }
                Step::Seek(p, offset) => {
                    if core.seek(&tp(p), Offset::At(offset)).is_ok() {
                        expected.insert(p, offset);
                    }
                }
                Step::Pause(p, pause) => {
                    if core.pause(&tp(p), pause).is_ok() {
                        paused.insert(p, pause);
                    }
                }
                Step::Move(p, node) => {
                    let (_, epoch) = leaders[&p];
                    leaders.insert(p, (node, epoch + 1));
                    core.update_leaders(|name| {
                        let (node, epoch) = leaders[&name.partition];
                        leader(node, epoch)
                    });
                }
                Step::Unassign(p) => {
                    core.unassign(&tp(p));
                    expected.remove(&p);
                    paused.remove(&p);
                }
                Step::Assign(p, offset) => {
                    let (node, epoch) = leaders[&p];
                    core.assign(tp(p), Offset::At(offset), leader(node, epoch));
                    expected.insert(p, offset);
                }
                Step::Work => work.extend(core.take_work(200, |_| true)),
                Step::Return => {
                    if let Some((token, number, data)) = work.pop() {
                        core.return_work(token, number, data, 60);
                    }
                }
                Step::Truths => {
                    for question in core.take_questions(true, now) {
                        let end = Position { offset: i64::MAX, leader_epoch: Some(99) };
                        core.handle_truth(&question, Truth::EpochEnd(Some(end)), now);
                    }
                }
                Step::Wait => now += Duration::from_secs(2),
            }
            // What decompression added beyond the budget is no more than what was taken for it.
            let queued: usize =
                core.slots.iter().flatten().filter(|p| !p.paused).map(|p| p.queued_bytes).sum();
            let counted: usize = core.brokers.values().map(|broker| broker.queued_bytes).sum();
            prop_assert_eq!(queued, counted);
            let grown = core.slots.iter().flatten().flat_map(|p| &p.queue)
                .filter(|e| e.bytes == 60).count() * 20;
            prop_assert!(core.slots.iter().flatten().all(|p| p.queued_bytes <= 380 + grown));
        }

        // Then all is well, and every partition gets somewhere.
        for (token, number, data) in work {
            core.return_work(token, number, data, 60);
        }
        let names: Vec<_> = core.assignment().cloned().collect();
        for name in &names {
            core.pause(name, false).unwrap();
        }
        let start = expected.clone();
        for _ in 0..60 {
            now += Duration::from_secs(2);
            core.new_brokers();
            for question in core.take_questions(true, now) {
                let end = Position { offset: i64::MAX, leader_epoch: Some(99) };
                core.handle_truth(&question, Truth::EpochEnd(Some(end)), now);
            }
            for node in 1..4 {
                let session = sessions.entry(node).or_default();
                if session.out.is_none()
                    && let FetchPlan::Send(order) = core.plan_fetch(node, false, now)
                {
                    session.out = Some(order);
                }
                let Some(order) = session.out.take() else { continue };
                session.receive(&order);
                let answers = session
                    .held
                    .iter()
                    .map(|(name, offset)| answer(name.partition, batches(*offset, 1)))
                    .collect();
                core.handle_fetched(node, ErrorCode::NONE, 5, answers, now);
            }
            while let Some((p, first, last)) = deliver(&mut core) {
                prop_assert_eq!(expected.get(&p), Some(&first));
                expected.insert(p, last + 1);
            }
        }
        for name in &names {
            let p = name.partition;
            prop_assert!(expected[&p] > start[&p] + 20, "partition {} is stuck", p);
        }
    }
}
