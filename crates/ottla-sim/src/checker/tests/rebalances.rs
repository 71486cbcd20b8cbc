//! Histories of members that keep or give up partitions when their group rebalances.

use super::*;

const Q: Part = Part {
    topic: 0,
    partition: 1,
};

/// Member 1 is given both partitions in generation 1, and has read three records of the first.
fn begun(cooperative: bool) -> Story {
    let terms = Terms {
        cooperative,
        ..Terms::default()
    };
    Story(Vec::new())
        .subscribed(1, terms)
        .begins()
        .given_both(1, true)
        .learns()
        .gets(1, 1, 0..3)
        .done(1)
}

/// The same of a cooperative member that listens.
fn listening() -> Story {
    let terms = Terms {
        cooperative: true,
        listens: true,
        ..Terms::default()
    };
    Story(Vec::new())
        .subscribed(1, terms)
        .begins()
        .given_both(1, true)
        .hears(News::Assigned, &[P, Q])
        .learns()
        .gets(1, 1, 0..3)
        .done(1)
}

impl Story {
    fn subscribed(self, member: Member, terms: Terms) -> Self {
        self.then(What::Subscribed {
            member,
            group: 0,
            reset: Reset::Earliest,
            terms,
        })
    }

    /// Asks to join for the first time.
    fn begins(self) -> Self {
        self.then(What::Joins {
            member: 1,
            queued_ms: 0,
            id: String::new(),
            claims: Claims::default(),
        })
    }

    fn learns(self) -> Self {
        let (member, number) = (1, 70);
        self.then(What::Asked { member, number })
            .then(What::Committed {
                member,
                number,
                part: P,
                offset: None,
            })
    }

    fn synced(self, generation: i32, parts: Vec<Part>, heeded: bool) -> Self {
        self.then(synced(1, generation, parts, heeded))
    }

    fn given_both(self, generation: i32, heeded: bool) -> Self {
        self.synced(generation, vec![P, Q], heeded)
    }

    /// Asks to join, in words that left at once.
    fn asks_to_join(self, owned: &[Part]) -> Self {
        self.claims(1, owned)
    }

    /// The same, and says since which generation it has what it has.
    fn claims(self, generation: i32, owned: &[Part]) -> Self {
        let queued_ms = self.0.len() as u64;
        self.then(What::Joins {
            member: 1,
            queued_ms,
            id: "one".to_owned(),
            claims: claims(generation, owned),
        })
    }

    fn joined(self, generation: i32) -> Self {
        self.then(joined(1, generation, claims(1, &[P, Q])))
    }

    fn hears(self, news: News, parts: &[Part]) -> Self {
        self.then(What::Heard {
            member: 1,
            news,
            parts: parts.to_vec(),
        })
    }
}

fn claims(generation: i32, parts: &[Part]) -> Claims {
    Claims {
        parts: parts.to_vec(),
        generation,
    }
}

fn joined(member: Member, generation: i32, claims: Claims) -> What {
    What::Joined {
        member,
        generation,
        id: if member == 1 { "one" } else { "other" }.to_owned(),
        claims,
    }
}

fn synced(member: Member, generation: i32, parts: Vec<Part>, heeded: bool) -> What {
    What::Synced {
        member,
        generation,
        sent_ms: 0,
        parts,
        heeded,
    }
}

fn rebalance_told() -> What {
    What::Told {
        member: 1,
        id: String::new(),
        verdict: Verdict {
            generation: 1,
            error: 27,
            rebalancing: false,
        },
        heeded: true,
    }
}

#[test]
fn a_cooperative_member_reads_on_and_an_eager_one_does_not() {
    let story = |cooperative| begun(cooperative).then(rebalance_told());
    story(true).gets(1, 1, [3]).keeps_all();
    story(false).gets(1, 1, [3]).breaks(Rule::GivenUpWhenTold);
    let joins = |cooperative| begun(cooperative).asks_to_join(&[P, Q]);
    joins(true)
        .gets(1, 1, [3])
        .joined(2)
        .gets(1, 2, [4])
        .given_both(2, true)
        .gets(1, 2, [5])
        .keeps_all();
    // What it has, it has at the place where it stood.
    joins(true)
        .given_both(2, true)
        .gets(1, 2, [0])
        .breaks(Rule::NothingRepeated);
    joins(true)
        .given_both(2, true)
        .gets(1, 2, [4])
        .breaks(Rule::NothingSkipped);
    // It has not joined that generation.
    joins(true).gets(1, 2, [3]).breaks(Rule::OnlyAssigned);
    // Even if nobody has told it, an eager one gives up all before it asks to join.
    begun(false)
        .asks_to_join(&[])
        .gets(1, 1, [3])
        .breaks(Rule::OnlyAssigned);
}

#[test]
fn what_is_taken_away_is_given_up() {
    let story = || begun(true).asks_to_join(&[P, Q]).synced(2, vec![Q], true);
    story().gets(1, 2, [3]).breaks(Rule::OnlyAssigned);
    let at_once = What::Delivered {
        member: 1,
        generation: 2,
        part: P,
        offset: 3,
        id: id(3),
    };
    story().at_once(at_once).keeps_all();
    // Given once more, it starts where the group has committed.
    let again = || story().claims(2, &[Q]).given_both(3, true);
    again().gets(1, 3, [3]).breaks(Rule::StartsAtCommitted);
    // So does what it says itself that it has not got any more.
    let lost = begun(true).asks_to_join(&[Q]).given_both(2, true);
    lost.gets(1, 2, [3]).breaks(Rule::StartsAtCommitted);
}

#[test]
fn where_what_is_taken_away_was_sent_before_may_be_committed() {
    let story = || begun(true).asks_to_join(&[P, Q]).seeks(Start::End(5));
    let commits = |offset| What::CommitCalled {
        member: 1,
        number: 71,
        positions: vec![(P, offset)],
    };
    let story = || story().synced(2, vec![Q], true);
    story().then(commits(7)).commits(1, 72, 7).keeps_all();
    let sent = |offset| What::CommitSent {
        member: 1,
        id: String::new(),
        number: 72,
        offsets: vec![(P, offset)],
    };
    story().then(sent(7)).keeps_all();
    story().then(sent(4)).breaks(Rule::CommittedIsDone);
}

#[test]
fn a_cooperative_member_that_has_lost_its_place_is_told_so() {
    begun(true)
        .then(told(1, true))
        .gets(1, 1, [3])
        .breaks(Rule::GivenUpWhenTold);
    // Of one that joins anyway a commit says nothing.
    begun(true)
        .asks_to_join(&[P, Q])
        .then(told_as("one", 1, true))
        .gets(1, 1, [3])
        .keeps_all();
}

#[test]
fn a_cooperative_member_may_hand_out_in_the_instant_in_which_a_commit_says_that_it_has_no_place() {
    // Of the generation that it has joined and has no assignment of.
    let joins = || begun(true).asks_to_join(&[P, Q]).joined(2);
    let handed = What::Delivered {
        member: 1,
        generation: 0,
        part: P,
        offset: 3,
        id: id(3),
    };
    let told = || joins().then(told_as("one", 2, true));
    told().at_once(handed.clone()).keeps_all();
    told().then(handed.clone()).breaks(Rule::OnlyAssigned);
    joins().at_once(handed).breaks(Rule::OnlyAssigned);
}

#[test]
fn of_an_assignment_that_came_late_nothing_is_known_until_the_next_join() {
    let story = || begun(true).asks_to_join(&[P, Q]).given_both(2, false);
    story().gets(1, 1, [3]).keeps_all();
    story().gets(1, 2, [0]).keeps_all();
    let next = || story().asks_to_join(&[P]).given_both(3, true);
    next().gets(1, 3, [3]).keeps_all();
    next().gets(1, 3, [3, 3]).breaks(Rule::NothingRepeated);
    // The same of a join that the assignment has overtaken.
    let overtaken = What::Joins {
        member: 1,
        queued_ms: 0,
        id: String::new(),
        claims: Claims::default(),
    };
    let story = || begun(true).then(overtaken.clone());
    story().gets(1, 1, [3]).keeps_all();
    story().given_both(2, true).gets(1, 2, [0, 1]).keeps_all();
    story()
        .given_both(2, true)
        .gets(1, 2, [0, 0])
        .breaks(Rule::NothingRepeated);
}

#[test]
fn an_answer_to_who_it_was_before_gives_no_name() {
    let joins = |id: &str, generation, owned: &[Part]| What::Joins {
        member: 1,
        queued_ms: 1_000,
        id: id.to_owned(),
        claims: claims(generation, owned),
    };
    let joined = |id: &str, generation| What::Joined {
        member: 1,
        generation,
        id: id.to_owned(),
        claims: claims(generation - 1, &[]),
    };
    let terms = Terms {
        cooperative: true,
        ..Terms::default()
    };
    // Its former self is answered, and it joins as another one.
    let goes_on = |story: Story| {
        story
            .then(joined("one", 2))
            .then(joins("two", 0, &[]))
            .then(joined("two", 3))
            .given_both(3, true)
            .learns()
            .gets(1, 3, 0..3)
            .then(joins("two", 3, &[P, Q]))
            .then(joined("two", 4))
            .gets(1, 4, [3])
            .keeps_all();
    };
    let begun = || Story(Vec::new()).subscribed(1, terms);
    let joined_before = begun().begins().then(joined("one", 1));
    goes_on(joined_before.then(joins("one", 0, &[])).begins());
    // The question of its former self leaves only when it has asked as another one.
    let lost = begun()
        .begins()
        .then(joined("one", 2))
        .given_both(2, true)
        .learns();
    let asked = lost.then(joins("", -1, &[])).then(joins("one", 2, &[P]));
    asked
        .then(joined("two", 3))
        .given_both(3, true)
        .learns()
        .gets(1, 3, 0..3)
        .keeps_all();
    // Its question left late, and is answered where members of both protocols meet.
    goes_on(begun().then(joins("one", 1, &[P])).begins());
}

#[test]
fn a_false_claim_is_caught() {
    // It has not got that partition any more.
    let story = || begun(true).asks_to_join(&[P, Q]).synced(2, vec![Q], true);
    story().claims(2, &[Q]).keeps_all();
    story().claims(2, &[P, Q]).breaks(Rule::TrueClaims);
    // It was given what it has by a later assignment.
    story().claims(1, &[Q]).breaks(Rule::TrueClaims);
    // What somebody said whom it has been before is nothing to it.
    let before = What::Joins {
        member: 1,
        queued_ms: 1_000,
        id: "another".to_owned(),
        claims: claims(1, &[P, Q]),
    };
    story().then(before.clone()).keeps_all();
    let terms = Terms {
        cooperative: true,
        ..Terms::default()
    };
    let new = || Story(Vec::new()).subscribed(1, terms);
    new().then(before.clone()).begins().keeps_all();
    new().begins().then(before).asks_to_join(&[]).keeps_all();
}

#[test]
fn who_is_given_what_another_brings_along_is_caught() {
    let story = |since| {
        begun(true)
            .subscribed(2, Terms::default())
            .asks_to_join(&[P, Q])
            .then(joined(1, 2, claims(since, &[P, Q])))
    };
    let others = |part| synced(2, 2, vec![part], true);
    story(1).then(others(P)).breaks(Rule::OneOwner);
    // Whichever is heard of first.
    begun(true)
        .subscribed(2, Terms::default())
        .then(others(P))
        .asks_to_join(&[P, Q])
        .joined(2)
        .breaks(Rule::OneOwner);
    // One that knows of a newer assignment has it.
    let claims_too = |since| joined(2, 2, claims(since, &[P]));
    story(1).then(claims_too(3)).then(others(P)).keeps_all();
    story(4)
        .then(claims_too(3))
        .then(others(P))
        .breaks(Rule::OneOwner);
    // Who comes as the same instance takes its place.
    let terms = Terms {
        instance: Some(4),
        ..Terms::default()
    };
    Story(Vec::new())
        .subscribed(1, terms)
        .subscribed(2, terms)
        .given_both(1, true)
        .then(synced(2, 1, vec![P], true))
        .keeps_all();
}

#[test]
fn what_a_listener_is_told_out_of_turn_is_caught() {
    let taken = || listening().asks_to_join(&[P, Q]).synced(2, vec![Q], true);
    let revoked = || taken().hears(News::Revoked, &[P]);
    revoked().claims(2, &[Q]).keeps_all();
    revoked().hears(News::Revoked, &[P]).breaks(Rule::ToldApart);
    listening()
        .hears(News::Assigned, &[P])
        .breaks(Rule::ToldApart);
    // Nobody took that away.
    taken().hears(News::Revoked, &[Q]).breaks(Rule::KeptGoesOn);
    let leaves = || taken().then(What::Leaves { member: 1 });
    leaves().hears(News::Revoked, &[Q]).keeps_all();
    let ended = What::Ended {
        member: 1,
        how: End::Unsubscribed,
    };
    let both = leaves().hears(News::Revoked, &[Q, P]);
    both.then(ended.clone()).keeps_all();
    leaves().then(ended).breaks(Rule::ToldApart);
}

#[test]
fn revoked_and_lost_are_told_apart() {
    let lost = News::Lost { stayed_away: false };
    let loses = || listening().then(told(1, true));
    loses().hears(lost, &[P, Q]).keeps_all();
    loses()
        .hears(News::Revoked, &[P, Q])
        .breaks(Rule::ToldApart);
    listening().hears(lost, &[P, Q]).breaks(Rule::ToldApart);
    let stayed_away = News::Lost { stayed_away: true };
    listening().hears(stayed_away, &[P, Q]).keeps_all();
}

#[test]
fn a_loss_that_was_not_heard_to_its_end_is_told_again() {
    let news = News::Lost { stayed_away: false };
    let cut_short = What::CutShort {
        member: 1,
        news,
        parts: vec![P, Q],
    };
    let story = || {
        let lost = listening().then(told(1, true)).hears(news, &[P, Q]);
        lost.then(cut_short.clone()).hears(news, &[P, Q])
    };
    story().keeps_all();
    story().hears(news, &[P]).breaks(Rule::ToldApart);
}

#[test]
fn what_a_static_member_was_told_before_it_came_back_is_nothing_to_it() {
    let terms = Terms {
        instance: Some(4),
        ..Terms::default()
    };
    let given = |story: Story, id: &str| {
        let joined = What::Joined {
            member: 1,
            generation: 1,
            id: id.to_owned(),
            claims: Claims::default(),
        };
        story.begins().then(joined).given_both(1, true).learns()
    };
    let story = |id| {
        let story = given(Story(Vec::new()).subscribed(1, terms), "one").gets(1, 1, 0..3);
        given(story, "two").then(told_as(id, 1, true))
    };
    story("one").gets(1, 1, [0]).keeps_all();
    story("two").gets(1, 1, [0]).breaks(Rule::GivenUpWhenTold);
}

#[test]
fn a_static_member_that_asked_twice_is_known_by_its_second_answer() {
    let terms = Terms {
        instance: Some(1),
        ..Terms::default()
    };
    let joined = |id: &str| What::Joined {
        member: 1,
        generation: 1,
        id: id.to_owned(),
        claims: Claims::default(),
    };
    let story = |told| {
        Story(Vec::new())
            .subscribed(1, terms)
            .begins()
            .begins()
            .then(joined("one"))
            .then(joined("two"))
            .given_both(1, true)
            .learns()
            .then(told)
            .at_once(got(-1))
    };
    story(told_as("two", 1, true)).keeps_all();
    story(told_as("one", 1, true)).breaks(Rule::OnlyAssigned);
}

#[test]
fn records_that_no_listener_was_told_of_are_caught() {
    let terms = Terms {
        cooperative: true,
        listens: true,
        ..Terms::default()
    };
    let story = || {
        let story = Story(Vec::new()).subscribed(1, terms);
        story.given_both(1, true).learns()
    };
    story().gets(1, 1, [0]).breaks(Rule::OnlyAssigned);
    story()
        .hears(News::Assigned, &[P, Q])
        .gets(1, 1, [0])
        .keeps_all();
    listening()
        .then(told(1, false))
        .hears(News::Lost { stayed_away: false }, &[P, Q])
        .gets(1, 1, [3])
        .breaks(Rule::OnlyAssigned);
}

#[test]
fn who_gave_up_what_is_for_others_and_does_not_join_again_is_caught() {
    let confirmed = |story: Story, after_ms| {
        let sent_ms = story.0.len() as u64 + after_ms;
        story.then(What::Confirmed {
            member: 1,
            generation: 2,
            sent_ms,
        })
    };
    let taken_away = || listening().asks_to_join(&[P, Q]).synced(2, vec![Q], true);
    let gave_up = || {
        let parts = vec![P];
        let story = taken_away().hears(News::Revoked, &parts);
        story.then(What::HeardOut { member: 1, parts })
    };
    confirmed(gave_up(), 30_000).breaks(Rule::HandsOver);
    // What its listener began to commit is waited for.
    confirmed(gave_up(), 20_000).keeps_all();
    // It has what the application has not come back for.
    confirmed(taken_away(), 30_000).keeps_all();
    confirmed(gave_up().claims(2, &[Q]), 30_000).keeps_all();
}

/// Member 1, cooperative, has both partitions since generation 1; in generation 2 another one is given the first of them; and
/// member 1 joins generation 3 with what it had.
fn silent_for_a_generation(instance: Option<u32>, listens: bool, others: Part) -> Story {
    let terms = Terms {
        cooperative: true,
        instance,
        listens,
        ..Terms::default()
    };
    let story = Story(Vec::new())
        .subscribed(1, terms)
        .begins()
        .then(joined(1, 1, Claims::default()))
        .given_both(1, true);
    let story = match listens {
        true => story.hears(News::Assigned, &[P, Q]),
        false => story,
    };
    story
        .learns()
        .gets(1, 1, 0..3)
        .done(1)
        .subscribed(2, Terms::default())
        .then(synced(2, 2, vec![others], true))
        .asks_to_join(&[P, Q])
        .joined(3)
}

#[test]
fn a_static_member_does_not_go_on_behind_those_who_had_its_partitions_meanwhile() {
    let story = |others| silent_for_a_generation(Some(4), false, others).given_both(3, true);
    story(P).gets(1, 3, [3]).breaks(Rule::StartsAtCommitted);
    story(P).learns().gets(1, 3, [0]).keeps_all();
    story(Q).gets(1, 3, [3]).keeps_all();
}

#[test]
fn a_static_member_learns_from_the_generation_that_it_has_lost_what_it_had() {
    let lost = News::Lost { stayed_away: false };
    let story = |instance| silent_for_a_generation(instance, true, P);
    let loses = || story(Some(4)).hears(lost, &[P, Q]);
    loses().asks_to_join(&[]).joined(4).keeps_all();
    loses().hears(lost, &[P]).breaks(Rule::ToldApart);
    // The place of others is not kept.
    story(None).hears(lost, &[P, Q]).breaks(Rule::ToldApart);
    // It was in every one of them.
    let next = listening().then(joined(1, 1, Claims::default()));
    let next = next.asks_to_join(&[P, Q]).joined(2);
    next.hears(lost, &[P, Q]).breaks(Rule::ToldApart);
}
