//! Each rule, by a history that keeps every promise and what it takes to break it.

use super::*;

const A: Part = Part {
    topic: 0,
    partition: 0,
};
const B: Part = Part {
    topic: 1,
    partition: 0,
};
const C: Part = Part {
    topic: 9,
    partition: 0,
};

fn id(tx: Tx, number: u32) -> u64 {
    history::record_id(tx, number)
}

fn starting(instance: Member, name: u8) -> Event {
    Event::Starting {
        instance,
        client: instance,
        name,
        timeout_ms: 1_000,
    }
}

fn sent(tx: Tx, number: u32, part: Part) -> Vec<Event> {
    let id = id(tx, number);
    let of = None;
    vec![Event::Offered { id, part, of }, Event::Accepted { id }]
}

fn told(tx: Tx, outcome: Outcome) -> Event {
    Event::Told { tx, outcome }
}

fn stored(part: Part, offset: i64, id: u64, producer: i64) -> Event {
    Event::Stored {
        part,
        offset,
        id,
        producer,
    }
}

fn marked(part: Part, offset: i64, producer: i64, commit: bool) -> Event {
    Event::Marked {
        part,
        offset,
        producer,
        commit,
    }
}

fn read(offset: i64, id: u64) -> Event {
    Event::Read {
        reader: 9,
        part: A,
        offset,
        id,
    }
}

fn group_at(part: Part, offset: Option<i64>) -> Event {
    Event::GroupAt {
        group: 0,
        part,
        offset,
    }
}

/// Instance 1 commits t1 in A and B, and aborts t2 in A. Instance 2 copies the first record of A in t3. Reader 9 reads
/// what is committed of A. Instance 3 fences instance 1.
fn sound() -> Vec<Event> {
    let mut events = vec![
        starting(1, 0),
        Event::Started { instance: 1 },
        starting(2, 1),
        Event::Started { instance: 2 },
        Event::Stands {
            reader: 9,
            part: A,
            offset: 0,
            committed: true,
        },
        Event::Began { instance: 1, tx: 1 },
    ];
    events.extend(sent(1, 1, A));
    events.extend(sent(1, 2, B));
    events.extend([
        Event::Delivered {
            id: id(1, 1),
            offset: 0,
        },
        Event::Committing { tx: 1 },
        told(1, Outcome::Committed),
        read(0, id(1, 1)),
        Event::Began { instance: 1, tx: 2 },
    ]);
    events.extend(sent(2, 1, A));
    events.extend([
        told(2, Outcome::NotCommitted),
        Event::Began { instance: 2, tx: 3 },
        Event::Offered {
            id: id(3, 1),
            part: C,
            of: Some((A, 0)),
        },
        Event::Accepted { id: id(3, 1) },
        Event::Offsets {
            tx: 3,
            group: 0,
            offsets: vec![(A, 1)],
        },
        Event::Committing { tx: 3 },
        told(3, Outcome::Committed),
        Event::Position {
            reader: 9,
            part: A,
            offset: 4,
        },
        starting(3, 0),
        Event::Started { instance: 3 },
        Event::Fatal {
            instance: 1,
            error: "fenced".to_owned(),
        },
        Event::Settled,
        stored(A, 0, id(1, 1), 7),
        marked(A, 1, 7, true),
        stored(A, 2, id(2, 1), 7),
        marked(A, 3, 7, false),
        stored(B, 0, id(1, 2), 7),
        marked(B, 1, 7, true),
        stored(C, 0, id(3, 1), 8),
        marked(C, 1, 8, true),
        group_at(A, Some(1)),
        group_at(B, None),
    ]);
    events
}

/// Which rule a history breaks. Every event comes a millisecond after the one before.
fn broken(events: Vec<Event>) -> Option<Rule> {
    let events: Vec<history::Event> = (0..)
        .zip(events)
        .map(|(at_ms, event)| history::Event {
            at_ms,
            what: What::Transactional(event),
        })
        .collect();
    check(&events).err().map(|violation| violation.rule)
}

/// The sound history with one event replaced by others.
fn instead(old: &Event, new: Vec<Event>) -> Vec<Event> {
    let events = sound();
    let count = events.iter().filter(|event| *event == old).count();
    assert_eq!(count, 1, "{old}");
    let mut changed = Vec::new();
    for event in events {
        if event == *old {
            changed.extend(new.iter().cloned());
        } else {
            changed.push(event);
        }
    }
    changed
}

fn replaced(old: &Event, new: Event) -> Option<Rule> {
    broken(instead(old, vec![new]))
}

fn without(old: &Event) -> Option<Rule> {
    broken(instead(old, Vec::new()))
}

#[test]
fn the_sound_history_breaks_nothing() {
    assert_eq!(broken(sound()), None);
}

#[test]
fn what_was_not_sent_does_not_stand_in_a_log() {
    let rule = Some(Rule::WasSent);
    let first = stored(A, 0, id(1, 1), 7);
    assert_eq!(replaced(&first, stored(A, 0, id(5, 5), 7)), rule);
    // Offered, and not taken.
    assert_eq!(without(&Event::Accepted { id: id(2, 1) }), rule);
    // In another partition.
    let there = stored(B, 0, id(1, 2), 7);
    assert_eq!(replaced(&there, stored(C, 7, id(1, 2), 7)), rule);
}

#[test]
fn a_record_that_stands_twice_is_noticed() {
    let twice = stored(A, 2, id(2, 1), 7);
    let events = instead(&twice, vec![stored(A, 2, id(1, 1), 7)]);
    assert_eq!(broken(events), Some(Rule::NoDuplicate));
}

#[test]
fn records_in_the_wrong_order_are_noticed() {
    let (first, second) = (stored(A, 0, id(1, 1), 7), stored(A, 2, id(2, 1), 7));
    let mut events = instead(&first, vec![stored(A, 0, id(2, 1), 7)]);
    let at = events.iter().rposition(|event| *event == second).unwrap();
    events[at] = stored(A, 2, id(1, 1), 7);
    assert_eq!(broken(events), Some(Rule::InOrder));
}

#[test]
fn a_record_that_was_delivered_elsewhere_is_noticed() {
    let delivered = |offset| Event::Delivered {
        id: id(1, 1),
        offset,
    };
    let rule = Some(Rule::StandsWhereDelivered);
    assert_eq!(replaced(&delivered(0), delivered(5)), rule);
}

#[test]
fn half_a_transaction_is_noticed() {
    let rule = Some(Rule::AllOrNothing);
    let marker = marked(B, 1, 7, true);
    assert_eq!(replaced(&marker, marked(B, 1, 7, false)), rule);
}

#[test]
fn what_was_said_to_be_committed_must_be() {
    let rule = Some(Rule::CommittedStays);
    // One record is not there at all.
    assert_eq!(without(&stored(B, 0, id(1, 2), 7)), rule);
    // None is committed.
    let aborted = told(2, Outcome::NotCommitted);
    assert_eq!(replaced(&aborted, told(2, Outcome::Committed)), rule);
    // Of an unknown outcome either is fine.
    assert_eq!(replaced(&aborted, told(2, Outcome::Unknown)), None);
    let committed = told(1, Outcome::Committed);
    assert_eq!(replaced(&committed, told(1, Outcome::Unknown)), None);
}

#[test]
fn what_was_said_not_to_be_committed_must_not_be() {
    let rule = Some(Rule::NotCommittedStays);
    let committed = told(1, Outcome::Committed);
    assert_eq!(replaced(&committed, told(1, Outcome::NotCommitted)), rule);
    // Nobody asked for this commit.
    let abort = marked(A, 3, 7, false);
    assert_eq!(replaced(&abort, marked(A, 3, 7, true)), rule);
}

#[test]
fn a_fenced_instance_cannot_commit() {
    let commit = Event::Committing { tx: 1 };
    let younger = vec![
        starting(4, 0),
        Event::Started { instance: 4 },
        commit.clone(),
    ];
    assert_eq!(broken(instead(&commit, younger)), Some(Rule::FencedForGood));
    // It may have been first while the other was still starting.
    let both = vec![
        starting(4, 0),
        commit.clone(),
        Event::Started { instance: 4 },
    ];
    assert_eq!(broken(instead(&commit, both)), None);
    let another_name = vec![
        starting(4, 5),
        Event::Started { instance: 4 },
        commit.clone(),
    ];
    assert_eq!(broken(instead(&commit, another_name)), None);
}

#[test]
fn nobody_is_fenced_for_no_reason() {
    let fatal = Event::Fatal {
        instance: 2,
        error: "fenced".to_owned(),
    };
    let settled = || Event::Settled;
    let events = instead(&settled(), vec![fatal, settled()]);
    assert_eq!(broken(events.clone()), Some(Rule::FatalForAReason));
    // Its transaction took too long.
    let mut late: Vec<history::Event> = (0..)
        .zip(events)
        .map(|(at_ms, event)| history::Event {
            at_ms,
            what: What::Transactional(event),
        })
        .collect();
    for event in &mut late {
        if matches!(event.what, What::Transactional(Event::Fatal { .. })) {
            event.at_ms += 1_000;
        }
    }
    assert_eq!(check(&late), Ok(()));
}

#[test]
fn a_transaction_that_stays_open_is_noticed() {
    let rule = Some(Rule::NothingStaysOpen);
    assert_eq!(without(&marked(A, 3, 7, false)), rule);
}

#[test]
fn positions_move_with_their_transaction_only() {
    let rule = Some(Rule::OffsetsWithRecords);
    let at = group_at(A, Some(1));
    assert_eq!(replaced(&at, group_at(A, None)), rule);
    assert_eq!(replaced(&at, group_at(A, Some(2))), rule);
    // Committed records, and positions that were left behind.
    let offsets = |tx| Event::Offsets {
        tx,
        group: 0,
        offsets: vec![(A, 1)],
    };
    assert_eq!(replaced(&offsets(3), offsets(2)), rule);
}

#[test]
fn what_is_copied_twice_or_not_at_all_is_noticed() {
    let rule = Some(Rule::CopiedOnce);
    let copy = Event::Offered {
        id: id(3, 1),
        part: C,
        of: Some((A, 0)),
    };
    let Event::Offered { id, part, .. } = copy else {
        unreachable!()
    };
    // Of nothing, of what is aborted, and of what stands nowhere.
    for of in [None, Some((A, 2)), Some((A, 77))] {
        assert_eq!(replaced(&copy, Event::Offered { id, part, of }), rule);
    }
    let again = history::record_id(3, 2);
    let second = vec![
        copy.clone(),
        Event::Offered {
            id: again,
            part,
            of: Some((A, 0)),
        },
        Event::Accepted { id: again },
    ];
    let mut events = instead(&copy, second);
    let marker = marked(C, 1, 8, true);
    let at = events.iter().position(|event| *event == marker).unwrap();
    events.insert(at, stored(C, 1, again, 8));
    assert_eq!(broken(events), rule);
}

#[test]
fn readers_miss_nothing_and_get_nothing_twice() {
    let rule = Some(Rule::ReadsAll);
    let first = read(0, id(1, 1));
    assert_eq!(without(&first), rule);
    let twice = vec![first.clone(), first.clone()];
    assert_eq!(broken(instead(&first, twice)), rule);
    // What it has not come to yet it need not have.
    let position = |offset| Event::Position {
        reader: 9,
        part: A,
        offset,
    };
    let mut events = instead(&first, Vec::new());
    let at = events.iter().position(|e| *e == position(4)).unwrap();
    events[at] = position(0);
    assert_eq!(broken(events), None);
}

#[test]
fn readers_of_what_is_committed_see_nothing_else() {
    let rule = Some(Rule::ReadsCommitted);
    let first = read(0, id(1, 1));
    // Aborted.
    let second = vec![first.clone(), read(2, id(2, 1))];
    assert_eq!(broken(instead(&first, second)), rule);
    // Before anybody asked for the commit.
    let commit = Event::Committing { tx: 1 };
    let mut early = instead(&first, Vec::new());
    let at = early.iter().position(|event| *event == commit).unwrap();
    early.insert(at, first);
    assert_eq!(broken(early), rule);
}
