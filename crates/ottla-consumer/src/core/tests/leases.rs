//! Reading partition by partition.

use std::task::Waker;

use proptest::prelude::*;

use super::*;

/// A reader, and the batch in its hands.
struct Reader {
    leased: Leased,
    hand: Option<Delivery<Data>>,
}

impl Reader {
    fn partition(&self) -> i32 {
        self.leased.name.partition
    }

    /// Done with what it has, it comes for more; what it got, and whether it has ended.
    fn next(
        &mut self,
        core: &mut Core<Data>,
        now: Instant,
    ) -> Result<Option<(i64, i64)>, StreamEnd> {
        let handed = self.hand.take().map(|hand| (hand.token, hand.next));
        match core.next_of_lease(self.leased.id, handed, Some(Waker::noop()), now) {
            LeaseHandout::Batch(delivery) => {
                let read = (delivery.from.max(delivery.data.0), delivery.data.1);
                self.hand = Some(delivery);
                Ok(Some(read))
            }
            LeaseHandout::Nothing => Ok(None),
            LeaseHandout::End => Err(core.lease_end(self.leased.id).unwrap()),
            LeaseHandout::Error(error) => panic!("{error}"),
        }
    }

    /// Dies with what it has in its hands.
    fn drop(self, core: &mut Core<Data>, now: Instant) {
        if let Some(hand) = self.hand {
            core.put_back(
                hand.token,
                hand.data,
                Position::at(hand.from),
                hand.next,
                40,
            );
        }
        core.drop_lease(self.leased.id, now);
    }
}

fn take(core: &mut Core<Data>, now: Instant) -> Option<Reader> {
    let leased = core.take_lease(Some(Waker::noop()), now).unwrap()?;
    Some(Reader { leased, hand: None })
}

fn split(partitions: i32) -> (Core<Data>, Vec<Reader>, Instant) {
    let (mut core, now) = assigned(partitions, 0);
    core.split(|_| false, now).unwrap();
    let readers: Vec<_> = std::iter::from_fn(|| take(&mut core, now)).collect();
    assert_eq!(readers.len(), partitions as usize);
    (core, readers, now)
}

fn fetch(core: &mut Core<Data>, now: Instant, partition: i32, batches: Vec<Entry<Data>>) {
    order(core, 1, now);
    core.handle_fetched(1, ErrorCode::NONE, 7, vec![answer(partition, batches)], now);
}

fn processed(core: &mut Core<Data>) -> Vec<(i32, i64)> {
    let processed = core.take_processed().into_iter();
    processed
        .map(|(name, at, _)| (name.partition, at.offset))
        .collect()
}

#[test]
fn a_reader_that_stands_still_holds_up_no_other_and_stays_within_its_share() {
    // 1000 bytes for ten partitions of one broker.
    let (mut core, mut readers, now) = split(10);
    let (mut held, mut read) = ([0; 10], 0);
    for round in 0..200 {
        let FetchPlan::Send(order) = core.plan_fetch(1, false, now) else {
            panic!("round {round}: the fast one starves")
        };
        for (name, want) in &order.session.partitions {
            assert_eq!(want.bytes_max, 50);
            held[name.partition as usize] = want.offset;
        }
        for (name, _) in &order.session.forgotten {
            held[name.partition as usize] = -1;
        }
        let wanted = (0..10).filter(|p| held[*p as usize] >= 0);
        let answers = wanted.map(|p| {
            let at = held[p as usize];
            answer(p, vec![batch(at, at, 50)])
        });
        core.handle_fetched(1, ErrorCode::NONE, 7, answers.collect(), now);
        let queued: usize = core.queues().map(|(_, bytes, _)| bytes).sum();
        assert!(queued <= 1000, "{queued}");
        while let Ok(Some(_)) = readers[3].next(&mut core, now) {
            read += 1;
        }
    }
    assert_eq!(read, 200);
    assert!(core.queues().all(|(_, bytes, _)| bytes <= 100));
}

#[test]
fn batches_behind_the_next_are_decoded_ahead_of_each_reader() {
    // 125 bytes ahead in all, 62 of each.
    let (mut core, mut readers, now) = split(2);
    for offsets in [0..5, 5..9] {
        let batches = || offsets.clone().map(|i| batch(i, i, 20)).collect();
        order(&mut core, 1, now);
        let answers = vec![answer(0, batches()), answer(1, batches())];
        core.effects = Effects::default();
        core.handle_fetched(1, ErrorCode::NONE, 7, answers, now);
    }
    assert!(core.effects.decode);
    let (one, other) = (
        core.take_work(1000, |_| true),
        core.take_work(1000, |_| true),
    );
    let data = |work: &[(Token, u64, Data)]| work.iter().map(|(.., d)| d.0).collect::<Vec<_>>();
    // Not the next one, which its reader may be about to take; and no more than may be ahead.
    assert_eq!(
        (data(&one), data(&other)),
        (vec![1, 2, 3, 4], vec![1, 2, 3, 4])
    );
    assert!(one.iter().all(|(token, ..)| *token == one[0].0));
    assert_ne!(one[0].0, other[0].0);
    assert!(core.take_work(1000, |_| true).is_empty());
    // Nobody waits but for what is being decoded.
    assert_eq!(readers[0].next(&mut core, now), Ok(Some((0, 0))));
    assert_eq!(readers[0].next(&mut core, now), Ok(None));
    core.effects = Effects::default();
    for (token, number, data) in one {
        core.return_work(token, number, data, 40);
    }
    assert_eq!(core.effects.wakers.len(), 1, "its reader waits");
    assert_eq!(core.ahead_bytes, 160);
    assert!(core.take_work(1000, |_| true).is_empty(), "it has enough");
    for first in 1..5 {
        assert_eq!(readers[0].next(&mut core, now), Ok(Some((first, first))));
    }
    assert_eq!(core.ahead_bytes, 0);
    assert_eq!(data(&core.take_work(1000, |_| true)), [6, 7, 8]);
    // What is read as a whole again is decoded as before.
    core.end_split();
    readers
        .drain(..)
        .for_each(|reader| reader.drop(&mut core, now));
    assert!(!core.is_split());
    assert!(deliver(&mut core).is_some());
}

#[test]
fn a_partition_that_got_a_larger_share_is_fetched_again() {
    let (mut core, mut readers, now) = split(10);
    for i in 0..2 {
        fetch(&mut core, now, 0, vec![batch(i, i, 50)]);
    }
    assert!(
        offsets(&order(&mut core, 1, now)).is_empty(),
        "it is full, the others are asked for already"
    );
    for partition in 1..10 {
        core.unassign(&tp(partition));
    }
    core.handle_fetched(1, ErrorCode::NONE, 7, vec![], now);
    core.effects = Effects::default();
    assert!(matches!(core.plan_fetch(1, false, now), FetchPlan::Wait(_)));
    assert_eq!(readers[0].next(&mut core, now), Ok(Some((0, 0))));
    assert_eq!(core.effects.brokers, [1], "its loop is woken");
    assert_eq!(offsets(&order(&mut core, 1, now)), HashMap::from([(0, 2)]));
}

#[test]
fn coming_for_more_of_one_partition_says_nothing_of_the_others() {
    let (mut core, mut readers, now) = split(2);
    order(&mut core, 1, now);
    let both = (0..2).map(|p| answer(p, vec![batch(0, 9, 50), batch(10, 19, 50)]));
    core.handle_fetched(1, ErrorCode::NONE, 7, both.collect(), now);
    for reader in &mut readers {
        reader.next(&mut core, now).unwrap();
    }
    assert_eq!(processed(&mut core), [(0, 0), (1, 0)]);
    readers[1].next(&mut core, now).unwrap();
    core.mark_processed();
    core.mark_committed();
    assert_eq!(processed(&mut core), [(1, 10)]);
    // The second one is at its second batch, record by record.
    let signal = &readers[1].leased.signal;
    signal.done.store(14, std::sync::atomic::Ordering::Relaxed);
    signal.next.store(15, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(processed(&mut core), [(1, 14)]);
    assert_eq!(position(&core, 1), Some(15));
    let all: Vec<_> = core
        .positions()
        .map(|(name, at)| (name.partition, at.offset))
        .collect();
    assert_eq!(all, [(0, 0), (1, 14)], "what a commit of everything writes");
}

#[test]
fn what_a_reader_dies_with_is_read_again_and_not_fetched_again() {
    let (mut core, mut readers, now) = split(1);
    fetch(&mut core, now, 0, vec![batch(0, 9, 40), batch(10, 19, 40)]);
    let mut reader = readers.remove(0);
    assert_eq!(reader.next(&mut core, now), Ok(Some((0, 9))));
    reader.drop(&mut core, now);
    let mut reader = take(&mut core, now).expect("the partition is offered again");
    assert_eq!(reader.next(&mut core, now), Ok(Some((0, 9))));
    assert_eq!(reader.next(&mut core, now), Ok(Some((10, 19))));
    assert_eq!(offsets(&order(&mut core, 1, now))[&0], 20);
}

#[test]
fn a_seek_makes_the_reader_look() {
    let (mut core, mut readers, now) = split(1);
    fetch(&mut core, now, 0, vec![batch(0, 9, 40)]);
    readers[0].next(&mut core, now).unwrap();
    let look = || {
        readers[0]
            .leased
            .signal
            .look
            .load(std::sync::atomic::Ordering::Relaxed)
    };
    assert!(!look());
    core.seek(&tp(0), Offset::At(500)).unwrap();
    assert!(look());
    // What it still says of the old batch is dropped.
    assert_eq!(readers[0].next(&mut core, now), Ok(None));
    assert_eq!(position(&core, 0), Some(500));
}

#[test]
fn readers_that_make_no_progress_are_noticed() {
    let (mut core, mut readers, start) = split(2);
    let at = |secs| start + Duration::from_secs(secs);
    fetch(&mut core, start, 0, vec![batch(0, 9, 40)]);
    assert_eq!(
        core.stalled_since(at(1)),
        Some(start),
        "nobody has asked yet"
    );
    assert_eq!(readers[1].next(&mut core, at(2)), Ok(None));
    assert_eq!(core.stalled_since(at(3)), Some(start));
    readers[0].next(&mut core, at(4)).unwrap();
    assert_eq!(core.stalled_since(at(5)), Some(at(4)));
    // It reads record by record.
    let signal = readers[0].leased.signal.clone();
    signal.next.store(1, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(core.stalled_since(at(6)), Some(at(6)));
    core.confirm(readers[0].leased.id, Position::at(1), None, at(7))
        .unwrap();
    assert_eq!(core.stalled_since(at(8)), Some(at(7)));
    assert_eq!(readers[0].next(&mut core, at(9)), Ok(None));
    assert_eq!(core.stalled_since(at(10)), None, "both wait");
    core.stop_waiting(readers[0].leased.id, at(11));
    assert_eq!(core.stalled_since(at(12)), Some(at(11)));
    // The other one waited, and knows of the loss when it looks.
    core.end_leases(None, StreamEnd::Lost);
    for partition in 0..2 {
        core.unassign(&tp(partition));
    }
    assert_eq!(readers[1].next(&mut core, at(13)), Err(StreamEnd::Lost));
    assert_eq!(core.stalled_since(at(13)), Some(at(11)));
    readers.remove(0).drop(&mut core, at(14));
    assert_eq!(core.stalled_since(at(15)), None, "it came back");
    core.assign(tp(5), Offset::At(0), leader(1, 1));
    core.offer_leases(at(16));
    assert_eq!(core.stalled_since(at(17)), Some(at(16)), "nobody takes it");
}

#[test]
fn a_partition_is_held_until_its_reader_lets_go() {
    let (mut core, mut readers, now) = split(3);
    fetch(&mut core, now, 0, vec![batch(0, 9, 40)]);
    readers[0].next(&mut core, now).unwrap();
    core.end_leases(Some(&[tp(0), tp(1)]), StreamEnd::Revoked);
    assert_eq!(readers[0].next(&mut core, now), Err(StreamEnd::Revoked));
    assert_eq!(
        readers[2].next(&mut core, now),
        Ok(None),
        "it is not concerned"
    );
    readers.remove(1).drop(&mut core, now);
    assert!(!core.leases_gone(Some(&[tp(0), tp(1)])));
    assert!(core.lease_holds(readers[0].leased.id), "it may commit");
    assert_eq!(processed(&mut core), [(0, 10)], "it was done when it came");
    readers.remove(0).drop(&mut core, now);
    assert!(core.leases_gone(Some(&[tp(0), tp(1)])) && !core.leases_gone(None));
    assert!(
        take(&mut core, now).is_none(),
        "nobody gets what is to be given up"
    );
    core.unassign(&tp(0));
    core.assign(tp(0), Offset::At(10), leader(1, 1));
    core.offer_leases(now);
    assert_eq!(take(&mut core, now).unwrap().partition(), 0);
}

#[test]
fn what_concerns_a_partition_is_told_to_its_reader() {
    let (mut core, mut readers, now) = split(2);
    let error = Error::NoOffset { partition: tp(1) };
    core.report(error);
    let told = core.next_of_lease(readers[1].leased.id, None, None, now);
    assert!(matches!(told, LeaseHandout::Error(Error::NoOffset { .. })));
    assert_eq!(readers[0].next(&mut core, now), Ok(None));
    core.report(Error::Usage("of nobody"));
    assert!(core.take_lease(None, now).is_err());
}

/// It would stand still for ever.
#[test]
fn what_a_reader_dies_untold_of_is_told_to_the_next_one() {
    let (mut core, mut readers, now) = split(1);
    let no_offset = || Error::NoOffset { partition: tp(0) };
    core.report(no_offset());
    readers.remove(0).drop(&mut core, now);
    let next = take(&mut core, now).unwrap();
    let told = |core: &mut Core<Data>| core.next_of_lease(next.leased.id, None, None, now);
    assert!(matches!(
        told(&mut core),
        LeaseHandout::Error(Error::NoOffset { .. })
    ));
    assert!(matches!(told(&mut core), LeaseHandout::Nothing));
    core.report(no_offset());
    // Nobody takes the one after that; it is told to the consumer when that is whole again.
    core.drop_lease(next.leased.id, now);
    core.end_split();
    assert!(!core.is_split());
    let told = core.next_handout();
    assert!(matches!(told, Handout::Error(Error::NoOffset { .. })));
    assert!(matches!(core.next_handout(), Handout::Nothing));
}

#[test]
fn the_consumer_is_whole_again_when_all_readers_are_gone() {
    let (mut core, mut readers, now) = split(2);
    fetch(&mut core, now, 0, vec![batch(0, 9, 40)]);
    assert!(matches!(
        core.next_handout(),
        Handout::Error(Error::Usage(_))
    ));
    assert!(core.split(|_| false, now).is_err());
    readers[0].next(&mut core, now).unwrap();
    core.end_split();
    assert_eq!(readers[0].next(&mut core, now), Err(StreamEnd::Closed));
    fetch_of(&mut core, now, 1);
    for reader in readers {
        assert!(core.is_split());
        reader.drop(&mut core, now);
    }
    assert!(!core.is_split());
    assert_eq!(deliver(&mut core), Some((1, 0, 4)));
    assert_eq!(deliver(&mut core), None);
    assert_eq!(position(&core, 0), Some(10));
}

fn fetch_of(core: &mut Core<Data>, now: Instant, partition: i32) {
    fetch(core, now, partition, vec![batch(0, 4, 40)]);
}

#[derive(Debug, Clone)]
enum Step {
    Fetch,
    Answer(usize),
    Take,
    /// Which reader.
    Next(usize),
    Drop(usize),
    Seek(i32, i64),
    Pause(i32, bool),
    Assign(i32),
    Unassign(i32),
    /// As the group does it.
    Revoke(i32),
    EndSplit,
    Split,
    Deliver,
    /// A worker takes batches to decode; it brings back the oldest.
    Work,
    Back,
}

fn step() -> impl Strategy<Value = Step> {
    let part = || 0..4_i32;
    prop_oneof![
        6 => Just(Step::Fetch),
        6 => (0..3_usize).prop_map(Step::Answer),
        4 => Just(Step::Take),
        10 => any::<usize>().prop_map(Step::Next),
        2 => any::<usize>().prop_map(Step::Drop),
        1 => (part(), 0..200_i64).prop_map(|(p, o)| Step::Seek(p, o)),
        1 => (part(), any::<bool>()).prop_map(|(p, paused)| Step::Pause(p, paused)),
        2 => part().prop_map(Step::Assign),
        1 => part().prop_map(Step::Unassign),
        1 => part().prop_map(Step::Revoke),
        1 => Just(Step::EndSplit),
        1 => Just(Step::Split),
        2 => Just(Step::Deliver),
        3 => Just(Step::Work),
        3 => Just(Step::Back),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever happens in whatever order: each partition has one reader at most, and is read in order, from where the
    /// last one was done; nothing is fetched twice but after a seek or a new assignment; and in the end everything is
    /// read.
    #[test]
    fn any_interleaving_reads_each_partition_in_order(steps in prop::collection::vec(step(), 1..200)) {
        let mut core: Core<Data> = Core::new(config());
        let mut now = Instant::now();
        core.split(|_| false, now).unwrap();
        for p in 0..2 {
            core.assign(tp(p), Offset::At(0), leader(1, 1));
        }
        core.offer_leases(now);
        // Where each assigned partition is read next, and what a reader of it has in its hands.
        let mut expected: HashMap<i32, i64> = (0..2).map(|p| (p, 0)).collect();
        let mut readers: Vec<Reader> = Vec::new();
        let mut held: HashMap<TopicPartition, i64> = HashMap::new();
        let mut out: Option<FetchOrder> = None;
        let mut over = false;
        let mut work = VecDeque::new();
        // The offset asked for last, since it was assigned or sought.
        let mut fetched: HashMap<i32, i64> = HashMap::new();

        let mut serve = |core: &mut Core<Data>, order: FetchOrder, n: usize, now| {
            if order.session.session_epoch == 0 {
                held.clear();
            }
            for (name, want) in &order.session.partitions {
                held.insert(name.clone(), want.offset);
            }
            for (name, _) in &order.session.forgotten {
                held.remove(name);
            }
            let mut answers = Vec::new();
            for (name, at) in &held {
                let entries: Vec<_> = (0..n as i64)
                    .map(|i| at / 5 * 5 + i * 5)
                    .map(|first| batch(first, first + 4, 40))
                    .collect();
                answers.push(answer(name.partition, entries));
            }
            core.handle_fetched(1, ErrorCode::NONE, 5, answers, now);
        };
        for step in steps {
            now += Duration::from_millis(40);
            match step {
                Step::Fetch => {
                    core.new_brokers();
                    if out.is_none() && let FetchPlan::Send(order) = core.plan_fetch(1, false, now) {
                        for (name, want) in &order.session.partitions {
                            let before = fetched.get(&name.partition).copied().unwrap_or(0);
                            prop_assert!(want.offset >= before, "{} was fetched before", name);
                            fetched.insert(name.partition, want.offset);
                        }
                        out = Some(order);
                    }
                }
                Step::Answer(n) => {
                    if let Some(order) = out.take() {
                        serve(&mut core, order, n, now);
                    }
                }
                Step::Take => {
                    if let Some(reader) = take(&mut core, now) {
                        let p = reader.partition();
                        let twice = readers.iter().any(|other| other.partition() == p
                            && core.lease_holds(other.leased.id));
                        prop_assert!(!twice, "two readers of {}", p);
                        readers.push(reader);
                    }
                }
                Step::Next(n) if !readers.is_empty() => {
                    let n = n % readers.len();
                    let reader = &mut readers[n];
                    let (p, id) = (reader.partition(), reader.leased.id);
                    if let Some(hand) = &reader.hand && core.lease_holds(id)
                        && core.current(hand.token).is_some()
                    {
                        expected.insert(p, hand.next.offset);
                    }
                    match reader.next(&mut core, now) {
                        Ok(Some((first, _))) => prop_assert_eq!(expected.get(&p), Some(&first)),
                        Ok(None) => {}
                        Err(_) => readers.remove(n).drop(&mut core, now),
                    }
                }
                Step::Drop(n) if !readers.is_empty() => {
                    readers.remove(n % readers.len()).drop(&mut core, now);
                }
                Step::Next(_) | Step::Drop(_) => {}
                Step::Seek(p, to) => {
                    if core.seek(&tp(p), Offset::At(to)).is_ok() {
                        expected.insert(p, to);
                        fetched.remove(&p);
                    }
                }
                Step::Pause(p, paused) => {
                    let _ = core.pause(&tp(p), paused);
                }
                Step::Assign(p) => {
                    if core.position(&tp(p)).is_err() {
                        core.assign(tp(p), Offset::At(7), leader(1, 1));
                        core.offer_leases(now);
                        expected.insert(p, 7);
                        fetched.remove(&p);
                    }
                }
                Step::Unassign(p) => core.unassign(&tp(p)),
                Step::Revoke(p) => {
                    core.end_leases(Some(&[tp(p)]), StreamEnd::Revoked);
                    while !core.leases_gone(Some(&[tp(p)])) {
                        let holds = |r: &Reader| r.partition() == p && core.lease_holds(r.leased.id);
                        let n = readers.iter().position(holds).expect("somebody has it");
                        readers.remove(n).drop(&mut core, now);
                    }
                    core.unassign(&tp(p));
                }
                Step::EndSplit => {
                    core.end_split();
                    over = true;
                }
                Step::Split => {
                    over &= core.split(|_| false, now).is_err();
                }
                Step::Deliver => {
                    if !core.is_split()
                        && let Some((p, first, last)) = deliver(&mut core)
                    {
                        prop_assert_eq!(expected.get(&p), Some(&first));
                        expected.insert(p, last + 1);
                    }
                }
                Step::Work => work.extend(core.take_work(100, |_| true)),
                Step::Back => {
                    if let Some((token, number, data)) = work.pop_front() {
                        core.return_work(token, number, data, 70);
                    }
                }
            }
            let ahead: usize = core.slots.iter().flatten().map(|p| p.ahead_bytes).sum();
            prop_assert_eq!(ahead, core.ahead_bytes);
            let of_entries: usize =
                core.slots.iter().flatten().flat_map(|p| &p.queue).map(Entry::ahead).sum();
            prop_assert_eq!(ahead, of_entries);
            let queued: usize =
                core.slots.iter().flatten().filter(|p| !p.paused).map(|p| p.queued_bytes).sum();
            let counted: usize = core.brokers.values().map(|broker| broker.queued_bytes).sum();
            prop_assert_eq!(queued, counted);
        }

        // Then all is well, and every partition gets somewhere.
        for (token, number, data) in work {
            core.return_work(token, number, data, 70);
        }
        for reader in readers.drain(..) {
            reader.drop(&mut core, now);
        }
        prop_assert_eq!(core.is_split(), !over);
        let names: Vec<_> = core.assignment().cloned().collect();
        for name in &names {
            core.pause(name, false).unwrap();
        }
        let start = expected.clone();
        for _ in 0..60 {
            now += Duration::from_secs(2);
            core.new_brokers();
            if out.is_none() && let FetchPlan::Send(order) = core.plan_fetch(1, false, now) {
                out = Some(order);
            }
            if let Some(order) = out.take() {
                serve(&mut core, order, 1, now);
            }
            readers.extend(std::iter::from_fn(|| take(&mut core, now)));
            for reader in &mut readers {
                let p = reader.partition();
                while let Ok(Some((first, last))) = reader.next(&mut core, now) {
                    prop_assert_eq!(expected.get(&p), Some(&first));
                    expected.insert(p, last + 1);
                }
            }
            while !core.is_split() && let Some((p, first, last)) = deliver(&mut core) {
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
