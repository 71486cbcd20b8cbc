//! The APIs that the broker serves, one file each.
//!
//! Turns a frame's body into a request, lets that API's file answer it, and turns the answer into a frame. The
//! table at the end is the list of what is served; ApiVersions advertises exactly that.

mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod alter_client_quotas;
mod alter_configs;
mod alter_partition_reassignments;
mod alter_share_group_offsets;
mod api_versions;
mod authorized_operations;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_acls;
mod create_partitions;
mod create_topics;
mod delete_acls;
mod delete_groups;
mod delete_records;
mod delete_share_group_offsets;
mod delete_topics;
mod describe_acls;
mod describe_client_quotas;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_share_group_offsets;
mod describe_topic_partitions;
mod describe_transactions;
mod describe_user_scram_credentials;
mod elect_leaders;
mod end_txn;
mod fetch;
mod find_coordinator;
mod follower_fetch;
mod heartbeat;
mod init_producer_id;
mod join_group;
mod leader_hints;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod list_transactions;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod share_acknowledge;
mod share_acquire;
mod share_fetch;
mod share_group_describe;
mod share_group_heartbeat;
mod sync_group;
mod txn_offset_commit;
mod update_features;
mod waiting;

use std::sync::Arc;

use bytes::Bytes;
use ottla_wire::{
    ApiKey, ErrorCode, Frame, Reader, Request, RequestHeader, VersionRange, encode_response,
};

use crate::context::{Context, Shared};
use crate::script::Fault;

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Answer {
    Frame(Frame),
    /// The request wants no answer (Produce with acks=0).
    Nothing,
    /// Only the first bytes go out, then the connection closes.
    Torn(Frame, usize),
    /// Nothing is ever sent again on this connection.
    Silence,
    /// The connection closes, for this reason.
    Close(String),
}

/// How an API is served.
pub(crate) trait Serve: Request {
    /// Does what the request asks for. `None` if it wants no answer and all went well.
    fn serve(self, context: &Context) -> impl Future<Output = Option<Self::Response>> + Send;

    /// As [`Self::serve`]; `body` is what the request was decoded from, and can be kept once nothing of the request is
    /// left that borrows from it.
    fn serve_from(
        self,
        context: &Context,
        body: Bytes,
    ) -> impl Future<Output = Option<Self::Response>> + Send {
        drop(body);
        self.serve(context)
    }

    /// Whether the client reads no answer (Produce with acks=0). All that it can be told is that its connection closes.
    fn wants_no_answer(&self) -> bool {
        false
    }

    /// The answer that says `error` wherever an error can stand, for faults on request.
    fn refuse(&self, error: ErrorCode) -> Self::Response;
}

/// Answers one request.
pub(crate) async fn answer(
    shared: &Arc<Shared>,
    node: i32,
    client_host: &str,
    connection: u64,
    body: Bytes,
) -> Answer {
    let mut input = Reader::new(body.clone());
    let header = match RequestHeader::decode(&mut input) {
        Ok(header) => header,
        Err(error) => return Answer::Close(error.to_string()),
    };
    let Ok(api) = ApiKey::try_from(header.api_key) else {
        return Answer::Close(format!("API {} is unknown", header.api_key));
    };
    let Some(served) = served(api) else {
        return Answer::Close(format!("{} is not served", api.name()));
    };
    if !served.contains(header.api_version) {
        return if api == ApiKey::ApiVersions {
            api_versions::unsupported(header.correlation_id)
        } else {
            Answer::Close(format!(
                "version {} of {} is not served",
                header.api_version,
                api.name()
            ))
        };
    }
    let context = Context {
        shared: Arc::clone(shared),
        node,
        client_id: header.client_id.as_deref().unwrap_or_default().to_owned(),
        client_host: client_host.to_owned(),
        version: header.api_version,
        connection,
    };
    let id = header.correlation_id;
    drop(header);
    dispatch(api, &context, id, input, body).await
}

async fn run<R: Serve>(
    context: &Context,
    correlation_id: i32,
    mut input: Reader,
    body: Bytes,
) -> Answer {
    let request = match R::decode(context.version, &mut input) {
        Ok(request) => request,
        Err(error) => return Answer::Close(error.to_string()),
    };
    drop(input);
    let wants_no_answer = request.wants_no_answer();
    let fault = context.shared.script.fault(R::KEY, context.node);
    let response = match &fault {
        Some(Fault::Drop) => return Answer::Silence,
        Some(Fault::Disconnect) => return Answer::Close("disconnected on request".to_owned()),
        Some(Fault::Answer(error)) => Some(request.refuse(*error)),
        Some(Fault::Delay(delay)) => {
            tokio::time::sleep(*delay).await;
            request.serve_from(context, body).await
        }
        Some(Fault::LoseReply | Fault::TearReply(_)) | None => {
            request.serve_from(context, body).await
        }
    };
    let Some(response) = response else {
        return Answer::Nothing;
    };
    if wants_no_answer {
        return Answer::Close(format!("{} without an answer failed", R::KEY.name()));
    }
    match (
        encode_response::<R>(&response, context.version, correlation_id),
        fault,
    ) {
        (Err(error), _) => Answer::Close(error.to_string()),
        (Ok(_), Some(Fault::LoseReply)) => Answer::Close("reply lost on request".to_owned()),
        (Ok(frame), Some(Fault::TearReply(len))) => Answer::Torn(frame, len),
        (Ok(frame), _) => Answer::Frame(frame),
    }
}

macro_rules! served {
    ($($api:ident $module:ident::$request:ident $min:literal - $max:literal,)*) => {
        /// The versions of `api` that are served; `None` if it is not.
        pub(crate) fn served(api: ApiKey) -> Option<VersionRange> {
            match api {
                $(ApiKey::$api => Some(VersionRange::new($min, $max)),)*
                _ => None,
            }
        }

        async fn dispatch(
            api: ApiKey,
            context: &Context,
            id: i32,
            input: Reader,
            body: Bytes,
        ) -> Answer {
            match api {
                $(ApiKey::$api => {
                    run::<ottla_wire::messages::$module::$request>(context, id, input, body).await
                })*
                // `served` was asked before.
                _ => Answer::Close(format!("{} is not served", api.name())),
            }
        }

        #[cfg(test)]
        mod tests {
            use ottla_wire::Message;

            #[test]
            fn every_version_that_is_served_is_known_to_the_codec() {
                $(
                    let known = ottla_wire::messages::$module::$request::VERSIONS;
                    assert!(known.contains($min) && known.contains($max), stringify!($api));
                )*
            }
        }
    };
}

served! {
    Produce produce::ProduceRequest 3 - 13,
    Fetch fetch::FetchRequest 4 - 18,
    ListOffsets list_offsets::ListOffsetsRequest 1 - 11,
    Metadata metadata::MetadataRequest 0 - 13,
    OffsetCommit offset_commit::OffsetCommitRequest 2 - 10,
    OffsetFetch offset_fetch::OffsetFetchRequest 1 - 10,
    FindCoordinator find_coordinator::FindCoordinatorRequest 0 - 6,
    JoinGroup join_group::JoinGroupRequest 0 - 9,
    Heartbeat heartbeat::HeartbeatRequest 0 - 4,
    LeaveGroup leave_group::LeaveGroupRequest 0 - 5,
    SyncGroup sync_group::SyncGroupRequest 0 - 5,
    DescribeGroups describe_groups::DescribeGroupsRequest 0 - 6,
    ListGroups list_groups::ListGroupsRequest 0 - 5,
    ApiVersions api_versions::ApiVersionsRequest 0 - 4,
    CreateTopics create_topics::CreateTopicsRequest 2 - 7,
    DeleteTopics delete_topics::DeleteTopicsRequest 1 - 6,
    DeleteRecords delete_records::DeleteRecordsRequest 0 - 2,
    InitProducerId init_producer_id::InitProducerIdRequest 0 - 5,
    AddPartitionsToTxn add_partitions_to_txn::AddPartitionsToTxnRequest 0 - 5,
    AddOffsetsToTxn add_offsets_to_txn::AddOffsetsToTxnRequest 0 - 4,
    EndTxn end_txn::EndTxnRequest 0 - 5,
    TxnOffsetCommit txn_offset_commit::TxnOffsetCommitRequest 0 - 5,
    OffsetForLeaderEpoch offset_for_leader_epoch::OffsetForLeaderEpochRequest 2 - 4,
    CreateAcls create_acls::CreateAclsRequest 1 - 3,
    DeleteAcls delete_acls::DeleteAclsRequest 1 - 3,
    DescribeAcls describe_acls::DescribeAclsRequest 1 - 3,
    DescribeConfigs describe_configs::DescribeConfigsRequest 1 - 4,
    AlterConfigs alter_configs::AlterConfigsRequest 0 - 2,
    DescribeLogDirs describe_log_dirs::DescribeLogDirsRequest 1 - 5,
    CreatePartitions create_partitions::CreatePartitionsRequest 0 - 3,
    DeleteGroups delete_groups::DeleteGroupsRequest 0 - 2,
    ElectLeaders elect_leaders::ElectLeadersRequest 0 - 2,
    IncrementalAlterConfigs incremental_alter_configs::IncrementalAlterConfigsRequest 0 - 1,
    AlterPartitionReassignments alter_partition_reassignments::AlterPartitionReassignmentsRequest 0 - 1,
    ListPartitionReassignments list_partition_reassignments::ListPartitionReassignmentsRequest 0 - 0,
    OffsetDelete offset_delete::OffsetDeleteRequest 0 - 0,
    DescribeClientQuotas describe_client_quotas::DescribeClientQuotasRequest 0 - 1,
    AlterClientQuotas alter_client_quotas::AlterClientQuotasRequest 0 - 1,
    DescribeUserScramCredentials describe_user_scram_credentials::DescribeUserScramCredentialsRequest 0 - 0,
    DescribeQuorum describe_quorum::DescribeQuorumRequest 0 - 2,
    UpdateFeatures update_features::UpdateFeaturesRequest 0 - 2,
    DescribeCluster describe_cluster::DescribeClusterRequest 0 - 2,
    DescribeTransactions describe_transactions::DescribeTransactionsRequest 0 - 0,
    ListTransactions list_transactions::ListTransactionsRequest 0 - 2,
    DescribeProducers describe_producers::DescribeProducersRequest 0 - 0,
    ConsumerGroupHeartbeat consumer_group_heartbeat::ConsumerGroupHeartbeatRequest 0 - 1,
    ConsumerGroupDescribe consumer_group_describe::ConsumerGroupDescribeRequest 0 - 1,
    ListConfigResources list_config_resources::ListConfigResourcesRequest 0 - 1,
    ShareGroupHeartbeat share_group_heartbeat::ShareGroupHeartbeatRequest 1 - 1,
    ShareGroupDescribe share_group_describe::ShareGroupDescribeRequest 1 - 1,
    ShareFetch share_fetch::ShareFetchRequest 1 - 2,
    ShareAcknowledge share_acknowledge::ShareAcknowledgeRequest 1 - 2,
    DescribeShareGroupOffsets describe_share_group_offsets::DescribeShareGroupOffsetsRequest 0 - 1,
    AlterShareGroupOffsets alter_share_group_offsets::AlterShareGroupOffsetsRequest 0 - 0,
    DeleteShareGroupOffsets delete_share_group_offsets::DeleteShareGroupOffsetsRequest 0 - 0,
    DescribeTopicPartitions describe_topic_partitions::DescribeTopicPartitionsRequest 0 - 0,
}
