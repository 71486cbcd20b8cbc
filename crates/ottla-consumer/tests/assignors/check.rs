//! Reads what `protocol-tests/kafka/Assignors.java` prints, and compares our assignors with it.

use std::collections::BTreeMap;

use ottla_consumer::{
    Str, TopicPartition,
    assignor::{GroupTopics, Member, Previous, by_name},
};

/// A group as it goes into the assignors.
#[derive(Debug, Default)]
struct Case<'a> {
    text: Vec<&'a str>,
    topics: GroupTopics,
    members: Vec<Member>,
    /// The user data that Java's sticky assignor sends.
    sticky: Vec<Option<Vec<u8>>>,
    previous: Vec<Option<Previous>>,
}

/// Compares every case of `text`; returns how many there were.
pub(crate) fn all(text: &str) -> usize {
    let mut cases = 0;
    for lines in text.split("\n\n").filter(|lines| !lines.trim().is_empty()) {
        let mut case = Case::default();
        for line in lines.lines() {
            case.text.push(line);
            let words: Vec<&str> = line.split(' ').collect();
            match words[0] {
                "topic" => case.add_topic(&words[1..]),
                "member" => case.add_member(&words[1..]),
                assignor => case.compare(assignor, &words[1..]),
            }
        }
        cases += 1;
    }
    cases
}

impl Case<'_> {
    fn add_topic(&mut self, words: &[&str]) {
        let racks = words[1..].iter().map(|racks| match *racks {
            "-" => Vec::new(),
            racks => racks
                .split('+')
                .map(|rack| Str::from(rack.to_owned()))
                .collect(),
        });
        self.topics.insert(words[0].to_owned(), racks.collect());
    }

    fn add_member(&mut self, words: &[&str]) {
        let &[
            id,
            instance,
            rack,
            generation,
            topics,
            owned,
            previous,
            data,
        ] = words
        else {
            panic!("{words:?}");
        };
        let optional = |word: &str| (word != "-").then(|| Str::from(word.to_owned()));
        self.members.push(Member {
            id: id.to_owned().into(),
            instance_id: optional(instance),
            topics: topics
                .split(',')
                .map(|topic| topic.to_owned().into())
                .collect(),
            owned: partitions(if owned == "-" { "" } else { owned }),
            generation: Some(generation.parse().unwrap()).filter(|generation| *generation >= 0),
            rack: optional(rack),
            user_data: None,
        });
        self.previous.push((previous != "-").then(|| {
            let (generation, had) = previous.split_once(':').unwrap();
            Previous {
                partitions: partitions(had),
                generation: generation.parse().unwrap(),
            }
        }));
        self.sticky.push((data != "-").then(|| {
            let digits = (0..data.len()).step_by(2).map(|at| &data[at..at + 2]);
            digits
                .map(|byte| u8::from_str_radix(byte, 16).unwrap())
                .collect()
        }));
    }

    fn compare(&self, name: &str, theirs: &[&str]) {
        let mut members = self.members.clone();
        let assignor = by_name(name).unwrap();
        if name == "sticky" {
            let told = members.iter_mut().zip(&self.sticky).zip(&self.previous);
            for ((member, theirs), previous) in told {
                let ours = assignor.user_data(&member.topics, previous.as_ref());
                let len = |data: &[u8]| data.len();
                // Java may name topics in another order.
                assert_eq!(ours.as_deref().map(len), theirs.as_deref().map(len));
                if previous
                    .as_ref()
                    .is_some_and(|had| one_topic(&had.partitions))
                {
                    assert_eq!(ours.as_deref(), theirs.as_deref(), "{:#?}", self.text);
                }
                member.user_data = theirs.clone().map(Into::into);
                member.owned.clear();
            }
        }
        let ours = assignor.assign(&self.topics, &members);
        if theirs[0] == "failed" {
            // Java's own cannot do this; ours must do something sensible, which the crate's own tests look at.
            assert_eq!(ours.len(), members.len());
            return;
        }
        let theirs: BTreeMap<String, Vec<TopicPartition>> = theirs
            .iter()
            .map(|word| word.split_once('=').unwrap())
            .map(|(id, given)| (id.to_owned(), sorted(partitions(given))))
            .collect();
        let ours: BTreeMap<String, Vec<TopicPartition>> = members
            .iter()
            .map(|member| member.id.to_string())
            .zip(ours.into_iter().map(sorted))
            .collect();
        let all_subscribe = |given: &BTreeMap<String, Vec<TopicPartition>>| {
            members.iter().all(|member| {
                let mut given = given[&*member.id].iter();
                given.all(|partition| member.topics.contains(&partition.topic))
            })
        };
        assert!(all_subscribe(&ours), "{name}: {:#?}", self.text);
        if !all_subscribe(&theirs) {
            // Java's gives a partition back to whom it belonged generations ago, subscribed to it or not.
            return;
        }
        assert_eq!(ours, theirs, "{name}: {:#?}", self.text);
    }
}

fn partitions(names: &str) -> Vec<TopicPartition> {
    let names = names.split(',').filter(|name| !name.is_empty());
    names
        .map(|name| {
            let (topic, partition) = name.rsplit_once('-').unwrap();
            TopicPartition::new(topic.to_owned(), partition.parse().unwrap())
        })
        .collect()
}

fn sorted(mut partitions: Vec<TopicPartition>) -> Vec<TopicPartition> {
    partitions.sort();
    partitions
}

fn one_topic(partitions: &[TopicPartition]) -> bool {
    partitions
        .iter()
        .all(|one| one.topic == partitions[0].topic)
}
