//! Histories that keep or break what is promised of commits.

use super::*;

#[test]
fn the_listener_of_a_consumer_that_was_dropped_commits_where_it_was_sent_to() {
    let commits = |story: Story| {
        story
            .then(What::Ended {
                member: 1,
                how: End::Dropped,
            })
            .then(What::CommitCalled {
                member: 1,
                number: 70,
                positions: vec![(P, 7)],
            })
            .then(What::CommitSent {
                member: 1,
                id: String::new(),
                number: 80,
                offsets: vec![(P, 7)],
            })
    };
    commits(Story::member(Some(0)).seeks(Start::End(5))).keeps_all();
    commits(Story::member(Some(0)).gets(1, 1, 0..3)).breaks(Rule::CommittedIsDone);
}

/// Without having told where that is: automatic commit asks nobody.
#[test]
fn where_a_reader_was_sent_may_be_committed_before_it_says_that_it_is_there() {
    let commits = |story: Story, offset| {
        story.then(What::CommitSent {
            member: 1,
            id: String::new(),
            number: 80,
            offsets: vec![(P, offset)],
        })
    };
    let story = || Story::member(Some(0)).gets(1, 1, 0..2).done(1);
    commits(story().seeks(Start::End(5)), 6).keeps_all();
    // It is not sent so far, or to nowhere.
    commits(story().seeks(Start::End(5)), 4).breaks(Rule::CommittedIsDone);
    commits(story(), 5).breaks(Rule::CommittedIsDone);
}

#[test]
fn what_was_committed_before_a_jump_may_be_sent_after_it() {
    let at = |offset| What::Position {
        member: 1,
        part: P,
        offset,
    };
    let called = |offset| What::CommitCalled {
        member: 1,
        number: 70,
        positions: vec![(P, offset)],
    };
    let sent = |offset| What::CommitSent {
        member: 1,
        id: String::new(),
        number: 80,
        offsets: vec![(P, offset)],
    };
    // It is sent to the end, which is at 7, commits that, and is sent back before the commit leaves.
    let story = |what| {
        Story::member(Some(0))
            .seeks(Start::End(5))
            .then(what)
            .seeks(Start::At(2))
            .gets(1, 1, [2])
            .done(1)
    };
    story(at(7)).then(sent(7)).keeps_all();
    story(called(7)).then(sent(7)).keeps_all();
    story(at(7)).then(sent(8)).breaks(Rule::CommittedIsDone);
    // It never said that it was there.
    story(at(5)).then(sent(7)).breaks(Rule::CommittedIsDone);
    // Others who still hand out of that partition change nothing about it.
    let mut story = Story::member(Some(0)).gets(1, 1, 0..3);
    story.joins(2, Reset::Earliest);
    story.given(2, 2, Some(0));
    let jumps = |story: Story| {
        let end = Start::End(5);
        let sought = What::Sought {
            member: 2,
            part: P,
            to: end,
        };
        let position = What::Position {
            member: 2,
            part: P,
            offset: 7,
        };
        let sent = What::CommitSent {
            member: 2,
            id: String::new(),
            number: 80,
            offsets: vec![(P, 7)],
        };
        story.then(sought).gets(1, 1, [3]).then(position).then(sent)
    };
    jumps(story).keeps_all();
    // Once it has said where the end is, that is where it is.
    Story::member(Some(0))
        .seeks(Start::End(5))
        .then(at(7))
        .gets(1, 1, [8])
        .breaks(Rule::SeekHolds);
    // And what it commits as its position must be it.
    Story::member(Some(0))
        .gets(1, 1, 0..3)
        .then(called(4))
        .breaks(Rule::NothingSkipped);
}

#[test]
fn a_commit_of_what_nobody_is_done_with_is_caught() {
    let story = || Story::member(Some(0)).gets(1, 1, 0..3);
    let sent = |offset| What::CommitSent {
        member: 1,
        id: String::new(),
        number: 80,
        offsets: vec![(P, offset)],
    };
    story().done(1).then(sent(3)).keeps_all();
    // Before the application came back.
    story().then(sent(1)).breaks(Rule::CommittedIsDone);
    // One too far.
    story().done(1).then(sent(4)).breaks(Rule::CommittedIsDone);
    // A seek passes over what lies between, and nothing behind.
    let sought = || story().done(1).seeks(Start::At(6));
    sought().then(sent(6)).keeps_all();
    sought().then(sent(7)).breaks(Rule::CommittedIsDone);
    // Nobody knows where the end was until a record comes.
    let sought = || story().done(1).seeks(Start::End(5)).gets(1, 1, [7]);
    sought().then(sent(7)).keeps_all();
    sought().then(sent(8)).breaks(Rule::CommittedIsDone);
    // What was deleted cannot be read.
    story().done(1).deletes_before(5).then(sent(5)).keeps_all();
}

#[test]
fn what_the_next_member_is_told_must_be_done_as_well() {
    let next = |committed| {
        let mut story = Story::member(Some(0))
            .gets(1, 1, 0..3)
            .done(1)
            .gets(1, 1, [3]);
        story.push(What::Ended {
            member: 1,
            how: End::Crashed,
        });
        story.joins(2, Reset::Earliest);
        story.given(2, 2, Some(committed));
        story
    };
    next(3).gets(2, 2, [3]).keeps_all();
    next(4).breaks(Rule::CommittedIsDone);
}

#[test]
fn a_group_that_starts_at_the_end_may_pass_over_what_it_was_never_handed() {
    let mut story = Story(Vec::new());
    story.joins(1, Reset::Latest);
    story.given(1, 1, None);
    let story = story.gets(1, 1, [5]);
    let sent = |offset| What::CommitSent {
        member: 1,
        id: String::new(),
        number: 80,
        offsets: vec![(P, offset)],
    };
    Story(story.0.clone()).then(sent(5)).keeps_all();
    story.then(sent(6)).breaks(Rule::CommittedIsDone);
}

#[test]
fn an_acknowledged_commit_that_is_gone_is_caught() {
    let committed = || {
        Story::member(None)
            .gets(1, 1, 0..5)
            .done(1)
            .then(What::CommitCalled {
                member: 1,
                number: 90,
                positions: vec![(P, 5)],
            })
            .commits(1, 91, 5)
            .then(What::CommitAcked {
                member: 1,
                number: 90,
            })
    };
    let told = |mut story: Story, offset| {
        story.given(1, 2, offset);
        story
    };
    told(committed(), Some(5)).keeps_all();
    told(committed(), Some(4)).breaks(Rule::CommitsStay);
    told(committed(), None).breaks(Rule::CommitsStay);
    // Who seeks back may commit that.
    told(committed().seeks(Start::At(2)), Some(2)).keeps_all();
    // A request that was sent before and has not been answered may be stored late.
    let stray = |story: Story| {
        story.then(What::CommitSent {
            member: 1,
            id: String::new(),
            number: 99,
            offsets: vec![(P, 3)],
        })
    };
    told(stray(committed()), Some(3)).keeps_all();
    let finally = |offset| What::FinallyCommitted {
        group: 0,
        part: P,
        offset: Some(offset),
    };
    committed().then(finally(5)).keeps_all();
    committed().then(finally(4)).breaks(Rule::CommitsStay);
}

#[test]
fn who_starts_at_the_committed_offset_while_a_commit_is_under_way_may_go_back_behind_it() {
    // Asked when 2 was committed, and 5 on the way; the answer comes after that was acknowledged.
    let asks = What::Asked {
        member: 1,
        number: 70,
    };
    let learns = What::Committed {
        member: 1,
        number: 70,
        part: P,
        offset: Some(2),
    };
    let called = What::CommitCalled {
        member: 1,
        number: 90,
        positions: vec![(P, 5)],
    };
    let acked = What::CommitAcked {
        member: 1,
        number: 90,
    };
    let story = |seeks: bool| {
        let story = Story::member(Some(2))
            .gets(1, 1, 2..5)
            .done(1)
            .then(called.clone());
        let story = match seeks {
            true => story.seeks(Start::Committed),
            false => story,
        };
        let story = story
            .then(asks.clone())
            .commits(1, 91, 5)
            .then(acked.clone())
            .then(learns.clone());
        match seeks {
            true => story.gets(1, 1, [2]).done(1),
            false => story,
        }
    };
    let next = |mut story: Story, offset| {
        story.given(1, 2, Some(offset));
        story
    };
    next(story(true), 3).keeps_all();
    next(story(true), 1).breaks(Rule::CommitsStay);
    // Nobody went back: what the answer says changes nothing.
    next(story(false), 5).keeps_all();
    next(story(false), 3).breaks(Rule::CommitsStay);
}

#[test]
fn a_seek_of_one_partition_leaves_questions_about_others_open() {
    let other = Part {
        topic: 0,
        partition: 1,
    };
    let mut story = Story(Vec::new());
    story.joins(1, Reset::Earliest);
    let story = story
        .then(What::Synced {
            member: 1,
            generation: 1,
            sent_ms: 0,
            parts: vec![P, other],
            heeded: true,
        })
        .then(What::Asked {
            member: 1,
            number: 70,
        });
    let learns = |story: Story| {
        story
            .then(What::Committed {
                member: 1,
                number: 70,
                part: P,
                offset: None,
            })
            .gets(1, 1, [0])
    };
    let sought = |part| What::Sought {
        member: 1,
        part,
        to: Start::Committed,
    };
    learns(Story(story.0.clone()).then(sought(other))).keeps_all();
    learns(story.then(sought(P))).breaks(Rule::StartsAtCommitted);
}
