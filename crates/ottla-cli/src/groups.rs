//! `ottla groups`.

use std::collections::HashMap;

use ottla::admin::{Admin, GroupDescription, GroupOffset, OffsetSpec};
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
    for (i, (id, result)) in admin.describe_groups(&ids).await.into_iter().enumerate() {
        let group = result?;
        let offsets = admin.group_offsets(&id).await?;
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

/// The end of a partition and how far the group is behind it, where known.
fn lag(offset: &GroupOffset, ends: &HashMap<String, i64>) -> (Option<i64>, Option<i64>) {
    let end = ends
        .get(&format!("{}[{}]", offset.topic, offset.partition))
        .copied();
    (end, end.map(|end| (end - offset.offset).max(0)))
}

/// The member that has a partition.
fn owner<'a>(group: &'a GroupDescription, offset: &GroupOffset) -> Option<&'a str> {
    let has = |partitions: &Vec<i32>| partitions.contains(&offset.partition);
    group
        .members
        .iter()
        .find(|m| m.assignment.get(&offset.topic).is_some_and(has))
        .map(|m| m.id.as_str())
}

fn document(
    group: &GroupDescription,
    offsets: &[GroupOffset],
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
    let offsets: Vec<_> = offsets
        .iter()
        .map(|o| {
            let (end, lag) = lag(o, ends);
            json!({
                "topic": o.topic, "partition": o.partition, "committed": o.offset, "end": end,
                "lag": lag, "member": owner(group, o), "metadata": o.metadata,
            })
        })
        .collect();
    json!({
        "group": group.id, "state": group.state, "protocol": group.protocol,
        "assignor": group.assignor, "coordinator": group.coordinator,
        "members": members, "offsets": offsets,
    })
}

fn text(group: &GroupDescription, offsets: &[GroupOffset], ends: &HashMap<String, i64>) -> String {
    let mut rows = table::new(&["topic", "partition", "committed", "end", "lag", "member"]);
    table::right(&mut rows, &[1, 2, 3, 4]);
    let some = |number: Option<i64>| number.map_or("-".to_owned(), |n| n.to_string());
    for offset in offsets {
        let (end, lag) = lag(offset, ends);
        rows.add_row([
            offset.topic.clone(),
            offset.partition.to_string(),
            offset.offset.to_string(),
            some(end),
            some(lag),
            owner(group, offset).unwrap_or("-").to_owned(),
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
