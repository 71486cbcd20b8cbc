//! Histories of members by the consumer protocol, made of their heartbeats.

use super::*;
use crate::history::{Beat, Beaten, ConsumerTerms};

const Q: Part = Part {
    topic: 0,
    partition: 1,
};

const R: Part = Part {
    topic: 0,
    partition: 2,
};

const SESSION_MS: u64 = 6_000;
const REBALANCE_MS: u64 = 20_000;

impl Story {
    fn subscribes(self, member: Member, listens: bool) -> Self {
        self.next(What::Subscribed {
            member,
            group: 0,
            reset: Reset::Earliest,
            terms: Terms {
                cooperative: true,
                listens,
                consumer: Some(ConsumerTerms {
                    session_ms: SESSION_MS,
                    rebalance_ms: REBALANCE_MS,
                }),
                ..Terms::default()
            },
        })
    }

    /// A heartbeat leaves at once; it has the number of its event.
    fn beats(self, member: Member, epoch: i32, owned: Option<&[Part]>) -> Self {
        let queued_ms = self.now();
        self.beats_since(queued_ms, member, epoch, owned)
    }

    /// It may have waited to leave since then.
    fn beats_since(
        self,
        queued_ms: u64,
        member: Member,
        epoch: i32,
        owned: Option<&[Part]>,
    ) -> Self {
        let number = self.0.len() as u64;
        self.next(What::Beats(Beat {
            member,
            number,
            queued_ms,
            id: id_of(member),
            epoch,
            full: epoch == 0,
            owned: owned.map(<[Part]>::to_vec),
        }))
    }

    /// The latest heartbeat of the member is answered.
    fn beaten(self, member: Member, epoch: i32, assignment: Option<&[Part]>) -> Self {
        self.answered(member, epoch, assignment, 0, true)
    }

    fn refused(self, member: Member, error: i16) -> Self {
        self.answered(member, 0, None, error, true)
    }

    fn answered(
        self,
        member: Member,
        epoch: i32,
        assignment: Option<&[Part]>,
        error: i16,
        heeded: bool,
    ) -> Self {
        let beats = self.0.iter().rev().filter_map(|event| match &event.what {
            What::Beats(beat) if beat.member == member => Some((event.at_ms, beat.clone())),
            _ => None,
        });
        let (sent_ms, beat) = { beats }.next().expect("it has beaten");
        self.next(What::Beaten(Beaten {
            member,
            number: beat.number,
            id: id_of(member),
            asked: beat.epoch,
            sent_ms,
            error,
            epoch,
            assignment: assignment.map(<[Part]>::to_vec),
            heeded,
        }))
    }

    fn enters(self, member: Member, epoch: i32, assignment: &[Part]) -> Self {
        self.subscribes(member, false)
            .beats(member, 0, Some(&[]))
            .beaten(member, epoch, Some(assignment))
    }

    fn learns_of(self, member: Member, part: Part, offset: Option<i64>) -> Self {
        let number = self.0.len() as u64;
        self.next(What::Asked { member, number })
            .next(What::Committed {
                member,
                number,
                part,
                offset,
            })
    }

    /// A millisecond later.
    fn next(mut self, what: What) -> Self {
        let at_ms = self.now() + 1;
        self.0.push(Event { at_ms, what });
        self
    }

    fn after(mut self, ms: u64) -> Self {
        let at_ms = self.now() + ms;
        let what = What::Note(String::new());
        self.0.push(Event { at_ms, what });
        self
    }

    fn now(&self) -> u64 {
        self.0.last().map_or(0, |event| event.at_ms)
    }

    fn reads(self, member: Member, epoch: i32, offset: i64) -> Self {
        self.next(What::Delivered {
            member,
            generation: epoch,
            part: P,
            offset,
            id: id(offset),
        })
    }

    fn listener_hears(self, news: News, parts: &[Part]) -> Self {
        self.next(What::Heard {
            member: 1,
            news,
            parts: parts.to_vec(),
        })
    }
}

fn id_of(member: Member) -> String {
    format!("id-{member}")
}

/// Member 1 has both partitions, has said so and has read two records of one.
fn begun() -> Story {
    Story(Vec::new())
        .enters(1, 1, &[P, Q])
        .learns_of(1, P, None)
        .beats(1, 1, Some(&[P, Q]))
        .beaten(1, 1, None)
        .reads(1, 1, 0)
        .reads(1, 1, 1)
}

/// And is told to give that one up, in a new epoch.
fn shrunk() -> Story {
    begun().beats(1, 1, None).beaten(1, 2, Some(&[Q]))
}

#[test]
fn what_is_given_is_read_on_from_epoch_to_epoch() {
    let next = || begun().beats(1, 1, None).beaten(1, 2, Some(&[P, Q]));
    next().reads(1, 2, 2).keeps_all();
    next().reads(1, 2, 0).breaks(Rule::NothingRepeated);
    next().reads(1, 1, 2).breaks(Rule::OnlyAssigned);
    // In the instant of the answer the member may not know it yet.
    let old = What::Delivered {
        member: 1,
        generation: 1,
        part: P,
        offset: 2,
        id: id(2),
    };
    next().at_once(old).keeps_all();
}

#[test]
fn what_is_taken_away_is_read_no_more_and_begins_anew_when_it_comes_back() {
    shrunk().reads(1, 2, 2).breaks(Rule::OnlyAssigned);
    let back = || {
        shrunk()
            .beats(1, 2, Some(&[Q]))
            .beaten(1, 2, None)
            .beats(1, 2, None)
            .beaten(1, 3, Some(&[P, Q]))
    };
    back().reads(1, 3, 2).breaks(Rule::StartsAtCommitted);
    back().learns_of(1, P, None).reads(1, 3, 0).keeps_all();
}

#[test]
fn a_second_thing_taken_away_waits_for_the_first() {
    let twice = || shrunk().beats(1, 2, None).beaten(1, 3, Some(&[]));
    // It still gives up the first; the second has its turn when it says so.
    twice().beats(1, 3, Some(&[P, Q])).keeps_all();
    twice().beats(1, 3, Some(&[])).keeps_all();
}

#[test]
fn what_was_not_named_is_taken_with_an_answer_that_may_have_been_late() {
    let story = |answered: fn(Story) -> Story| {
        let given = Story(Vec::new()).enters(1, 1, &[P, Q]);
        answered(given.beats(1, 1, Some(&[Q]))).beats(1, 1, Some(&[P, Q]))
    };
    story(|story| story).breaks(Rule::TrueClaims);
    let late = story(|story| story.answered(1, 1, None, 0, false));
    late.reads(1, 1, 3).keeps_all();
    // Where it was sent as soon as it had taken it, it is.
    let sought = || {
        story(|story| {
            let (part, to) = (P, Start::At(2));
            let late = story.answered(1, 1, None, 0, false);
            late.next(What::Sought {
                member: 1,
                part,
                to,
            })
        })
    };
    sought().reads(1, 1, 2).keeps_all();
    sought().reads(1, 1, 1).breaks(Rule::SeekHolds);
}

#[test]
fn what_comes_back_begins_anew_also_if_nobody_saw_that_it_was_given_up() {
    // What it says may have been made before it was answered, so that it proves nothing.
    let back = || {
        shrunk()
            .beats_since(0, 1, 2, Some(&[Q]))
            .beaten(1, 2, None)
            .beats(1, 2, None)
            .beaten(1, 3, Some(&[P, Q]))
            .beats_since(0, 1, 3, Some(&[P, Q]))
            .learns_of(1, P, None)
    };
    let is_at = |story: Story, offset| {
        story.next(What::Position {
            member: 1,
            part: P,
            offset,
        })
    };
    is_at(back(), 0).keeps_all();
    is_at(back(), 2).keeps_all();
    is_at(back().reads(1, 3, 0), 1).keeps_all();
    is_at(back().reads(1, 3, 0), 2).breaks(Rule::NothingSkipped);
}

#[test]
fn one_that_was_dropped_lives_on_while_its_listener_is_called() {
    let ended = What::Ended {
        member: 1,
        how: End::Dropped,
    };
    let story = begun().next(ended).beats(1, 1, None);
    let grown = story
        .beaten(1, 2, Some(&[P, Q, R]))
        .beats(1, 2, Some(&[P, Q, R]));
    grown.keeps_all();
}

#[test]
fn one_that_tells_all_has_what_it_says_whichever_answers_it_heeded() {
    let story = |owned: &[Part]| {
        let story = Story(Vec::new())
            .subscribes(1, true)
            .beats(1, 0, Some(&[]))
            .answered(1, 1, Some(&[P, Q]), 0, false)
            .listener_hears(News::Assigned, &[P, Q]);
        let (number, queued_ms) = (story.0.len() as u64, story.now());
        let all = Beat {
            member: 1,
            number,
            queued_ms,
            id: id_of(1),
            epoch: 1,
            full: true,
            owned: Some(owned.to_vec()),
        };
        story.next(What::Beats(all)).beaten(1, 2, Some(&[Q]))
    };
    let revoked = |owned| story(owned).listener_hears(News::Revoked, &[P]);
    revoked(&[P, Q]).keeps_all();
    revoked(&[Q]).breaks(Rule::KeptGoesOn);
}

#[test]
fn an_assignment_that_may_have_been_late_is_not_forgotten_for_an_answer_without_one() {
    let story = begun()
        .beats(1, 0, Some(&[]))
        .answered(1, 2, Some(&[P, Q]), 0, false)
        .beats_since(0, 1, 2, Some(&[P, Q]))
        .answered(1, 2, None, 0, false)
        .beats(1, 2, None)
        .beaten(1, 2, None);
    story.reads(1, 2, 0).keeps_all();
}

#[test]
fn what_is_given_up_is_named_until_that_is_done_also_after_answers_that_may_have_been_late() {
    let shrunk = begun()
        .beats(1, 1, None)
        .answered(1, 1, Some(&[P, Q]), 0, false)
        .beats(1, 1, None)
        .beaten(1, 1, Some(&[Q]));
    let all = |story: Story| story.beats(1, 1, Some(&[P, Q])).beaten(1, 1, Some(&[Q]));
    let named = all(all(shrunk));
    named.keeps_all();
}

#[test]
fn nobody_is_given_what_another_member_has_not_given_up() {
    let other = |story: Story, given: &[Part]| story.enters(2, 2, given);
    other(begun(), &[P]).breaks(Rule::OneOwner);
    other(shrunk(), &[P]).breaks(Rule::OneOwner);
    other(shrunk().beats(1, 2, Some(&[Q])), &[P]).keeps_all();
    other(shrunk().beats(1, 2, Some(&[Q])), &[Q]).breaks(Rule::OneOwner);
    // It left, or has lost its place.
    other(begun().beats(1, -1, None), &[P]).keeps_all();
    other(begun().beats(1, 1, None).refused(1, 25), &[P]).keeps_all();
}

#[test]
fn a_member_that_is_silent_or_slow_for_too_long_has_nothing_any_more() {
    let other = |story: Story| story.enters(2, 3, &[P]);
    other(begun().after(SESSION_MS - 100)).breaks(Rule::OneOwner);
    other(begun().after(SESSION_MS)).keeps_all();
    let slow = |ms: u64| {
        let mut story = shrunk();
        let mut left = ms;
        while left > 0 {
            story = story
                .after(left.min(1_000))
                .beats(1, 2, None)
                .beaten(1, 2, None);
            left = left.saturating_sub(1_000);
        }
        other(story)
    };
    slow(REBALANCE_MS - 2_000).breaks(Rule::OneOwner);
    slow(REBALANCE_MS).keeps_all();
}

#[test]
fn a_heartbeat_that_nobody_answered_may_have_given_things_up() {
    // It left before the member was given anything, and is handled by the coordinator who knows when.
    let stray = Story(Vec::new())
        .subscribes(1, false)
        .beats(1, 0, Some(&[]))
        .beats(1, 0, Some(&[]))
        .beaten(1, 1, Some(&[P]));
    stray.enters(2, 2, &[P]).keeps_all();
}

#[test]
fn who_says_that_it_has_what_it_has_not_is_caught() {
    begun().beats(1, 1, Some(&[P, Q])).keeps_all();
    Story(Vec::new())
        .enters(1, 1, &[Q])
        .beats(1, 1, Some(&[P, Q]))
        .breaks(Rule::TrueClaims);
    shrunk()
        .beats(1, 2, Some(&[Q]))
        .beaten(1, 2, None)
        .beats(1, 2, Some(&[P, Q]))
        .breaks(Rule::TrueClaims);
    begun().beats(1, 2, None).breaks(Rule::TrueClaims);
    begun().beats(1, 0, Some(&[Q])).breaks(Rule::TrueClaims);
    begun()
        .beats(1, 1, None)
        .refused(1, 110)
        .after(1)
        .beats(1, 1, None)
        .breaks(Rule::TrueClaims);
}

#[test]
fn who_gives_up_what_nobody_takes_away_is_caught() {
    begun().beats(1, 1, Some(&[Q])).breaks(Rule::KeptGoesOn);
}

#[test]
fn what_was_not_named_is_taken_when_an_answer_has_come() {
    let unnamed = || {
        Story(Vec::new())
            .enters(1, 1, &[P, Q])
            .beats(1, 1, Some(&[Q]))
    };
    unnamed().reads(1, 1, 0).breaks(Rule::OnlyAssigned);
    let answered = || unnamed().beaten(1, 1, None);
    answered().learns_of(1, P, None).reads(1, 1, 0).keeps_all();
    unnamed()
        .beaten(1, 2, Some(&[Q]))
        .learns_of(1, P, None)
        .reads(1, 2, 0)
        .breaks(Rule::OnlyAssigned);
}

#[test]
fn a_member_that_was_told_that_it_has_no_place_and_goes_on_is_caught() {
    let lost = |error| begun().beats(1, 1, None).refused(1, error);
    for error in [25, 69, 110] {
        lost(error).reads(1, 1, 2).breaks(Rule::GivenUpWhenTold);
    }
    // That the coordinator is not there means nothing.
    lost(15).reads(1, 1, 2).keeps_all();
    lost(25)
        .beats(1, 0, Some(&[]))
        .beaten(1, 5, Some(&[P]))
        .learns_of(1, P, None)
        .reads(1, 5, 0)
        .keeps_all();
}

#[test]
fn a_loss_and_a_revocation_are_told_apart() {
    let begun = || {
        Story(Vec::new())
            .subscribes(1, true)
            .beats(1, 0, Some(&[]))
            .beaten(1, 1, Some(&[P, Q]))
            .listener_hears(News::Assigned, &[P, Q])
            .beats(1, 1, Some(&[P, Q]))
            .beaten(1, 1, None)
            .beats(1, 1, None)
    };
    let lost = News::Lost { stayed_away: false };
    begun().listener_hears(lost, &[P]).breaks(Rule::ToldApart);
    begun()
        .listener_hears(News::Revoked, &[P])
        .breaks(Rule::KeptGoesOn);
    let shrunk = || begun().beaten(1, 2, Some(&[Q]));
    shrunk().listener_hears(News::Revoked, &[P]).keeps_all();
    shrunk()
        .listener_hears(News::Revoked, &[Q])
        .breaks(Rule::KeptGoesOn);
    let refused = || begun().refused(1, 25);
    refused().listener_hears(lost, &[P, Q]).keeps_all();
    refused()
        .listener_hears(News::Revoked, &[P])
        .breaks(Rule::ToldApart);
}

#[test]
fn a_late_answer_may_have_been_taken_or_not_until_the_member_says_more() {
    let late = || {
        begun()
            .beats(1, 1, None)
            .answered(1, 2, Some(&[Q]), 0, false)
    };
    late().reads(1, 1, 2).keeps_all();
    // It goes on from there: it has given that up.
    let taken = || late().beats(1, 2, Some(&[Q])).beaten(1, 2, None);
    taken().reads(1, 2, 2).breaks(Rule::OnlyAssigned);
}

#[test]
fn what_a_consumer_said_as_another_member_may_leave_late() {
    Story(Vec::new())
        .subscribes(1, false)
        .beats(1, 19, Some(&[P]))
        .keeps_all();
}

#[test]
fn a_member_that_joins_again_by_a_late_answer_has_a_place() {
    let joins = || {
        begun()
            .beats(1, 1, None)
            .refused(1, 25)
            .beats(1, 0, Some(&[]))
            .answered(1, 5, Some(&[P]), 0, false)
    };
    joins().beats(1, 5, Some(&[P])).keeps_all();
    joins().beats(1, 6, Some(&[P])).breaks(Rule::TrueClaims);
}

#[test]
fn a_commit_for_what_is_another_members_is_caught() {
    let commit = |by: Member, story: Story| {
        story
            .next(What::Done { member: 1 })
            .next(What::CommitSent {
                member: by,
                number: 900,
                id: id_of(by),
                offsets: vec![(P, 2)],
            })
            .next(What::CommitAnswered {
                number: 900,
                stored: vec![P],
            })
    };
    commit(1, begun()).keeps_all();
    let given_on = || {
        shrunk()
            .next(What::Done { member: 1 })
            .beats(1, 2, Some(&[Q]))
            .enters(2, 3, &[P])
    };
    commit(2, given_on()).keeps_all();
    commit(1, given_on()).breaks(Rule::OneOwner);
}

#[test]
fn what_a_former_owner_sent_late_is_refused() {
    let sent = |story: Story| {
        story.next(What::CommitSent {
            member: 1,
            number: 900,
            id: id_of(1),
            offsets: vec![(P, 1)],
        })
    };
    // The connection of the first one breaks, and nobody knows what became of it.
    let given_on = || {
        sent(shrunk().next(What::Done { member: 1 }))
            .beats(1, 2, Some(&[Q]))
            .enters(2, 3, &[P])
    };
    let commits = |story: Story| {
        let member = 2;
        let positions = vec![(P, 2)];
        story
            .next(What::CommitCalled {
                member,
                number: 901,
                positions,
            })
            .next(What::CommitAcked {
                member,
                number: 901,
            })
    };
    let finally = |story: Story, offset| {
        story.next(What::FinallyCommitted {
            group: 0,
            part: P,
            offset: Some(offset),
        })
    };
    let learnt = || commits(given_on().learns_of(2, P, Some(1)).reads(2, 3, 1));
    finally(learnt(), 2).keeps_all();
    finally(learnt(), 1).breaks(Rule::CommitsStay);
}
