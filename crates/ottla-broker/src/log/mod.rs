//! One partition's log: batches in order, in memory or in segment files that Apache Kafka could read.
//!
//! Owns offsets, segments, what is known of idempotent producers, and the history of leader epochs. It
//! appends batches that [`validate`] has found sound, serves whole batches, and removes what retention lets
//! go. It has no clock: the time comes in as milliseconds.

pub(crate) mod compaction;
pub(crate) mod header;
pub(crate) mod incoming;
pub(crate) mod producers;
mod recovery;
pub(crate) mod segment;
pub(crate) mod transactions;
mod truncation;
pub(crate) mod validate;
mod walk;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use ottla_wire::ErrorCode;
use ottla_wire::record::ControlType;

use compaction::{CleanerState, CompactionSettings};
use header::BatchHeader;
use incoming::Incoming;
use producers::{Producers, Verdict};
use segment::Segment;
use transactions::{LogTransactions, marker_in};

use crate::damage::Damage;
use crate::disk::Disk;

/// A partition's log.
#[derive(Debug)]
pub(crate) struct Log {
    /// Where segment files live; `None` keeps everything in memory.
    dir: Option<PathBuf>,
    disk: Arc<Disk>,
    /// Never empty; in order of offset, each beginning where the one before ends. The last is written to.
    segments: VecDeque<Segment>,
    /// The first offset that may be read; may lie inside the first segment after DeleteRecords.
    start_offset: i64,
    producers: Producers,
    transactions: LogTransactions,
    /// Leader epochs and the offset at which each began, both rising.
    epochs: Vec<(i32, i64)>,
    /// Before this offset compaction may have removed records, so recovery takes no gap there for damage. It must be
    /// noted ([`Self::write_checkpoint`]) before a compacted segment takes the place of the whole one.
    compacted_below: i64,
    /// What recovery found.
    damage: Vec<Damage>,
    settings: LogSettings,
    cleaner: CleanerState,
    /// See [`Log::abandon`].
    abandoned: bool,
}

/// A topic's settings, as far as its logs obey them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LogSettings {
    /// `segment.bytes`
    pub(crate) segment_bytes: u64,
    /// `segment.ms`
    pub(crate) segment_ms: i64,
    /// `retention.bytes`, -1 for no limit.
    pub(crate) retention_bytes: i64,
    /// `retention.ms`, -1 for no limit.
    pub(crate) retention_ms: i64,
    /// `cleanup.policy` contains `delete`.
    pub(crate) delete: bool,
    /// `cleanup.policy` contains `compact`.
    pub(crate) compact: bool,
    pub(crate) compaction: CompactionSettings,
    /// `flush.messages=1`: every append is on disk before it is acknowledged.
    pub(crate) sync_each_append: bool,
}

/// Where a batch came to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) base_offset: i64,
    pub(crate) append_time_ms: i64,
    /// The batch had been written before; nothing was added.
    pub(crate) duplicate: bool,
}

/// A record's place in time, as ListOffsets reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimestampedOffset {
    pub(crate) timestamp: i64,
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
}

/// Why a batch was not written.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// The producer's epoch or sequence does not fit.
    Refused(ErrorCode),
    /// The disk would not take it; the log is as it was.
    Storage(io::Error),
}

impl Log {
    pub(crate) fn in_memory(settings: LogSettings, now_ms: i64) -> Self {
        Self::with_segments(
            None,
            Arc::default(),
            VecDeque::from([Segment::in_memory(0, now_ms)]),
            settings,
        )
    }

    fn with_segments(
        dir: Option<PathBuf>,
        disk: Arc<Disk>,
        segments: VecDeque<Segment>,
        settings: LogSettings,
    ) -> Self {
        let start_offset = segments.front().map_or(0, Segment::base_offset);
        Self {
            dir,
            disk,
            segments,
            start_offset,
            producers: Producers::default(),
            transactions: LogTransactions::default(),
            epochs: Vec::new(),
            compacted_below: 0,
            damage: Vec::new(),
            settings,
            cleaner: CleanerState::default(),
            abandoned: false,
        }
    }

    /// The topic was deleted. Its files are not this log's any more: a new topic of that name has files of the same
    /// names, which what is done in the background for this log must not touch.
    pub(crate) fn abandon(&mut self) {
        self.abandoned = true;
        self.note_segments_changed();
    }

    /// What recovery found wrong; only the first call gets it.
    pub(crate) fn take_damage(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.damage)
    }

    pub(crate) fn set_settings(&mut self, settings: LogSettings) {
        self.settings = settings;
    }

    /// The first offset that can be read.
    pub(crate) fn start_offset(&self) -> i64 {
        self.start_offset
    }

    /// The offset that the next record gets.
    pub(crate) fn end_offset(&self) -> i64 {
        self.segments.back().map_or(0, Segment::next_offset)
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.segments.iter().map(Segment::len).sum()
    }

    pub(crate) fn transactions(&self) -> &LogTransactions {
        &self.transactions
    }

    /// Before this offset every transaction is decided: as far as `read_committed` reads.
    pub(crate) fn last_stable_offset(&self) -> i64 {
        match self.transactions.first_open() {
            Some(first) => first.max(self.start_offset),
            None => self.end_offset(),
        }
    }

    pub(crate) fn producers(&self) -> &Producers {
        &self.producers
    }

    /// The newest leader epoch that wrote here, -1 for none.
    pub(crate) fn latest_epoch(&self) -> i32 {
        self.epochs.last().map_or(-1, |(epoch, _)| *epoch)
    }

    /// Where `epoch` ended: the largest epoch not above it that wrote here, and the offset after its last
    /// record (KIP-320). Of an epoch of which nothing is left that is where the log begins, as Kafka has it: who has read
    /// up to there lost nothing. `None` if no epoch is known.
    pub(crate) fn epoch_end(&self, epoch: i32) -> Option<(i32, i64)> {
        let after = self.epochs.partition_point(|(known, _)| *known <= epoch);
        let Some(before) = after.checked_sub(1) else {
            let (_, start) = self.epochs.first()?;
            return Some((epoch, self.start_offset().max(*start)));
        };
        let (found, _) = self.epochs.get(before)?;
        let end = self
            .epochs
            .get(after)
            .map_or(self.end_offset(), |(_, start)| *start);
        Some((*found, end))
    }

    /// The leader epoch that wrote `offset`.
    pub(crate) fn epoch_at(&self, offset: i64) -> i32 {
        let after = self.epochs.partition_point(|(_, start)| *start <= offset);
        after.checked_sub(1).map_or(-1, |i| self.epochs[i].0)
    }

    /// Appends a sound batch: its offsets and leader epoch are filled in here.
    pub(crate) fn append(
        &mut self,
        batch: &mut Incoming,
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let base_offset = self.end_offset();
        batch.place(base_offset, leader_epoch);
        let Some(header) = batch.header() else {
            return Err(AppendError::Refused(ErrorCode::CORRUPT_MESSAGE));
        };
        let in_transaction = self.transactions.start_of(header.producer_id).is_some();
        if in_transaction && !header.is_transactional() {
            return Err(AppendError::Refused(ErrorCode::INVALID_TXN_STATE));
        }
        match self
            .producers
            .check(&header)
            .map_err(AppendError::Refused)?
        {
            Verdict::New => {}
            Verdict::Duplicate {
                base_offset,
                append_time_ms,
            } => {
                return Ok(Appended {
                    base_offset,
                    append_time_ms,
                    duplicate: true,
                });
            }
        }
        self.roll_if_due(header.total_len() as u64, now_ms)
            .map_err(AppendError::Storage)?;
        self.note_epoch(leader_epoch, base_offset)
            .map_err(AppendError::Storage)?;
        let sync = self.settings.sync_each_append;
        let Some(active) = self.segments.back_mut() else {
            return Err(AppendError::Refused(ErrorCode::KAFKA_STORAGE_ERROR));
        };
        let marker = if header.is_control() {
            marker_in(&header, &batch.to_bytes())
        } else {
            None
        };
        let whole = match self.dir {
            None => batch.take_whole(),
            Some(_) => None,
        };
        match whole {
            Some(whole) => active.keep(&header, whole),
            None => active
                .append(&header, batch.parts(), sync)
                .map_err(AppendError::Storage)?,
        }
        self.note_appended(&header, marker, now_ms);
        Ok(Appended {
            base_offset,
            append_time_ms: now_ms,
            duplicate: false,
        })
    }

    /// Notes that `epoch` begins at `offset`, on disk before its first batch is: recovery compares them.
    fn note_epoch(&mut self, epoch: i32, offset: i64) -> io::Result<()> {
        if epoch <= self.latest_epoch() {
            return Ok(());
        }
        self.epochs.push((epoch, offset));
        let noted = self.write_checkpoint();
        if noted.is_err() {
            self.epochs.pop();
        }
        noted
    }

    /// Takes note of a batch that stands in the log; `marker` says what a control batch does.
    fn note_appended(&mut self, header: &BatchHeader, marker: Option<ControlType>, now_ms: i64) {
        self.producers.note_appended(header, now_ms);
        self.transactions.note_appended(header, marker);
        if header.partition_leader_epoch > self.latest_epoch() {
            self.epochs
                .push((header.partition_leader_epoch, header.base_offset));
        }
    }

    fn roll_if_due(&mut self, incoming: u64, now_ms: i64) -> io::Result<()> {
        let Some(active) = self.segments.back() else {
            return Ok(());
        };
        let full = active.len() + incoming > self.settings.segment_bytes;
        let age_max_ms = if self.settings.compact {
            // What is not in a closed segment cannot be compacted in time.
            self.settings
                .segment_ms
                .min(self.settings.compaction.lag_max_ms)
        } else {
            self.settings.segment_ms
        };
        let old = now_ms - active.created_ms() >= age_max_ms;
        if active.is_empty() || !(full || old) {
            return Ok(());
        }
        self.start_segment(now_ms)
    }

    /// Closes the segment that is written to and begins the next.
    fn start_segment(&mut self, now_ms: i64) -> io::Result<()> {
        if let Some(active) = self.segments.back() {
            active.sync()?;
        }
        let next = self.new_segment(self.end_offset(), now_ms)?;
        self.segments.push_back(next);
        Ok(())
    }

    fn new_segment(&self, base_offset: i64, now_ms: i64) -> io::Result<Segment> {
        match &self.dir {
            None => Ok(Segment::in_memory(base_offset, now_ms)),
            Some(dir) => Segment::create(dir, base_offset, now_ms, Arc::clone(&self.disk)),
        }
    }

    /// Whole batches from the one that holds `offset` on, below `limit_offset`: as many as fit into
    /// `max_bytes`, and at least one if `at_least_one`. They may stop at the end of a segment.
    pub(crate) fn read(
        &self,
        offset: i64,
        limit_offset: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> io::Result<Bytes> {
        let after = self
            .segments
            .partition_point(|segment| segment.base_offset() <= offset);
        for segment in self.segments.iter().skip(after.saturating_sub(1)) {
            if let Some((position, _)) = segment.find(offset)? {
                return segment.read(position, max_bytes, limit_offset, at_least_one);
            }
        }
        Ok(Bytes::new())
    }

    /// The first batch that reaches the offset `from` and whose largest timestamp reaches `timestamp`.
    pub(crate) fn batch_at_timestamp(
        &self,
        timestamp: i64,
        from: i64,
    ) -> io::Result<Option<Bytes>> {
        let from = from.max(self.start_offset);
        for segment in &self.segments {
            if let Some((position, _)) = segment.find_timestamp(timestamp, from)? {
                return segment.read(position, 0, i64::MAX, true).map(Some);
            }
        }
        Ok(None)
    }

    /// The first of the batches from the offset `from` on that hold the largest timestamp of all these.
    pub(crate) fn batch_with_max_timestamp(&self, from: i64) -> io::Result<Option<Bytes>> {
        let mut newest = -1;
        for segment in &self.segments {
            newest = newest.max(segment.max_timestamp_from(from)?);
        }
        match newest {
            0.. => self.batch_at_timestamp(newest, from),
            _ => Ok(None),
        }
    }

    /// Makes everything before `offset` unreadable (DeleteRecords), and removes segments that are whole
    /// below it. Returns the new start offset.
    pub(crate) fn delete_before(&mut self, offset: i64) -> io::Result<i64> {
        self.start_offset = self.start_offset.max(offset.min(self.end_offset()));
        self.trim_epochs();
        let noted = self.write_checkpoint();
        while self.segments.len() > 1 && self.segments[1].base_offset() <= self.start_offset {
            self.drop_first_segment()?;
        }
        if noted.is_err() {
            // A full disk must not keep anybody from making room on it.
            self.write_checkpoint()?;
        }
        Ok(self.start_offset)
    }

    /// Removes what `retention.ms` and `retention.bytes` let go; always whole segments, never the active
    /// one. Returns whether anything went.
    pub(crate) fn enforce_retention(&mut self, now_ms: i64) -> io::Result<bool> {
        if !self.settings.delete || self.abandoned {
            return Ok(false);
        }
        let mut removed = 0;
        let mut size = self.size_bytes();
        while removed + 1 < self.segments.len() {
            let first = &self.segments[removed];
            let too_old = self.settings.retention_ms >= 0
                && now_ms.saturating_sub(first.newest_ms()) > self.settings.retention_ms;
            let limit = self.settings.retention_bytes;
            let too_much = limit >= 0 && size - first.len() >= limit as u64;
            if !(too_old || too_much) {
                break;
            }
            size -= first.len();
            removed += 1;
        }
        if removed > 0 {
            self.delete_before(self.segments[removed].base_offset())?;
        }
        Ok(removed > 0)
    }

    fn drop_first_segment(&mut self) -> io::Result<()> {
        self.note_segments_changed();
        if let Some(segment) = self.segments.pop_front() {
            segment.delete()?;
        }
        Ok(())
    }

    /// Forgets epochs that ended before the log starts; the one in force there is kept, from there on.
    fn trim_epochs(&mut self) {
        let after = self
            .epochs
            .partition_point(|(_, start)| *start <= self.start_offset);
        if after > 1 {
            self.epochs.drain(..after - 1);
        }
        if let Some(first) = self.epochs.first_mut() {
            first.1 = first.1.max(self.start_offset);
        }
        self.transactions.trim(self.start_offset);
    }

    pub(crate) fn expire_producers(&mut self, before_ms: i64) {
        let transactions = &self.transactions;
        self.producers
            .expire(before_ms, |id| transactions.start_of(id).is_some());
    }

    /// Makes everything written survive a crash of the machine, and notes how far it goes.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.segments.back().map_or(Ok(()), Segment::sync)?;
        self.write_checkpoint()
    }
}

/// So much is read at a time to go through a log.
pub(crate) const READ_STEP: usize = 1 << 20;

/// A batch that decompresses to more than this is taken for an attack.
pub(crate) const DECOMPRESSED_MAX: usize = 256 << 20;

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use ottla_wire::compress::{Codec, Compression, Compressor};
    use ottla_wire::record::{BatchWriter, NewRecord, SealOptions};

    use super::*;

    pub(super) const SETTINGS: LogSettings = LogSettings {
        segment_bytes: 2000,
        segment_ms: i64::MAX,
        retention_bytes: -1,
        retention_ms: -1,
        delete: true,
        compact: false,
        compaction: CompactionSettings {
            delete_retention_ms: 0,
            lag_min_ms: 0,
            lag_max_ms: i64::MAX,
            dirty_ratio_min: 0.5,
        },
        sync_each_append: false,
    };

    fn batch(timestamps: &[i64]) -> Vec<u8> {
        let records: Vec<_> = timestamps.iter().map(|t| (*t, &[7; 50][..])).collect();
        batch_of(&records)
    }

    /// A batch of records with these timestamps and values.
    pub(super) fn batch_of(records: &[(i64, &[u8])]) -> Vec<u8> {
        let mut writer = BatchWriter::new(BytesMut::new());
        for (timestamp, value) in records {
            let record = NewRecord {
                timestamp: *timestamp,
                key: None,
                value: Some(value),
                headers: &[],
            };
            writer.append(&record).unwrap();
        }
        let options = SealOptions {
            codec: Codec::from(Compression::None),
        };
        writer
            .seal(&options, &mut Compressor::new())
            .unwrap()
            .freeze()
            .to_vec()
    }

    pub(super) fn incoming(batch: Vec<u8>) -> Incoming {
        Incoming::new(&batch.into()).unwrap()
    }

    fn fill(log: &mut Log, batches: i64) {
        for i in 0..batches {
            let mut batch = incoming(batch(&[i * 10, i * 10 + 1]));
            let appended = log.append(&mut batch, 3, 0).unwrap();
            assert_eq!(appended.base_offset, i * 2);
        }
    }

    fn read_all(log: &Log) -> i64 {
        let mut offset = log.start_offset();
        while offset < log.end_offset() {
            let bytes = log.read(offset, log.end_offset(), 300, true).unwrap();
            let header = BatchHeader::parse(&bytes).unwrap();
            assert!(header.base_offset <= offset && header.next_offset() > offset);
            offset = header.next_offset();
        }
        offset
    }

    fn both(check: impl Fn(&mut Log)) {
        check(&mut Log::in_memory(SETTINGS, 0));
        let dir = tempfile::tempdir().unwrap();
        check(&mut Log::open(dir.path(), Arc::default(), SETTINGS, 0).unwrap());
    }

    #[test]
    fn what_was_appended_is_read_across_segments() {
        both(|log| {
            fill(log, 100);
            assert!(log.segments.len() > 3);
            assert_eq!(read_all(log), 200);
            let inside = log.read(101, 200, 10, true).unwrap();
            assert_eq!(BatchHeader::parse(&inside).unwrap().base_offset, 100);
            assert!(log.read(101, 200, 10, false).unwrap().is_empty());
        });
    }

    #[test]
    fn a_time_finds_the_first_batch_that_reaches_it() {
        both(|log| {
            fill(log, 100);
            let found = log.batch_at_timestamp(505, 0).unwrap().unwrap();
            assert_eq!(BatchHeader::parse(&found).unwrap().base_offset, 102);
            assert!(log.batch_at_timestamp(992, 0).unwrap().is_none());
            let newest = log.batch_with_max_timestamp(0).unwrap().unwrap();
            assert_eq!(BatchHeader::parse(&newest).unwrap().base_offset, 198);
        });
    }

    #[test]
    fn retention_by_size_and_time_removes_whole_old_segments() {
        both(|log| {
            fill(log, 100);
            log.set_settings(LogSettings {
                retention_bytes: 5000,
                ..SETTINGS
            });
            assert!(log.enforce_retention(0).unwrap());
            assert!(
                (5000..7100).contains(&log.size_bytes()),
                "{}",
                log.size_bytes()
            );
            let start = log.start_offset();
            assert!(start > 0 && read_all(log) == 200);
            log.set_settings(LogSettings {
                retention_ms: 100,
                ..SETTINGS
            });
            assert!(log.enforce_retention(1_000_000).unwrap());
            assert_eq!(log.segments.len(), 1, "the active segment stays");
        });
    }

    #[test]
    fn deleted_records_are_gone_and_epochs_follow() {
        both(|log| {
            fill(log, 100);
            assert_eq!(log.delete_before(77).unwrap(), 77);
            assert_eq!(log.start_offset(), 77);
            assert_eq!(log.epoch_end(3), Some((3, 200)));
            assert_eq!(log.epoch_end(2), Some((2, 77)));
            assert_eq!(log.epoch_at(150), 3);
        });
    }

    #[test]
    fn a_torn_tail_is_cut_and_appending_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path(), Arc::default(), SETTINGS, 0).unwrap();
        fill(&mut log, 100);
        log.delete_before(40).unwrap();
        drop(log);
        let newest = segment_files(dir.path()).pop().unwrap();
        let len = std::fs::metadata(&newest).unwrap().len();
        std::fs::File::options()
            .write(true)
            .open(&newest)
            .unwrap()
            .set_len(len - 5)
            .unwrap();
        let mut log = Log::open(dir.path(), Arc::default(), SETTINGS, 0).unwrap();
        assert_eq!((log.start_offset(), log.end_offset()), (40, 198));
        let more = log.append(&mut incoming(batch(&[1])), 4, 0).unwrap();
        assert_eq!(more.base_offset, 198);
        assert_eq!(read_all(&log), 199);
    }

    #[test]
    fn from_a_damaged_batch_on_everything_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path(), Arc::default(), SETTINGS, 0).unwrap();
        fill(&mut log, 100);
        drop(log);
        let second = segment_files(dir.path()).remove(1);
        let mut bytes = std::fs::read(&second).unwrap();
        bytes[100] ^= 1;
        std::fs::write(&second, bytes).unwrap();
        let log = Log::open(dir.path(), Arc::default(), SETTINGS, 0).unwrap();
        let first_segment_end = log.segments[0].next_offset();
        assert_eq!(log.end_offset(), first_segment_end);
        assert_eq!(read_all(&log), first_segment_end);
    }

    fn segment_files(dir: &std::path::Path) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "log"))
            .collect();
        files.sort();
        files
    }
}
