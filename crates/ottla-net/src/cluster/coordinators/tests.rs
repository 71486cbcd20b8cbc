use super::*;
use ottla_wire::messages::find_coordinator::Coordinator;
use std::time::Duration;

const GROUP: CoordinatorKind = CoordinatorKind::Group;

fn start() -> (Coordinators, Instant) {
    let retry = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
    (Coordinators::new(retry), Instant::now())
}

fn answer(key: &str, node: i32, code: ErrorCode) -> Answer<'_> {
    Answer {
        key,
        node,
        host: "kafka",
        port: 9092,
        code,
        message: None,
    }
}

fn lookup(kind: CoordinatorKind, keys: &[&'static str]) -> Lookup {
    Lookup {
        kind,
        keys: keys.iter().map(|key| Str::from_static(key)).collect(),
    }
}

#[test]
fn those_who_want_the_same_share_one_lookup() {
    let (mut coordinators, now) = start();
    let first = coordinators.want(now, GROUP, "g").unwrap_err();
    assert_eq!(coordinators.poll_lookups(now), [lookup(GROUP, &["g"])]);
    let mut second = coordinators.want(now, GROUP, "g").unwrap_err();
    assert!(coordinators.poll_lookups(now).is_empty());
    // The first one gives up, and the second one is served all the same.
    drop(first);
    coordinators.handle_answer(now, GROUP, &answer("g", 3, ErrorCode::NONE), 0.5);
    assert!(second.look(|sighting| matches!(sighting, Sighting::Found(3))));
    assert_eq!(coordinators.want(now, GROUP, "g").unwrap(), 3);
    assert_eq!(coordinators.next_lookup_at(), None);
}

#[test]
fn keys_of_one_kind_are_asked_for_together() {
    let (mut coordinators, now) = start();
    let mut waiting = Vec::new();
    for (kind, key) in [
        (GROUP, "b"),
        (CoordinatorKind::Transaction, "b"),
        (GROUP, "a"),
    ] {
        waiting.push(coordinators.want(now, kind, key).unwrap_err());
    }
    let lookups = coordinators.poll_lookups(now);
    let transaction = lookup(CoordinatorKind::Transaction, &["b"]);
    assert_eq!(lookups, [lookup(GROUP, &["a", "b"]), transaction]);
}

#[test]
fn what_nobody_waits_for_is_not_looked_up() {
    let (mut coordinators, now) = start();
    drop(coordinators.want(now, GROUP, "g"));
    assert!(coordinators.poll_lookups(now).is_empty());
    assert_eq!(coordinators.next_lookup_at(), None);
}

#[test]
fn errors_that_pass_are_tried_again_with_growing_waits() {
    let (mut coordinators, mut now) = start();
    let mut waiting = coordinators.want(now, GROUP, "g").unwrap_err();
    let mut waits = Vec::new();
    for round in 0..5 {
        let lookups = coordinators.poll_lookups(now);
        assert_eq!(lookups, [lookup(GROUP, &["g"])]);
        match round {
            0 => coordinators.handle_failure(now, &lookups[0], None, 0.5),
            // An answer without a broker is no answer.
            1 => coordinators.handle_answer(now, GROUP, &answer("g", -1, ErrorCode::NONE), 0.5),
            _ => {
                let code = ErrorCode::COORDINATOR_NOT_AVAILABLE;
                coordinators.handle_answer(now, GROUP, &answer("g", -1, code), 0.5);
            }
        }
        let next_at = coordinators.next_lookup_at().unwrap();
        waits.push((next_at - now).as_millis());
        now = next_at;
    }
    assert_eq!(waits, [100, 200, 400, 800, 1000]);
    assert!(waiting.look(
        |sighting| matches!(sighting, Sighting::Looking(Some(error)) if error.is_retriable())
    ));
}

#[test]
fn a_refusal_is_told_and_not_remembered() {
    let (mut coordinators, now) = start();
    let mut waiting = coordinators.want(now, GROUP, "g").unwrap_err();
    coordinators.poll_lookups(now);
    let code = ErrorCode::GROUP_AUTHORIZATION_FAILED;
    coordinators.handle_answer(now, GROUP, &answer("g", -1, code), 0.5);
    assert!(waiting.look(
        |sighting| matches!(sighting, Sighting::Refused(error) if error.code() == Some(code))
    ));
    let mut again = coordinators.want(now, GROUP, "g").unwrap_err();
    assert!(again.look(|sighting| matches!(sighting, Sighting::Looking(None))));
    assert_eq!(coordinators.poll_lookups(now).len(), 1);
}

#[test]
fn only_the_coordinator_that_failed_is_forgotten() {
    let (mut coordinators, now) = start();
    let _waiting = coordinators.want(now, GROUP, "g").unwrap_err();
    coordinators.poll_lookups(now);
    coordinators.handle_answer(now, GROUP, &answer("g", 3, ErrorCode::NONE), 0.5);
    // A late complaint about the one before.
    coordinators.forget(GROUP, "g", 2);
    assert_eq!(coordinators.want(now, GROUP, "g").unwrap(), 3);
    coordinators.forget(GROUP, "g", 3);
    assert!(coordinators.want(now, GROUP, "g").is_err());
}

#[test]
fn keys_left_out_of_an_answer_are_asked_for_again() {
    let (mut coordinators, now) = start();
    let _a = coordinators.want(now, GROUP, "a").unwrap_err();
    let _b = coordinators.want(now, GROUP, "b").unwrap_err();
    let lookups = coordinators.poll_lookups(now);
    let response = FindCoordinatorResponse {
        coordinators: vec![
            Coordinator {
                key: "a".into(),
                node_id: 1,
                ..Default::default()
            },
            Coordinator {
                key: "never asked for".into(),
                node_id: 2,
                ..Default::default()
            },
        ],
        ..Default::default()
    };
    for answer in Answer::all_of(&response, "a") {
        coordinators.handle_answer(now, GROUP, &answer, 0.5);
    }
    coordinators.handle_failure(now, &lookups[0], None, 0.5);
    let later = coordinators.next_lookup_at().unwrap();
    assert_eq!(coordinators.poll_lookups(later), [lookup(GROUP, &["b"])]);
}
