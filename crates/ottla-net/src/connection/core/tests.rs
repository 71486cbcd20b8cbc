use super::*;
use ottla_wire::encode_request;
use ottla_wire::messages::heartbeat::HeartbeatRequest;

const TIMEOUT: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(540);

/// A core, a clock that only the test moves, and what came out so far.
struct Bench {
    core: Core<u32>,
    start: Instant,
    now: Instant,
    outcomes: Vec<Outcome<u32>>,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Limits)) -> Self {
        let now = Instant::now();
        let mut limits = Limits {
            requests_max: 1000,
            queue_bytes_max: 1 << 20,
            request_timeout: TIMEOUT,
            idle_max: Some(IDLE),
            retire_at: None,
        };
        change(&mut limits);
        let peer = Peer {
            node: Some(1),
            address: crate::Address::new("kafka", 9092),
        };
        Self {
            core: Core::new(peer, limits, now),
            start: now,
            now,
            outcomes: Vec::new(),
        }
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// Submits request `id`, with patience from now.
    fn try_submit(&mut self, id: u32, patience: Duration, answered: bool) -> Result<(), Error> {
        let submission = Submission {
            api: ApiKey::Heartbeat,
            correlation_id: id as i32,
            frame: frame(id),
            deadline: self.now + patience,
            answered,
            waiter: id,
        };
        self.core.submit(self.now, submission)
    }

    fn submit(&mut self, id: u32) {
        self.try_submit(id, TIMEOUT, true).unwrap();
    }

    /// Takes all frames that may be sent; returns how many.
    fn take(&mut self) -> usize {
        let mut count = 0;
        self.core.take_frames(self.now, usize::MAX, |_| count += 1);
        count
    }

    fn write_all(&mut self) {
        let count = self.take();
        self.core
            .handle_written(self.now, count, &mut self.outcomes);
    }

    fn reply(&mut self, id: u32) -> Result<(), CloseCause> {
        let body = Bytes::copy_from_slice(&id.to_be_bytes());
        self.core.handle_frame(self.now, body, &mut self.outcomes)
    }

    fn timeout(&mut self) -> Option<CloseCause> {
        self.core.handle_timeout(self.now, &mut self.outcomes)
    }

    /// The next timeout, in seconds from the start.
    fn next_timeout(&self) -> Option<u64> {
        Some((self.core.next_timeout()? - self.start).as_secs())
    }

    /// What came out since last asked: the waiters answered, and those failed with whether sent.
    fn drain(&mut self) -> Vec<(u32, Result<(), Sent>)> {
        let told = self.outcomes.drain(..);
        told.map(|(id, outcome)| (id, outcome.map(drop).map_err(|e| e.sent())))
            .collect()
    }
}

fn frame(id: u32) -> Frame {
    encode_request(&HeartbeatRequest::default(), 4, id as i32, None).unwrap()
}

#[test]
fn replies_go_to_their_requests_in_order() {
    let mut bench = Bench::new();
    for id in 0..3 {
        bench.submit(id);
    }
    bench.write_all();
    for id in 0..3 {
        bench.reply(id).unwrap();
    }
    assert_eq!(bench.drain(), [(0, Ok(())), (1, Ok(())), (2, Ok(()))]);
    assert_eq!((bench.core.len(), bench.core.replies()), (0, 3));
}

#[test]
fn a_reply_out_of_order_or_unasked_ends_the_connection() {
    let mut bench = Bench::new();
    assert!(matches!(bench.reply(0), Err(CloseCause::Protocol(text)) if text.contains("nothing")));

    bench.submit(0);
    bench.submit(1);
    assert!(
        bench.reply(0).is_err(),
        "a reply to what was not written yet"
    );
    bench.write_all();
    let cause = bench.reply(1).unwrap_err();
    assert!(cause.to_string().contains("id 1 where 0"), "{cause}");
    bench.core.close(&cause, false, &mut bench.outcomes);
    assert_eq!(
        bench.drain(),
        [(0, Err(Sent::Maybe)), (1, Err(Sent::Maybe))]
    );

    let mut bench = Bench::new();
    bench.submit(0);
    bench.write_all();
    let short = Bytes::from_static(b"abc");
    let cause = bench
        .core
        .handle_frame(bench.now, short, &mut bench.outcomes);
    assert!(cause.unwrap_err().to_string().contains("too short"));
}

#[test]
fn death_tells_what_was_sent_from_what_was_not() {
    let mut bench = Bench::new();
    for id in 0..4 {
        bench.submit(id);
    }
    // 0 is written whole, 1 in part, 2 is with the driver but not begun, 3 not even there.
    let one = frame(0).len();
    bench.core.take_frames(bench.now, 2 * one + 1, drop);
    bench.core.handle_written(bench.now, 1, &mut bench.outcomes);
    bench
        .core
        .close(&CloseCause::ByPeer, true, &mut bench.outcomes);
    assert_eq!(
        bench.drain(),
        [
            (0, Err(Sent::Maybe)),
            (1, Err(Sent::Maybe)),
            (2, Err(Sent::No)),
            (3, Err(Sent::No)),
        ]
    );
    let error = bench.try_submit(9, TIMEOUT, true).unwrap_err();
    assert!(error.is_retriable() && error.sent() == Sent::No);
    bench
        .core
        .close(&CloseCause::ByPeer, true, &mut bench.outcomes);
    assert!(bench.outcomes.is_empty() && bench.core.next_timeout().is_none());
}

#[test]
fn an_expired_request_fails_and_its_late_reply_is_swallowed() {
    let mut bench = Bench::new();
    bench.try_submit(0, Duration::from_secs(5), true).unwrap();
    bench.try_submit(1, TIMEOUT, true).unwrap();
    bench.write_all();
    assert_eq!(bench.next_timeout(), Some(5));
    bench.wait(5);
    assert!(
        bench.timeout().is_none(),
        "the broker has longer than the caller"
    );
    assert_eq!(bench.drain(), [(0, Err(Sent::Maybe))]);
    bench.wait(1);
    bench.reply(0).unwrap();
    bench.reply(1).unwrap();
    assert_eq!(bench.drain(), [(1, Ok(()))]);
}

#[test]
fn what_expires_unsent_is_never_sent() {
    let mut bench = Bench::new();
    bench.submit(0);
    bench.write_all();
    bench.core.mute(bench.now, Duration::from_secs(100));
    bench.try_submit(1, Duration::from_secs(1), true).unwrap();
    bench.try_submit(2, Duration::from_secs(20), true).unwrap();
    // Submitted to a muted connection: patience counts from when it may send.
    bench.wait(99);
    assert!(bench.timeout().is_none() && bench.outcomes.is_empty());
    bench.wait(2);
    bench.timeout();
    assert_eq!(bench.drain(), [(1, Err(Sent::No))]);
    assert_eq!(bench.take(), 1);
    assert_eq!(bench.core.queued_bytes, 0);
}

#[test]
fn only_the_oldest_request_tells_of_a_silent_broker() {
    let mut bench = Bench::new();
    // A join may wait for its group for five minutes; a heartbeat behind it cannot be answered.
    bench.try_submit(0, Duration::from_secs(300), true).unwrap();
    bench.try_submit(1, TIMEOUT, true).unwrap();
    bench.write_all();
    bench.wait(40);
    assert!(bench.timeout().is_none());
    assert_eq!(bench.drain(), [(1, Err(Sent::Maybe))]);
    bench.wait(20);
    bench.reply(0).unwrap();
    // From now on it is the heartbeat's turn: the broker has the whole timeout for it.
    assert_eq!(bench.next_timeout(), Some(90));
    bench.wait(29);
    assert!(bench.timeout().is_none());
    bench.wait(1);
    assert!(matches!(bench.timeout(), Some(CloseCause::Silent(d)) if d == TIMEOUT));
}

#[test]
fn a_socket_that_takes_nothing_is_silent_too() {
    let mut bench = Bench::new();
    bench.submit(0);
    bench.take();
    bench.wait(30);
    assert!(matches!(bench.timeout(), Some(CloseCause::Silent(_))));
}

#[test]
fn throttling_holds_requests_back_and_is_no_failure() {
    let mut bench = Bench::new();
    bench.submit(0);
    bench.submit(1);
    bench.write_all();
    bench.reply(0).unwrap();
    bench.core.mute(bench.now, Duration::from_secs(60));
    bench.submit(2);
    assert_eq!(bench.take(), 0);
    bench.wait(59);
    assert!(bench.timeout().is_none());
    assert_eq!(bench.drain(), [(0, Ok(()))]);
    assert_eq!(bench.core.muted_for(bench.now), Duration::from_secs(1));
    bench.wait(1);
    assert_eq!(bench.take(), 1);
    assert_eq!(bench.core.muted_for(bench.now), Duration::ZERO);
    // The broker answers again from then on, and has its time for that.
    bench.wait(29);
    assert!(bench.timeout().is_none() && bench.outcomes.is_empty());
    bench.wait(1);
    assert!(matches!(bench.timeout(), Some(CloseCause::Silent(_))));
    assert_eq!(
        bench.drain(),
        [(1, Err(Sent::Maybe)), (2, Err(Sent::Maybe))]
    );
}

#[test]
fn throttles_do_not_add_up_and_have_an_end() {
    let mut bench = Bench::new();
    bench.submit(0);
    bench.core.mute(bench.now, Duration::from_secs(10));
    bench.wait(5);
    bench.core.mute(bench.now, Duration::from_secs(10));
    bench.core.mute(bench.now, Duration::from_secs(3));
    assert_eq!(bench.core.muted_for(bench.now), Duration::from_secs(10));
    // 30 s of patience, moved back by the 15 s from 0 to 15.
    assert_eq!(bench.next_timeout(), Some(15));
    bench.wait(10);
    assert_eq!(bench.take(), 1);
    assert_eq!(bench.next_timeout(), Some(45));

    bench
        .core
        .mute(bench.now, Duration::from_millis(i32::MAX as u64));
    assert_eq!(bench.core.muted_for(bench.now), MUTE_MAX);
}

#[test]
fn requests_without_a_reply_end_with_being_written() {
    let mut bench = Bench::new();
    bench.try_submit(0, TIMEOUT, false).unwrap();
    bench.submit(1);
    bench.try_submit(2, TIMEOUT, false).unwrap();
    bench.submit(3);
    bench.write_all();
    assert_eq!(bench.drain(), [(0, Ok(())), (2, Ok(()))]);
    bench.reply(1).unwrap();
    bench.reply(3).unwrap();
    assert_eq!(bench.drain(), [(1, Ok(())), (3, Ok(()))]);
    assert_eq!((bench.core.written, bench.core.handed), (0, 0));
}

#[test]
fn bounds_refuse_and_keep_nothing() {
    let mut bench = Bench::with(|limits| limits.requests_max = 2);
    bench.submit(0);
    bench.submit(1);
    let error = bench.try_submit(2, TIMEOUT, true).unwrap_err();
    assert!(matches!(error, Error::ConnectionFull { requests: 2, .. }));
    assert!(error.is_retriable() && error.sent() == Sent::No);
    bench.write_all();
    bench.reply(0).unwrap();
    bench.submit(2);

    let one = frame(0).len();
    let mut bench = Bench::with(|limits| limits.queue_bytes_max = one + 1);
    bench.submit(0);
    assert!(bench.try_submit(1, TIMEOUT, true).is_err());
    bench.take();
    bench.submit(1);

    // One request larger than the bound may still pass, alone.
    let mut bench = Bench::with(|limits| limits.queue_bytes_max = 1);
    bench.submit(0);
}

#[test]
fn frames_are_handed_out_only_as_far_as_asked() {
    let mut bench = Bench::new();
    for id in 0..10 {
        bench.submit(id);
    }
    let mut taken = 0;
    bench.core.take_frames(bench.now, 1, |_| taken += 1);
    assert_eq!(taken, 1, "one at least");
    bench
        .core
        .take_frames(bench.now, frame(0).len() * 3, |_| taken += 1);
    assert_eq!(taken, 4);
    assert_eq!(bench.take(), 6);
}

#[test]
fn an_idle_connection_ends_and_a_busy_one_does_not() {
    let mut bench = Bench::new();
    assert_eq!(bench.next_timeout(), Some(540));
    bench.wait(539);
    assert!(bench.timeout().is_none());
    bench.submit(0);
    bench.write_all();
    bench.wait(10);
    assert!(bench.timeout().is_none());
    bench.reply(0).unwrap();
    bench.wait(539);
    assert!(bench.timeout().is_none());
    bench.wait(1);
    assert!(matches!(bench.timeout(), Some(CloseCause::Idle)));

    let bench = Bench::with(|limits| limits.idle_max = None);
    assert_eq!(bench.core.next_timeout(), None);
}

#[test]
fn a_connection_due_to_be_replaced_takes_nothing_new_and_ends_when_answered() {
    let mut bench = Bench::with(|limits| limits.idle_max = None);
    bench.core.limits.retire_at = Some(bench.now + Duration::from_secs(10));
    bench.submit(0);
    bench.write_all();
    bench.wait(10);
    assert!(!bench.core.is_usable(bench.now));
    let error = bench.try_submit(1, TIMEOUT, true).unwrap_err();
    assert!(matches!(
        &error,
        Error::Disconnected {
            cause: CloseCause::Retired,
            ..
        }
    ));
    assert!(bench.timeout().is_none());
    bench.reply(0).unwrap();
    assert!(matches!(bench.timeout(), Some(CloseCause::Retired)));
    assert_eq!(bench.drain(), [(0, Ok(()))]);
}

#[test]
fn the_request_whose_reply_is_too_large_learns_so() {
    let mut bench = Bench::new();
    bench.submit(0);
    bench.submit(1);
    bench.write_all();
    bench
        .core
        .fail_head(bench.now, &mut bench.outcomes, |peer, api| {
            Error::ResponseTooLarge {
                peer: peer.clone(),
                api,
                size: 1 << 30,
                limit: 1000,
            }
        });
    let (waiter, outcome) = bench.outcomes.pop().unwrap();
    let error = outcome.unwrap_err();
    assert_eq!(waiter, 0);
    assert!(!error.is_retriable());
    assert!(
        error.to_string().contains("receive.message.max.bytes"),
        "{error}"
    );
}

/// Whatever happens in whatever order, each request has exactly one outcome, and the state machine never
/// sleeps through something that is due.
#[test]
fn every_request_has_exactly_one_outcome() {
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut bench = Bench::with(|limits| {
            limits.requests_max = 8;
            limits.request_timeout = Duration::from_secs(5);
        });
        let (mut next_id, mut accepted) = (0, Vec::new());
        let (mut handed, mut on_wire) = (VecDeque::new(), Vec::new());
        let mut ended = None;
        for _ in 0..rng.u32(1..200) {
            match rng.u32(0..12) {
                0..4 => {
                    let patience = Duration::from_secs(rng.u64(1..8));
                    let answered = rng.u32(0..4) > 0;
                    if bench.try_submit(next_id, patience, answered).is_ok() {
                        accepted.push(next_id);
                    }
                    next_id += 1;
                }
                4..6 => {
                    let room = rng.usize(1..200);
                    let before = bench.core.handed;
                    bench.core.take_frames(bench.now, room, drop);
                    for request in bench.core.requests.range(before..bench.core.handed) {
                        handed.push_back((request.correlation_id as u32, request.answered));
                    }
                }
                6..8 => {
                    let count = rng.usize(0..=handed.len());
                    bench
                        .core
                        .handle_written(bench.now, count, &mut bench.outcomes);
                    let written = handed.drain(..count);
                    on_wire.extend(written.filter(|(_, answered)| *answered).map(|(id, _)| id));
                }
                8..10 if !on_wire.is_empty() => bench.reply(on_wire.remove(0)).unwrap(),
                10 => bench
                    .core
                    .mute(bench.now, Duration::from_secs(rng.u64(0..4))),
                _ => {
                    bench.now += Duration::from_millis(rng.u64(0..3000));
                    ended = bench.timeout();
                    if ended.is_some() {
                        break;
                    }
                    assert!(bench.core.next_timeout().is_none_or(|at| at > bench.now));
                }
            }
        }
        let cause = ended.unwrap_or(CloseCause::ByPeer);
        bench.core.close(
            &cause,
            rng.bool() && !handed.is_empty(),
            &mut bench.outcomes,
        );
        let mut told: Vec<_> = bench.drain().into_iter().map(|(id, _)| id).collect();
        told.sort_unstable();
        assert_eq!(told, accepted, "seed {seed}");
    }
}
