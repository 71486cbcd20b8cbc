//! What ShareFetch acquires of one partition (KIP-932).

use std::collections::btree_map::Entry;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use ottla_wire::ErrorCode;

use super::list_offsets::first_at;
use crate::cluster::Partition;
use crate::context::Context;
use crate::group::consumer::TopicPartition;
use crate::group::share::partition::{Acquired, LogBatch, SharePartition, Wanted};
use crate::group::share::settings::{Reset, ShareSettings};
use crate::log::Log;
use crate::log::header::BatchHeader;
use crate::share_session::Key;

/// Acquires for the member of a session, request by request.
pub(super) struct Acquirer<'a> {
    pub(super) context: &'a Context,
    pub(super) key: &'a Key,
    /// Whether not one record more than asked for, though that cuts a batch (KIP-1206).
    pub(super) strict: bool,
    /// Set once the group has begun to read a partition.
    pub(super) has_begun: bool,
}

/// Where to read, and up to where.
struct Range {
    from: i64,
    end: i64,
    leader_epoch: i32,
}

impl Acquirer<'_> {
    /// Batches of a partition, and what of them is acquired: within so many bytes and records.
    pub(super) fn acquire(
        &mut self,
        id: TopicPartition,
        partition: &Partition,
        room: usize,
        records_max: usize,
    ) -> Result<(Bytes, Vec<Acquired>), ErrorCode> {
        let nothing = (Bytes::new(), Vec::new());
        let shared = &self.context.shared;
        let settings = shared.settings.lock().groups.of(&self.key.group);
        let Some(range) = self.range(id, partition, &settings)? else {
            return Ok(nothing);
        };
        let (mut records, batches) = {
            let state = partition.state.lock();
            state.check_leader(self.context.node, -1)?;
            let read = state.log.read(range.from, range.end, room, true);
            let records = read.map_err(|error| unreadable(id, &error))?;
            let batches = batches(&state.log, &records, settings.committed_only);
            (records, batches)
        };
        let wanted = Wanted {
            holder: (Arc::from(self.key.member.as_str()), self.key.node),
            records_max,
            strict: self.strict,
            until: shared.now() + settings.lock,
        };
        let acquired = {
            let mut groups = shared.groups.lock();
            let group = groups.get_mut(&self.key.group);
            let group = group.and_then(|group| group.share.as_mut());
            let of = group.and_then(|group| group.partitions.get_mut(&id));
            let of = of.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
            of.led(range.leader_epoch)?;
            let all: Vec<LogBatch> = batches.iter().map(|(batch, _)| *batch).collect();
            of.pass_gaps(range.from, &all);
            of.acquire(&all, &wanted)
        };
        let Some(last) = acquired.last().map(|run| run.last) else {
            return Ok(nothing);
        };
        shared.groups_changed.notify_one();
        // No bytes behind what is acquired.
        let ends = batches.iter().find(|(batch, _)| batch.last >= last);
        if let Some((_, end)) = ends {
            records.truncate(*end);
        }
        Ok((records, acquired))
    }

    /// Where the group reads on in a partition; none if there is nothing to acquire. A partition that it has not read
    /// yet begins where its settings say.
    fn range(
        &mut self,
        id: TopicPartition,
        partition: &Partition,
        settings: &ShareSettings,
    ) -> Result<Option<Range>, ErrorCode> {
        let shared = &self.context.shared;
        let is_new = {
            let groups = shared.groups.lock();
            let group = groups.get(&self.key.group);
            let group = group.and_then(|group| group.share.as_ref());
            let group = group.ok_or(ErrorCode::GROUP_ID_NOT_FOUND)?;
            !group.partitions.contains_key(&id)
        };
        // The log is asked before the group is locked.
        let (start, end, leader_epoch, begin) = {
            let state = partition.state.lock();
            state.check_leader(self.context.node, -1)?;
            let log = &state.log;
            let end = match settings.committed_only {
                true => log.last_stable_offset(),
                false => log.end_offset(),
            };
            let begin = match is_new {
                true => Some(begin(log, settings.reset, end, shared.now_ms())),
                false => None,
            };
            let begin = begin.transpose();
            let begin = begin.map_err(|error| unreadable(id, &error))?;
            (log.start_offset(), end, state.leader_epoch, begin)
        };
        let mut groups = shared.groups.lock();
        let group = groups.get_mut(&self.key.group);
        let group = group.and_then(|group| group.share.as_mut());
        let group = group.ok_or(ErrorCode::GROUP_ID_NOT_FOUND)?;
        let epoch = group.epoch();
        let of = match (group.partitions.entry(id), begin) {
            (Entry::Occupied(of), _) => of.into_mut(),
            (Entry::Vacant(of), Some(begin)) => {
                self.has_begun = true;
                of.insert(SharePartition::new(begin, epoch))
            }
            // Somebody made the group forget it just now.
            (Entry::Vacant(_), None) => return Ok(None),
        };
        of.led(leader_epoch)?;
        of.truncate(start);
        Ok(match of.read_from() {
            Some(from) if from < end => Some(Range {
                from,
                end,
                leader_epoch,
            }),
            _ => None,
        })
    }
}

/// Where a group begins in a log that it has not read yet, and may read up to `end`.
fn begin(log: &Log, reset: Reset, end: i64, now_ms: i64) -> io::Result<i64> {
    Ok(match reset {
        Reset::Earliest => log.start_offset(),
        Reset::Latest => end,
        Reset::ByDuration(ago) => {
            let ago_ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
            match first_at(log, now_ms.saturating_sub(ago_ms).max(0))? {
                Some(Ok(found)) => found.offset.min(end),
                // A batch that cannot be read is for who reads it to complain about.
                Some(Err(_)) => log.start_offset(),
                None => end,
            }
        }
    })
}

/// The batches in `records`, and where each ends.
fn batches(log: &Log, records: &Bytes, committed_only: bool) -> Vec<(LogBatch, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(header) = records.get(at..).and_then(BatchHeader::parse) {
        at += header.total_len();
        if at > records.len() {
            break;
        }
        let (first, last) = (header.base_offset, header.last_offset());
        let aborted = || {
            let near = log.transactions().aborted_in(first, last + 1);
            near.iter().any(|aborted| {
                aborted.producer_id == header.producer_id
                    && aborted.first_offset <= first
                    && aborted.last_offset >= last
            })
        };
        let hidden =
            header.is_control() || committed_only && header.is_transactional() && aborted();
        let batch = LogBatch {
            first,
            last,
            hidden,
        };
        found.push((batch, at));
    }
    found
}

fn unreadable(id: TopicPartition, error: &io::Error) -> ErrorCode {
    tracing::error!(topic = %id.0, partition = id.1, %error, "cannot read the log");
    ErrorCode::KAFKA_STORAGE_ERROR
}
