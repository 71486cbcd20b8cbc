use std::collections::HashSet;

use super::super::key::{Kind, Status};
use super::super::settings::Settings;
use super::*;

/// librdkafka's property names and Java's (producer, consumer, admin), one per line.
const OTHERS: &str = include_str!("../../../tests/other-clients-keys.txt");

#[test]
fn every_key_of_the_other_clients_has_a_row() {
    let missing: Vec<_> = OTHERS.lines().filter(|name| find(name).is_none()).collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn a_name_means_one_key() {
    let mut seen = HashSet::new();
    let mut variables = HashSet::new();
    for name in names() {
        assert!(seen.insert(name), "{name} appears twice");
        let variable = super::super::environment::variable(name);
        assert!(
            variables.insert(variable),
            "{name} shares its environment variable"
        );
    }
}

#[test]
fn every_row_is_documented_and_its_default_parses() {
    for key in keys() {
        assert!(
            key.doc.ends_with('.') && key.doc.len() > 5,
            "{}: {:?}",
            key.name,
            key.doc
        );
        assert!(!key.doc.contains("  "), "{}: a gap in the text", key.name);
        assert_eq!(
            key.apply.is_some(),
            key.status == Status::Honoured,
            "{}",
            key.name
        );
        if let Some(default) = key.default {
            assert!(
                key.kind.parse(default, 1).is_ok(),
                "{}: {default:?}",
                key.name
            );
        }
        let object = matches!(key.kind, Kind::Object);
        assert!(
            !object || matches!(key.status, Status::Refused(_)),
            "{}",
            key.name
        );
    }
}

#[test]
fn the_defaults_of_the_table_are_those_of_the_settings() {
    let untouched = Settings::default();
    for key in keys() {
        if let (Some(apply), Some(default)) = (key.apply, key.default) {
            // Unset means "where it fits", which no text spells.
            if key.name == "enable.idempotence" {
                continue;
            }
            let mut settings = Settings::default();
            apply(&mut settings, &key.kind.parse(default, 1).unwrap());
            assert_eq!(
                settings.fingerprint(),
                untouched.fingerprint(),
                "{}",
                key.name
            );
        }
    }
}

#[test]
fn what_is_honoured_changes_something() {
    for key in keys() {
        let Some(apply) = key.apply else { continue };
        let Some(other) = another_value(key) else {
            continue;
        };
        let mut settings = Settings::default();
        apply(&mut settings, &key.kind.parse(&other, 1).unwrap());
        assert_ne!(
            settings.fingerprint(),
            Settings::default().fingerprint(),
            "{} = {other} changes nothing, and yet counts as honoured",
            key.name
        );
    }
}

/// A value that is neither the default nor a choice that is not built, if the key has one.
fn another_value(key: &Key) -> Option<String> {
    let default = key.default.map(|d| key.kind.parse(d, 1).unwrap());
    let candidates: Vec<String> = match key.kind {
        Kind::Bool => vec!["true".into(), "false".into()],
        Kind::Int { min, max } | Kind::Bytes { min, max } | Kind::Millis { min, max } => {
            vec![(min + 2).to_string(), (max - 1).to_string()]
        }
        Kind::FractionalMillis { min, .. } => vec![format!("{}.5", min + 1)],
        Kind::Number { min, max } => vec![((min + max) / 2.0).to_string()],
        Kind::Text | Kind::List => vec!["something".into()],
        Kind::Servers => vec!["kafka:1".into()],
        Kind::Choice(choices) | Kind::Choices(choices) => choices
            .iter()
            .filter(|c| !c.planned)
            .map(|c| c.name.into())
            .collect(),
        Kind::OffsetReset => vec!["earliest".into()],
        Kind::Object => vec![],
    };
    candidates
        .into_iter()
        .find(|c| Some(key.kind.parse(c, 1).unwrap()) != default)
}

#[test]
fn extremes_of_every_range_can_be_applied() {
    for key in keys() {
        let Some(apply) = key.apply else { continue };
        if let Kind::Int { min, max } | Kind::Bytes { min, max } | Kind::Millis { min, max } =
            key.kind
        {
            for extreme in [min, max] {
                let value = key.kind.parse(&extreme.to_string(), 1).unwrap();
                apply(&mut Settings::default(), &value);
            }
        }
    }
}

#[test]
fn topic_properties_take_kcats_prefix() {
    assert_eq!(find("topic.acks").map(|(key, _)| key.name), Some("acks"));
    assert_eq!(
        find("topic.request.required.acks").map(|(key, _)| key.name),
        Some("acks")
    );
    assert!(find("topic.client.id").is_none());
    assert!(find("topic.topic.acks").is_none());
}
