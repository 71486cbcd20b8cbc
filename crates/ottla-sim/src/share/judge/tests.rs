//! Histories made by hand: what keeps every promise, and what breaks one.

use super::*;
use crate::checker::Written;
use crate::history::record_id;
use crate::share::event::RELEASE;

const P: Part = Part {
    topic: 0,
    partition: 0,
};
const LOCK_MS: u64 = 1_000;
const LIMIT: i16 = 3;

/// Ten records at 0 to 9.
fn truth() -> Truth {
    let log = (0..10).map(|offset| {
        let written = Written {
            id: id(offset),
            timestamp: offset,
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

/// What a test makes up, a millisecond per event. A request has the number of its event.
struct Story {
    events: Vec<history::Event>,
    now: u64,
    latest: BTreeMap<Member, u64>,
    epochs: BTreeMap<Member, i32>,
}

impl Story {
    /// Members 1 and 2 acknowledge explicitly, member 3 implicitly.
    fn new() -> Self {
        let mut story = Self {
            events: Vec::new(),
            now: 0,
            latest: BTreeMap::new(),
            epochs: BTreeMap::new(),
        };
        story = story.then(Event::Group {
            group: 0,
            lock_ms: LOCK_MS,
            deliveries_max: LIMIT,
            session_ms: 6_000,
        });
        for member in 1..=3 {
            let explicit = member != 3;
            let group = 0;
            story = story
                .then(Event::Joins {
                    member,
                    group,
                    explicit,
                })
                .then(Event::Beats { member, epoch: 0 })
                .then(Event::Beaten { member, error: 0 });
        }
        story
    }

    fn then(mut self, event: Event) -> Self {
        self.now += 1;
        self.events.push(history::Event {
            at_ms: self.now,
            what: What::Shared(event),
        });
        self
    }

    fn after(mut self, ms: u64) -> Self {
        self.now += ms;
        self
    }

    fn asks(mut self, member: Member, fetches: bool, words: &[(i64, i8)]) -> Self {
        let number = self.events.len() as u64;
        self.latest.insert(member, number);
        let epoch = self.epochs.entry(member).or_insert(-1);
        *epoch += 1;
        let epoch = *epoch;
        self.then(Event::Asks(Request {
            member,
            number,
            node: 1,
            epoch,
            fetches,
            words: words
                .iter()
                .map(|(offset, kind)| (P, (*offset, *offset), *kind))
                .collect(),
        }))
    }

    fn fetches(self, member: Member) -> Self {
        self.asks(member, true, &[])
    }

    fn acknowledges(self, member: Member, words: &[(i64, i8)]) -> Self {
        self.asks(member, false, words)
    }

    fn answered(self, member: Member, error: i16, acquired: &[(i64, i16)]) -> Self {
        let number = self.latest[&member];
        self.then(Event::Answered(Answer {
            number,
            error: 0,
            verdicts: vec![(P, error)],
            acquired: acquired
                .iter()
                .map(|(offset, count)| (P, (*offset, *offset), *count))
                .collect(),
            heeded: true,
        }))
    }

    /// Fetches and has this from then on.
    fn acquires(self, member: Member, offset: i64, count: i16) -> Self {
        self.fetches(member).answered(member, 0, &[(offset, count)])
    }

    fn gets(self, member: Member, offset: i64, count: i16) -> Self {
        self.then(Event::Gets {
            member,
            node: 1,
            part: P,
            offset,
            id: id(offset),
            count,
        })
    }

    fn says(self, member: Member, offset: i64, count: i16, kind: i8) -> Self {
        self.then(Event::Says {
            member,
            node: 1,
            part: P,
            offset,
            count,
            kind,
        })
    }

    fn told(self, member: Member, offset: i64, verdict: Verdict) -> Self {
        self.then(Event::Told {
            member,
            node: 1,
            part: P,
            runs: vec![(offset, offset)],
            verdict,
        })
    }

    /// Member 1 has handed its application the first record.
    fn begun() -> Self {
        Self::new().acquires(1, 0, 1).gets(1, 0, 1)
    }

    /// And that has said something, which is sent.
    fn said(kind: i8) -> Self {
        Self::begun()
            .says(1, 0, 1, kind)
            .acknowledges(1, &[(0, kind)])
    }

    fn ends(self, member: Member) -> Self {
        self.then(Event::Ended {
            member,
            how: End::Closed,
            settled: true,
        })
    }

    fn passed(self, offset: i64) -> Self {
        self.then(Event::Passed {
            group: 0,
            part: P,
            offset,
        })
    }

    #[track_caller]
    fn keeps_all(self) {
        check(&self.events, &truth()).unwrap();
    }

    /// This rule, with the last event.
    #[track_caller]
    fn breaks(self, rule: Rule) {
        let violation = check(&self.events, &truth()).expect_err("nothing was found wrong");
        assert_eq!(violation.rule, rule, "{violation}");
        assert_eq!(violation.index, self.events.len() - 1, "{violation}");
    }
}

#[test]
fn a_good_life_keeps_all() {
    Story::said(ACCEPT)
        .answered(1, 0, &[])
        .told(1, 0, Verdict::Stored)
        .acquires(3, 1, 1)
        .gets(3, 1, 1)
        .then(Event::Comes { member: 3 })
        .asks(3, true, &[(1, ACCEPT)])
        .answered(3, 0, &[(2, 1)])
        .told(3, 1, Verdict::Stored)
        .ends(1)
        .passed(2)
        .keeps_all();
}

#[test]
fn only_what_was_acquired_is_handed_out_once_and_in_time() {
    Story::new().gets(1, 0, 1).breaks(Rule::OnlyAcquired);
    Story::begun().gets(1, 0, 1).breaks(Rule::OnlyAcquired);
    let acquired = || Story::new().acquires(1, 0, 1);
    acquired().gets(1, 0, 2).breaks(Rule::OnlyAcquired);
    acquired().gets(2, 0, 1).breaks(Rule::OnlyAcquired);
    acquired().after(LOCK_MS - 1).gets(1, 0, 1).keeps_all();
    acquired()
        .after(LOCK_MS)
        .gets(1, 0, 1)
        .breaks(Rule::OnlyAcquired);
    acquired().ends(1).gets(1, 0, 1).breaks(Rule::EndHolds);
    let wrong = Event::Gets {
        member: 1,
        node: 1,
        part: P,
        offset: 0,
        id: id(1),
        count: 1,
    };
    acquired().then(wrong).breaks(Rule::InTheLog);
}

#[test]
fn what_is_locked_is_acquired_by_nobody_else() {
    // The session goes on afterwards, so that the lock surely held.
    let other = |story: Story| {
        let story = story.acquires(2, 0, 2);
        let index = story.events.len() - 1;
        let story = story.fetches(1).answered(1, 0, &[]);
        (check(&story.events, &truth()), index)
    };
    let locked = |story| {
        let (outcome, index) = other(story);
        let violation = outcome.expect_err("nothing was found wrong");
        assert_eq!((violation.rule, violation.index), (Rule::OneHolder, index));
    };
    locked(Story::begun());
    locked(Story::begun().after(LOCK_MS - 10));
    locked(Story::begun().says(1, 0, 1, RELEASE));
    other(Story::begun().after(LOCK_MS)).0.unwrap();
    other(Story::said(RELEASE)).0.unwrap();
    // A lock that was renewed holds longer.
    let renewed = |ms| {
        let story = Story::begun().after(LOCK_MS / 2).says(1, 0, 1, RENEW);
        story
            .acknowledges(1, &[(0, RENEW)])
            .answered(1, 0, &[])
            .after(ms)
    };
    locked(renewed(LOCK_MS - 10));
    other(renewed(LOCK_MS)).0.unwrap();
    // Without a word of the session the broker may have ended it.
    Story::begun().acquires(2, 0, 2).keeps_all();
}

#[test]
fn every_delivery_is_counted_and_no_other() {
    Story::new().acquires(1, 0, 2).breaks(Rule::CountIsTrue);
    let again = |count| Story::begun().after(LOCK_MS).acquires(2, 0, count);
    again(2).keeps_all();
    again(1).breaks(Rule::CountIsTrue);
    again(3).breaks(Rule::CountIsTrue);
    // A fetch that was not answered may have brought it.
    Story::begun()
        .fetches(3)
        .after(LOCK_MS)
        .acquires(2, 0, 3)
        .keeps_all();
    let often = |last: i16| {
        let all = (1..=last).fold(Story::new(), |story, count| {
            story.acquires(1, 0, count).after(LOCK_MS)
        });
        all.after(0)
    };
    often(LIMIT).keeps_all();
    often(LIMIT + 1).breaks(Rule::CountIsTrue);
}

#[test]
fn another_leader_knows_of_no_acquisition() {
    let led = |mut story: Story| {
        story.now += 1;
        story.events.push(history::Event {
            at_ms: story.now,
            what: What::Led { part: P },
        });
        story
    };
    // What the leader before acquired just so and answered late counts for nothing.
    let mut late = led(Story::new().fetches(1)).answered(1, 0, &[(0, 1)]);
    late.now += LOCK_MS;
    late.acquires(2, 0, 1).keeps_all();
    for count in 1..=2 {
        led(Story::begun()).acquires(2, 0, count).keeps_all();
        // Under one leader a count does not come twice.
        led(Story::begun())
            .acquires(2, 0, count)
            .after(LOCK_MS)
            .acquires(1, 0, count)
            .breaks(Rule::CountIsTrue);
    }
    led(Story::begun())
        .acquires(2, 0, 3)
        .breaks(Rule::CountIsTrue);
    // What was answered to be done is.
    led(Story::said(ACCEPT).answered(1, 0, &[]))
        .acquires(2, 0, 1)
        .breaks(Rule::DoneIsDone);
}

#[test]
fn what_is_done_never_comes_again() {
    let done = |kind, error| Story::said(kind).answered(1, error, &[]).after(LOCK_MS);
    for kind in [ACCEPT, REJECT] {
        done(kind, 0).acquires(2, 0, 2).breaks(Rule::DoneIsDone);
        // It was refused.
        done(kind, 121).acquires(2, 0, 2).keeps_all();
    }
    done(RELEASE, 0).acquires(2, 0, 2).keeps_all();
}

#[test]
fn brokers_are_told_what_the_application_said() {
    let begun = Story::begun;
    begun()
        .acknowledges(1, &[(0, ACCEPT)])
        .breaks(Rule::WordsAreTheApplications);
    begun()
        .says(1, 0, 1, REJECT)
        .acknowledges(1, &[(0, ACCEPT)])
        .breaks(Rule::WordsAreTheApplications);
    Story::said(ACCEPT)
        .acknowledges(1, &[(0, ACCEPT)])
        .breaks(Rule::WordsAreTheApplications);
    // With implicit acknowledgement, only once it comes back.
    let implicit = || Story::new().acquires(3, 0, 1).gets(3, 0, 1);
    implicit()
        .acknowledges(3, &[(0, ACCEPT)])
        .breaks(Rule::WordsAreTheApplications);
    // The member may give back what it has handed out to nobody, and keeps that from everybody then.
    let given_back = || {
        let story = Story::new().acquires(1, 0, 1);
        story.acknowledges(1, &[(0, RELEASE)])
    };
    given_back().answered(1, 0, &[]).ends(1).keeps_all();
    given_back().gets(1, 0, 1).breaks(Rule::OnlyAcquired);
    given_back()
        .acknowledges(1, &[(0, RELEASE)])
        .breaks(Rule::WordsAreTheApplications);
    begun()
        .acknowledges(1, &[(0, RELEASE)])
        .breaks(Rule::WordsAreTheApplications);
    // There is a record.
    Story::new()
        .acquires(1, 0, 1)
        .acknowledges(1, &[(0, GAP)])
        .breaks(Rule::NothingLost);
    Story::new()
        .acquires(1, 77, 1)
        .acknowledges(1, &[(77, GAP)])
        .keeps_all();
}

#[test]
fn a_final_word_is_said_once_and_in_time() {
    Story::begun()
        .says(1, 0, 1, RENEW)
        .says(1, 0, 1, ACCEPT)
        .says(1, 0, 1, ACCEPT)
        .breaks(Rule::HeldIsSaid);
    Story::begun()
        .after(LOCK_MS)
        .says(1, 0, 1, ACCEPT)
        .breaks(Rule::HeldIsSaid);
    Story::new()
        .acquires(1, 0, 1)
        .says(1, 0, 1, ACCEPT)
        .breaks(Rule::HeldIsSaid);
}

#[test]
fn a_word_that_nobody_waits_for_any_more_may_leave_late() {
    let said = || Story::begun().says(1, 0, 1, ACCEPT);
    said()
        .told(1, 0, Verdict::Unknown)
        .acknowledges(1, &[(0, ACCEPT)])
        .keeps_all();
    said()
        .told(1, 0, Verdict::Refused(122))
        .acknowledges(1, &[(0, ACCEPT)])
        .breaks(Rule::WordsAreTheApplications);
}

#[test]
fn a_renewal_before_a_final_word_leaves_or_does_not() {
    let said = || Story::begun().says(1, 0, 1, RENEW).says(1, 0, 1, ACCEPT);
    let accepted = |story: Story| {
        story
            .acknowledges(1, &[(0, ACCEPT)])
            .answered(1, 0, &[])
            .told(1, 0, Verdict::Stored)
            .ends(1)
    };
    accepted(said()).keeps_all();
    let renewed = said()
        .acknowledges(1, &[(0, RENEW)])
        .answered(1, 0, &[])
        .told(1, 0, Verdict::Stored);
    accepted(renewed).keeps_all();
}

#[test]
fn of_two_renewals_one_need_leave() {
    let renewed = |story: Story| {
        story
            .acknowledges(1, &[(0, RENEW)])
            .answered(1, 0, &[])
            .told(1, 0, Verdict::Stored)
    };
    let twice = || Story::begun().says(1, 0, 1, RENEW).says(1, 0, 1, RENEW);
    renewed(twice()).ends(1).keeps_all();
    renewed(renewed(twice())).ends(1).keeps_all();
    twice().ends(1).breaks(Rule::EveryWordHasAnOutcome);
}

#[test]
fn what_is_said_of_an_earlier_delivery_is_said_of_the_latest() {
    let again = || {
        Story::begun()
            .after(LOCK_MS)
            .acquires(1, 0, 2)
            .gets(1, 0, 2)
            .says(1, 0, 1, RELEASE)
    };
    again().acknowledges(1, &[(0, RELEASE)]).keeps_all();
    again().says(1, 0, 2, ACCEPT).breaks(Rule::HeldIsSaid);
    // Not before it is handed out.
    Story::begun()
        .acquires(1, 0, 2)
        .says(1, 0, 1, RELEASE)
        .breaks(Rule::HeldIsSaid);
}

#[test]
fn what_was_acquired_before_its_session_was_lost_is_not_handed_out() {
    let reopened = || {
        let mut story = Story::new().acquires(1, 0, 1);
        story.epochs.insert(1, -1);
        story.fetches(1).answered(1, 0, &[])
    };
    reopened().gets(1, 0, 1).breaks(Rule::OnlyAcquired);
    reopened().acquires(1, 0, 2).gets(1, 0, 2).keeps_all();
}

#[test]
fn of_a_renewal_that_never_left_and_the_final_word_each_has_its_outcome() {
    let said = || Story::begun().says(1, 0, 1, RENEW).says(1, 0, 1, ACCEPT);
    said()
        .told(1, 0, Verdict::Unknown)
        .told(1, 0, Verdict::Refused(122))
        .ends(1)
        .keeps_all();
    let thrice = said()
        .told(1, 0, Verdict::Unknown)
        .told(1, 0, Verdict::Refused(122));
    thrice
        .told(1, 0, Verdict::Refused(122))
        .breaks(Rule::TrueOutcome);
    // The renewal may leave late all the same, and is not the one that the next delivery's application says.
    said()
        .told(1, 0, Verdict::Unknown)
        .told(1, 0, Verdict::Refused(122))
        .acknowledges(1, &[(0, RENEW)])
        .keeps_all();
    said()
        .told(1, 0, Verdict::Unknown)
        .after(LOCK_MS)
        .acquires(1, 0, 2)
        .gets(1, 0, 2)
        .says(1, 0, 2, RENEW)
        .acknowledges(1, &[(0, RENEW)])
        .answered(1, 0, &[])
        .told(1, 0, Verdict::Stored)
        .ends(1)
        .keeps_all();
}

#[test]
fn who_leaves_and_joins_again_has_what_it_acquired_in_a_session_that_goes_on() {
    let rejoins = |story: Story| {
        let (member, error) = (1, 0);
        let (leaves, joins) = (
            Event::Beats { member, epoch: -1 },
            Event::Beats { member, epoch: 0 },
        );
        let story = story.then(leaves).then(Event::Beaten { member, error });
        story.then(joins).then(Event::Beaten { member, error })
    };
    let locked = |story: Story| {
        let story = story.acquires(2, 0, 2).fetches(1).answered(1, 0, &[]);
        let violation = check(&story.events, &truth()).expect_err("nothing was found wrong");
        assert_eq!(violation.rule, Rule::OneHolder, "{violation}");
    };
    locked(rejoins(Story::begun()));
    // Also where the answer comes when all that is over.
    locked(rejoins(Story::new().fetches(1)).answered(1, 0, &[(0, 1)]));
}

#[test]
fn a_renewal_is_one_of_what_the_member_has_now() {
    let renewed = |story: Story, count| {
        let story = story.gets(1, 0, count).says(1, 0, count, RENEW);
        story
            .says(1, 0, count, RENEW)
            .acknowledges(1, &[(0, RENEW)])
    };
    let told = |story: Story| story.answered(1, 0, &[]).told(1, 0, Verdict::Stored);
    let twice = || {
        let story = told(renewed(Story::new().acquires(1, 0, 1), 1));
        renewed(story.after(3 * LOCK_MS).acquires(1, 0, 2), 2)
    };
    told(twice()).ends(1).keeps_all();
    twice().ends(1).breaks(Rule::EveryWordHasAnOutcome);
}

#[test]
fn the_application_is_told_what_was_answered() {
    let refused = Verdict::Refused(121);
    let said = || Story::said(ACCEPT);
    said().told(1, 0, Verdict::Stored).breaks(Rule::TrueOutcome);
    said().told(1, 0, Verdict::Unknown).keeps_all();
    said().told(1, 0, refused).breaks(Rule::TrueOutcome);
    said()
        .answered(1, 0, &[])
        .told(1, 0, refused)
        .breaks(Rule::TrueOutcome);
    said()
        .answered(1, 0, &[])
        .told(1, 0, Verdict::Unknown)
        .breaks(Rule::TrueOutcome);
    said()
        .answered(1, 121, &[])
        .told(1, 0, Verdict::Stored)
        .breaks(Rule::TrueOutcome);
    said().answered(1, 121, &[]).told(1, 0, refused).keeps_all();
    said()
        .answered(1, 6, &[])
        .told(1, 0, refused)
        .breaks(Rule::TrueOutcome);
    let stored = || said().answered(1, 0, &[]).told(1, 0, Verdict::Stored);
    stored()
        .told(1, 0, Verdict::Stored)
        .breaks(Rule::TrueOutcome);
    Story::begun().told(1, 0, refused).breaks(Rule::TrueOutcome);
    // With implicit acknowledgement it hears of what it cannot accept any more.
    let implicit = || Story::new().acquires(3, 0, 1).gets(3, 0, 1);
    implicit().told(3, 0, refused).keeps_all();
    implicit()
        .told(3, 0, Verdict::Stored)
        .breaks(Rule::TrueOutcome);
}

#[test]
fn every_word_has_an_outcome() {
    let untold = || Story::said(ACCEPT).answered(1, 0, &[]);
    untold().ends(1).breaks(Rule::EveryWordHasAnOutcome);
    untold().told(1, 0, Verdict::Stored).ends(1).keeps_all();
    let commits = |story: Story| {
        story.then(Event::Commits {
            member: 1,
            number: 50,
        })
    };
    let committed = |story: Story| {
        story.then(Event::Committed {
            member: 1,
            number: 50,
        })
    };
    committed(commits(untold())).breaks(Rule::EveryWordHasAnOutcome);
    // What it said after it asked is nothing to that commit.
    committed(commits(Story::begun()).says(1, 0, 1, ACCEPT)).keeps_all();
    // What it gives back was never said.
    let implicit = Story::new().acquires(3, 0, 1).gets(3, 0, 1);
    implicit
        .then(Event::GivesBack { member: 3 })
        .then(Event::Comes { member: 3 })
        .ends(3)
        .keeps_all();
}

#[test]
fn a_group_that_passes_over_a_record_is_caught() {
    Story::new().passed(1).breaks(Rule::NothingLost);
    Story::begun().passed(1).breaks(Rule::NothingLost);
    Story::said(ACCEPT).passed(1).keeps_all();
    Story::said(ACCEPT)
        .answered(1, 121, &[])
        .passed(1)
        .breaks(Rule::NothingLost);
    Story::said(RELEASE)
        .answered(1, 0, &[])
        .passed(1)
        .breaks(Rule::NothingLost);
    let tried = |times: i16| {
        (1..=times).fold(Story::new(), |story, count| {
            story.acquires(1, 0, count).after(LOCK_MS)
        })
    };
    tried(LIMIT - 1).passed(1).breaks(Rule::NothingLost);
    tried(LIMIT).passed(1).keeps_all();
    let mut deleted = Story::new();
    deleted.events.push(history::Event {
        at_ms: deleted.now,
        what: What::LogStart { part: P, offset: 4 },
    });
    deleted.passed(4).keeps_all();
}
