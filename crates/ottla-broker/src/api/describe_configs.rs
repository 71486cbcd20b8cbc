//! DescribeConfigs: the settings of topics and nodes.

use std::collections::HashSet;

use ottla_wire::ErrorCode;
use ottla_wire::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};

use super::Serve;
use crate::context::Context;
use crate::node_config::{NODE_SETTINGS, TYPE_LONG};
use crate::topic_config::{SETTINGS, TopicConfig};

impl Serve for DescribeConfigsRequest {
    async fn serve(self, context: &Context) -> Option<DescribeConfigsResponse> {
        let mut seen = HashSet::new();
        let results = self
            .resources
            .iter()
            .filter(|resource| seen.insert((resource.resource_type, &*resource.resource_name)))
            .map(|resource| match configs(context, &self, resource) {
                Ok(configs) => DescribeConfigsResult {
                    error_message: None,
                    resource_type: resource.resource_type,
                    resource_name: resource.resource_name.clone(),
                    configs,
                    ..Default::default()
                },
                Err((error, message)) => failed(resource, error, message),
            })
            .collect();
        Some(DescribeConfigsResponse {
            results,
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> DescribeConfigsResponse {
        let results = self
            .resources
            .iter()
            .map(|resource| failed(resource, error, String::new()))
            .collect();
        DescribeConfigsResponse {
            results,
            ..Default::default()
        }
    }
}

fn configs(
    context: &Context,
    request: &DescribeConfigsRequest,
    resource: &DescribeConfigsResource,
) -> Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)> {
    let all = match resource.resource_type {
        TOPIC => {
            let cluster = context.shared.cluster.read();
            let topic = cluster.topic(&resource.resource_name).ok_or_else(|| {
                let name = &*resource.resource_name;
                (
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    format!("The topic '{name}' does not exist."),
                )
            })?;
            of_topic(&topic.config, request)
        }
        BROKER => of_node(context, request, &resource.resource_name)?,
        GROUP => of_group(context, &resource.resource_name),
        other => {
            let message = format!("Resources of type {other} have no settings here.");
            return Err((ErrorCode::INVALID_REQUEST, message));
        }
    };
    let wanted = |name: &str| match &resource.configuration_keys {
        None => true,
        Some(keys) => keys.iter().any(|key| *key == *name),
    };
    Ok(all
        .into_iter()
        .filter(|config| wanted(&config.name))
        .collect())
}

fn of_topic(
    config: &TopicConfig,
    request: &DescribeConfigsRequest,
) -> Vec<DescribeConfigsResourceResult> {
    SETTINGS
        .iter()
        .map(|setting| {
            let (value, is_set) = config.value(setting);
            let started_with = config.broker_default(setting);
            let synonym = |value: &str, source| DescribeConfigsSynonym {
                name: setting.name.into(),
                value: Some(value.into()),
                source,
                ..Default::default()
            };
            let mut synonyms = Vec::new();
            if request.include_synonyms {
                if is_set {
                    synonyms.push(synonym(value, SOURCE_TOPIC));
                }
                if let Some(value) = started_with {
                    synonyms.push(synonym(value, SOURCE_STATIC_BROKER));
                }
                synonyms.push(synonym(setting.default, SOURCE_DEFAULT));
            }
            DescribeConfigsResourceResult {
                name: setting.name.into(),
                value: Some(value.into()),
                config_source: match started_with {
                    _ if is_set => SOURCE_TOPIC,
                    Some(_) => SOURCE_STATIC_BROKER,
                    None => SOURCE_DEFAULT,
                },
                synonyms,
                config_type: setting.wire_type(),
                documentation: request.include_documentation.then(|| setting.doc.into()),
                ..Default::default()
            }
        })
        .collect()
}

/// Settings of share groups; a group need not exist to have some.
fn of_group(context: &Context, group: &str) -> Vec<DescribeConfigsResourceResult> {
    let settings = context.shared.settings.lock();
    let all = settings.groups.all(group);
    all.map(|(name, value, is_set)| DescribeConfigsResourceResult {
        name: name.into(),
        value: Some(value.into()),
        config_source: if is_set { SOURCE_GROUP } else { SOURCE_DEFAULT },
        documentation: None,
        ..Default::default()
    })
    .collect()
}

fn of_node(
    context: &Context,
    request: &DescribeConfigsRequest,
    name: &str,
) -> Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)> {
    let known = name
        .parse()
        .is_ok_and(|id: i32| context.shared.cluster.read().nodes.contains_key(&id));
    if !known && !name.is_empty() {
        return Err((
            ErrorCode::INVALID_REQUEST,
            format!("There is no broker {name}."),
        ));
    }
    let options = &context.shared.options;
    let settings = context.shared.settings.lock();
    let set = settings.throttles.of(name.parse().unwrap_or(-1));
    let set = set.map(|(name, value)| DescribeConfigsResourceResult {
        name: name.into(),
        value: Some(value.into()),
        config_source: SOURCE_DYNAMIC_BROKER,
        config_type: TYPE_LONG,
        documentation: None,
        ..Default::default()
    });
    Ok(NODE_SETTINGS
        .iter()
        .map(|setting| DescribeConfigsResourceResult {
            name: setting.name.into(),
            value: Some((setting.show)(options).into()),
            read_only: true,
            config_source: SOURCE_STATIC_BROKER,
            config_type: setting.wire_type,
            documentation: request.include_documentation.then(|| setting.doc.into()),
            ..Default::default()
        })
        .chain(set)
        .collect())
}

fn failed(
    resource: &DescribeConfigsResource,
    error_code: ErrorCode,
    message: String,
) -> DescribeConfigsResult {
    DescribeConfigsResult {
        error_code,
        error_message: Some(message.into()),
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
        ..Default::default()
    }
}

pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
pub(super) const GROUP: i8 = 32;

/// Set for this topic.
pub(super) const SOURCE_TOPIC: i8 = 1;
/// Set for this node while it runs.
const SOURCE_DYNAMIC_BROKER: i8 = 2;
/// Set when the broker was started.
const SOURCE_STATIC_BROKER: i8 = 4;
/// Set for this group.
const SOURCE_GROUP: i8 = 8;
/// Built in.
pub(super) const SOURCE_DEFAULT: i8 = 5;
