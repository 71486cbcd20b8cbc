mod commits;
mod heartbeats;
mod mixed;
mod rebalances;

use super::*;
use crate::history::{Claims, End, News, Start, Terms, Verdict, record_id};

/// Partition 0, with ten records at 0 to 9, each a hundred milliseconds after the one before.
const P: Part = Part {
    topic: 0,
    partition: 0,
};

fn truth() -> Truth {
    let log = (0..10).map(|offset| {
        let written = Written {
            id: id(offset),
            timestamp: offset * 100,
        };
        (offset, written)
    });
    Truth {
        logs: BTreeMap::from([(P, log.collect())]),
    }
}

fn id(offset: i64) -> u64 {
    record_id(7, offset as u32)
}

/// Member 1 is told that its generation is over.
fn told(generation: i32, heeded: bool) -> What {
    told_as("", generation, heeded)
}

/// The same, in answer to what it asked under this id.
fn told_as(id: &str, generation: i32, heeded: bool) -> What {
    What::Told {
        member: 1,
        id: id.to_owned(),
        verdict: Verdict {
            generation,
            error: 22,
            rebalancing: false,
        },
        heeded,
    }
}

/// Member 1 hands the first record out, and says that it is in this generation.
fn got(generation: i32) -> What {
    What::Delivered {
        member: 1,
        generation,
        part: P,
        offset: 0,
        id: id(0),
    }
}

/// What a test makes up, a millisecond per event.
struct Story(Vec<Event>);

impl Story {
    /// Member 1 of group 0 is given the partition in generation 1 and learns what is committed.
    fn member(committed: Option<i64>) -> Self {
        let mut story = Self(Vec::new());
        if let Some(committed) = committed.filter(|committed| *committed > 0) {
            // Somebody else was here before and got so far.
            story.joins(9, Reset::Earliest);
            story.given(9, 0, None);
            story = story.gets(9, 0, 0..committed).done(9);
        }
        story.joins(1, Reset::Earliest);
        story.given(1, 1, committed);
        story
    }

    /// Member 1 takes the partition by hand.
    fn by_hand(start: Start) -> Self {
        Self(Vec::new()).then(What::Assigned {
            member: 1,
            group: None,
            reset: Reset::Earliest,
            starts: vec![(P, start)],
        })
    }

    fn push(&mut self, what: What) {
        let at_ms = self.0.len() as u64;
        self.0.push(Event { at_ms, what });
    }

    fn then(mut self, what: What) -> Self {
        self.push(what);
        self
    }

    /// In the same instant as what came before.
    fn at_once(mut self, what: What) -> Self {
        let at_ms = self.0.last().map_or(0, |event| event.at_ms);
        self.0.push(Event { at_ms, what });
        self
    }

    fn joins(&mut self, member: Member, reset: Reset) {
        self.push(What::Subscribed {
            member,
            group: 0,
            reset,
            terms: Terms::default(),
        });
    }

    fn given(&mut self, member: Member, generation: i32, committed: Option<i64>) {
        let number = self.0.len() as u64;
        self.push(What::Synced {
            member,
            generation,
            sent_ms: 0,
            parts: vec![P],
            heeded: true,
        });
        self.push(What::Asked { member, number });
        self.push(What::Committed {
            member,
            number,
            part: P,
            offset: committed,
        });
    }

    fn gets(
        mut self,
        member: Member,
        generation: i32,
        offsets: impl IntoIterator<Item = i64>,
    ) -> Self {
        for offset in offsets {
            self.push(What::Delivered {
                member,
                generation,
                part: P,
                offset,
                id: id(offset),
            });
        }
        self
    }

    fn done(self, member: Member) -> Self {
        self.then(What::Done { member })
    }

    fn commits(self, member: Member, number: u64, offset: i64) -> Self {
        self.then(What::CommitSent {
            member,
            id: String::new(),
            number,
            offsets: vec![(P, offset)],
        })
        .then(What::CommitAnswered {
            number,
            stored: Vec::new(),
        })
    }

    fn deletes_before(self, offset: i64) -> Self {
        self.then(What::LogStart { part: P, offset })
    }

    fn seeks(self, to: Start) -> Self {
        self.then(What::Sought {
            member: 1,
            part: P,
            to,
        })
    }

    #[track_caller]
    fn keeps_all(self) {
        check(&self.0, &truth()).unwrap();
    }

    /// The last event breaks this rule, and none before breaks any.
    #[track_caller]
    fn breaks(self, rule: Rule) {
        let violation = check(&self.0, &truth()).expect_err("nothing was found wrong");
        assert_eq!(violation.rule, rule, "{violation}");
        assert_eq!(violation.index, self.0.len() - 1, "{violation}");
    }
}

#[test]
fn a_good_life_keeps_all() {
    let mut story = Story::member(None)
        .gets(1, 1, 0..4)
        .done(1)
        .commits(1, 90, 4);
    story = story.then(told(1, true));
    story.given(1, 2, Some(4));
    story
        .gets(1, 2, 4..10)
        .done(1)
        .commits(1, 91, 10)
        .keeps_all();
}

#[test]
fn what_nobody_wrote_is_caught() {
    Story::by_hand(Start::At(0)).gets(1, -1, [0]).keeps_all();
    Story::by_hand(Start::At(10))
        .gets(1, -1, [10])
        .breaks(Rule::InTheLog);
    let wrong = What::Delivered {
        member: 1,
        generation: -1,
        part: P,
        offset: 3,
        id: id(4),
    };
    Story::by_hand(Start::At(3))
        .then(wrong)
        .breaks(Rule::InTheLog);
}

#[test]
fn a_record_passed_over_is_caught() {
    Story::member(Some(0))
        .gets(1, 1, [0, 2])
        .breaks(Rule::NothingSkipped);
}

#[test]
fn records_that_were_deleted_may_be_passed_over_and_no_others() {
    let story = || {
        Story::by_hand(Start::At(0))
            .gets(1, -1, [0])
            .deletes_before(5)
    };
    story().gets(1, -1, [5, 6]).keeps_all();
    story().gets(1, -1, [1, 2, 5]).keeps_all();
    story().gets(1, -1, [6]).breaks(Rule::NothingSkipped);
}

#[test]
fn a_record_that_comes_twice_is_caught() {
    Story::member(Some(0))
        .gets(1, 1, [0, 1, 1])
        .breaks(Rule::NothingRepeated);
    Story::member(Some(0))
        .gets(1, 1, [0, 1, 0])
        .breaks(Rule::NothingRepeated);
}

#[test]
fn a_position_that_moves_by_itself_is_caught() {
    let story = || Story::member(Some(0)).gets(1, 1, 0..5);
    let at = |offset| What::Position {
        member: 1,
        part: P,
        offset,
    };
    story().then(at(5)).keeps_all();
    story().then(at(4)).breaks(Rule::NothingRepeated);
    story().then(at(6)).breaks(Rule::NothingSkipped);
}

#[test]
fn a_start_elsewhere_than_at_the_committed_offset_is_caught() {
    Story::member(Some(3)).gets(1, 1, [3]).keeps_all();
    Story::member(Some(3))
        .gets(1, 1, [2])
        .breaks(Rule::StartsAtCommitted);
    Story::member(Some(3))
        .gets(1, 1, [4])
        .breaks(Rule::StartsAtCommitted);
    Story::member(None)
        .gets(1, 1, [1])
        .breaks(Rule::StartsAtCommitted);
    let mut story = Story(Vec::new());
    story.joins(1, Reset::Earliest);
    story.push(What::Synced {
        member: 1,
        generation: 1,
        sent_ms: 0,
        parts: vec![P],
        heeded: true,
    });
    story.gets(1, 1, [0]).breaks(Rule::StartsAtCommitted);
}

#[test]
fn an_answer_from_an_earlier_generation_does_not_count() {
    let mut story = Story::member(None);
    story.push(What::Asked {
        member: 1,
        number: 70,
    });
    story.given(1, 2, None);
    let late = What::Committed {
        member: 1,
        number: 70,
        part: P,
        offset: Some(0),
    };
    story.then(late).gets(1, 2, [0]).keeps_all();
}

#[test]
fn a_seek_that_does_not_hold_is_caught() {
    let story = || Story::member(Some(0)).gets(1, 1, 0..3);
    story().seeks(Start::At(7)).gets(1, 1, [7, 8]).keeps_all();
    story()
        .seeks(Start::At(7))
        .gets(1, 1, [3])
        .breaks(Rule::SeekHolds);
    story()
        .seeks(Start::At(7))
        .gets(1, 1, [8])
        .breaks(Rule::SeekHolds);
    story()
        .seeks(Start::At(1))
        .gets(1, 1, [3])
        .breaks(Rule::SeekHolds);
    story()
        .seeks(Start::Beginning(0))
        .gets(1, 1, [1])
        .breaks(Rule::SeekHolds);
    story().seeks(Start::End(8)).gets(1, 1, [9]).keeps_all();
    story()
        .seeks(Start::End(8))
        .gets(1, 1, [7])
        .breaks(Rule::SeekHolds);
    story().seeks(Start::Tail(2, 8)).gets(1, 1, [6]).keeps_all();
    story()
        .seeks(Start::Tail(2, 8))
        .gets(1, 1, [5])
        .breaks(Rule::SeekHolds);
    story()
        .seeks(Start::Time(501, 10))
        .gets(1, 1, [6])
        .keeps_all();
    story()
        .seeks(Start::Time(501, 10))
        .gets(1, 1, [5])
        .breaks(Rule::SeekHolds);
    story()
        .seeks(Start::Time(501, 10))
        .gets(1, 1, [7])
        .breaks(Rule::SeekHolds);
    // What had that timestamp was deleted before it was looked up.
    let deleted = || story().seeks(Start::Time(401, 10)).deletes_before(7);
    deleted().gets(1, 1, [7]).keeps_all();
    deleted().gets(1, 1, [4]).breaks(Rule::SeekHolds);
    // Or after: then the search began behind it.
    story()
        .deletes_before(7)
        .seeks(Start::Time(401, 10))
        .gets(1, 1, [8])
        .breaks(Rule::SeekHolds);
    let at = |offset| What::Position {
        member: 1,
        part: P,
        offset,
    };
    story()
        .seeks(Start::At(7))
        .then(at(3))
        .breaks(Rule::SeekHolds);
}

#[test]
fn records_of_what_is_not_assigned_are_caught() {
    let other = Part {
        topic: 0,
        partition: 1,
    };
    let mut story = Story(Vec::new());
    story.joins(1, Reset::Earliest);
    story.push(What::Synced {
        member: 1,
        generation: 1,
        sent_ms: 0,
        parts: vec![other],
        heeded: true,
    });
    story.gets(1, 1, [0]).breaks(Rule::OnlyAssigned);
    // Under a generation that is not its own.
    Story::member(Some(0))
        .gets(1, 2, [0])
        .breaks(Rule::OnlyAssigned);
}

#[test]
fn two_owners_in_a_generation_are_caught() {
    let mut story = Story::member(Some(0));
    story.joins(2, Reset::Earliest);
    story
        .then(What::Synced {
            member: 2,
            generation: 1,
            sent_ms: 0,
            parts: vec![P],
            heeded: true,
        })
        .breaks(Rule::OneOwner);
}

#[test]
fn a_member_confirmed_in_a_generation_that_is_over_is_caught() {
    let story = |sent_ms| {
        let mut story = Story::member(Some(0));
        story.joins(2, Reset::Earliest);
        story.given(2, 2, Some(0));
        let begun = story.0.len() as u64 - 3;
        story.then(What::Confirmed {
            member: 1,
            generation: 1,
            sent_ms: begun + sent_ms,
        })
    };
    story(0).keeps_all();
    story(1).breaks(Rule::OneOwner);
}

#[test]
fn a_member_that_was_told_and_goes_on_is_caught() {
    let story = |told| {
        Story::member(Some(0))
            .gets(1, 1, [0])
            .then(told)
            .gets(1, 1, [1])
    };
    story(told(1, true)).breaks(Rule::GivenUpWhenTold);
    // What it is told of an earlier life is nothing to it.
    story(told(0, true)).keeps_all();
    // It may not have waited for the answer any more.
    story(told(1, false)).keeps_all();
}

#[test]
fn in_the_instant_in_which_it_is_told_a_member_may_hand_out() {
    let story = |heeded| Story::member(Some(0)).then(told(1, heeded));
    // It knows already that it has no generation any more, or does not know yet.
    story(true).at_once(got(1)).keeps_all();
    for heeded in [true, false] {
        story(heeded).at_once(got(-1)).keeps_all();
        story(heeded).then(got(-1)).breaks(Rule::OnlyAssigned);
        // Of another generation it has nothing even then.
        story(heeded).at_once(got(2)).breaks(Rule::OnlyAssigned);
    }
    story(true).then(got(1)).breaks(Rule::GivenUpWhenTold);
    // Nor has one that was told nothing.
    Story::member(Some(0))
        .at_once(got(-1))
        .breaks(Rule::OnlyAssigned);
}

#[test]
fn one_that_nobody_reaches_may_go_on() {
    let mut story = Story::member(Some(0)).gets(1, 1, [0]);
    story.joins(2, Reset::Earliest);
    story.given(2, 2, Some(0));
    story.gets(2, 2, [0]).gets(1, 1, [1]).keeps_all();
}

#[test]
fn records_of_a_paused_partition_are_caught() {
    let paused = || {
        Story::member(Some(0))
            .gets(1, 1, [0])
            .then(What::Paused { member: 1, part: P })
    };
    paused().gets(1, 1, [1]).breaks(Rule::PauseHolds);
    paused()
        .then(What::Resumed { member: 1, part: P })
        .gets(1, 1, [1])
        .keeps_all();
    let mut anew = paused();
    anew.given(1, 2, Some(0));
    anew.gets(1, 2, [0]).keeps_all();
}

#[test]
fn records_after_the_end_are_caught() {
    Story::member(Some(0))
        .gets(1, 1, [0])
        .then(What::Ended {
            member: 1,
            how: End::Closed,
        })
        .gets(1, 1, [1])
        .breaks(Rule::EndHolds);
}

#[test]
fn a_call_that_takes_too_long_is_caught() {
    let called = |took_ms| What::Called {
        member: 1,
        name: "close",
        took_ms,
        allowed_ms: 1_000,
    };
    Story::member(None)
        .then(called(1_000 + MARGIN_MS))
        .keeps_all();
    Story::member(None)
        .then(called(1_001 + MARGIN_MS))
        .breaks(Rule::CallsEnd);
}

#[test]
fn one_that_is_not_woken_is_caught() {
    Story::member(None)
        .then(What::Overslept { member: 1, part: P })
        .breaks(Rule::WakesUp);
}

#[test]
fn the_first_broken_promise_is_told() {
    let story = Story::member(Some(0)).gets(1, 1, [0, 2, 5]);
    let violation = check(&story.0, &truth()).expect_err("two are broken");
    assert_eq!(violation.index, 5);
}

#[test]
fn what_one_reader_is_done_with_says_nothing_of_others() {
    let member = 1;
    let other = Part { partition: 9, ..P };
    let story = |part| {
        let story = Story::member(None).gets(1, 1, 0..2);
        story.then(What::DoneOf { member, part })
    };
    story(P).commits(1, 5, 2).keeps_all();
    story(other)
        .then(What::CommitSent {
            member,
            id: String::new(),
            number: 5,
            offsets: vec![(P, 2)],
        })
        .breaks(Rule::CommittedIsDone);
}

#[test]
fn what_a_reader_had_in_its_hands_comes_again_and_nothing_else() {
    let member = 1;
    let story = || {
        let story = Story::member(None).gets(1, 1, 0..2);
        let story = story
            .then(What::DoneOf { member, part: P })
            .gets(1, 1, 2..4);
        story.then(What::GivenBack { member, part: P })
    };
    story().gets(1, 1, 2..5).keeps_all();
    story().gets(1, 1, [1]).breaks(Rule::NothingRepeated);
    story().gets(1, 1, [3]).breaks(Rule::NothingSkipped);
    // It had nothing in its hands.
    let done = || {
        let story = Story::member(None).gets(1, 1, 0..2);
        let story = story.then(What::DoneOf { member, part: P });
        story.then(What::GivenBack { member, part: P })
    };
    done().gets(1, 1, [2]).keeps_all();
    done().gets(1, 1, [1]).breaks(Rule::NothingRepeated);
}

#[test]
fn what_a_reader_had_in_its_hands_of_what_is_taken_away_is_not_committed() {
    let member = 1;
    let at = |offset| What::Position {
        member,
        part: P,
        offset,
    };
    let story = |last| {
        let mut story = Story::member(None).gets(1, 1, 0..2);
        story.push(What::DoneOf { member, part: P });
        story = story.gets(1, 1, [2]);
        story.push(What::Synced {
            member,
            generation: 2,
            sent_ms: 0,
            parts: Vec::new(),
            heeded: true,
        });
        story.push(What::GivenBack { member, part: P });
        story.then(last)
    };
    story(at(2)).keeps_all();
    story(at(1)).breaks(Rule::NothingRepeated);
}
