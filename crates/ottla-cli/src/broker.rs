//! `ottla broker`: the embedded broker for other programs.
//!
//! Starts it, says where it is, and waits to be told to end. What it serves is ottla-broker's; nothing here speaks
//! Kafka.

use std::collections::HashMap;

use ottla_broker::{BrokerOptions, EmbeddedCluster};
use serde_json::json;

use crate::args::{BrokerArgs, Common};
use crate::exit::{Failure, say};
use crate::session::{interrupted, key_value};
use crate::stdout;

pub(crate) async fn run(common: &Common, args: BrokerArgs) -> Result<(), Failure> {
    if common.settings.iter().any(|setting| setting == "list") {
        return stdout::print(list());
    }
    let options = options(common, &args)?;
    // From here on: a signal that comes while it starts is not lost.
    let interrupt = interrupted();
    let wanted = options.topics.clone();
    let cluster = EmbeddedCluster::start(options).await?;
    for (name, partitions) in &wanted {
        let there = (0..)
            .take_while(|index| cluster.offsets(name, *index).is_some())
            .count();
        if i32::try_from(there) != Ok(*partitions) && !common.quiet {
            say(format_args!(
                "warning: topic `{name}` was there already, with {there} partitions, and stays so"
            ));
        }
    }
    // Whoever started it may want to know no more than that, and close the pipe: a broker goes on.
    let _ = stdout::print(announcement(&cluster, &args, common.quiet));
    interrupt.await;
    if !common.quiet {
        say("stopping");
    }
    cluster.stop().await;
    Ok(())
}

fn options(common: &Common, args: &BrokerArgs) -> Result<BrokerOptions, Failure> {
    if common.bootstrap.is_some() {
        return Err(Failure::usage(
            "-b names brokers to connect to; a broker is told where to listen, with --listen",
        ));
    }
    if !common.properties.is_empty() {
        return Err(Failure::usage(
            "-F reads the settings of clients; give those of the broker with -X KEY=VALUE",
        ));
    }
    let mut options = BrokerOptions {
        listen: args.listen.to_string(),
        nodes: args.nodes,
        data_dir: args.data_dir.clone(),
        ..BrokerOptions::default()
    };
    for setting in &common.settings {
        let (key, value) = key_value(setting)?;
        set(&mut options, key.trim(), value)?;
    }
    let mut given = HashMap::new();
    for topic in &args.topics {
        let partitions = topic.partitions.unwrap_or(options.partitions);
        match given.insert(&topic.name, partitions) {
            Some(other) if other != partitions => {
                return Err(Failure::usage(format!(
                    "topic `{}` is given twice, with {other} and with {partitions} partitions",
                    topic.name
                )));
            }
            Some(_) => {}
            None => options.topics.push((topic.name.clone(), partitions)),
        }
    }
    Ok(options)
}

fn set(options: &mut BrokerOptions, key: &str, value: &str) -> Result<(), Failure> {
    let names: Vec<_> = BrokerOptions::settings()
        .flat_map(|setting| [vec![setting.name], setting.aliases].concat())
        .collect();
    if names.contains(&key) {
        return options
            .set(key, value)
            .map_err(|error| Failure::usage(format!("-X {error}")));
    }
    let nearest = names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(key, name), name))
        .filter(|(distance, _)| *distance <= (key.len() / 3).max(1))
        .min();
    let hint = match nearest {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => "`ottla broker -X list` lists what there is".into(),
    };
    Err(Failure::usage(format!(
        "-X {key}: the broker has no such setting; {hint}"
    )))
}

/// What to connect to; the addresses first, on a line of their own, for scripts.
fn announcement(cluster: &EmbeddedCluster, args: &BrokerArgs, quiet: bool) -> String {
    let bootstrap = cluster.bootstrap_servers();
    if args.json.json {
        let document = json!({
            "bootstrap_servers": bootstrap,
            "cluster_id": cluster.cluster_id(),
            "nodes": cluster.node_ids(),
            "data_dir": args.data_dir,
            "pid": std::process::id(),
        });
        return format!("{document}\n");
    }
    if quiet {
        return format!("{bootstrap}\n");
    }
    let nodes = match args.nodes {
        1 => "1 node".to_owned(),
        nodes => format!("{nodes} nodes"),
    };
    let data = match &args.data_dir {
        Some(dir) => format!("data in {}", dir.display()),
        None => "data in memory, gone at the end".to_owned(),
    };
    let mut text = format!("{bootstrap}\n\n{nodes}, {data}\n");
    if ["0.0.0.0", "[::]"].contains(&args.listen.host.as_str()) {
        text.push_str(
            "It listens on every address, and sends clients to 127.0.0.1: only programs on this machine can use it.\n",
        );
    }
    let topic = args.topics.first().map_or("TOPIC", |topic| &topic.name);
    let first = bootstrap.split(',').next().unwrap_or_default();
    text.push_str(&format!(
        "\nIn another terminal:\n\
         \x20 ottla produce -b {first} -t {topic}\n\
         \x20 ottla consume -b {first} -t {topic}\n\
         \x20 ottla topics list -b {first}\n\
         \x20 kcat -b {first} -L\n\
         Ctrl-C ends it.\n"
    ));
    text
}

/// Every setting of the broker, with its documentation.
fn list() -> String {
    let mut text = String::new();
    for setting in BrokerOptions::settings() {
        text.push_str(&format!(
            "{}\n    default {:?}\n",
            setting.name, setting.default
        ));
        if !setting.aliases.is_empty() {
            text.push_str(&format!("    also: {}\n", setting.aliases.join(", ")));
        }
        text.push_str(&format!("    {}\n\n", setting.doc));
    }
    text
}
