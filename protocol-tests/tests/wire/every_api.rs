//! Every API, at every version that the broker and we both speak: the broker understands our request,
//! and we understand every byte of its answer, also where that is a refusal.

use std::collections::BTreeMap;

use ottla_protocol_tests::{Kafka, KafkaCluster, Options, Version, or_skip};
use ottla_wire::{
    ApiKey, Request, VersionRange,
    messages::{api_versions::ApiVersionsRequest, *},
};

use crate::connection::Connection;

#[test]
fn kafka_4_understands_every_request_and_we_every_answer() {
    let Some(kafka) = Kafka::shared() else { return };
    let tried = exchange_everything(kafka.bootstrap());
    if kafka.cluster().is_none() {
        return; // someone else's cluster may be of any version
    }
    for &api in ApiKey::ALL {
        let expected = (!NEED_A_PLUGIN.contains(&api)).then(|| api.versions());
        let tried = tried.get(&(api as i16)).copied();
        assert_eq!(
            tried, expected,
            "{api}: Kafka 4.3.1 speaks every version that we define"
        );
    }
}

#[test]
fn kafka_3_9_understands_every_request_that_it_knows() {
    let options = Options {
        version: Version::V3_9,
        ..Options::default()
    };
    let Some(cluster) = or_skip(KafkaCluster::start(options)) else {
        return;
    };
    let tried = exchange_everything(&cluster.bootstrap());
    for api in [
        ApiKey::Produce,
        ApiKey::Fetch,
        ApiKey::Metadata,
        ApiKey::JoinGroup,
    ] {
        assert!(tried.contains_key(&(api as i16)), "{api}");
    }
}

/// Sends every request at every version; says which versions each API was tried at.
fn exchange_everything(bootstrap: &str) -> BTreeMap<i16, VersionRange> {
    let mut broker = Connection::open(bootstrap);
    let answer = broker.call(&ApiVersionsRequest::default(), 0);
    let offered: BTreeMap<i16, VersionRange> = answer
        .api_keys
        .iter()
        .map(|api| {
            (
                api.api_key,
                VersionRange::new(api.min_version, api.max_version),
            )
        })
        .collect();
    let mut all = Exchange {
        bootstrap: bootstrap.to_owned(),
        broker,
        offered,
        tried: BTreeMap::new(),
        failures: Vec::new(),
    };
    macro_rules! exchange {
        ($($module:ident::$request:ident $(= $make:expr)?,)*) => {
            $(all.with(exchange!(@ $module::$request $(= $make)?));)*
        };
        (@ $module:ident::$request:ident = $make:expr) => { $make };
        (@ $module:ident::$request:ident) => { |_version| $module::$request::default() };
    }
    exchange! {
        produce::ProduceRequest = produce,
        fetch::FetchRequest,
        list_offsets::ListOffsetsRequest,
        metadata::MetadataRequest,
        offset_commit::OffsetCommitRequest,
        offset_fetch::OffsetFetchRequest = offset_fetch,
        find_coordinator::FindCoordinatorRequest,
        join_group::JoinGroupRequest,
        heartbeat::HeartbeatRequest,
        leave_group::LeaveGroupRequest,
        sync_group::SyncGroupRequest,
        describe_groups::DescribeGroupsRequest,
        list_groups::ListGroupsRequest,
        sasl_handshake::SaslHandshakeRequest,
        api_versions::ApiVersionsRequest,
        create_topics::CreateTopicsRequest,
        delete_topics::DeleteTopicsRequest,
        delete_records::DeleteRecordsRequest,
        init_producer_id::InitProducerIdRequest,
        offset_for_leader_epoch::OffsetForLeaderEpochRequest,
        add_partitions_to_txn::AddPartitionsToTxnRequest = add_partitions_to_txn,
        add_offsets_to_txn::AddOffsetsToTxnRequest,
        end_txn::EndTxnRequest,
        txn_offset_commit::TxnOffsetCommitRequest,
        describe_acls::DescribeAclsRequest = describe_acls,
        create_acls::CreateAclsRequest,
        delete_acls::DeleteAclsRequest,
        describe_configs::DescribeConfigsRequest,
        alter_configs::AlterConfigsRequest,
        alter_replica_log_dirs::AlterReplicaLogDirsRequest,
        describe_log_dirs::DescribeLogDirsRequest,
        sasl_authenticate::SaslAuthenticateRequest,
        create_partitions::CreatePartitionsRequest,
        create_delegation_token::CreateDelegationTokenRequest,
        renew_delegation_token::RenewDelegationTokenRequest,
        expire_delegation_token::ExpireDelegationTokenRequest,
        describe_delegation_token::DescribeDelegationTokenRequest,
        delete_groups::DeleteGroupsRequest,
        elect_leaders::ElectLeadersRequest,
        incremental_alter_configs::IncrementalAlterConfigsRequest,
        alter_partition_reassignments::AlterPartitionReassignmentsRequest,
        list_partition_reassignments::ListPartitionReassignmentsRequest,
        offset_delete::OffsetDeleteRequest,
        describe_client_quotas::DescribeClientQuotasRequest,
        alter_client_quotas::AlterClientQuotasRequest,
        describe_user_scram_credentials::DescribeUserScramCredentialsRequest,
        alter_user_scram_credentials::AlterUserScramCredentialsRequest,
        describe_quorum::DescribeQuorumRequest,
        update_features::UpdateFeaturesRequest,
        describe_cluster::DescribeClusterRequest,
        describe_producers::DescribeProducersRequest,
        describe_transactions::DescribeTransactionsRequest,
        list_transactions::ListTransactionsRequest,
        consumer_group_heartbeat::ConsumerGroupHeartbeatRequest,
        consumer_group_describe::ConsumerGroupDescribeRequest,
        get_telemetry_subscriptions::GetTelemetrySubscriptionsRequest,
        push_telemetry::PushTelemetryRequest,
        list_config_resources::ListConfigResourcesRequest,
        describe_topic_partitions::DescribeTopicPartitionsRequest,
        share_group_heartbeat::ShareGroupHeartbeatRequest,
        share_group_describe::ShareGroupDescribeRequest,
        share_fetch::ShareFetchRequest,
        share_acknowledge::ShareAcknowledgeRequest,
        add_raft_voter::AddRaftVoterRequest,
        remove_raft_voter::RemoveRaftVoterRequest,
        streams_group_heartbeat::StreamsGroupHeartbeatRequest,
        streams_group_describe::StreamsGroupDescribeRequest,
        describe_share_group_offsets::DescribeShareGroupOffsetsRequest,
        alter_share_group_offsets::AlterShareGroupOffsetsRequest,
        delete_share_group_offsets::DeleteShareGroupOffsetsRequest,
    }
    assert!(all.failures.is_empty(), "{}", all.failures.join("\n"));
    all.tried
}

struct Exchange {
    bootstrap: String,
    broker: Connection,
    offered: BTreeMap<i16, VersionRange>,
    tried: BTreeMap<i16, VersionRange>,
    failures: Vec<String>,
}

impl Exchange {
    fn with<R: Request>(&mut self, request: impl Fn(i16) -> R) {
        let number = R::KEY as i16;
        let offered = self.offered.get(&number);
        let Some(both) = offered.and_then(|range| range.intersect(R::VERSIONS)) else {
            return;
        };
        for version in both.min..=both.max {
            // Decoding fails if a byte of the answer is left over.
            if let Err(error) = self.broker.try_call(&request(version), version) {
                self.failures.push(error);
                self.broker = Connection::open(&self.bootstrap);
            }
        }
        self.tried.insert(number, both);
    }
}

// Some requests that ask for nothing get no answer at all, or are invalid.

fn produce(_version: i16) -> produce::ProduceRequest {
    produce::ProduceRequest {
        acks: 1,
        ..Default::default()
    }
}

fn offset_fetch(version: i16) -> offset_fetch::OffsetFetchRequest {
    let group = offset_fetch::OffsetFetchRequestGroup {
        group_id: "g".into(),
        ..Default::default()
    };
    let groups = if version >= 8 {
        vec![group]
    } else {
        Vec::new()
    };
    offset_fetch::OffsetFetchRequest {
        groups,
        ..Default::default()
    }
}

fn add_partitions_to_txn(version: i16) -> add_partitions_to_txn::AddPartitionsToTxnRequest {
    let transaction = add_partitions_to_txn::AddPartitionsToTxnTransaction {
        transactional_id: "t".into(),
        ..Default::default()
    };
    let transactions = if version >= 4 {
        vec![transaction]
    } else {
        Vec::new()
    };
    add_partitions_to_txn::AddPartitionsToTxnRequest {
        transactions,
        ..Default::default()
    }
}

fn describe_acls(_version: i16) -> describe_acls::DescribeAclsRequest {
    let any = 1;
    describe_acls::DescribeAclsRequest {
        resource_type_filter: any,
        pattern_type_filter: any,
        operation: any,
        permission_type: any,
        ..Default::default()
    }
}

/// A broker offers these once it has a plug-in that receives clients' metrics.
const NEED_A_PLUGIN: &[ApiKey] = &[ApiKey::GetTelemetrySubscriptions, ApiKey::PushTelemetry];
