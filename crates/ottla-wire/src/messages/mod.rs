//! The messages of Kafka's protocol, one module per API, each with its request and response.
//!
//! Type and field names are Kafka's. The definitions are plain structs; `ottla-wire-derive` documents their attributes and
//! makes the codec. They were translated from the schemas of Kafka 4.3.1 and `cargo run -p xtask -- check-schemas` fails
//! when they differ from those. Fields that a version does not have keep their default when decoded.

#![allow(
    missing_docs,
    reason = "fields are Kafka's, by Kafka's names; the protocol's documentation explains them"
)]

pub mod add_offsets_to_txn;
pub mod add_partitions_to_txn;
pub mod add_raft_voter;
pub mod alter_client_quotas;
pub mod alter_configs;
pub mod alter_partition_reassignments;
pub mod alter_replica_log_dirs;
pub mod alter_share_group_offsets;
pub mod alter_user_scram_credentials;
pub mod api_versions;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod consumer_protocol_assignment;
pub mod consumer_protocol_subscription;
pub mod control_record_type_schema;
pub mod create_acls;
pub mod create_delegation_token;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_acls;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_share_group_offsets;
pub mod delete_topics;
pub mod describe_acls;
pub mod describe_client_quotas;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_delegation_token;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_quorum;
pub mod describe_share_group_offsets;
pub mod describe_topic_partitions;
pub mod describe_transactions;
pub mod describe_user_scram_credentials;
pub mod elect_leaders;
pub mod end_txn;
pub mod end_txn_marker;
pub mod expire_delegation_token;
pub mod fetch;
pub mod find_coordinator;
pub mod get_telemetry_subscriptions;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod list_transactions;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod push_telemetry;
pub mod remove_raft_voter;
pub mod renew_delegation_token;
pub mod sasl_authenticate;
pub mod sasl_handshake;
pub mod share_acknowledge;
pub mod share_fetch;
pub mod share_group_describe;
pub mod share_group_heartbeat;
pub mod streams_group_describe;
pub mod streams_group_heartbeat;
pub mod sync_group;
pub mod txn_offset_commit;
pub mod update_features;

/// Calls a macro with the paths of all messages below this module.
#[cfg(feature = "introspect")]
macro_rules! with_all_messages {
    ($callback:ident) => {
        $callback! {
            add_offsets_to_txn::AddOffsetsToTxnRequest,
            add_offsets_to_txn::AddOffsetsToTxnResponse,
            add_partitions_to_txn::AddPartitionsToTxnRequest,
            add_partitions_to_txn::AddPartitionsToTxnResponse,
            add_raft_voter::AddRaftVoterRequest,
            add_raft_voter::AddRaftVoterResponse,
            alter_client_quotas::AlterClientQuotasRequest,
            alter_client_quotas::AlterClientQuotasResponse,
            alter_configs::AlterConfigsRequest,
            alter_configs::AlterConfigsResponse,
            alter_partition_reassignments::AlterPartitionReassignmentsRequest,
            alter_partition_reassignments::AlterPartitionReassignmentsResponse,
            alter_replica_log_dirs::AlterReplicaLogDirsRequest,
            alter_replica_log_dirs::AlterReplicaLogDirsResponse,
            alter_share_group_offsets::AlterShareGroupOffsetsRequest,
            alter_share_group_offsets::AlterShareGroupOffsetsResponse,
            alter_user_scram_credentials::AlterUserScramCredentialsRequest,
            alter_user_scram_credentials::AlterUserScramCredentialsResponse,
            api_versions::ApiVersionsRequest,
            api_versions::ApiVersionsResponse,
            consumer_group_describe::ConsumerGroupDescribeRequest,
            consumer_group_describe::ConsumerGroupDescribeResponse,
            consumer_group_heartbeat::ConsumerGroupHeartbeatRequest,
            consumer_group_heartbeat::ConsumerGroupHeartbeatResponse,
            consumer_protocol_assignment::ConsumerProtocolAssignment,
            consumer_protocol_subscription::ConsumerProtocolSubscription,
            control_record_type_schema::ControlRecordTypeSchema,
            create_acls::CreateAclsRequest,
            create_acls::CreateAclsResponse,
            create_delegation_token::CreateDelegationTokenRequest,
            create_delegation_token::CreateDelegationTokenResponse,
            create_partitions::CreatePartitionsRequest,
            create_partitions::CreatePartitionsResponse,
            create_topics::CreateTopicsRequest,
            create_topics::CreateTopicsResponse,
            delete_acls::DeleteAclsRequest,
            delete_acls::DeleteAclsResponse,
            delete_groups::DeleteGroupsRequest,
            delete_groups::DeleteGroupsResponse,
            delete_records::DeleteRecordsRequest,
            delete_records::DeleteRecordsResponse,
            delete_share_group_offsets::DeleteShareGroupOffsetsRequest,
            delete_share_group_offsets::DeleteShareGroupOffsetsResponse,
            delete_topics::DeleteTopicsRequest,
            delete_topics::DeleteTopicsResponse,
            describe_acls::DescribeAclsRequest,
            describe_acls::DescribeAclsResponse,
            describe_client_quotas::DescribeClientQuotasRequest,
            describe_client_quotas::DescribeClientQuotasResponse,
            describe_cluster::DescribeClusterRequest,
            describe_cluster::DescribeClusterResponse,
            describe_configs::DescribeConfigsRequest,
            describe_configs::DescribeConfigsResponse,
            describe_delegation_token::DescribeDelegationTokenRequest,
            describe_delegation_token::DescribeDelegationTokenResponse,
            describe_groups::DescribeGroupsRequest,
            describe_groups::DescribeGroupsResponse,
            describe_log_dirs::DescribeLogDirsRequest,
            describe_log_dirs::DescribeLogDirsResponse,
            describe_producers::DescribeProducersRequest,
            describe_producers::DescribeProducersResponse,
            describe_quorum::DescribeQuorumRequest,
            describe_quorum::DescribeQuorumResponse,
            describe_share_group_offsets::DescribeShareGroupOffsetsRequest,
            describe_share_group_offsets::DescribeShareGroupOffsetsResponse,
            describe_topic_partitions::DescribeTopicPartitionsRequest,
            describe_topic_partitions::DescribeTopicPartitionsResponse,
            describe_transactions::DescribeTransactionsRequest,
            describe_transactions::DescribeTransactionsResponse,
            describe_user_scram_credentials::DescribeUserScramCredentialsRequest,
            describe_user_scram_credentials::DescribeUserScramCredentialsResponse,
            elect_leaders::ElectLeadersRequest,
            elect_leaders::ElectLeadersResponse,
            end_txn::EndTxnRequest,
            end_txn::EndTxnResponse,
            end_txn_marker::EndTxnMarker,
            expire_delegation_token::ExpireDelegationTokenRequest,
            expire_delegation_token::ExpireDelegationTokenResponse,
            fetch::FetchRequest,
            fetch::FetchResponse,
            find_coordinator::FindCoordinatorRequest,
            find_coordinator::FindCoordinatorResponse,
            get_telemetry_subscriptions::GetTelemetrySubscriptionsRequest,
            get_telemetry_subscriptions::GetTelemetrySubscriptionsResponse,
            heartbeat::HeartbeatRequest,
            heartbeat::HeartbeatResponse,
            incremental_alter_configs::IncrementalAlterConfigsRequest,
            incremental_alter_configs::IncrementalAlterConfigsResponse,
            init_producer_id::InitProducerIdRequest,
            init_producer_id::InitProducerIdResponse,
            join_group::JoinGroupRequest,
            join_group::JoinGroupResponse,
            leave_group::LeaveGroupRequest,
            leave_group::LeaveGroupResponse,
            list_config_resources::ListConfigResourcesRequest,
            list_config_resources::ListConfigResourcesResponse,
            list_groups::ListGroupsRequest,
            list_groups::ListGroupsResponse,
            list_offsets::ListOffsetsRequest,
            list_offsets::ListOffsetsResponse,
            list_partition_reassignments::ListPartitionReassignmentsRequest,
            list_partition_reassignments::ListPartitionReassignmentsResponse,
            list_transactions::ListTransactionsRequest,
            list_transactions::ListTransactionsResponse,
            metadata::MetadataRequest,
            metadata::MetadataResponse,
            offset_commit::OffsetCommitRequest,
            offset_commit::OffsetCommitResponse,
            offset_delete::OffsetDeleteRequest,
            offset_delete::OffsetDeleteResponse,
            offset_fetch::OffsetFetchRequest,
            offset_fetch::OffsetFetchResponse,
            offset_for_leader_epoch::OffsetForLeaderEpochRequest,
            offset_for_leader_epoch::OffsetForLeaderEpochResponse,
            produce::ProduceRequest,
            produce::ProduceResponse,
            push_telemetry::PushTelemetryRequest,
            push_telemetry::PushTelemetryResponse,
            remove_raft_voter::RemoveRaftVoterRequest,
            remove_raft_voter::RemoveRaftVoterResponse,
            renew_delegation_token::RenewDelegationTokenRequest,
            renew_delegation_token::RenewDelegationTokenResponse,
            sasl_authenticate::SaslAuthenticateRequest,
            sasl_authenticate::SaslAuthenticateResponse,
            sasl_handshake::SaslHandshakeRequest,
            sasl_handshake::SaslHandshakeResponse,
            share_acknowledge::ShareAcknowledgeRequest,
            share_acknowledge::ShareAcknowledgeResponse,
            share_fetch::ShareFetchRequest,
            share_fetch::ShareFetchResponse,
            share_group_describe::ShareGroupDescribeRequest,
            share_group_describe::ShareGroupDescribeResponse,
            share_group_heartbeat::ShareGroupHeartbeatRequest,
            share_group_heartbeat::ShareGroupHeartbeatResponse,
            streams_group_describe::StreamsGroupDescribeRequest,
            streams_group_describe::StreamsGroupDescribeResponse,
            streams_group_heartbeat::StreamsGroupHeartbeatRequest,
            streams_group_heartbeat::StreamsGroupHeartbeatResponse,
            sync_group::SyncGroupRequest,
            sync_group::SyncGroupResponse,
            txn_offset_commit::TxnOffsetCommitRequest,
            txn_offset_commit::TxnOffsetCommitResponse,
            update_features::UpdateFeaturesRequest,
            update_features::UpdateFeaturesResponse,
        }
    };
}
#[cfg(feature = "introspect")]
pub(crate) use with_all_messages;
