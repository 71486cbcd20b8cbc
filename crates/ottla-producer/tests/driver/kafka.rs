//! Scripted brokers that keep their partitions' logs, and may do anything to a request.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::PartitionLog;
use ottla_net::ClusterConfig;
use ottla_net::testing::{Call, Reply, ScriptedCluster};
use ottla_producer::{Delivery, Producer, ProducerConfig, ProducerRecord};
use ottla_wire::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use ottla_wire::messages::produce::{
    LeaderIdAndEpoch, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceResponse,
};
use ottla_wire::{Bytes, ErrorCode, Uuid};
use parking_lot::Mutex;

/// Brokers that share their partitions' logs.
#[derive(Clone)]
pub(crate) struct Kafka {
    pub(crate) brokers: Arc<ScriptedCluster>,
    pub(crate) logs: Arc<Mutex<HashMap<i32, PartitionLog>>>,
    /// Consulted before every append: what to do with a partition's batch.
    pub(crate) fault: Arc<Mutex<Fault>>,
    pub(crate) requests: Arc<Mutex<Vec<Seen>>>,
    /// Requests that name another topic id are refused, if there is one.
    pub(crate) only_id: Arc<Mutex<Option<Uuid>>>,
    /// For how long the brokers have the producer wait after each answer.
    pub(crate) throttle_ms: Arc<Mutex<i32>>,
}

pub(crate) type Fault = Box<dyn FnMut(&Call, i32, &Bytes) -> Act + Send>;

#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) node: i32,
    pub(crate) version: i16,
    pub(crate) partitions: Vec<i32>,
    pub(crate) acks: i16,
    pub(crate) named: bool,
    pub(crate) ids: Vec<Uuid>,
}

pub(crate) enum Act {
    Append,
    AppendAndClose,
    AppendAndSilence,
    Silence,
    Close,
    Answer(ErrorCode),
    AnswerLeader(i32, i32),
    Delay(Duration),
}

impl Kafka {
    pub(crate) fn start(brokers: i32, partitions: i32) -> Self {
        let kafka = Self {
            brokers: Arc::new(ScriptedCluster::start(brokers)),
            logs: Arc::default(),
            fault: Arc::new(Mutex::new(Box::new(|_, _, _| Act::Append))),
            requests: Arc::default(),
            only_id: Arc::default(),
            throttle_ms: Arc::default(),
        };
        kafka.brokers.add_topic("clicks", partitions);
        for broker in kafka.brokers.brokers() {
            let ids = Arc::new(Mutex::new(100));
            broker.on::<InitProducerIdRequest>(move |_, _| {
                let mut next = ids.lock();
                *next += 1;
                InitProducerIdResponse {
                    producer_id: *next,
                    ..Default::default()
                }
                .into()
            });
            let own = kafka.clone();
            broker.on::<ProduceRequest>(move |request, call| own.produce(&request, call));
        }
        kafka
    }

    pub(crate) fn fault(&self, fault: impl FnMut(&Call, i32, &Bytes) -> Act + Send + 'static) {
        *self.fault.lock() = Box::new(fault);
    }

    fn produce(&self, request: &ProduceRequest, call: &Call) -> Reply<ProduceResponse> {
        let topics = &request.topic_data;
        self.requests.lock().push(Seen {
            node: call.node,
            version: call.version,
            acks: request.acks,
            partitions: topics
                .iter()
                .flat_map(|t| t.partition_data.iter().map(|p| p.index))
                .collect(),
            named: topics.iter().all(|topic| !topic.name.is_empty()),
            ids: topics.iter().map(|topic| topic.topic_id).collect(),
        });
        let mut fate = None;
        let mut wait = Duration::ZERO;
        let responses = topics
            .iter()
            .map(|topic| TopicProduceResponse {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partition_responses: topic
                    .partition_data
                    .iter()
                    .map(|data| {
                        let records = data.records.clone().expect("records");
                        let mut logs = self.logs.lock();
                        let log = logs.entry(data.index).or_default();
                        let answer = |(error_code, base_offset)| PartitionProduceResponse {
                            index: data.index,
                            error_code,
                            base_offset,
                            ..Default::default()
                        };
                        let only_id = *self.only_id.lock();
                        if only_id.is_some_and(|id| id != topic.topic_id) {
                            return answer((ErrorCode::UNKNOWN_TOPIC_ID, -1));
                        }
                        match (self.fault.lock())(call, data.index, &records) {
                            Act::Append => answer(log.append(&records)),
                            Act::Delay(time) => {
                                wait = wait.max(time);
                                answer(log.append(&records))
                            }
                            Act::AppendAndClose => {
                                fate = Some(Reply::Close);
                                answer(log.append(&records))
                            }
                            Act::AppendAndSilence => {
                                fate = Some(Reply::Silence);
                                answer(log.append(&records))
                            }
                            Act::Silence => {
                                fate = Some(Reply::Silence);
                                answer((ErrorCode::NONE, -1))
                            }
                            Act::Close => {
                                fate = Some(Reply::Close);
                                answer((ErrorCode::NONE, -1))
                            }
                            Act::Answer(code) => answer((code, -1)),
                            Act::AnswerLeader(leader_id, leader_epoch) => {
                                PartitionProduceResponse {
                                    current_leader: LeaderIdAndEpoch {
                                        leader_id,
                                        leader_epoch,
                                        ..Default::default()
                                    },
                                    ..answer((ErrorCode::NOT_LEADER_OR_FOLLOWER, -1))
                                }
                            }
                        }
                    })
                    .collect(),
                ..Default::default()
            })
            .collect();
        if request.acks == 0 {
            return Reply::Skip;
        }
        let response = ProduceResponse {
            responses,
            throttle_time_ms: *self.throttle_ms.lock(),
            ..Default::default()
        };
        fate.unwrap_or_else(|| Reply::after(wait, response))
    }

    pub(crate) fn producer(&self, config: ProducerConfig) -> Producer {
        // As the facade does: the connections' patience is the producer's.
        let net = ClusterConfig {
            request_timeout: config.request_timeout,
            ..self.brokers.config()
        };
        Producer::new(self.brokers.connect_with(net), config).unwrap()
    }

    pub(crate) fn values(&self, partition: i32) -> Vec<String> {
        let logs = self.logs.lock();
        let values = logs
            .get(&partition)
            .map(|log| log.values.clone())
            .unwrap_or_default();
        values
            .iter()
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .collect()
    }

    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.requests.lock().clone()
    }
}

pub(crate) fn config() -> ProducerConfig {
    ProducerConfig {
        linger: Duration::ZERO,
        ..Default::default()
    }
}

pub(crate) async fn send(producer: &Producer, partition: i32, value: &str) -> Delivery {
    producer
        .send(
            ProducerRecord::to("clicks")
                .partition(partition)
                .value(value),
        )
        .await
        .unwrap()
}

pub(crate) fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}
