//! The cluster as a whole: its id, brokers and controller.

use ottla_net::{Address, To};
use ottla_wire::messages::metadata::MetadataRequest;

use crate::{Admin, Error};

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterDescription {
    /// Its id, where brokers tell.
    pub id: Option<String>,
    /// The broker that takes a controller's requests. With KRaft it is any broker, which passes them on.
    pub controller: Option<i32>,
    /// Its brokers, by id.
    pub brokers: Vec<BrokerDescription>,
}

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerDescription {
    /// Its id.
    pub id: i32,
    /// The address it advertises to this client.
    pub address: Address,
    /// `broker.rack`.
    pub rack: Option<String>,
}

impl Admin {
    /// The cluster, its brokers and its controller (Metadata with no topics, which every broker
    /// since Kafka 2.1 answers).
    ///
    /// # Errors
    /// [`Error::Net`] if no broker answers in time.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, Error> {
        let response = self
            .call(To::Any, self.deadline(), |_| MetadataRequest {
                topics: Some(Vec::new()),
                allow_auto_topic_creation: false,
                ..Default::default()
            })
            .await?;
        let mut brokers: Vec<_> = response
            .brokers
            .into_iter()
            .map(|b| BrokerDescription {
                id: b.node_id,
                // A port beyond 16 bits cannot be connected to; 0 says so.
                address: Address::new(&b.host, u16::try_from(b.port).unwrap_or(0)),
                rack: b.rack.map(|r| r.to_string()),
            })
            .collect();
        brokers.sort_by_key(|b| b.id);
        Ok(ClusterDescription {
            id: response.cluster_id.map(|id| id.to_string()),
            controller: Some(response.controller_id).filter(|id| *id >= 0),
            brokers,
        })
    }
}
