//! Settings of topics, brokers, groups and others, as the brokers hold them.

use std::collections::BTreeMap;

use ottla_net::To;
use ottla_wire::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
};
use ottla_wire::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};

use crate::items::{Answer, only};
use crate::{Admin, Error};

/// What has settings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// A topic, by name.
    Topic(String),
    /// One broker, by id.
    Broker(i32),
    /// What holds for all brokers unless one says otherwise.
    AllBrokers,
    /// A group, by id.
    Group(String),
}

impl Resource {
    /// The type and name in requests.
    fn to_wire(&self) -> (i8, String) {
        match self {
            Resource::Topic(name) => (2, name.clone()),
            Resource::Broker(id) => (4, id.to_string()),
            Resource::AllBrokers => (4, String::new()),
            Resource::Group(id) => (32, id.clone()),
        }
    }

    /// A broker's own settings are known to itself only; the others any broker knows.
    fn target(&self) -> To<'static> {
        match self {
            Resource::Broker(id) => To::Node(*id),
            _ => To::Any,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Resource::Topic(_) => "topic",
            Resource::Broker(_) => "broker",
            Resource::AllBrokers => "default of the brokers",
            Resource::Group(_) => "group",
        }
    }
}

/// One setting of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigEntry {
    /// Its name, such as `retention.ms`.
    pub name: String,
    /// Its value; `None` for secrets, which brokers do not tell.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it cannot be changed while the broker runs.
    pub read_only: bool,
    /// Whether the value is a secret.
    pub sensitive: bool,
    /// What else would give it a value, the one in force first.
    pub synonyms: Vec<ConfigSynonym>,
}

/// One of the places a setting can get its value from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigSynonym {
    /// The name there, such as `log.retention.ms`.
    pub name: String,
    /// The value there.
    pub value: Option<String>,
    /// The place.
    pub source: ConfigSource,
}

/// Where a setting's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConfigSource {
    /// Set on this topic.
    Topic,
    /// Set on this broker while it runs.
    Broker,
    /// Set for all brokers while they run.
    AllBrokers,
    /// In the broker's properties file.
    File,
    /// Built in.
    Default,
    /// Set for this broker's log levels.
    Logger,
    /// Set on this client metrics subscription.
    ClientMetrics,
    /// Set on this group.
    Group,
    /// Something newer than this library.
    Unknown(i8),
}

impl ConfigSource {
    fn from_wire(source: i8) -> ConfigSource {
        match source {
            1 => ConfigSource::Topic,
            2 => ConfigSource::Broker,
            3 => ConfigSource::AllBrokers,
            4 => ConfigSource::File,
            5 => ConfigSource::Default,
            6 => ConfigSource::Logger,
            7 => ConfigSource::ClientMetrics,
            8 => ConfigSource::Group,
            other => ConfigSource::Unknown(other),
        }
    }

    /// Whether somebody set the value, rather than leaving it to a default.
    pub fn is_set(self) -> bool {
        !matches!(self, ConfigSource::Default | ConfigSource::File)
    }
}

/// A change of one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlterConfig {
    /// Gives it this value.
    Set(String),
    /// Takes its value back, so that the default holds.
    Delete,
    /// Adds to a list, comma separated.
    Append(String),
    /// Takes from a list, comma separated.
    Subtract(String),
}

impl Admin {
    /// The settings of a resource, by name (DescribeConfigs).
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such resource or one may not look at it, [`Error::Net`] if no
    /// broker answers in time.
    pub async fn describe_configs(&self, resource: &Resource) -> Result<Vec<ConfigEntry>, Error> {
        let deadline = self.deadline();
        let (resource_type, name) = &resource.to_wire();
        let results = self
            .each(resource.kind(), [name.clone()], deadline, |_| async move {
                let response = self
                    .call(resource.target(), deadline, |_| DescribeConfigsRequest {
                        resources: vec![DescribeConfigsResource {
                            resource_type: *resource_type,
                            resource_name: name.clone().into(),
                            // All of them.
                            configuration_keys: None,
                            ..Default::default()
                        }],
                        include_synonyms: true,
                        ..Default::default()
                    })
                    .await?;
                Ok(response
                    .results
                    .into_iter()
                    .map(|r| {
                        let configs = r.configs;
                        Answer::new(
                            &r.resource_name,
                            r.error_code,
                            r.error_message.as_ref(),
                            || configs.into_iter().map(entry).collect::<Vec<_>>(),
                        )
                    })
                    .collect())
            })
            .await;
        let mut entries = only(results)?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Changes single settings of a resource and leaves the others (IncrementalAlterConfigs); with
    /// `validate_only` only says whether it could. All changes happen, or none.
    ///
    /// # Errors
    /// [`Error::Refused`] with the broker's words for a setting that is unknown or out of range,
    /// [`Error::Net`] if no broker answers in time.
    pub async fn alter_configs(
        &self,
        resource: &Resource,
        changes: &BTreeMap<String, AlterConfig>,
        validate_only: bool,
    ) -> Result<(), Error> {
        let deadline = self.deadline();
        let (resource_type, name) = &resource.to_wire();
        let configs: &Vec<_> = &changes
            .iter()
            .map(|(name, change)| {
                let (config_operation, value) = match change {
                    AlterConfig::Set(value) => (0, Some(value)),
                    AlterConfig::Delete => (1, None),
                    AlterConfig::Append(value) => (2, Some(value)),
                    AlterConfig::Subtract(value) => (3, Some(value)),
                };
                AlterableConfig {
                    name: name.clone().into(),
                    config_operation,
                    value: value.map(|v| v.clone().into()),
                    ..Default::default()
                }
            })
            .collect();
        let results = self
            .each(resource.kind(), [name.clone()], deadline, |_| async move {
                // Changes of a broker's own settings go to that broker, of all else to the controller.
                let to = match resource.target() {
                    To::Any => To::Controller,
                    own => own,
                };
                let response = self
                    .call(to, deadline, |_| IncrementalAlterConfigsRequest {
                        resources: vec![AlterConfigsResource {
                            resource_type: *resource_type,
                            resource_name: name.clone().into(),
                            configs: configs.clone(),
                            ..Default::default()
                        }],
                        validate_only,
                        ..Default::default()
                    })
                    .await?;
                Ok(response
                    .responses
                    .into_iter()
                    .map(|r| {
                        Answer::new(
                            &r.resource_name,
                            r.error_code,
                            r.error_message.as_ref(),
                            || (),
                        )
                    })
                    .collect())
            })
            .await;
        only(results)
    }
}

fn entry(wire: DescribeConfigsResourceResult) -> ConfigEntry {
    let text = |value: Option<ottla_wire::Str>| value.map(|v| v.to_string());
    ConfigEntry {
        name: wire.name.to_string(),
        value: text(wire.value),
        source: ConfigSource::from_wire(wire.config_source),
        read_only: wire.read_only,
        sensitive: wire.is_sensitive,
        synonyms: wire
            .synonyms
            .into_iter()
            .map(|s| ConfigSynonym {
                name: s.name.to_string(),
                value: text(s.value),
                source: ConfigSource::from_wire(s.source),
            })
            .collect(),
    }
}
