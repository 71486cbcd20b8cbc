//! AlterConfigs and IncrementalAlterConfigs: the settings of topics change.

use ottla_wire::ErrorCode;
use ottla_wire::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse,
};
use ottla_wire::messages::incremental_alter_configs::{
    self as incremental, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

use super::Serve;
use super::describe_configs::{BROKER, GROUP, TOPIC};
use crate::context::Context;
use crate::error::Refused;
use crate::topic_config::{Kind, SETTINGS, Setting, TopicConfig};
use crate::topics::{self, TopicError};

impl Serve for AlterConfigsRequest {
    async fn serve(self, context: &Context) -> Option<AlterConfigsResponse> {
        let responses = self
            .resources
            .iter()
            .map(|resource| {
                let values = resource
                    .configs
                    .iter()
                    .filter_map(|config| Some((&*config.name, &**config.value.as_ref()?)));
                let result = change(
                    context,
                    resource.resource_type,
                    &resource.resource_name,
                    self.validate_only,
                    |config| config.replaced(values),
                );
                let (error_code, error_message) = outcome(result);
                AlterConfigsResourceResponse {
                    error_code,
                    error_message,
                    resource_type: resource.resource_type,
                    resource_name: resource.resource_name.clone(),
                    ..Default::default()
                }
            })
            .collect();
        Some(AlterConfigsResponse {
            responses,
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> AlterConfigsResponse {
        let responses = self
            .resources
            .iter()
            .map(|resource| AlterConfigsResourceResponse {
                error_code: error,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
                ..Default::default()
            })
            .collect();
        AlterConfigsResponse {
            responses,
            ..Default::default()
        }
    }
}

impl Serve for IncrementalAlterConfigsRequest {
    async fn serve(self, context: &Context) -> Option<IncrementalAlterConfigsResponse> {
        let responses = self
            .resources
            .iter()
            .map(|resource| {
                let result = if resource.resource_type == BROKER {
                    throttle(context, resource, self.validate_only)
                } else if resource.resource_type == GROUP {
                    of_group(context, resource, self.validate_only)
                } else {
                    change(
                        context,
                        resource.resource_type,
                        &resource.resource_name,
                        self.validate_only,
                        |config| apply(config, &resource.configs),
                    )
                };
                let (error_code, error_message) = outcome(result);
                incremental::AlterConfigsResourceResponse {
                    error_code,
                    error_message,
                    resource_type: resource.resource_type,
                    resource_name: resource.resource_name.clone(),
                    ..Default::default()
                }
            })
            .collect();
        Some(IncrementalAlterConfigsResponse {
            responses,
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> IncrementalAlterConfigsResponse {
        let responses = self
            .resources
            .iter()
            .map(|resource| incremental::AlterConfigsResourceResponse {
                error_code: error,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
                ..Default::default()
            })
            .collect();
        IncrementalAlterConfigsResponse {
            responses,
            ..Default::default()
        }
    }
}

fn change(
    context: &Context,
    resource_type: i8,
    name: &str,
    validate_only: bool,
    changed: impl FnOnce(&TopicConfig) -> Result<TopicConfig, String>,
) -> Result<(), TopicError> {
    if resource_type != TOPIC {
        return Err(TopicError {
            error: ErrorCode::INVALID_REQUEST,
            message: "Only the settings of topics can be changed here.".to_owned(),
        });
    }
    topics::reconfigure(&context.shared, name, validate_only, changed)
}

/// Settings of share groups.
fn of_group(
    context: &Context,
    resource: &incremental::AlterConfigsResource,
    validate_only: bool,
) -> Result<(), TopicError> {
    let invalid = |message: String| Refused {
        error: ErrorCode::INVALID_CONFIG,
        message,
    };
    let name = &*resource.resource_name;
    let changed = context.shared.change_settings(validate_only, |settings| {
        if name.is_empty() {
            return Err(invalid("A group's id is not empty.".to_owned()));
        }
        let listed = |change: &&incremental::AlterableConfig| {
            change.config_operation != SET && change.config_operation != DELETE
        };
        if let Some(change) = resource.configs.iter().find(listed) {
            let name = &change.name;
            return Err(invalid(format!(
                "Can't append to or subtract from {name}: it is not a list."
            )));
        }
        let changes = resource.configs.iter().map(|change| {
            let value = change.value.as_deref().unwrap_or_default();
            let value = (change.config_operation != DELETE).then_some(value);
            (&*change.name, value)
        });
        settings.groups.change(name, changes).map_err(invalid)
    });
    changed.map_err(|Refused { error, message }| TopicError { error, message })
}

/// Of a node, only throttles can be changed while it runs.
fn throttle(
    context: &Context,
    resource: &incremental::AlterConfigsResource,
    validate_only: bool,
) -> Result<(), TopicError> {
    let refused = |message| TopicError {
        error: ErrorCode::INVALID_REQUEST,
        message,
    };
    let name = &*resource.resource_name;
    let node = name.parse().ok().filter(|id| {
        let cluster = context.shared.cluster.read();
        cluster.nodes.contains_key(id)
    });
    let node = node.ok_or_else(|| refused(format!("There is no broker {name}.")))?;
    let changes = resource.configs.iter().map(|change| {
        let value = change.value.as_deref().unwrap_or_default();
        (
            &*change.name,
            (change.config_operation != DELETE).then_some(value),
        )
    });
    let changed = context.shared.change_settings(validate_only, |settings| {
        settings
            .throttles
            .change(node, changes)
            .map_err(|message| Refused {
                error: ErrorCode::INVALID_REQUEST,
                message,
            })
    });
    changed.map_err(|Refused { error, message }| TopicError { error, message })
}

fn apply(
    config: &TopicConfig,
    changes: &[incremental::AlterableConfig],
) -> Result<TopicConfig, String> {
    let mut config = config.clone();
    for change in changes {
        let name = &*change.name;
        let value = change.value.as_deref().unwrap_or_default();
        let setting = Setting::find(name)?;
        let current = || {
            config
                .value(setting)
                .0
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
        };
        let is_list = matches!(setting.kind, Kind::ListOf(_) | Kind::Replicas);
        config = match change.config_operation {
            SET => config.with_changes([(name, Some(value))])?,
            DELETE => config.with_changes([(name, None)])?,
            APPEND if is_list => {
                let mut parts: Vec<String> = current().collect();
                parts.extend(value.split(',').map(|part| part.trim().to_owned()));
                parts.dedup();
                config.with_changes([(name, Some(parts.join(",").as_str()))])?
            }
            SUBTRACT if is_list => {
                let gone: Vec<&str> = value.split(',').map(str::trim).collect();
                let parts: Vec<String> = current()
                    .filter(|part| !gone.contains(&part.as_str()))
                    .collect();
                config.with_changes([(name, Some(parts.join(",").as_str()))])?
            }
            APPEND | SUBTRACT => {
                return Err(format!(
                    "Can't append to or subtract from {name}: it is not a list."
                ));
            }
            other => return Err(format!("Unknown operation {other} on {name}.")),
        };
    }
    debug_assert!(
        config
            .overrides()
            .all(|(name, _)| SETTINGS.iter().any(|s| s.name == name))
    );
    Ok(config)
}

fn outcome(result: Result<(), TopicError>) -> (ErrorCode, Option<ottla_wire::Str>) {
    match result {
        Ok(()) => (ErrorCode::NONE, None),
        Err(error) => (error.error, Some(error.message.into())),
    }
}

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;
