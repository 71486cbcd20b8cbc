//! `ottla cluster`.

use ottla::admin::{ConfigEntry, Resource};
use serde_json::json;

use crate::args::ClusterArgs;
use crate::exit::Failure;
use crate::session::Session;
use crate::{stdout, table};

pub(crate) async fn run(session: Session, args: ClusterArgs) -> Result<(), Failure> {
    let client = session.connect().await?;
    let admin = session.admin(&client);
    let cluster = admin.describe_cluster().await?;
    let configs = match args.configs {
        Some(broker) => {
            let mut entries = admin.describe_configs(&Resource::Broker(broker)).await?;
            entries.retain(|e| args.all || e.source.is_set() || !e.read_only && is_in_file(e));
            Some((broker, entries))
        }
        None => None,
    };
    client.close().await;

    if args.json.json {
        let brokers: Vec<_> = cluster
            .brokers
            .iter()
            .map(|b| json!({ "id": b.id, "host": b.address.host(), "port": b.address.port(), "rack": b.rack }))
            .collect();
        let mut document =
            json!({ "id": cluster.id, "controller": cluster.controller, "brokers": brokers });
        if let Some((broker, entries)) = configs {
            document["configs"] = json!({ "broker": broker, "entries": json_entries(&entries) });
        }
        return stdout::print_json(&document);
    }
    let mut text = String::new();
    if let Some(id) = &cluster.id {
        text.push_str(&format!("Cluster {id}\n\n"));
    }
    let mut brokers = table::new(&["broker", "address", "rack", ""]);
    table::right(&mut brokers, &[0]);
    for broker in &cluster.brokers {
        brokers.add_row([
            broker.id.to_string(),
            broker.address.to_string(),
            broker.rack.clone().unwrap_or_default(),
            if cluster.controller == Some(broker.id) {
                "controller".into()
            } else {
                String::new()
            },
        ]);
    }
    text.push_str(&table::text(&brokers));
    if let Some((broker, entries)) = configs {
        text.push_str(&format!(
            "\nSettings of broker {broker}\n\n{}",
            entries_text(&entries)
        ));
    }
    stdout::print(text)
}

fn is_in_file(entry: &ConfigEntry) -> bool {
    matches!(entry.source, ottla::admin::ConfigSource::File)
}

/// Settings as a table.
pub(crate) fn entries_text(entries: &[ConfigEntry]) -> String {
    if entries.is_empty() {
        return "all at their defaults\n".into();
    }
    let mut rows = table::new(&["setting", "value", "from"]);
    for entry in entries {
        let value = match (&entry.value, entry.sensitive) {
            (_, true) => "[hidden]",
            (Some(value), _) => value,
            (None, _) => "",
        };
        rows.add_row([entry.name.as_str(), value, source(entry)]);
    }
    table::text(&rows)
}

/// Settings as JSON.
pub(crate) fn json_entries(entries: &[ConfigEntry]) -> serde_json::Value {
    entries
        .iter()
        .map(|e| {
            json!({
                "name": e.name, "value": e.value, "source": source(e),
                "read_only": e.read_only, "sensitive": e.sensitive,
            })
        })
        .collect()
}

fn source(entry: &ConfigEntry) -> &'static str {
    use ottla::admin::ConfigSource;
    match entry.source {
        ConfigSource::Topic => "topic",
        ConfigSource::Broker => "broker",
        ConfigSource::AllBrokers => "all brokers",
        ConfigSource::File => "file",
        ConfigSource::Default => "default",
        ConfigSource::Logger => "logger",
        ConfigSource::ClientMetrics => "client metrics",
        ConfigSource::Group => "group",
        _ => "other",
    }
}
