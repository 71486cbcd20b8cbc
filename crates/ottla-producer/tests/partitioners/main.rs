//! The same partition for the same key as other clients choose, by vectors taken from themselves.

#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

use std::collections::BTreeMap;

use ottla_producer::Partitioning;

const VECTORS: &str = include_str!("vectors.txt");

#[test]
fn keys_land_where_other_clients_put_them() {
    let mut seen: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
        let mut columns = line.split(' ');
        let mut next = || columns.next().unwrap();
        let (client, name, key) = (next(), next(), unhex(next()));
        for partitions in [1, 3, 7, 12, 100] {
            let expected: u32 = columns.next().unwrap().parse().unwrap();
            let chosen = partitioning(name).choose("t", Some(&key), None, partitions);
            assert_eq!(chosen, Some(expected), "{line}, among {partitions}");
        }
        *seen.entry((client, name)).or_default() += 1;
    }
    let clients: Vec<_> = seen
        .iter()
        .map(|((client, name), count)| (*client, *name, *count))
        .collect();
    assert_eq!(
        clients,
        [
            ("franz-go", "fnv1a_random", 50),
            ("franz-go", "murmur2_random", 50),
            ("java", "murmur2_random", 50),
            ("librdkafka", "consistent", 50),
            ("librdkafka", "consistent_random", 49),
            ("librdkafka", "fnv1a", 50),
            ("librdkafka", "fnv1a_random", 50),
            ("librdkafka", "murmur2", 50),
            ("librdkafka", "murmur2_random", 50),
            ("sarama", "fnv1a_random", 50),
        ]
    );
}

/// What librdkafka 2.16.1 was seen to do without a key: always partition 2, 0 and 2 of 7, or anywhere.
#[test]
fn a_missing_key_is_the_empty_one_or_goes_anywhere() {
    let choose = |name| partitioning(name).choose("t", None, None, 7);
    assert_eq!(choose("murmur2"), Some(2));
    assert_eq!(choose("consistent"), Some(0));
    assert_eq!(choose("fnv1a"), Some(2));
    for anywhere in ["murmur2_random", "consistent_random", "fnv1a_random"] {
        assert_eq!(choose(anywhere), None, "{anywhere}");
    }
}

fn partitioning(name: &str) -> Partitioning {
    match name {
        "murmur2" => Partitioning::Murmur2,
        "murmur2_random" => Partitioning::Murmur2Random,
        "consistent" => Partitioning::Consistent,
        "consistent_random" => Partitioning::ConsistentRandom,
        "fnv1a" => Partitioning::Fnv1a,
        "fnv1a_random" => Partitioning::Fnv1aRandom,
        other => panic!("{other}"),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}
