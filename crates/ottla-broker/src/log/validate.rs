//! Decides whether the bytes of a Produce request may be appended, with the verdicts of Apache Kafka.

use std::fmt;

use bytes::Bytes;
use ottla_wire::ErrorCode;
use ottla_wire::compress::{Compression, Decompressor};
use ottla_wire::record::{
    Batch, BatchError, Batches, DecodedBatch, HeaderFault, RecordRef, TimestampType,
};

use super::DECOMPRESSED_MAX;
use super::incoming::Incoming;
use crate::topic_config::TopicConfig;

/// What a request asks for, as far as it decides whether its batch is valid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) config: &'a TopicConfig,
    /// Version of the Produce request.
    pub(crate) version: i16,
    pub(crate) has_transactional_id: bool,
    pub(crate) now_ms: i64,
}

/// Why a batch is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) error: ErrorCode,
    pub(crate) message: String,
    /// Index in the batch of each record at fault, if it is single records; of very many, the first.
    pub(crate) records: Vec<(i32, String)>,
}

/// Checks `records`, which must be one batch of format 2, and makes it ready for [`super::Log::append`]: with the
/// broker's time in it if the topic wants that, and with the timestamp of its newest record whatever the producer
/// said.
pub(crate) fn validate(records: Option<&Bytes>, rules: Rules<'_>) -> Result<Incoming, Refusal> {
    let records = records.filter(|records| !records.is_empty());
    let records = records.ok_or_else(|| no_batch(rules))?;
    let batch = only_batch(records, rules)?;
    check_header(&batch, rules)?;
    let (len, max) = (records.len(), rules.config.max_message_bytes);
    if len > max {
        let message = format!(
            "The record batch size in the append to {rules} is {len} bytes which exceeds the maximum configured value of {max} bytes."
        );
        return Err(Refusal::new(ErrorCode::MESSAGE_TOO_LARGE, message));
    }
    if let Err(error) = batch.verify_crc() {
        let message = format!("Record is corrupt in topic partition {rules}: {error}");
        return Err(Refusal::new(ErrorCode::CORRUPT_MESSAGE, message));
    }
    let mut decompressor = Decompressor::new();
    let decoded = batch
        .decode(&mut decompressor, DECOMPRESSED_MAX)
        .map_err(|error| unreadable(&error, rules))?;
    let max_timestamp = check_records(&decoded, &batch, rules)?;
    stamped(&batch, max_timestamp, rules)
}

fn no_batch(rules: Rules<'_>) -> Refusal {
    let message = format!(
        "Produce requests with version {} must have at least one record batch per partition.",
        rules.version
    );
    Refusal::new(ErrorCode::INVALID_RECORD, message)
}

fn only_batch(records: &Bytes, rules: Rules<'_>) -> Result<Batch, Refusal> {
    if records.get(MAGIC_AT).is_some_and(|magic| *magic != 2) {
        let message = format!(
            "Produce requests with version {} are only allowed to contain record batches with magic version 2.",
            rules.version
        );
        return Err(Refusal::new(ErrorCode::INVALID_RECORD, message));
    }
    let mut batches = Batches::new(records.clone());
    let batch = match batches.next() {
        Some(batch) => batch.map_err(|error| unreadable(&error, rules))?,
        None => return Err(no_batch(rules)),
    };
    if batch.bytes().len() != records.len() {
        let message = format!(
            "Produce requests with version {} are only allowed to contain exactly one record batch per partition.",
            rules.version
        );
        return Err(Refusal::new(ErrorCode::INVALID_RECORD, message));
    }
    Ok(batch)
}

/// A batch that is not what it says is invalid; one whose bytes make no sense is corrupt.
fn unreadable(error: &BatchError, rules: Rules<'_>) -> Refusal {
    let code = match error {
        BatchError::Header {
            fault: HeaderFault::Count { .. } | HeaderFault::Offsets { .. },
            ..
        }
        | BatchError::Count { .. }
        | BatchError::Record { .. }
        | BatchError::UnknownCodec { .. } => ErrorCode::INVALID_RECORD,
        _ => ErrorCode::CORRUPT_MESSAGE,
    };
    Refusal::new(code, format!("{error} (topic partition {rules})"))
}

fn check_header(batch: &Batch, rules: Rules<'_>) -> Result<(), Refusal> {
    let header = batch.header();
    let invalid = |message: String| Err(Refusal::new(ErrorCode::INVALID_RECORD, message));
    if header.compression() == Some(Compression::Zstd) && rules.version < 7 {
        let message = format!(
            "Produce requests with version {} are not allowed to use ZStandard compression.",
            rules.version
        );
        return Err(Refusal::new(
            ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            message,
        ));
    }
    if header.is_transactional() && !rules.has_transactional_id {
        let message = "The batch is transactional, the request has no transactional id.";
        return Err(Refusal::new(
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            message,
        ));
    }
    let (base, last) = (header.base_offset(), header.last_offset());
    if base != 0 {
        return invalid(format!(
            "The baseOffset of the record batch in the append to {rules} should be 0, but it is {base}"
        ));
    }
    let count = header.record_count().unwrap_or(0);
    if count <= 0 {
        return invalid(format!(
            "Invalid reported count for record batch: {count} in topic partition {rules}"
        ));
    }
    if last != i64::from(count) - 1 {
        return invalid(format!(
            "Inconsistent batch offset range [{base}, {last}] and count of records {count} in topic partition {rules}"
        ));
    }
    if header.is_control() {
        return invalid(format!(
            "Clients are not allowed to write control records in topic partition {rules}"
        ));
    }
    if header.producer_id() >= 0 && (header.base_sequence() < 0 || header.producer_epoch() < 0) {
        let (sequence, id) = (header.base_sequence(), header.producer_id());
        return invalid(format!(
            "Invalid sequence number {sequence} in record batch with producerId {id} in topic partition {rules}"
        ));
    }
    Ok(())
}

/// Returns the newest timestamp of the records.
fn check_records(decoded: &DecodedBatch, batch: &Batch, rules: Rules<'_>) -> Result<i64, Refusal> {
    let mut expected = batch.header().base_offset();
    let mut faults = Faults::default();
    let mut max_timestamp = i64::MIN;
    for (index, record) in (0..).zip(decoded.records()) {
        let record = record.map_err(|error| unreadable(&error, rules))?;
        if record.offset() != expected {
            let message = format!(
                "Inner record at {index} inside the record batch does not have incremental offsets, expected offset is {expected} in topic partition {rules}."
            );
            return Err(Refusal::new(ErrorCode::INVALID_RECORD, message));
        }
        expected += 1;
        max_timestamp = max_timestamp.max(record.timestamp());
        faults.look_at(index, &record, batch, rules);
    }
    if expected != batch.header().next_offset() {
        let message =
            format!("The batch holds fewer records than it says in topic partition {rules}");
        return Err(Refusal::new(ErrorCode::INVALID_RECORD, message));
    }
    faults.verdict().map(|()| max_timestamp)
}

/// Records that are no good, each for itself.
#[derive(Debug, Default)]
struct Faults {
    /// The first of them.
    records: Vec<(i32, String)>,
    count: usize,
    of_time: bool,
}

impl Faults {
    fn look_at(&mut self, index: i32, record: &RecordRef<'_>, batch: &Batch, rules: Rules<'_>) {
        let config = rules.config;
        if config.log.compact && record.key().is_none() {
            self.note(index, || {
                format!(
                    "Compacted topic cannot accept message without key in topic partition {rules}."
                )
            });
            return;
        }
        let time = record.timestamp();
        if !config.log_append_time && time != NO_TIMESTAMP {
            let behind = rules.now_ms.saturating_sub(time);
            if behind > config.timestamp_before_max_ms
                || behind.saturating_neg() > config.timestamp_after_max_ms
            {
                let first = rules.now_ms.saturating_sub(config.timestamp_before_max_ms);
                let last = rules.now_ms.saturating_add(config.timestamp_after_max_ms);
                let offset = record.offset();
                self.of_time = true;
                self.note(index, || {
                    format!(
                        "Timestamp {time} of message with offset {offset} is out of range. The timestamp should be within [{first}, {last}]"
                    )
                });
            }
        } else if batch.header().timestamp_type() == TimestampType::LogAppendTime {
            self.of_time = true;
            self.note(index, || {
                "Invalid timestamp type in message. Producer should not set timestamp type to LogAppendTime.".to_owned()
            });
        }
    }

    /// Compressed, a batch of ordinary size can hold millions of records, so not all can be told what is wrong.
    fn note(&mut self, index: i32, message: impl FnOnce() -> String) {
        self.count += 1;
        if self.records.len() < NAMED_MAX {
            self.records.push((index, message()));
        }
    }

    fn verdict(self) -> Result<(), Refusal> {
        if self.records.is_empty() {
            return Ok(());
        }
        if self.of_time {
            return Err(Refusal {
                error: ErrorCode::INVALID_TIMESTAMP,
                message: "One or more records have been rejected due to invalid timestamp"
                    .to_owned(),
                records: self.records,
            });
        }
        let first: Vec<String> = self
            .records
            .iter()
            .take(3)
            .map(|(index, message)| format!("RecordError(batchIndex={index}, message='{message}')"))
            .collect();
        let (count, first) = (self.count, first.join(", "));
        Err(Refusal {
            error: ErrorCode::INVALID_RECORD,
            message: format!(
                "One or more records have been rejected due to {count} record errors in total, and only showing the first three errors at most: [{first}]"
            ),
            records: self.records,
        })
    }
}

/// The batch with the time in it that its readers are to see.
fn stamped(batch: &Batch, max_timestamp: i64, rules: Rules<'_>) -> Result<Incoming, Refusal> {
    let mut incoming = Incoming::new(batch.bytes()).ok_or_else(|| no_batch(rules))?;
    let header = batch.header();
    let (log_append_time, time) = if rules.config.log_append_time {
        (true, rules.now_ms)
    } else {
        (false, max_timestamp)
    };
    let had_log_append_time = header.timestamp_type() == TimestampType::LogAppendTime;
    if (log_append_time, time) != (had_log_append_time, header.max_timestamp()) {
        incoming.stamp(log_append_time, time);
    }
    Ok(incoming)
}

impl fmt::Display for Rules<'_> {
    /// The partition, as Kafka names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl Refusal {
    fn new(error: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            error,
            message: message.into(),
            records: Vec::new(),
        }
    }
}

const MAGIC_AT: usize = 16;

/// So many records of a batch are named as being at fault.
const NAMED_MAX: usize = 10_000;

/// The timestamp of a record without one.
const NO_TIMESTAMP: i64 = -1;

#[cfg(test)]
mod tests {
    use ottla_wire::compress::{Codec, Compressor};
    use ottla_wire::record::{BatchWriter, Header, NewRecord, SealOptions};

    use bytes::BytesMut;

    use super::*;

    const CRC_AT: usize = 17;
    const ATTRIBUTES_AT: usize = 21;
    const MAX_TIMESTAMP_AT: usize = 35;
    const LOG_APPEND_TIME: u8 = 1 << 3;
    const NOW_MS: i64 = 1_000_000_000_000;

    fn verdict(bytes: &[u8], config: &TopicConfig, version: i16) -> Result<Incoming, Refusal> {
        let rules = Rules {
            topic: "t",
            partition: 3,
            config,
            version,
            has_transactional_id: false,
            now_ms: NOW_MS,
        };
        validate(Some(&Bytes::copy_from_slice(bytes)), rules)
    }

    fn batch(key: Option<&[u8]>, timestamp: i64, codec: Compression) -> Vec<u8> {
        let mut writer = BatchWriter::new(BytesMut::new());
        for _ in 0..3 {
            let headers = [Header {
                key: "h",
                value: None,
            }];
            let record = NewRecord {
                timestamp,
                key,
                value: Some(&[b'v'; 40]),
                headers: &headers,
            };
            writer.append(&record).unwrap();
        }
        let options = SealOptions {
            codec: Codec::from(codec),
        };
        let sealed = writer.seal(&options, &mut Compressor::new()).unwrap();
        sealed.freeze().to_vec()
    }

    fn plain() -> Vec<u8> {
        batch(Some(b"k"), NOW_MS, Compression::None)
    }

    /// The batch with some bytes replaced, and a checksum that fits.
    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut batch = plain();
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
        batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
        batch
    }

    /// The verdicts that a live Kafka 4.3.1 gives, see docs/kafka-facts.md.
    #[test]
    fn verdicts_are_those_of_kafka() {
        let config = TopicConfig::new([]).unwrap();
        let mut two = plain();
        two.extend(plain());
        let mut torn = plain();
        torn.truncate(70);
        let mut bad_crc = plain();
        bad_crc[100] ^= 1;
        // The header's key is the last two bytes but one: its length becomes -1.
        let null_header_key = with(plain().len() - 3, &[1]);
        let ahead = batch(Some(b"k"), NOW_MS + 3_600_001, Compression::None);
        let zstd = batch(Some(b"k"), NOW_MS, Compression::Zstd);
        let cases: [(&str, &[u8], i16, ErrorCode); 17] = [
            ("as it should be", &plain(), 3, ErrorCode::NONE),
            (
                "too many",
                &with(57, &[0, 0, 0, 4]),
                9,
                ErrorCode::INVALID_RECORD,
            ),
            (
                "far too many",
                &with(57, &[0, 9, 9, 9]),
                9,
                ErrorCode::INVALID_RECORD,
            ),
            (
                "none",
                &with(57, &[0, 0, 0, 0]),
                9,
                ErrorCode::INVALID_RECORD,
            ),
            (
                "less than none",
                &with(57, &[0xff; 4]),
                9,
                ErrorCode::INVALID_RECORD,
            ),
            (
                "last offset",
                &with(23, &[0, 0, 0, 9]),
                9,
                ErrorCode::INVALID_RECORD,
            ),
            (
                "no last offset",
                &with(23, &[0xff; 4]),
                9,
                ErrorCode::INVALID_RECORD,
            ),
            (
                "base offset",
                &with(0, &7_i64.to_be_bytes()),
                9,
                ErrorCode::INVALID_RECORD,
            ),
            ("two batches", &two, 9, ErrorCode::INVALID_RECORD),
            ("no batch", &[], 9, ErrorCode::INVALID_RECORD),
            ("half a batch", &torn, 9, ErrorCode::INVALID_RECORD),
            ("control", &with(22, &[0x20]), 9, ErrorCode::INVALID_RECORD),
            (
                "null header key",
                &null_header_key,
                9,
                ErrorCode::INVALID_RECORD,
            ),
            ("magic 1", &with(16, &[1]), 9, ErrorCode::INVALID_RECORD),
            ("crc", &bad_crc, 9, ErrorCode::CORRUPT_MESSAGE),
            (
                "transactional",
                &with(22, &[0x10]),
                9,
                ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            ),
            ("ahead", &ahead, 9, ErrorCode::INVALID_TIMESTAMP),
        ];
        for (what, bytes, version, expected) in cases {
            let found = verdict(bytes, &config, version);
            let error = found.map_or_else(|refusal| refusal.error, |_| ErrorCode::NONE);
            assert_eq!(error, expected, "{what}");
        }
        let early = verdict(&zstd, &config, 6).unwrap_err();
        assert_eq!(early.error, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
        assert!(verdict(&zstd, &config, 7).is_ok());
    }

    #[test]
    fn a_compacted_topic_takes_no_record_without_a_key() {
        let config = TopicConfig::new([("cleanup.policy", "delete,compact")]).unwrap();
        let refusal = verdict(&batch(None, NOW_MS, Compression::Lz4), &config, 9).unwrap_err();
        assert_eq!(refusal.error, ErrorCode::INVALID_RECORD);
        let of_each = "Compacted topic cannot accept message without key in topic partition t-3.";
        let expected: Vec<(i32, String)> = (0..3).map(|i| (i, of_each.to_owned())).collect();
        assert_eq!(refusal.records, expected);
        assert!(
            refusal.message.starts_with(
                "One or more records have been rejected due to 3 record errors in total"
            )
        );
        assert!(verdict(&plain(), &config, 9).is_ok());
    }

    #[test]
    fn of_very_many_bad_records_all_are_counted_and_the_first_are_named() {
        let config = TopicConfig::new([("cleanup.policy", "compact")]).unwrap();
        let mut writer = BatchWriter::new(BytesMut::new());
        for _ in 0..20_000 {
            let record = NewRecord {
                timestamp: NOW_MS,
                key: None,
                value: None,
                headers: &[],
            };
            writer.append(&record).unwrap();
        }
        let sealed = writer.seal(&SealOptions::default(), &mut Compressor::new());
        let refusal = verdict(&sealed.unwrap().freeze(), &config, 9).unwrap_err();
        assert!(
            refusal
                .message
                .contains("due to 20000 record errors in total")
        );
        // Each message is much larger than such a record is once it is compressed.
        assert!(refusal.records.len() <= 10_000, "{}", refusal.records.len());
    }

    #[test]
    fn a_batch_may_be_as_large_as_the_topic_says_and_no_larger() {
        let size = plain().len();
        for (max, expected) in [
            (size, Ok(())),
            (size - 1, Err(ErrorCode::MESSAGE_TOO_LARGE)),
        ] {
            let max = max.to_string();
            let config = TopicConfig::new([("max.message.bytes", max.as_str())]).unwrap();
            let found = verdict(&plain(), &config, 9);
            assert_eq!(found.map(|_| ()).map_err(|refusal| refusal.error), expected);
        }
    }

    #[test]
    fn the_newest_timestamp_is_the_records_or_the_brokers() {
        let lying = with(MAX_TIMESTAMP_AT, &i64::MAX.to_be_bytes());
        let create_time = TopicConfig::new([]).unwrap();
        let append_time = TopicConfig::new([("message.timestamp.type", "LogAppendTime")]).unwrap();
        for (config, expected) in [
            (&create_time, TimestampType::CreateTime),
            (&append_time, TimestampType::LogAppendTime),
        ] {
            let bytes = verdict(&lying, config, 9).unwrap().to_bytes();
            let batch = Batches::new(bytes).next().unwrap().unwrap();
            batch.verify_crc().unwrap();
            assert_eq!(batch.header().timestamp_type(), expected);
            assert_eq!(batch.header().max_timestamp(), NOW_MS);
        }
        let not_the_producers = with(22, &[LOG_APPEND_TIME]);
        let refusal = verdict(&not_the_producers, &append_time, 9).unwrap_err();
        assert_eq!(refusal.error, ErrorCode::INVALID_TIMESTAMP);
    }
}
