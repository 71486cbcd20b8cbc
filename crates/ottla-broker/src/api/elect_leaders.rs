//! ElectLeaders: leadership goes back to the preferred replica, or to any if there is no leader.

use std::collections::BTreeMap;

use ottla_wire::ErrorCode;
use ottla_wire::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};

use super::Serve;
use crate::cluster::Cluster;
use crate::context::Context;

impl Serve for ElectLeadersRequest {
    async fn serve(self, context: &Context) -> Option<ElectLeadersResponse> {
        let preferred = match self.election_type {
            PREFERRED => true,
            UNCLEAN => false,
            _ => return Some(self.refuse(ErrorCode::INVALID_REQUEST)),
        };
        let cluster = context.shared.cluster.read();
        let mut results: BTreeMap<String, Vec<PartitionResult>> = BTreeMap::new();
        for (topic, index) in asked(&self, &cluster) {
            let error = elect(&cluster, &topic, index, preferred).err();
            // Asked about all, it tells only of those that needed it.
            if self.topic_partitions.is_none() && error == Some(ErrorCode::ELECTION_NOT_NEEDED) {
                continue;
            }
            results.entry(topic).or_default().push(PartitionResult {
                partition_id: index,
                error_code: error.unwrap_or(ErrorCode::NONE),
                error_message: error.map(|error| error.meaning().into()),
                ..Default::default()
            });
        }
        let replica_election_results = results
            .into_iter()
            .map(|(topic, partition_result)| ReplicaElectionResult {
                topic: topic.into(),
                partition_result,
                ..Default::default()
            })
            .collect();
        Some(ElectLeadersResponse {
            replica_election_results,
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> ElectLeadersResponse {
        ElectLeadersResponse {
            error_code: error,
            ..Default::default()
        }
    }
}

fn asked(request: &ElectLeadersRequest, cluster: &Cluster) -> Vec<(String, i32)> {
    match &request.topic_partitions {
        Some(topics) => topics
            .iter()
            .flat_map(|asked| {
                let name = &asked.topic;
                asked.partitions.iter().map(|i| (name.to_string(), *i))
            })
            .collect(),
        None => cluster
            .topics()
            .flat_map(|topic| {
                let name = &topic.name;
                topic.partitions.iter().map(|p| (name.clone(), p.index))
            })
            .collect(),
    }
}

fn elect(cluster: &Cluster, topic: &str, index: i32, preferred: bool) -> Result<(), ErrorCode> {
    let partition = cluster
        .topic(topic)
        .and_then(|topic| topic.partition(index))
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let live = cluster.live();
    let mut state = partition.state.lock();
    if preferred {
        let first = state.replicas.first().copied();
        if first.is_some() && state.leader == first {
            return Err(ErrorCode::ELECTION_NOT_NEEDED);
        }
        let first = first.filter(|id| live.contains(id));
        let first = first.ok_or(ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE)?;
        state.lead(Some(first));
        return Ok(());
    }
    if state.leader.is_some() {
        return Err(ErrorCode::ELECTION_NOT_NEEDED);
    }
    let any = state.replicas.iter().copied().find(|id| live.contains(id));
    let any = any.ok_or(ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE)?;
    state.lead(Some(any));
    Ok(())
}

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;
