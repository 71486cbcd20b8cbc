//! `ottla groups`.

use std::collections::HashMap;

use ottla::admin::{Admin, Error, GroupDescription, OffsetSpec};
use serde_json::json;

use crate::args::{DescribeGroupsArgs, GroupsCommand, JsonArgs};
use crate::exit::Failure;
use crate::session::Session;
use crate::{stdout, table};

pub(crate) async fn run(session: Session, command: GroupsCommand) -> Result<(), Failure> {
    let client = session.connect().await?;
    let admin = session.admin(&client);
    let outcome = match command {
        GroupsCommand::List(args) => list(&admin, args).await,
        GroupsCommand::Describe(args) => describe(&admin, args).await,
    };
    client.close().await;
    outcome
}

async fn list(admin: &Admin, args: JsonArgs) -> Result<(), Failure> {
    let groups = admin.list_groups().await?;
    if args.json {
        let groups: Vec<_> = groups
            .iter()
            .map(|g| {
                json!({
                    "group": g.id, "state": g.state, "protocol": g.protocol,
                    "protocol_type": g.protocol_type,
                })
            })
            .collect();
        return stdout::print_json(&json!({ "groups": groups }));
    }
    let mut rows = table::new(&["group", "state", "protocol"]);
    for group in groups {
        rows.add_row([
            group.id,
            group.state.unwrap_or_default(),
            group.protocol.unwrap_or(group.protocol_type),
        ]);
    }
    stdout::print(table::text(&rows))
}

async fn describe(admin: &Admin, args: DescribeGroupsArgs) -> Result<(), Failure> {
    let ids: Vec<_> = args.groups.iter().map(String::as_str).collect();
    let mut documents = Vec::new();
    for (i, (_, result)) in admin.describe_groups(&ids).await.into_iter().enumerate() {
        let group = result?;
        let offsets = places(admin, &group).await?;
        let asked: Vec<_> = offsets
            .iter()
            .map(|o| (o.topic.as_str(), o.partition, OffsetSpec::Latest))
            .collect();
        let ends: HashMap<_, _> = admin
            .list_offsets(&asked)
            .await
            .into_iter()
            .filter_map(|(name, r)| Some((name, r.ok()?.offset?)))
            .collect();
        if args.json.json {
            documents.push(document(&group, &offsets, &ends));
        } else {
            let gap = if i > 0 { "\n" } else { "" };
            stdout::print(format!("{gap}{}", text(&group, &offsets, &ends)))?;
        }
    }
    if args.json.json {
        stdout::print_json(&json!({ "groups": documents }))?;
    }
    Ok(())
}

/// Where a group is in a partition.
struct Place {
    topic: String,
    partition: i32,
    /// Committed or, of a share group, the first that is not done with.
    offset: i64,
    metadata: String,
    /// What a share group's coordinator says; records behind the offset may be done with.
    lag: Option<i64>,
}

async fn places(admin: &Admin, group: &GroupDescription) -> Result<Vec<Place>, Error> {
    if !is_share(group) {
        let committed = admin.group_offsets(&group.id).await?.into_iter();
        return Ok(committed
            .map(|at| Place {
                topic: at.topic,
                partition: at.partition,
                offset: at.offset,
                metadata: at.metadata,
                lag: None,
            })
            .collect());
    }
    let started = admin.share_group_offsets(&group.id).await?.into_iter();
    let places = started.filter_map(|at| {
        Some(Place {
            topic: at.topic,
            partition: at.partition,
            offset: at.start_offset?,
            metadata: String::new(),
            lag: at.lag,
        })
    });
    Ok(places.collect())
}

fn is_share(group: &GroupDescription) -> bool {
    group.protocol == "share"
}

/// The end of a partition and how far the group is behind it, where known.
fn lag(place: &Place, ends: &HashMap<String, i64>) -> (Option<i64>, Option<i64>) {
    let end = ends
        .get(&format!("{}[{}]", place.topic, place.partition))
        .copied();
    let behind = end.map(|end| (end - place.offset).max(0));
    (end, place.lag.or(behind))
}

/// The members that have a partition: one at most but in share groups.
fn owners<'a>(group: &'a GroupDescription, place: &Place) -> Vec<&'a str> {
    let has = |partitions: &Vec<i32>| partitions.contains(&place.partition);
    let members = group.members.iter();
    members
        .filter(|m| m.assignment.get(&place.topic).is_some_and(has))
        .map(|m| m.id.as_str())
        .collect()
}

fn document(
    group: &GroupDescription,
    places: &[Place],
    ends: &HashMap<String, i64>,
) -> serde_json::Value {
    let members: Vec<_> = group
        .members
        .iter()
        .map(|m| {
            json!({
                "member": m.id, "instance": m.instance_id, "client": m.client_id,
                "host": m.host, "assignment": m.assignment,
            })
        })
        .collect();
    let offsets: Vec<_> = places
        .iter()
        .map(|at| {
            let (end, lag) = lag(at, ends);
            let owners = owners(group, at);
            match is_share(group) {
                true => json!({
                    "topic": at.topic, "partition": at.partition, "start": at.offset, "end": end,
                    "lag": lag, "members": owners,
                }),
                false => json!({
                    "topic": at.topic, "partition": at.partition, "committed": at.offset, "end": end,
                    "lag": lag, "member": owners.first(), "metadata": at.metadata,
                }),
            }
        })
        .collect();
    json!({
        "group": group.id, "state": group.state, "protocol": group.protocol,
        "assignor": group.assignor, "coordinator": group.coordinator,
        "members": members, "offsets": offsets,
    })
}

fn text(group: &GroupDescription, places: &[Place], ends: &HashMap<String, i64>) -> String {
    let offset = if is_share(group) {
        "start"
    } else {
        "committed"
    };
    let mut rows = table::new(&["topic", "partition", offset, "end", "lag", "member"]);
    table::right(&mut rows, &[1, 2, 3, 4]);
    let some = |number: Option<i64>| number.map_or("-".to_owned(), |n| n.to_string());
    for place in places {
        let (end, lag) = lag(place, ends);
        let owners = owners(group, place);
        rows.add_row([
            place.topic.clone(),
            place.partition.to_string(),
            place.offset.to_string(),
            some(end),
            some(lag),
            if owners.is_empty() {
                "-".to_owned()
            } else {
                owners.join(" ")
            },
        ]);
    }
    let mut members = table::new(&["member", "client", "host", "partitions"]);
    for member in &group.members {
        let assignment: Vec<_> = member
            .assignment
            .iter()
            .map(|(topic, partitions)| format!("{topic}[{}]", table::list(partitions)))
            .collect();
        members.add_row([
            member.id.clone(),
            member.client_id.clone(),
            member.host.clone(),
            assignment.join(" "),
        ]);
    }
    let assignor = match group.assignor.as_str() {
        "" => String::new(),
        assignor => format!(", {assignor}"),
    };
    format!(
        "Group {} ({}, {}{assignor}; coordinator: broker {})\n\n{}\n{}",
        group.id,
        group.state,
        group.protocol,
        group.coordinator,
        table::text(&rows),
        table::text(&members)
    )
}
