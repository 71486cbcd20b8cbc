//! `ottla topics`.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use ottla::admin::{
    Admin, AlterConfig, ConfigEntry, ConfigSource, Error, NewPartitions, NewTopic, OffsetSpec,
    Resource, Results, TopicDescription,
};
use ottla::{Client, ErrorCode};
use serde_json::json;

use crate::args::{
    AlterTopicArgs, CreateTopicArgs, DeleteTopicsArgs, DescribeTopicsArgs, ListTopicsArgs,
    TopicsCommand,
};
use crate::cluster::{entries_text, json_entries};
use crate::exit::{DONE, Failure, say};
use crate::session::Session;
use crate::{stdout, table};

pub(crate) async fn run(session: Session, command: TopicsCommand) -> Result<(), Failure> {
    let client = session.connect().await?;
    let admin = session.admin(&client);
    let outcome = match command {
        TopicsCommand::Create(args) => create(&session, &admin, args).await,
        TopicsCommand::List(args) => list(&admin, args).await,
        TopicsCommand::Describe(args) => describe(&session, &client, &admin, args).await,
        TopicsCommand::Alter(args) => alter(&session, &client, &admin, args).await,
        TopicsCommand::Delete(args) => delete(&session, &admin, args).await,
    };
    client.close().await;
    outcome
}

async fn create(session: &Session, admin: &Admin, args: CreateTopicArgs) -> Result<(), Failure> {
    let topics: Vec<_> = args
        .topics
        .iter()
        .map(|name| NewTopic {
            name: name.clone(),
            partitions: args.partitions,
            replication_factor: args.replicas,
            configs: args.configs.iter().cloned().collect(),
            ..NewTopic::default()
        })
        .collect();
    let results = admin.create_topics(&topics, args.dry_run).await;
    if !args.dry_run {
        let made = results.iter().filter(|(_, result)| result.is_ok());
        let names: Vec<_> = made.map(|(name, _)| name.as_str()).collect();
        await_known(admin, &names).await;
    }
    let exists = |e: &Error| e.code() == Some(ErrorCode::TOPIC_ALREADY_EXISTS);
    report(
        session,
        args.json.json,
        results,
        |name, result| match result {
            Ok(created) => {
                let counts = match (created.partitions, created.replication_factor) {
                    (Some(p), Some(r)) => {
                        format!(" with {}, {}", of(p, "partition"), of(r.into(), "replica"))
                    }
                    _ => String::new(),
                };
                let done = if args.dry_run {
                    "could be created"
                } else {
                    "created"
                };
                Item::done(
                    if args.dry_run { "possible" } else { "created" },
                    format!("topic {name} {done}{counts}"),
                    json!({
                        "id": created.id.to_string(),
                        "partitions": created.partitions,
                        "replication_factor": created.replication_factor,
                    }),
                )
            }
            Err(error) if args.if_not_exists && exists(&error) => {
                Item::done("exists", format!("topic {name} exists already"), json!({}))
            }
            Err(error) => Item::failed(error),
        },
    )
}

/// Waits until a broker knows these topics: the controller's answer does not wait for the brokers to hear of them, and
/// the next command may be one that writes. Gives up in silence, as the topics are made.
async fn await_known(admin: &Admin, names: &[&str]) {
    let known = async {
        loop {
            let topics = admin.describe_topics(names).await;
            if topics.iter().all(|(_, result)| result.is_ok()) {
                return;
            }
            tokio::time::sleep(KNOWN_EVERY).await;
        }
    };
    let _ = tokio::time::timeout(KNOWN_WITHIN, known).await;
}

const KNOWN_EVERY: Duration = Duration::from_millis(20);
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

async fn delete(session: &Session, admin: &Admin, args: DeleteTopicsArgs) -> Result<(), Failure> {
    let names: Vec<_> = args.topics.iter().map(String::as_str).collect();
    let results = admin.delete_topics(&names).await;
    report(
        session,
        args.json.json,
        results,
        |name, result| match result {
            Ok(()) => Item::done("deleted", format!("topic {name} deleted"), json!({})),
            Err(error)
                if args.if_exists
                    && error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) =>
            {
                Item::done("missing", format!("topic {name} does not exist"), json!({}))
            }
            Err(error) => Item::failed(error),
        },
    )
}

async fn alter(
    session: &Session,
    client: &Client,
    admin: &Admin,
    args: AlterTopicArgs,
) -> Result<(), Failure> {
    let topic = &args.topic;
    session.find_topics(client, &[topic]).await?;
    let mut changes = BTreeMap::new();
    let all = (args
        .configs
        .into_iter()
        .map(|(k, v)| (k, AlterConfig::Set(v))))
    .chain(args.delete.into_iter().map(|k| (k, AlterConfig::Delete)))
    .chain(
        args.append
            .into_iter()
            .map(|(k, v)| (k, AlterConfig::Append(v))),
    )
    .chain(
        args.subtract
            .into_iter()
            .map(|(k, v)| (k, AlterConfig::Subtract(v))),
    );
    for (key, change) in all {
        if changes.insert(key.clone(), change).is_some() {
            return Err(Failure::usage(format!("setting `{key}` is changed twice")));
        }
    }
    let mut done = Vec::new();
    // Settings first: they can be put back, partitions cannot.
    if !changes.is_empty() {
        let resource = Resource::Topic(topic.clone());
        admin
            .alter_configs(&resource, &changes, args.dry_run)
            .await?;
        done.push(format!("settings of topic {topic} changed"));
    }
    if let Some(count) = args.partitions {
        let partitions = NewPartitions {
            topic: topic.clone(),
            count,
            ..NewPartitions::default()
        };
        for (_, result) in admin.create_partitions(&[partitions], args.dry_run).await {
            result?;
        }
        done.push(format!("topic {topic} has {} now", of(count, "partition")));
    }
    if args.json.json {
        return stdout::print_json(&json!({
            "topic": topic,
            "configs_changed": changes.keys().collect::<Vec<_>>(),
            "partitions": args.partitions,
            "dry_run": args.dry_run,
        }));
    }
    if !session.quiet {
        let note = if args.dry_run {
            " (dry run: nothing was changed)"
        } else {
            ""
        };
        for line in done {
            stdout::print(format!("{line}{note}\n"))?;
        }
    }
    Ok(())
}

async fn list(admin: &Admin, args: ListTopicsArgs) -> Result<(), Failure> {
    let mut topics = admin.list_topics().await?;
    topics.retain(|t| args.internal || !t.is_internal);
    if args.json.json {
        let topics: Vec<_> = topics
            .iter()
            .map(|t| {
                json!({
                    "topic": t.name, "id": t.id.to_string(), "internal": t.is_internal,
                    "partitions": t.partitions.len(), "replication_factor": replicas(t),
                })
            })
            .collect();
        return stdout::print_json(&json!({ "topics": topics }));
    }
    let mut rows = table::new(&["topic", "partitions", "replicas"]);
    table::right(&mut rows, &[1, 2]);
    for topic in &topics {
        let counts = [topic.partitions.len(), replicas(topic)].map(|n| n.to_string());
        rows.add_row([topic.name.clone(), counts[0].clone(), counts[1].clone()]);
    }
    stdout::print(table::text(&rows))
}

fn replicas(topic: &TopicDescription) -> usize {
    topic
        .partitions
        .iter()
        .map(|p| p.replicas.len())
        .max()
        .unwrap_or(0)
}

async fn describe(
    session: &Session,
    client: &Client,
    admin: &Admin,
    args: DescribeTopicsArgs,
) -> Result<(), Failure> {
    let names: Vec<_> = args.topics.iter().map(String::as_str).collect();
    let topics = session.find_topics(client, &names).await?;
    let mut documents = Vec::new();
    for (i, topic) in topics.iter().enumerate() {
        let mut configs = admin
            .describe_configs(&Resource::Topic(topic.name.clone()))
            .await?;
        configs.retain(|c| args.all || c.source == ConfigSource::Topic);
        let bounds = Bounds::find(admin, topic).await;
        if args.json.json {
            documents.push(document(topic, &bounds, &configs));
        } else {
            let gap = if i > 0 { "\n" } else { "" };
            stdout::print(format!("{gap}{}", text(topic, &bounds, &configs)))?;
        }
    }
    if args.json.json {
        stdout::print_json(&json!({ "topics": documents }))?;
    }
    Ok(())
}

/// The first offset of each partition and the one behind its last, as far as leaders tell.
struct Bounds {
    first: HashMap<String, i64>,
    end: HashMap<String, i64>,
}

impl Bounds {
    async fn find(admin: &Admin, topic: &TopicDescription) -> Bounds {
        let ask = async |spec| {
            // A partition without a leader has no one to ask; waiting would not help.
            let asked: Vec<_> = topic
                .partitions
                .iter()
                .filter(|p| p.leader.is_some())
                .map(|p| (topic.name.as_str(), p.index, spec))
                .collect();
            let listed = admin.list_offsets(&asked).await;
            listed
                .into_iter()
                .filter_map(|(name, r)| Some((name, r.ok()?.offset?)))
                .collect()
        };
        Bounds {
            first: ask(OffsetSpec::Earliest).await,
            end: ask(OffsetSpec::Latest).await,
        }
    }

    fn of(&self, topic: &str, partition: i32) -> (Option<i64>, Option<i64>) {
        let name = format!("{topic}[{partition}]");
        (self.first.get(&name).copied(), self.end.get(&name).copied())
    }
}

fn document(
    topic: &TopicDescription,
    bounds: &Bounds,
    configs: &[ConfigEntry],
) -> serde_json::Value {
    let partitions: Vec<_> = topic
        .partitions
        .iter()
        .map(|p| {
            let (first, end) = bounds.of(&topic.name, p.index);
            json!({
                "partition": p.index, "leader": p.leader, "leader_epoch": p.leader_epoch,
                "replicas": p.replicas, "isr": p.isr, "offline": p.offline,
                "first_offset": first, "end_offset": end,
            })
        })
        .collect();
    json!({
        "topic": topic.name, "id": topic.id.to_string(), "internal": topic.is_internal,
        "partitions": partitions, "configs": json_entries(configs),
    })
}

fn text(topic: &TopicDescription, bounds: &Bounds, configs: &[ConfigEntry]) -> String {
    let mut rows = table::new(&["partition", "leader", "replicas", "in sync", "first", "end"]);
    table::right(&mut rows, &[0, 1, 4, 5]);
    let some = |number: Option<i64>| number.map_or("-".to_owned(), |n| n.to_string());
    for p in &topic.partitions {
        let (first, end) = bounds.of(&topic.name, p.index);
        rows.add_row([
            p.index.to_string(),
            p.leader.map_or("none".into(), |l| l.to_string()),
            table::list(&p.replicas),
            table::list(&p.isr),
            some(first),
            some(end),
        ]);
    }
    format!(
        "Topic {} (id {})\n\n{}\nSettings\n\n{}",
        topic.name,
        topic.id,
        table::text(&rows),
        entries_text(configs)
    )
}

/// What became of one topic.
struct Item {
    outcome: &'static str,
    text: String,
    details: serde_json::Value,
    failure: Option<Failure>,
}

impl Item {
    fn done(outcome: &'static str, text: String, details: serde_json::Value) -> Item {
        Item {
            outcome,
            text,
            details,
            failure: None,
        }
    }

    fn failed(error: Error) -> Item {
        let details =
            json!({ "error": error.to_string(), "code": error.code().map(ErrorCode::name) });
        Item {
            outcome: "failed",
            text: String::new(),
            details,
            failure: Some(error.into()),
        }
    }
}

/// Tells what became of each topic; fails with the first failure, the others told before.
fn report<T>(
    session: &Session,
    json: bool,
    results: Results<T>,
    mut tell: impl FnMut(&str, Result<T, Error>) -> Item,
) -> Result<(), Failure> {
    let mut documents = Vec::new();
    let mut failures = Vec::new();
    for (name, result) in results {
        let item = tell(&name, result);
        if json {
            let mut document = item.details;
            document["topic"] = json!(name);
            document["outcome"] = json!(item.outcome);
            documents.push(document);
        } else if item.failure.is_none() && !session.quiet {
            stdout::print(format!("{}\n", item.text))?;
        }
        failures.extend(item.failure);
    }
    if json {
        stdout::print_json(&json!({ "topics": documents }))?;
    }
    let last = failures.pop();
    for failure in failures.iter().filter(|f| f.status() != DONE) {
        say(format_args!("error: {}", failure.text()));
    }
    last.map_or(Ok(()), Err)
}

fn of(count: i32, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
