//! Which of Kafka's messages have definitions, and what each API is for, in our own words.

use std::path::Path;

use super::model::snake_case;
use super::schema;
use crate::Result;

/// A module of definitions.
pub(crate) struct Api {
    /// Kafka's name without `Request` and `Response`; the whole name for other structures.
    pub(crate) name: &'static str,
    pub(crate) purpose: &'static str,
    has_request: bool,
}

impl Api {
    /// The module's name.
    pub(crate) fn module(&self) -> String {
        snake_case(self.name)
    }

    /// The schemas in the module.
    pub(crate) fn schemas(&self) -> Vec<String> {
        if self.has_request {
            vec![
                format!("{}Request", self.name),
                format!("{}Response", self.name),
            ]
        } else {
            vec![self.name.to_string()]
        }
    }

    /// The API's number, unless it is another structure.
    pub(crate) fn key(&self, schemas: &Path) -> Result<Option<i16>> {
        if !self.has_request {
            return Ok(None);
        }
        Ok(schema::read(&schemas.join(format!("{}Request.json", self.name)))?.key)
    }
}

const fn api(name: &'static str, purpose: &'static str) -> Api {
    Api {
        name,
        purpose,
        has_request: true,
    }
}

const fn structure(name: &'static str, purpose: &'static str) -> Api {
    Api {
        name,
        purpose,
        has_request: false,
    }
}

/// Every module, by the API's number; then the structures without an API.
pub(crate) const MODULES: &[Api] = &[
    api("Produce", "appends record batches to partitions"),
    api("Fetch", "reads record batches from partitions"),
    api(
        "ListOffsets",
        "finds offsets by timestamp, or the first and last of a partition",
    ),
    api(
        "Metadata",
        "names brokers, topics, partitions and their leaders",
    ),
    api("OffsetCommit", "stores a group's positions"),
    api("OffsetFetch", "reads the positions a group has stored"),
    api(
        "FindCoordinator",
        "names the broker that coordinates a group or transaction",
    ),
    api("JoinGroup", "joins a classic group and begins a rebalance"),
    api("Heartbeat", "keeps a member of a classic group alive"),
    api("LeaveGroup", "takes members out of a classic group"),
    api(
        "SyncGroup",
        "hands out the leader's assignment in a classic group",
    ),
    api(
        "DescribeGroups",
        "describes classic groups and their members",
    ),
    api("ListGroups", "lists a broker's groups"),
    api("SaslHandshake", "chooses the SASL mechanism"),
    api(
        "ApiVersions",
        "tells which versions of which APIs a broker speaks",
    ),
    api("CreateTopics", "creates topics"),
    api("DeleteTopics", "deletes topics"),
    api("DeleteRecords", "deletes the records before an offset"),
    api(
        "InitProducerId",
        "obtains a producer id and epoch, ending what an older producer left open",
    ),
    api(
        "OffsetForLeaderEpoch",
        "tells where a leader epoch ends, to find out about truncation",
    ),
    api("AddPartitionsToTxn", "adds partitions to a transaction"),
    api("AddOffsetsToTxn", "adds a group's offsets to a transaction"),
    api("EndTxn", "commits or aborts a transaction"),
    api(
        "TxnOffsetCommit",
        "stores a group's positions as part of a transaction",
    ),
    api("DescribeAcls", "lists access control entries"),
    api("CreateAcls", "adds access control entries"),
    api("DeleteAcls", "removes access control entries"),
    api(
        "DescribeConfigs",
        "reads the settings of topics, brokers and others",
    ),
    api(
        "AlterConfigs",
        "replaces all settings of topics, brokers and others",
    ),
    api(
        "AlterReplicaLogDirs",
        "moves replicas between the log directories of a broker",
    ),
    api("DescribeLogDirs", "describes a broker's log directories"),
    api(
        "SaslAuthenticate",
        "carries one message of the SASL mechanism",
    ),
    api("CreatePartitions", "adds partitions to topics"),
    api("CreateDelegationToken", "creates a delegation token"),
    api("RenewDelegationToken", "prolongs a delegation token"),
    api("ExpireDelegationToken", "ends a delegation token"),
    api("DescribeDelegationToken", "lists delegation tokens"),
    api("DeleteGroups", "deletes groups"),
    api("ElectLeaders", "elects leaders of partitions"),
    api(
        "IncrementalAlterConfigs",
        "changes single settings of topics, brokers and others",
    ),
    api(
        "AlterPartitionReassignments",
        "begins or cancels moving replicas to other brokers",
    ),
    api(
        "ListPartitionReassignments",
        "lists the replicas being moved",
    ),
    api("OffsetDelete", "deletes positions a group has stored"),
    api("DescribeClientQuotas", "reads quotas"),
    api("AlterClientQuotas", "changes quotas"),
    api(
        "DescribeUserScramCredentials",
        "lists users' SCRAM credentials",
    ),
    api(
        "AlterUserScramCredentials",
        "changes users' SCRAM credentials",
    ),
    api("DescribeQuorum", "describes the controllers' quorum"),
    api("UpdateFeatures", "changes the cluster's feature levels"),
    api(
        "DescribeCluster",
        "names the cluster, its brokers and its controller",
    ),
    api(
        "DescribeProducers",
        "lists the producers active on partitions",
    ),
    api("DescribeTransactions", "describes transactions"),
    api("ListTransactions", "lists a coordinator's transactions"),
    api(
        "ConsumerGroupHeartbeat",
        "joins, keeps alive and leaves a consumer group of the new protocol",
    ),
    api(
        "ConsumerGroupDescribe",
        "describes consumer groups of the new protocol",
    ),
    api(
        "GetTelemetrySubscriptions",
        "asks which metrics the cluster wants",
    ),
    api("PushTelemetry", "hands in the client's metrics"),
    api("ListConfigResources", "lists what has settings"),
    api("DescribeTopicPartitions", "describes topics, page by page"),
    api(
        "ShareGroupHeartbeat",
        "joins, keeps alive and leaves a share group",
    ),
    api("ShareGroupDescribe", "describes share groups"),
    api(
        "ShareFetch",
        "acquires records for a member of a share group",
    ),
    api("ShareAcknowledge", "acknowledges records of a share group"),
    api("AddRaftVoter", "adds a controller to the quorum"),
    api("RemoveRaftVoter", "removes a controller from the quorum"),
    api(
        "StreamsGroupHeartbeat",
        "joins, keeps alive and leaves a streams group",
    ),
    api("StreamsGroupDescribe", "describes streams groups"),
    api(
        "DescribeShareGroupOffsets",
        "reads where share groups begin",
    ),
    api(
        "AlterShareGroupOffsets",
        "changes where a share group begins",
    ),
    api(
        "DeleteShareGroupOffsets",
        "deletes where a share group begins",
    ),
    structure(
        "ConsumerProtocolSubscription",
        "what a member of a classic consumer group tells its leader",
    ),
    structure(
        "ConsumerProtocolAssignment",
        "what the leader of a classic consumer group tells a member",
    ),
    structure("ControlRecordTypeSchema", "the key of a control record"),
    structure(
        "EndTxnMarker",
        "the value of a control record that ends a transaction",
    ),
];

/// Fields that `Debug` hides: setting values may be passwords. Byte fields need no mention, as only their length is shown.
pub(crate) const SECRET: &[(&str, &str)] = &[("AlterableConfig", "value")];
