//! Histories of groups in which members of both protocols meet: member 1 speaks the classic one, member 2 the other.

use super::*;
use crate::history::{Beat, Beaten, Claims, ConsumerTerms};

const PATIENCE_MS: u64 = 6_000;

impl Story {
    fn at(mut self, at_ms: u64, what: What) -> Self {
        self.0.push(Event { at_ms, what });
        self
    }

    fn subscribes_as(self, member: Member, instance: Option<u32>) -> Self {
        let consumer = ConsumerTerms {
            session_ms: PATIENCE_MS,
            rebalance_ms: PATIENCE_MS,
        };
        let terms = Terms {
            cooperative: member == 2,
            instance,
            patience_ms: PATIENCE_MS,
            consumer: (member == 2).then_some(consumer),
            ..Terms::default()
        };
        self.at(
            0,
            What::Subscribed {
                member,
                group: 0,
                reset: Reset::Earliest,
                terms,
            },
        )
    }

    /// The classic member asks to join, and is given the partition.
    fn classic_takes(self, at_ms: u64) -> Self {
        let (member, generation, id) = (1, 1, "one".to_owned());
        let joins = What::Joins {
            member,
            queued_ms: at_ms,
            id: String::new(),
            claims: Claims::default(),
        };
        let joined = What::Joined {
            member,
            generation,
            id,
            claims: Claims::default(),
        };
        let synced = What::Synced {
            member,
            generation,
            sent_ms: at_ms,
            parts: vec![P],
            heeded: true,
        };
        self.at(at_ms, joins)
            .at(at_ms, joined)
            .at(at_ms + 5, synced)
    }

    /// The other one joins, and is given the partition.
    fn consumer_takes(self, at_ms: u64) -> Self {
        let number = self.0.len() as u64;
        let (member, id) = (2, "two".to_owned());
        let beat = Beat {
            member,
            number,
            queued_ms: at_ms,
            id: id.clone(),
            epoch: 0,
            full: true,
            owned: Some(Vec::new()),
        };
        let beaten = Beaten {
            member,
            number,
            id,
            asked: 0,
            sent_ms: at_ms,
            error: 0,
            epoch: 2,
            assignment: Some(vec![P]),
            heeded: true,
        };
        self.at(at_ms, What::Beats(beat))
            .at(at_ms + 5, What::Beaten(beaten))
    }
}

fn both(instance: Option<u32>) -> Story {
    Story(Vec::new())
        .subscribes_as(1, instance)
        .subscribes_as(2, instance)
}

#[test]
fn what_a_classic_member_has_nobody_else_is_given() {
    let has = || both(None).classic_takes(10);
    has().consumer_takes(100).breaks(Rule::OneOwner);
    // It is silent for too long, unless a heartbeat was answered.
    has().consumer_takes(10 + PATIENCE_MS).keeps_all();
    let confirmed = What::Confirmed {
        member: 1,
        generation: 1,
        sent_ms: 1_000,
    };
    has()
        .at(1_010, confirmed)
        .consumer_takes(10 + PATIENCE_MS)
        .breaks(Rule::OneOwner);
    // It has left, asks to join again, or has heard that it has no place.
    has()
        .at(50, What::Left { member: 1 })
        .consumer_takes(100)
        .keeps_all();
    let asks = What::Joins {
        member: 1,
        queued_ms: 50,
        id: "one".to_owned(),
        claims: Claims::default(),
    };
    has().at(50, asks).consumer_takes(100).keeps_all();
    // Or had left when it heard what it was given.
    let mut late = has();
    late.0.insert(
        4,
        Event {
            at_ms: 12,
            what: What::Left { member: 1 },
        },
    );
    late.consumer_takes(100).keeps_all();
    has()
        .at(50, told_as("one", 1, true))
        .consumer_takes(100)
        .keeps_all();
    // It was given it only after the other one had asked.
    both(None).classic_takes(98).consumer_takes(100).keeps_all();
}

#[test]
fn what_a_member_by_the_consumer_protocol_has_no_classic_one_is_given() {
    both(None)
        .consumer_takes(10)
        .classic_takes(100)
        .breaks(Rule::OneOwner);
    let late = 10 + PATIENCE_MS;
    both(None)
        .consumer_takes(10)
        .classic_takes(late)
        .keeps_all();
    both(None).consumer_takes(10).classic_takes(12).keeps_all();
}

#[test]
fn who_comes_under_the_same_name_by_the_other_protocol_takes_over() {
    both(Some(1))
        .classic_takes(10)
        .consumer_takes(100)
        .keeps_all();
    both(Some(1))
        .consumer_takes(10)
        .classic_takes(100)
        .keeps_all();
}
