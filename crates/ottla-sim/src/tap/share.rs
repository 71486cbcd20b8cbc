//! What members of share groups and brokers say to each other.

use bytes::Bytes;
use ottla_wire::messages::{
    share_acknowledge::ShareAcknowledgeRequest, share_fetch::ShareFetchRequest,
    share_group_heartbeat::ShareGroupHeartbeatRequest,
};
use ottla_wire::{ApiKey, ErrorCode, Uuid, decode_request, decode_response};

use super::{Question, Tap};
use crate::history::{Part, What};
use crate::share::{Answer, Event, Request, Run};

impl Tap {
    /// A request of a share group's member left. None if it is of another kind.
    pub(super) fn share_request(&self, question: &mut Question, frame: Bytes) -> Option<()> {
        let member = question.member;
        let mut words = Vec::new();
        match question.api {
            ApiKey::ShareGroupHeartbeat => {
                let (_, request) = decode_request::<ShareGroupHeartbeatRequest>(frame).ok()?;
                let epoch = request.member_epoch;
                question.generation = epoch;
                self.record(Event::Beats { member, epoch });
                return Some(());
            }
            ApiKey::ShareFetch => {
                let (_, request) = decode_request::<ShareFetchRequest>(frame).ok()?;
                question.generation = request.share_session_epoch;
                for topic in &request.topics {
                    for partition in &topic.partitions {
                        for said in &partition.acknowledgement_batches {
                            let run = (said.first_offset, said.last_offset);
                            let at = (topic.topic_id, partition.partition_index);
                            self.words(at, run, &said.acknowledge_types, &mut words);
                        }
                    }
                }
            }
            ApiKey::ShareAcknowledge => {
                let (_, request) = decode_request::<ShareAcknowledgeRequest>(frame).ok()?;
                question.generation = request.share_session_epoch;
                for topic in &request.topics {
                    for partition in &topic.partitions {
                        for said in &partition.acknowledgement_batches {
                            let run = (said.first_offset, said.last_offset);
                            let at = (topic.topic_id, partition.partition_index);
                            self.words(at, run, &said.acknowledge_types, &mut words);
                        }
                    }
                }
            }
            _ => return None,
        }
        question.number = self.history.new_number();
        self.record(Event::Asks(Request {
            member,
            number: question.number,
            node: self.node,
            epoch: question.generation,
            fetches: question.api == ApiKey::ShareFetch,
            words,
        }));
        Some(())
    }

    /// The answer to one, and its error. None if it is of another kind.
    pub(super) fn share_response(
        &self,
        question: &Question,
        frame: Bytes,
    ) -> Option<(ErrorCode, What)> {
        let version = question.version;
        let mut told = Answer {
            number: question.number,
            error: 0,
            verdicts: Vec::new(),
            acquired: Vec::new(),
            heeded: self.is_heeded(question),
        };
        let error = match question.api {
            ApiKey::ShareGroupHeartbeat => {
                let answer = decode_response::<ShareGroupHeartbeatRequest>(version, frame).ok()?;
                let beaten = Event::Beaten {
                    member: question.member,
                    error: answer.error_code.0,
                };
                return Some((answer.error_code, What::Shared(beaten)));
            }
            ApiKey::ShareFetch => {
                let answer = decode_response::<ShareFetchRequest>(version, frame).ok()?;
                for topic in &answer.responses {
                    for of in &topic.partitions {
                        let Some(part) = self.history.part(topic.topic_id, of.partition_index)
                        else {
                            continue;
                        };
                        told.verdicts.push((part, of.acknowledge_error_code.0));
                        told.acquired.extend(of.acquired_records.iter().map(|run| {
                            (
                                part,
                                (run.first_offset, run.last_offset),
                                run.delivery_count,
                            )
                        }));
                    }
                }
                answer.error_code
            }
            ApiKey::ShareAcknowledge => {
                let answer = decode_response::<ShareAcknowledgeRequest>(version, frame).ok()?;
                for topic in &answer.responses {
                    for of in &topic.partitions {
                        let part = self.history.part(topic.topic_id, of.partition_index);
                        told.verdicts
                            .extend(part.map(|part| (part, of.error_code.0)));
                    }
                }
                answer.error_code
            }
            _ => return None,
        };
        told.error = error.0;
        Some((error, What::Shared(Event::Answered(told))))
    }

    /// One word of a run for all its offsets, or a word for each.
    fn words(
        &self,
        (topic, partition): (Uuid, i32),
        run: Run,
        kinds: &[i8],
        words: &mut Vec<(Part, Run, i8)>,
    ) {
        let Some(part) = self.history.part(topic, partition) else {
            return;
        };
        match kinds {
            [kind] => words.push((part, run, *kind)),
            kinds => {
                let offsets = (run.0..=run.1).map(|offset| (offset, offset));
                words.extend(offsets.zip(kinds).map(|(run, kind)| (part, run, *kind)));
            }
        }
    }

    fn record(&self, event: Event) {
        self.history.record(What::Shared(event));
    }
}
