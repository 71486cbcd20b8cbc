//! The walk: every client does the same things, from creating a topic to deleting it, and after each step the broker
//! is looked at from our side.

use ottla_protocol_tests::{FranzGo, Guest, Python, Sample, or_skip};

use crate::stage::{Offsets, Placed, Stage, assert_same, offsets};

#[test]
fn confluent_kafka_walks_through_one_node_and_three() {
    python("confluent_kafka", &["delete offsets"]);
}

#[test]
fn kafka_python_walks_through_one_node_and_three() {
    python("kafka_python", &[]);
}

#[test]
fn aiokafka_walks_through_one_node_and_three() {
    python("aiokafka", &["delete offsets", "delete groups"]);
}

#[test]
fn franz_go_walks_through_one_node_and_three() {
    let Some(franz_go) = or_skip(FranzGo::get()) else {
        return;
    };
    for nodes in [1, 3] {
        walk("franz-go", nodes, &[], |args| franz_go.guest(args));
    }
}

fn python(client: &str, lacks: &[&str]) {
    let Some(python) = or_skip(Python::get()) else {
        return;
    };
    for nodes in [1, 3] {
        walk(client, nodes, lacks, |args| python.guest(client, args));
    }
}

/// Three partitions are on three nodes where there are three.
fn walk(client: &str, nodes: u16, lacks: &[&str], start: impl Fn(&[&str]) -> Guest) {
    let stage = Stage::start(nodes);
    let topic = format!("walk-{}", client.replace('_', "-"));
    let group = format!("{topic}-group");
    let mut guest = start(&["walk", &stage.bootstrap(), &topic, &nodes.to_string()]);

    let said = guest.expect("administered");
    assert_eq!(said["listed"], true, "{said}");
    assert_eq!(said["partitions"], 3, "{said}");
    assert_eq!(said["retention"], "3600000", "{said}");
    assert_eq!(
        said["still"], "3600000",
        "one change keeps the others: {said}"
    );
    assert_eq!(said["largest"], "2000000", "{said}");
    assert_eq!(stage.ends(&topic), Offsets::from([(0, 0), (1, 0), (2, 0)]));
    if nodes == 3 {
        let mut leaders: Vec<_> = (0..3)
            .map(|partition| stage.broker().leader(&topic, partition).unwrap())
            .collect();
        leaders.sort_unstable();
        assert_eq!(leaders, [1, 2, 3], "leaders are spread");
    }

    guest.go_on();
    let said = guest.expect("produced");
    let mut written = Placed::all_from_json(&said["records"]);
    assert!(written.len() >= 5 * 38, "five codecs: {}", written.len());
    assert_same("what it wrote", &stage.everything(&topic), &written);

    guest.go_on();
    let said = guest.expect("shared");
    assert_eq!(said["state"], "Stable", "{said}");
    assert_eq!(said["members"], 2, "{said}");
    written.extend(Placed::all_from_json(&said["more"]));
    written.sort_by_key(|placed| (placed.partition, placed.offset));
    assert_same("what is there", &stage.everything(&topic), &written);
    let read = Placed::all_from_json(&said["records"]);
    assert_same("what two members read", &read, &written);
    assert_eq!(offsets(&said["ends"]), stage.ends(&topic));
    assert_eq!(offsets(&said["committed"]), stage.ends(&topic));
    assert_eq!(stage.committed(&group, &topic), stage.ends(&topic));

    let before = stage.ends(&topic);
    let news = write_news(&stage, &topic, &written);
    guest.go_on();
    let said = guest.expect("resumed");
    let lag: Offsets = stage
        .ends(&topic)
        .into_iter()
        .map(|(partition, end)| (partition, end - before[&partition]))
        .collect();
    assert_eq!(offsets(&said["lag"]), lag);
    assert_eq!(said["listed"], true, "{said}");
    assert_eq!(said["state"], "Empty", "{said}");
    let read = Placed::all_from_json(&said["records"]);
    assert_same("what the next member read", &read, &news);
    assert_eq!(offsets(&said["committed"]), stage.ends(&topic));
    assert_eq!(stage.committed(&group, &topic), stage.ends(&topic));

    guest.go_on();
    let said = guest.expect("reset");
    assert_eq!(
        offsets(&said["committed"]),
        Offsets::from([(0, 1), (1, 2), (2, 3)])
    );
    let deletes = !lacks.contains(&"delete offsets");
    assert_eq!(said["can_delete"], deletes);
    let mut left = Offsets::from([(0, 1), (1, 2), (2, 3)]);
    if deletes {
        left.remove(&2);
    }
    assert_eq!(offsets(&said["then"]), left);
    assert_eq!(stage.committed(&group, &topic), left);

    guest.go_on();
    let said = guest.expect("trimmed");
    assert_eq!(said["low"], said["before"], "{said}");
    let start = said["before"].as_i64().unwrap();
    assert_eq!(stage.broker().offsets(&topic, 0).unwrap().0, start);
    let first = stage.everything(&topic).remove(0);
    assert_eq!((first.partition, first.offset), (0, start));

    guest.go_on();
    let said = guest.expect("group_deleted");
    let deletes = !lacks.contains(&"delete groups");
    assert_eq!(said["supported"], deletes);
    assert_eq!(said["listed"], !deletes, "{said}");
    assert_eq!(stage.has_group(&group), !deletes);

    guest.go_on();
    let said = guest.expect("topic_deleted");
    assert_eq!(said["listed"], false, "{said}");
    assert_eq!(stage.broker().offsets(&topic, 0), None);
    guest.go_on();
    guest.finish();
}

/// Writes two records to each partition and some by key, with our producer: equal keys go where the client's went.
fn write_news(stage: &Stage, topic: &str, written: &[Placed]) -> Vec<Placed> {
    let mut news: Vec<_> = (0..6)
        .map(|number| {
            let sample = Sample::new(None, Some(format!("news {number}").as_bytes()));
            (Some(number % 3), sample)
        })
        .collect();
    let keys: Vec<_> = (0..5)
        .map(|number| format!("user-{number}").into_bytes())
        .collect();
    for key in &keys {
        news.push((None, Sample::new(Some(key), Some(b"keyed by us"))));
    }
    let mut placed = stage.write(topic, &news);
    for key in &keys {
        let partition_of = |records: &[Placed]| {
            let mut of_key = records
                .iter()
                .filter(|placed| placed.sample.key.as_ref() == Some(key))
                .map(|placed| placed.partition);
            let first = of_key.next().unwrap();
            assert!(
                of_key.all(|partition| partition == first),
                "one partition a key"
            );
            first
        };
        assert_eq!(
            partition_of(written),
            partition_of(&placed),
            "{}",
            key.escape_ascii()
        );
    }
    placed.sort_by_key(|placed| (placed.partition, placed.offset));
    placed
}
