//! The APIs of Kafka's protocol that clients use.

use std::fmt;

use crate::messages::*;
use crate::{Message, VersionRange};

macro_rules! api_keys {
    ($($name:ident = $number:literal $module:ident::$request:ident,)*) => {
        /// An API that clients use, by the number in its requests' header. Brokers' APIs among themselves are not listed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        #[repr(i16)]
        pub enum ApiKey {
            $(
                #[doc = concat!("API ", $number, ", see [`", stringify!($request), "`](crate::messages::", stringify!($module), "::", stringify!($request), ").")]
                $name = $number,
            )*
        }

        impl ApiKey {
            /// Every API, by ascending number.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Kafka's name, such as `ListOffsets`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// The versions this library speaks.
            pub fn versions(self) -> VersionRange {
                match self {
                    $(Self::$name => $module::$request::VERSIONS,)*
                }
            }

            /// The first version with compact lengths and tagged fields; `i16::MAX` if there is none.
            pub fn flexible_from(self) -> i16 {
                match self {
                    $(Self::$name => $module::$request::FLEXIBLE_FROM,)*
                }
            }
        }

        impl TryFrom<i16> for ApiKey {
            type Error = UnknownApi;

            fn try_from(number: i16) -> Result<Self, UnknownApi> {
                match number {
                    $($number => Ok(Self::$name),)*
                    _ => Err(UnknownApi(number)),
                }
            }
        }
    };
}

api_keys! {
Produce = 0 produce::ProduceRequest,
Fetch = 1 fetch::FetchRequest,
ListOffsets = 2 list_offsets::ListOffsetsRequest,
Metadata = 3 metadata::MetadataRequest,
OffsetCommit = 8 offset_commit::OffsetCommitRequest,
OffsetFetch = 9 offset_fetch::OffsetFetchRequest,
FindCoordinator = 10 find_coordinator::FindCoordinatorRequest,
JoinGroup = 11 join_group::JoinGroupRequest,
Heartbeat = 12 heartbeat::HeartbeatRequest,
LeaveGroup = 13 leave_group::LeaveGroupRequest,
SyncGroup = 14 sync_group::SyncGroupRequest,
DescribeGroups = 15 describe_groups::DescribeGroupsRequest,
ListGroups = 16 list_groups::ListGroupsRequest,
SaslHandshake = 17 sasl_handshake::SaslHandshakeRequest,
ApiVersions = 18 api_versions::ApiVersionsRequest,
CreateTopics = 19 create_topics::CreateTopicsRequest,
DeleteTopics = 20 delete_topics::DeleteTopicsRequest,
DeleteRecords = 21 delete_records::DeleteRecordsRequest,
InitProducerId = 22 init_producer_id::InitProducerIdRequest,
OffsetForLeaderEpoch = 23 offset_for_leader_epoch::OffsetForLeaderEpochRequest,
AddPartitionsToTxn = 24 add_partitions_to_txn::AddPartitionsToTxnRequest,
AddOffsetsToTxn = 25 add_offsets_to_txn::AddOffsetsToTxnRequest,
EndTxn = 26 end_txn::EndTxnRequest,
TxnOffsetCommit = 28 txn_offset_commit::TxnOffsetCommitRequest,
DescribeAcls = 29 describe_acls::DescribeAclsRequest,
CreateAcls = 30 create_acls::CreateAclsRequest,
DeleteAcls = 31 delete_acls::DeleteAclsRequest,
DescribeConfigs = 32 describe_configs::DescribeConfigsRequest,
AlterConfigs = 33 alter_configs::AlterConfigsRequest,
AlterReplicaLogDirs = 34 alter_replica_log_dirs::AlterReplicaLogDirsRequest,
DescribeLogDirs = 35 describe_log_dirs::DescribeLogDirsRequest,
SaslAuthenticate = 36 sasl_authenticate::SaslAuthenticateRequest,
CreatePartitions = 37 create_partitions::CreatePartitionsRequest,
CreateDelegationToken = 38 create_delegation_token::CreateDelegationTokenRequest,
RenewDelegationToken = 39 renew_delegation_token::RenewDelegationTokenRequest,
ExpireDelegationToken = 40 expire_delegation_token::ExpireDelegationTokenRequest,
DescribeDelegationToken = 41 describe_delegation_token::DescribeDelegationTokenRequest,
DeleteGroups = 42 delete_groups::DeleteGroupsRequest,
ElectLeaders = 43 elect_leaders::ElectLeadersRequest,
IncrementalAlterConfigs = 44 incremental_alter_configs::IncrementalAlterConfigsRequest,
AlterPartitionReassignments = 45 alter_partition_reassignments::AlterPartitionReassignmentsRequest,
ListPartitionReassignments = 46 list_partition_reassignments::ListPartitionReassignmentsRequest,
OffsetDelete = 47 offset_delete::OffsetDeleteRequest,
DescribeClientQuotas = 48 describe_client_quotas::DescribeClientQuotasRequest,
AlterClientQuotas = 49 alter_client_quotas::AlterClientQuotasRequest,
DescribeUserScramCredentials = 50 describe_user_scram_credentials::DescribeUserScramCredentialsRequest,
AlterUserScramCredentials = 51 alter_user_scram_credentials::AlterUserScramCredentialsRequest,
DescribeQuorum = 55 describe_quorum::DescribeQuorumRequest,
UpdateFeatures = 57 update_features::UpdateFeaturesRequest,
DescribeCluster = 60 describe_cluster::DescribeClusterRequest,
DescribeProducers = 61 describe_producers::DescribeProducersRequest,
DescribeTransactions = 65 describe_transactions::DescribeTransactionsRequest,
ListTransactions = 66 list_transactions::ListTransactionsRequest,
ConsumerGroupHeartbeat = 68 consumer_group_heartbeat::ConsumerGroupHeartbeatRequest,
ConsumerGroupDescribe = 69 consumer_group_describe::ConsumerGroupDescribeRequest,
GetTelemetrySubscriptions = 71 get_telemetry_subscriptions::GetTelemetrySubscriptionsRequest,
PushTelemetry = 72 push_telemetry::PushTelemetryRequest,
ListConfigResources = 74 list_config_resources::ListConfigResourcesRequest,
DescribeTopicPartitions = 75 describe_topic_partitions::DescribeTopicPartitionsRequest,
ShareGroupHeartbeat = 76 share_group_heartbeat::ShareGroupHeartbeatRequest,
ShareGroupDescribe = 77 share_group_describe::ShareGroupDescribeRequest,
ShareFetch = 78 share_fetch::ShareFetchRequest,
ShareAcknowledge = 79 share_acknowledge::ShareAcknowledgeRequest,
AddRaftVoter = 80 add_raft_voter::AddRaftVoterRequest,
RemoveRaftVoter = 81 remove_raft_voter::RemoveRaftVoterRequest,
StreamsGroupHeartbeat = 88 streams_group_heartbeat::StreamsGroupHeartbeatRequest,
StreamsGroupDescribe = 89 streams_group_describe::StreamsGroupDescribeRequest,
DescribeShareGroupOffsets = 90 describe_share_group_offsets::DescribeShareGroupOffsetsRequest,
AlterShareGroupOffsets = 91 alter_share_group_offsets::AlterShareGroupOffsetsRequest,
DeleteShareGroupOffsets = 92 delete_share_group_offsets::DeleteShareGroupOffsetsRequest,}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A number that is no client API this library knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("API {0} is not one that this library speaks")]
pub struct UnknownApi(pub i16);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Request;

    #[test]
    fn numbers_and_names_match() {
        for &api in ApiKey::ALL {
            assert_eq!(ApiKey::try_from(api as i16), Ok(api));
        }
        assert!(ApiKey::ALL.is_sorted());
        assert_eq!(
            ApiKey::try_from(4),
            Err(UnknownApi(4)),
            "an API among brokers"
        );
        assert_eq!(fetch::FetchRequest::KEY, ApiKey::Fetch);
        assert_eq!(ApiKey::Fetch.to_string(), "Fetch");
    }
}
