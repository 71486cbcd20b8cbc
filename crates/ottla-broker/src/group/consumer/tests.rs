//! Single steps by the rules of KIP-848, and whole groups of members that come, go and hear nothing.

use fastrand::Rng;

use super::*;

const SETTINGS: ConsumerGroupSettings = ConsumerGroupSettings {
    session_timeout: Duration::from_secs(45),
    heartbeat_interval: Duration::from_secs(5),
    members_max: 5,
    migration: MigrationPolicy::Bidirectional,
};
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(30);

fn id(topic: u8) -> Uuid {
    Uuid([topic; 16])
}

/// Topics `a`, `b`, and so on with these numbers of partitions.
fn view(version: u64, counts: &[i32]) -> TopicsView {
    let topics = (0..).zip(counts);
    TopicsView {
        version,
        by_name: topics
            .map(|(index, count)| {
                let name = char::from(b'a' + index).to_string();
                (name, (id(index + 1), *count))
            })
            .collect(),
    }
}

fn join(member: &str, topics: &[&str]) -> Heartbeat {
    Heartbeat {
        member_id: member.to_owned(),
        rebalance_timeout: Some(REBALANCE_TIMEOUT),
        topics: Some(topics.iter().map(|name| (*name).to_owned()).collect()),
        owned: Some(BTreeSet::new()),
        ..Default::default()
    }
}

fn beat(member: &str, epoch: i32, owned: Option<&BTreeSet<TopicPartition>>) -> Heartbeat {
    Heartbeat {
        member_id: member.to_owned(),
        epoch,
        owned: owned.cloned(),
        ..Default::default()
    }
}

fn parts(topic: u8, partitions: impl IntoIterator<Item = i32>) -> BTreeSet<TopicPartition> {
    partitions
        .into_iter()
        .map(|index| (id(topic), index))
        .collect()
}

struct Stage {
    group: ConsumerGroup,
    view: TopicsView,
    now: Instant,
}

impl Stage {
    fn new(counts: &[i32]) -> Self {
        let now = Instant::now();
        Self {
            group: ConsumerGroup::new(SETTINGS, now),
            view: view(1, counts),
            now,
        }
    }

    fn send(&mut self, beat: &Heartbeat) -> Result<Beaten, ErrorCode> {
        self.group
            .heartbeat(beat, &self.view, self.now)
            .map_err(|refused| refused.error)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.group.advance(self.now);
    }
}

#[test]
fn a_partition_moves_only_after_its_owner_has_given_it_up() {
    let mut stage = Stage::new(&[4]);
    let first = stage.send(&join("one", &["a"])).unwrap();
    assert_eq!(
        (first.epoch, first.assignment.clone()),
        (1, Some(parts(1, 0..4)))
    );
    assert_eq!(stage.group.state_name(), "Stable");
    let all = first.assignment.unwrap();

    let second = stage.send(&join("two", &["a"])).unwrap();
    assert_eq!(
        (second.epoch, second.assignment),
        (2, Some(BTreeSet::new()))
    );
    assert_eq!(stage.group.state_name(), "Reconciling");
    // The first is told to give up, stays in its epoch until it has, and goes on by then.
    let told = stage.send(&beat("one", 1, Some(&all))).unwrap();
    let kept = told.assignment.unwrap();
    assert_eq!((told.epoch, kept.len()), (1, 2));
    let waits = stage.send(&beat("two", 2, None)).unwrap();
    assert_eq!(waits.assignment, None, "nothing is free yet");
    let still = stage.send(&beat("one", 1, Some(&all))).unwrap();
    assert_eq!((still.epoch, still.assignment), (1, None));
    let done = stage.send(&beat("one", 1, Some(&kept))).unwrap();
    assert_eq!(done.epoch, 2);
    let given = stage.send(&beat("two", 2, None)).unwrap();
    assert_eq!(given.assignment, Some(&all - &kept));
    assert_eq!(stage.group.state_name(), "Stable");
}

#[test]
fn who_does_not_give_up_in_time_is_put_out() {
    let mut stage = Stage::new(&[2]);
    let all = stage
        .send(&join("one", &["a"]))
        .unwrap()
        .assignment
        .unwrap();
    stage.send(&join("two", &["a"])).unwrap();
    stage.send(&beat("one", 1, Some(&all))).unwrap();
    stage.pass(REBALANCE_TIMEOUT - Duration::from_millis(1));
    assert_eq!(stage.send(&beat("two", 2, None)).unwrap().epoch, 2);
    stage.pass(Duration::from_millis(1));
    assert_eq!(
        stage.send(&beat("one", 1, Some(&all))),
        Err(ErrorCode::UNKNOWN_MEMBER_ID)
    );
    let two = stage.send(&beat("two", 2, None)).unwrap();
    assert_eq!((two.epoch, two.assignment), (3, Some(all)));
}

#[test]
fn who_is_silent_is_put_out_and_who_speaks_is_not() {
    let mut stage = Stage::new(&[2]);
    stage.send(&join("one", &["a"])).unwrap();
    for _ in 0..4 {
        stage.pass(SETTINGS.session_timeout - Duration::from_millis(1));
        stage.send(&beat("one", 1, None)).unwrap();
    }
    assert_eq!(
        stage.group.next_timeout(),
        Some(stage.now + SETTINGS.session_timeout)
    );
    stage.pass(SETTINGS.session_timeout);
    assert_eq!(stage.group.state_name(), "Empty");
    assert_eq!(stage.group.empty_for(stage.now), Some(Duration::ZERO));
}

#[test]
fn epochs_that_are_not_the_members_are_fenced() {
    let mut stage = Stage::new(&[2]);
    let all = stage
        .send(&join("one", &["a"]))
        .unwrap()
        .assignment
        .unwrap();
    assert_eq!(
        stage.send(&beat("one", 2, None)),
        Err(ErrorCode::FENCED_MEMBER_EPOCH)
    );
    // The answer to the join was lost.
    let again = stage.send(&join("one", &["a"])).unwrap();
    assert_eq!((again.epoch, again.assignment), (1, Some(all.clone())));
    stage.view = view(2, &[3]);
    assert_eq!(stage.send(&beat("one", 1, None)).unwrap().epoch, 2);
    // This answer was lost, too: it is given again, but not to who has what nobody gave it.
    let again = stage.send(&beat("one", 1, Some(&all))).unwrap();
    assert_eq!((again.epoch, again.assignment), (2, Some(parts(1, 0..3))));
    let other = parts(2, 0..1);
    for owned in [None, Some(&other)] {
        assert_eq!(
            stage.send(&beat("one", 1, owned)),
            Err(ErrorCode::FENCED_MEMBER_EPOCH)
        );
    }
    assert_eq!(
        stage.send(&beat("nobody", 1, None)),
        Err(ErrorCode::UNKNOWN_MEMBER_ID)
    );
}

#[test]
fn topics_that_come_grow_and_go_are_followed() {
    let mut stage = Stage::new(&[1, 1]);
    let pattern = Heartbeat {
        pattern: Some("[bc]".to_owned()),
        topics: None,
        ..join("one", &[])
    };
    let first = stage.send(&pattern).unwrap();
    assert_eq!(first.assignment, Some(parts(2, 0..1)));
    stage.view = view(2, &[1, 1, 2]);
    let more = stage.send(&beat("one", 1, None)).unwrap();
    let expected = &parts(2, 0..1) | &parts(3, 0..2);
    assert_eq!((more.epoch, more.assignment), (2, Some(expected.clone())));
    stage.view = view(3, &[9, 1, 2]);
    let same = stage.send(&beat("one", 2, None)).unwrap();
    assert_eq!(
        (same.epoch, same.assignment, same.changed),
        (2, None, false)
    );
    stage.view = view(4, &[9]);
    let gone = stage.send(&beat("one", 2, Some(&BTreeSet::new()))).unwrap();
    assert_eq!((gone.epoch, gone.assignment), (3, Some(BTreeSet::new())));
    let wrong = Heartbeat {
        pattern: Some("(".to_owned()),
        ..beat("one", 3, None)
    };
    assert_eq!(
        stage.send(&wrong),
        Err(ErrorCode::INVALID_REGULAR_EXPRESSION)
    );
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let mut stage = Stage::new(&[4]);
    let with = |beat: Heartbeat| Heartbeat {
        instance_id: Some("i".to_owned()),
        ..beat
    };
    let had = stage.send(&with(join("one", &["a"]))).unwrap().assignment;
    assert_eq!(
        stage.send(&with(join("two", &["a"]))),
        Err(ErrorCode::UNRELEASED_INSTANCE_ID)
    );
    stage
        .send(&with(beat("one", LEAVE_FOR_A_WHILE, None)))
        .unwrap();
    assert_eq!(stage.group.epoch(), 1);
    let back = stage.send(&with(join("two", &["a"]))).unwrap();
    assert_eq!((back.epoch, back.assignment), (1, had));
    for late in [beat("one", 1, None), beat("one", -1, None)] {
        assert_eq!(stage.send(&with(late)), Err(ErrorCode::FENCED_INSTANCE_ID));
    }
    stage
        .send(&with(beat("two", LEAVE_FOR_A_WHILE, None)))
        .unwrap();
    stage.pass(SETTINGS.session_timeout);
    assert!(stage.group.is_empty());
}

#[test]
fn a_full_group_takes_nobody_and_the_majority_chooses_the_assignor() {
    let mut stage = Stage::new(&[3, 3]);
    for (index, assignor) in [None, Some("range"), Some("uniform"), Some("range"), None]
        .into_iter()
        .enumerate()
    {
        let beat = Heartbeat {
            server_assignor: assignor.map(str::to_owned),
            ..join(&index.to_string(), &["a", "b"])
        };
        stage.send(&beat).unwrap();
    }
    assert_eq!(stage.group.assignor(), Assignor::Range);
    assert_eq!(
        stage.send(&join("late", &["a"])),
        Err(ErrorCode::GROUP_MAX_SIZE_REACHED)
    );
}

#[test]
fn commits_are_for_who_has_the_partition() {
    let mut stage = Stage::new(&[2]);
    assert!(
        stage
            .group
            .check_commit("", None, -1, false)
            .unwrap()
            .is_none()
    );
    let all = stage
        .send(&join("one", &["a"]))
        .unwrap()
        .assignment
        .unwrap();
    let check = |stage: &Stage, id: &str, epoch: i32| {
        stage.group.check_commit(id, None, epoch, false).map(|_| ())
    };
    assert_eq!(check(&stage, "one", 1), Ok(()));
    assert_eq!(check(&stage, "", -1), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(check(&stage, "one", 2), Err(ErrorCode::STALE_MEMBER_EPOCH));
    assert!(
        stage
            .group
            .check_commit("", None, -1, true)
            .unwrap()
            .is_none()
    );
    // It goes on to epoch 2 with one partition, and may still commit for that one as of epoch 1.
    stage.send(&join("two", &["a"])).unwrap();
    let kept = stage
        .send(&beat("one", 1, Some(&all)))
        .unwrap()
        .assignment
        .unwrap();
    stage.send(&beat("one", 1, Some(&kept))).unwrap();
    let member = stage
        .group
        .check_commit("one", None, 1, false)
        .unwrap()
        .unwrap();
    let may: Vec<bool> = all.iter().map(|part| member.may_commit(*part, 1)).collect();
    let kept: Vec<bool> = all.iter().map(|part| kept.contains(part)).collect();
    assert_eq!(may, kept);
    let stale = stage.group.check_fetch(Some("one"), 1);
    assert_eq!(stale, Err(ErrorCode::STALE_MEMBER_EPOCH));
    assert_eq!(stage.group.check_fetch(Some("one"), 2), Ok(()));
    assert_eq!(stage.group.check_fetch(None, -1), Ok(()));
}

#[test]
fn a_group_that_was_kept_goes_on_where_it_was() {
    let mut stage = Stage::new(&[4]);
    let all = stage
        .send(&join("one", &["a"]))
        .unwrap()
        .assignment
        .unwrap();
    stage.send(&join("two", &["a"])).unwrap();
    let kept = stage
        .send(&beat("one", 1, Some(&all)))
        .unwrap()
        .assignment
        .unwrap();
    let saved = serde_json::to_vec(&SavedConsumerGroup::of(&stage.group)).unwrap();
    let saved: SavedConsumerGroup = serde_json::from_slice(&saved).unwrap();
    stage.view.version = 77;
    stage.group = saved.restore(SETTINGS, &stage.view, stage.now);
    assert_eq!(stage.send(&beat("one", 1, Some(&kept))).unwrap().epoch, 2);
    let two = stage.send(&beat("two", 2, None)).unwrap();
    assert_eq!((two.epoch, two.assignment), (2, Some(&all - &kept)));
}

#[test]
fn what_changed_about_topics_just_before_a_crash_is_seen_after_it() {
    let mut stage = Stage::new(&[2]);
    let all = stage.send(&join("one", &["a"])).unwrap().assignment;
    // The topic grew and was kept, and nobody sent a heartbeat before the end.
    let saved = serde_json::to_vec(&SavedConsumerGroup::of(&stage.group)).unwrap();
    let saved: SavedConsumerGroup = serde_json::from_slice(&saved).unwrap();
    stage.view = view(1, &[3]);
    stage.group = saved.restore(SETTINGS, &stage.view, stage.now);
    let told = stage.send(&beat("one", 1, all.as_ref())).unwrap();
    assert_eq!(
        (told.epoch, told.assignment),
        (2, Some(parts(1, 0..3))),
        "the new partition has to have an owner"
    );
}

#[test]
fn a_member_has_one_instance_id_and_leaves_none_behind() {
    let mut stage = Stage::new(&[1]);
    let of_instance = |beat: Heartbeat, instance: &str| Heartbeat {
        instance_id: Some(instance.to_owned()),
        ..beat
    };
    stage.send(&of_instance(join("one", &["a"]), "i")).unwrap();
    assert_eq!(
        stage.send(&of_instance(beat("one", 1, None), "j")),
        Err(ErrorCode::UNKNOWN_MEMBER_ID)
    );
    stage.send(&of_instance(join("one", &["a"]), "k")).unwrap();
    stage.send(&beat("one", -1, None)).unwrap();
    for (member, instance) in [("two", "i"), ("three", "j"), ("four", "k")] {
        let joined = stage.send(&of_instance(join(member, &["a"]), instance));
        assert!(joined.is_ok(), "{instance}: {joined:?}");
    }
}

/// Members as clients are: they lose answers, are slow to give up, leave, and come back.
#[test]
fn no_partition_ever_has_two_owners_and_in_the_end_each_has_one() {
    for seed in 0..400 {
        let mut rng = Rng::with_seed(seed);
        let mut stage = Stage::new(&[rng.i32(1..8), rng.i32(1..5), rng.i32(0..3)]);
        let mut clients: Vec<Client> = (0..4).map(Client::new).collect();
        for step in 0..300 {
            let calm = step >= 200;
            let client = rng.usize(..clients.len());
            clients[client].act(&mut stage, &mut rng, calm);
            if !calm && rng.u8(..40) == 0 {
                let version = stage.view.version + 1;
                let counts: Vec<i32> = stage.view.by_name.values().map(|(_, n)| n + 1).collect();
                stage.view = view(version, &counts);
            }
            stage.pass(Duration::from_millis(
                rng.u64(..if calm { 500 } else { 4000 }),
            ));
            check_owners(&stage, &clients, seed);
        }
        for turn in 0..40 {
            let place = turn % clients.len();
            let client = &mut clients[place];
            if let Some(told) = client.told.take() {
                client.owned = told;
            }
            client.speak(&mut stage, &mut rng, true);
        }
        check_owners(&stage, &clients, seed);
        assert_eq!(stage.group.state_name(), "Stable", "seed {seed}");
        let read = stage.group.topics();
        let wanted: usize = stage
            .view
            .by_name
            .values()
            .filter(|(topic, _)| read.contains(topic))
            .map(|(_, count)| *count as usize)
            .sum();
        let owned: usize = clients.iter().map(|client| client.owned.len()).sum();
        assert_eq!(owned, wanted, "seed {seed}");
    }
}

fn check_owners(stage: &Stage, clients: &[Client], seed: u64) {
    let mut seen = BTreeSet::new();
    for client in clients {
        // Whoever was put out does not know it yet, and will find out before it can commit anything.
        if !stage.group.members.contains_key(&client.id) {
            continue;
        }
        for partition in &client.owned {
            assert!(
                seen.insert(*partition),
                "seed {seed}: {partition:?} has two owners"
            );
        }
    }
}

struct Client {
    id: String,
    epoch: i32,
    owned: BTreeSet<TopicPartition>,
    /// What it was told to have and has not acted upon.
    told: Option<BTreeSet<TopicPartition>>,
    /// The last answer did not come.
    missed: bool,
}

impl Client {
    fn new(index: usize) -> Self {
        Self {
            id: index.to_string(),
            epoch: 0,
            owned: BTreeSet::new(),
            told: None,
            missed: false,
        }
    }

    fn act(&mut self, stage: &mut Stage, rng: &mut Rng, calm: bool) {
        match rng.u8(..10) {
            0 if !calm && self.epoch > 0 => {
                let _ = stage.send(&beat(&self.id, -1, None));
                self.forget();
            }
            // Nothing is heard of it for a while.
            1 if !calm => {}
            2..=4 => {
                if let Some(told) = self.told.take() {
                    self.owned = told;
                }
            }
            _ => self.speak(stage, rng, calm),
        }
    }

    fn speak(&mut self, stage: &mut Stage, rng: &mut Rng, calm: bool) {
        let request = if self.epoch == 0 {
            let topics: &[&str] = [&["a"][..], &["a", "b"], &["c"]][rng.usize(..3)];
            join(&self.id, topics)
        } else {
            // Whoever still has to act upon what it was told says nothing of what it has: nobody could rely on that.
            let owned = self.told.is_none().then_some(&self.owned);
            let beat = beat(&self.id, self.epoch, owned);
            if self.missed {
                // After an answer that did not come, clients say everything, and so are told everything.
                let topics = stage
                    .group
                    .members
                    .get(&self.id)
                    .map(|member| member.names.clone());
                Heartbeat {
                    topics,
                    rebalance_timeout: Some(REBALANCE_TIMEOUT),
                    ..beat
                }
            } else {
                beat
            }
        };
        let lost = !calm && rng.u8(..8) == 0;
        match stage.send(&request) {
            Ok(_) if lost => {
                self.missed = true;
                self.told = None;
            }
            Ok(beaten) => {
                self.epoch = beaten.epoch;
                self.missed = false;
                if beaten.assignment.is_some() {
                    self.told = beaten.assignment;
                }
            }
            Err(_) => self.forget(),
        }
    }

    fn forget(&mut self) {
        self.epoch = 0;
        self.owned.clear();
        self.told = None;
        self.missed = false;
    }
}

#[test]
fn shares_are_even_complete_and_move_little() {
    for seed in 0..300 {
        let mut rng = Rng::with_seed(seed);
        let partitions: BTreeMap<Uuid, i32> = (1..=rng.u8(1..5))
            .map(|topic| (id(topic), rng.i32(1..20)))
            .collect();
        let all: BTreeSet<Uuid> = partitions.keys().copied().collect();
        let ids: Vec<String> = (0..rng.usize(1..7))
            .map(|index| index.to_string())
            .collect();
        let reads: Vec<BTreeSet<Uuid>> = ids
            .iter()
            .map(|_| match seed % 2 {
                0 => all.clone(),
                _ => all.iter().copied().filter(|_| rng.bool()).collect(),
            })
            .collect();
        for assignor in Assignor::ALL {
            let none = BTreeSet::new();
            let share = |current: &Target, members: usize| {
                let wishes: Vec<Wish<'_>> = ids[..members]
                    .iter()
                    .zip(&reads)
                    .map(|(id, topics)| Wish {
                        id,
                        instance_id: None,
                        topics,
                        current: current.get(id).unwrap_or(&none),
                    })
                    .collect();
                assignor.assign(&wishes, &partitions)
            };
            let before = share(&Target::new(), ids.len().max(2) - 1);
            let after = share(&before, ids.len());
            let mut given = BTreeSet::new();
            for ((_, share), topics) in after.iter().zip(&reads) {
                for partition in share {
                    assert!(topics.contains(&partition.0) && given.insert(*partition));
                }
            }
            let read: BTreeSet<&Uuid> = reads.iter().flatten().collect();
            let wanted: i32 = partitions
                .iter()
                .filter(|(topic, _)| read.contains(topic))
                .map(|(_, count)| count)
                .sum();
            assert_eq!(given.len(), wanted as usize, "{assignor:?} seed {seed}");
            if assignor == Assignor::Uniform && seed % 2 == 0 {
                let sizes: Vec<usize> = after.values().map(BTreeSet::len).collect();
                let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
                assert!(most - least <= 1, "seed {seed}: {sizes:?}");
                let moved: usize = before
                    .iter()
                    .map(|(id, share)| share.difference(&after[id]).count())
                    .sum();
                assert!(
                    moved <= wanted as usize / ids.len() + 1,
                    "seed {seed}: {moved} moved"
                );
            }
        }
    }
}

#[test]
fn what_a_member_says_of_itself_is_a_change_once() {
    let (now, view) = (Instant::now(), view(1, &[2]));
    let mut group = ConsumerGroup::new(SETTINGS, now);
    let joined = group.heartbeat(&join("m", &["a"]), &view, now).unwrap();
    let plain = beat("m", joined.epoch, None);
    assert!(!group.heartbeat(&plain, &view, now).unwrap().changed);
    let news = [
        Heartbeat {
            server_assignor: Some("range".to_owned()),
            ..plain.clone()
        },
        Heartbeat {
            rack_id: Some("r".to_owned()),
            ..plain.clone()
        },
        Heartbeat {
            rebalance_timeout: Some(REBALANCE_TIMEOUT * 2),
            ..plain.clone()
        },
    ];
    for news in news {
        assert!(
            group.heartbeat(&news, &view, now).unwrap().changed,
            "{news:?}"
        );
        assert!(
            !group.heartbeat(&news, &view, now).unwrap().changed,
            "{news:?}"
        );
    }
    let elsewhere = Heartbeat {
        client_host: "h".to_owned(),
        ..plain
    };
    assert!(group.heartbeat(&elsewhere, &view, now).unwrap().changed);
}
