//! `docs/configuration.md` is written from the table of settings.
//!
//! `OTTLA_WRITE_DOCS=1 cargo test -p ottla --test configuration_page` writes it anew.

use std::fmt::Write as _;
use std::path::PathBuf;

use ottla::Config;
use ottla::config::{Importance, Key, Kind, Scope, Status, environment_variable, key_groups};

#[test]
fn the_page_is_up_to_date() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let page = page();
    if std::env::var_os("OTTLA_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/configuration.md is not what the table of settings says; write it anew with \
         OTTLA_WRITE_DOCS=1 cargo test -p ottla --test configuration_page"
    );
}

fn page() -> String {
    let mut page = String::from(HEAD);
    for (heading, keys) in key_groups() {
        let _ = writeln!(page, "\n## {heading}");
        for key in keys
            .iter()
            .filter(|key| !matches!(key.status, Status::Refused(_)))
        {
            row(&mut page, key);
        }
    }
    page.push_str(REFUSED);
    for (_, keys) in key_groups() {
        for key in keys {
            if let Status::Refused(why) = key.status {
                let _ = writeln!(page, "| {} | {why} |", names(key));
            }
        }
    }
    page
}

fn row(page: &mut String, key: &Key) {
    let _ = writeln!(page, "\n### `{}`\n", key.name);
    let scope = match key.scope {
        Scope::Producer => "producer",
        Scope::Consumer => "consumer",
        _ => "client",
    };
    let importance = match key.importance {
        Importance::High => "high",
        Importance::Medium => "medium",
        _ => "low",
    };
    let default = match key.default {
        Some("") => "empty".to_owned(),
        Some(default) => format!("`{default}`"),
        None => "not set".to_owned(),
    };
    let _ = writeln!(
        page,
        "*{scope}, {importance} importance; default: {default}; values: {}; {}*\n",
        key.kind.range(),
        match key.status {
            Status::Honoured => "**honoured**",
            Status::Ignored(_) => "**no effect**",
            _ => "**not built yet**",
        }
    );
    if !key.aliases.is_empty() {
        let aliases: Vec<_> = key
            .aliases
            .iter()
            .map(|alias| match alias.unit {
                1 => format!("`{}`", alias.name),
                unit => format!("`{}` (in units of {unit} bytes)", alias.name),
            })
            .collect();
        let _ = writeln!(page, "Also: {}.\n", aliases.join(", "));
    }
    let _ = writeln!(page, "{}", key.doc);
    if let Status::Ignored(why) = key.status {
        let _ = writeln!(page, "\nSetting it has no effect: {why}.");
    }
    if let Kind::Choice(choices) | Kind::Choices(choices) = key.kind {
        let planned: Vec<_> = choices
            .iter()
            .filter(|c| c.planned)
            .map(|c| format!("`{}`", c.name))
            .collect();
        if !planned.is_empty() {
            let _ = writeln!(page, "\nNot built yet: {}.", planned.join(", "));
        }
    }
}

fn names(key: &Key) -> String {
    std::iter::once(key.name)
        .chain(key.aliases.iter().map(|alias| alias.name))
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// librdkafka's properties as its documentation lists them.
const LIBRDKAFKA: &str = include_str!("librdkafka-properties.txt");

struct Property {
    name: &'static str,
    who: &'static str,
    values: &'static str,
    default: &'static str,
}

fn librdkafkas() -> impl Iterator<Item = Property> {
    LIBRDKAFKA
        .lines()
        .skip(1)
        .filter(|line| !line.is_empty())
        .map(|line| {
            let columns: Vec<_> = line.split('|').map(str::trim).collect();
            let [name, who, values, default] = columns[..] else {
                panic!("not four columns: {line}")
            };
            Property {
                name,
                who,
                values,
                default,
            }
        })
}

fn key(name: &str) -> Option<&'static Key> {
    let mut keys = key_groups().flat_map(|(_, keys)| keys);
    keys.find(|key| key.name == name || key.aliases.iter().any(|alias| alias.name == name))
}

#[test]
fn the_page_tells_of_every_property_of_librdkafkas() {
    // What is on file equals it, and may be being written just now.
    let page = page();
    for Property { name, .. } in librdkafkas() {
        assert!(key(name).is_some(), "{name} has no row in the table");
        assert!(
            page.contains(&format!("`{name}`")),
            "{name} is not on the page"
        );
    }
    assert!(librdkafkas().count() > 190);
}

#[test]
fn every_property_of_producers_is_decided() {
    let mut others = Vec::new();
    for Property { name, who, .. } in librdkafkas().filter(|p| p.who.starts_with("producer")) {
        match key(name).unwrap().status {
            Status::Honoured => {}
            Status::Ignored(_) | Status::Refused(_) => others.push(name),
            status => panic!("{name} ({who}) is {status:?}: neither honoured nor refused"),
        }
    }
    others.sort_unstable();
    others.dedup();
    // A new name here needs as good a reason as these have on the page.
    assert_eq!(
        others,
        [
            "delivery.report.only.error",
            "dr_cb",
            "dr_msg_cb",
            "msg_order_cmp",
            "partitioner_cb",
            "produce.offset.report",
            "queue.buffering.backpressure.threshold",
            "sticky.partitioning.linger.ms",
        ]
    );
}

#[test]
fn what_librdkafka_accepts_of_a_producer_is_accepted() {
    // Their other values mean nothing to brokers of today, or would reorder records.
    let exceptions = [
        ("acks", "1000"),
        ("request.required.acks", "1000"),
        ("queuing.strategy", "lifo"),
        // A batch is one allocation of the program's, and a request's frame must hold it.
        ("batch.size", "2147483647"),
    ];
    for property in librdkafkas().filter(|p| p.who.starts_with("producer")) {
        let name = property.name;
        if matches!(key(name).unwrap().status, Status::Refused(_)) {
            continue;
        }
        let values: Vec<&str> = match property.values.split_once("..") {
            Some((lowest, highest)) => vec![lowest, highest, property.default],
            None if property.values.is_empty() => vec![property.default],
            None => property.values.split(',').map(str::trim).collect(),
        };
        for value in values.into_iter().filter(|value| !value.is_empty()) {
            let accepted = Config::new().set(name, value).map(drop);
            let excepted = exceptions.contains(&(name, value));
            assert_eq!(accepted.is_err(), excepted, "{name}={value}: {accepted:?}");
        }
    }
}

#[test]
fn the_page_says_how_to_use_the_environment() {
    assert!(HEAD.contains(&environment_variable("linger.ms")));
    assert!(HEAD.contains(&environment_variable("bootstrap.servers")));
}

const HEAD: &str = "\
<!-- Written from the table in crates/ottla/src/config/table by
     OTTLA_WRITE_DOCS=1 cargo test -p ottla --test configuration_page. Change the table, not this page. -->

# Configuration

Ottla takes the settings of Java's clients and of librdkafka by their own names, and their spellings of
values. They can come from, later ones winning:

1. the environment: `OTTLA_BOOTSTRAP` for `bootstrap.servers`, and `OTTLA_CONFIG_` with the key in capitals
   and underscores for its dots for every other (`OTTLA_CONFIG_LINGER_MS=20`),
2. a Java `.properties` file (`Config::load_properties_file`, `ottla -F FILE`),
3. code or the command line (`Config::set`, `ottla -X key=value`; kcat's `topic.` prefix is understood).

In Rust, `Client::builder()` has a method for each of these, and `.producer(|p| …)`, `.consumer(|c| …)`
and `.cluster(|c| …)` for the typed settings behind the names.

Producers may treat single topics differently (`Client::builder().set_for_topic(\"audit\", \"compression.type\",
\"zstd\")`): `acks`, `compression.type`, `compression.level`, `delivery.timeout.ms` and `partitioner`, under any of their
names.

What each entry says about itself is meant literally:

- **honoured**: does what its paragraph says.
- **no effect**: can be set, so that a configuration of another client can be taken over, and leads to a
  warning that says why it changes nothing.
- **not built yet**: only its default value is accepted; anything else is an error, never silence.

Keys that could only be wrong here (Java classes, C callbacks) are an error; they are listed at the end with
the reason. So is a key that nobody knows, with the nearest known one as a suggestion. Values of keys that
hold secrets never appear in messages.
";

const REFUSED: &str = "
## Refused

| key | why |
| --- | --- |
";
