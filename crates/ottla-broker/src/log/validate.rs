//! Decides whether the bytes of a Produce request may be appended, with the verdicts of Apache Kafka.

use bytes::{Bytes, BytesMut};
use ottla_wire::ErrorCode;
use ottla_wire::compress::{Compression, Decompressor};
use ottla_wire::record::{Batch, Batches, DecodedBatch, TimestampType};

use crate::topic_config::TopicConfig;

/// What a request asks for, as far as it decides whether its batch is valid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
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
    /// Index in the batch of each record at fault, if it is single records.
    pub(crate) records: Vec<(i32, String)>,
}

/// Checks `records`, which must be one batch of format 2, and returns a copy of its bytes that is ready for
/// [`super::Log::append`]: with the broker's time in it if the topic wants that.
pub(crate) fn validate(records: Option<&Bytes>, rules: Rules<'_>) -> Result<BytesMut, Refusal> {
    let records = records
        .filter(|records| !records.is_empty())
        .ok_or_else(|| {
            Refusal::new(
                ErrorCode::INVALID_RECORD,
                "the request holds no record batch",
            )
        })?;
    if records.len() > rules.config.max_message_bytes {
        let max = rules.config.max_message_bytes;
        let message = format!(
            "the batch has {} bytes, max.message.bytes is {max}",
            records.len()
        );
        return Err(Refusal::new(ErrorCode::MESSAGE_TOO_LARGE, message));
    }
    let batch = only_batch(records)?;
    check_header(&batch, rules)?;
    batch
        .verify_crc()
        .map_err(|error| Refusal::new(ErrorCode::CORRUPT_MESSAGE, error.to_string()))?;
    let mut decompressor = Decompressor::new();
    let decoded = batch
        .decode(&mut decompressor, DECOMPRESSED_MAX)
        .map_err(|error| Refusal::new(ErrorCode::CORRUPT_MESSAGE, error.to_string()))?;
    check_records(&decoded, &batch, rules)?;
    Ok(stamped(&batch, rules))
}

fn only_batch(records: &Bytes) -> Result<Batch, Refusal> {
    if records.get(MAGIC_AT).is_some_and(|magic| *magic != 2) {
        let message = "only record batches of format 2 are taken";
        return Err(Refusal::new(ErrorCode::INVALID_RECORD, message));
    }
    let mut batches = Batches::new(records.clone());
    let batch = match batches.next() {
        Some(Ok(batch)) => batch,
        Some(Err(error)) => {
            return Err(Refusal::new(ErrorCode::CORRUPT_MESSAGE, error.to_string()));
        }
        None => {
            return Err(Refusal::new(
                ErrorCode::CORRUPT_MESSAGE,
                "the batch is cut off",
            ));
        }
    };
    if batch.bytes().len() != records.len() {
        let message = "a produce request holds exactly one batch for each partition";
        return Err(Refusal::new(ErrorCode::INVALID_RECORD, message));
    }
    Ok(batch)
}

fn check_header(batch: &Batch, rules: Rules<'_>) -> Result<(), Refusal> {
    let header = batch.header();
    let invalid = |message: &str| Err(Refusal::new(ErrorCode::INVALID_RECORD, message));
    if header.base_offset() != 0 {
        return invalid("the base offset must be 0");
    }
    if header.is_control() {
        return invalid("clients may not write control batches");
    }
    let count = header.record_count().unwrap_or(0);
    if count <= 0 || header.last_offset() != i64::from(count) - 1 {
        return invalid("the last offset does not fit the number of records");
    }
    if header.is_transactional() && !rules.has_transactional_id {
        let message = "the batch is transactional, the request has no transactional id";
        return Err(Refusal::new(
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            message,
        ));
    }
    if header.producer_id() >= 0 && (header.base_sequence() < 0 || header.producer_epoch() < 0) {
        return invalid("a batch with a producer id needs an epoch and a sequence");
    }
    match header.compression() {
        None => invalid("the codec is unknown"),
        Some(Compression::Zstd) if rules.version < 7 => {
            let message = "zstd needs version 7 of the produce request";
            Err(Refusal::new(
                ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
                message,
            ))
        }
        Some(_) => Ok(()),
    }
}

fn check_records(decoded: &DecodedBatch, batch: &Batch, rules: Rules<'_>) -> Result<(), Refusal> {
    let config = rules.config;
    let own_time = batch.header().timestamp_type() == TimestampType::CreateTime;
    let mut expected = batch.header().base_offset();
    let mut faults = Vec::new();
    let mut error = ErrorCode::INVALID_RECORD;
    for (index, record) in (0..).zip(decoded.records()) {
        let record =
            record.map_err(|fault| Refusal::new(ErrorCode::INVALID_RECORD, fault.to_string()))?;
        if record.offset() != expected {
            let message = "the offsets in a batch must be consecutive";
            return Err(Refusal::new(ErrorCode::INVALID_RECORD, message));
        }
        expected += 1;
        if config.log.compact && record.key().is_none() {
            faults.push((
                index,
                "a compacted topic takes no record without a key".to_owned(),
            ));
        }
        let behind = rules.now_ms.saturating_sub(record.timestamp());
        let too_far = behind > config.timestamp_before_max_ms
            || behind.saturating_neg() > config.timestamp_after_max_ms;
        if own_time && !config.log_append_time && record.timestamp() >= 0 && too_far {
            error = ErrorCode::INVALID_TIMESTAMP;
            faults.push((
                index,
                format!("the timestamp {} is out of range", record.timestamp()),
            ));
        }
    }
    if expected != batch.header().next_offset() {
        let message = "the batch holds fewer records than it says";
        return Err(Refusal::new(ErrorCode::INVALID_RECORD, message));
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(Refusal {
        error,
        message: "records of the batch are invalid".to_owned(),
        records: faults,
    })
}

/// A copy of the batch in which the broker's fields may be changed.
fn stamped(batch: &Batch, rules: Rules<'_>) -> BytesMut {
    let mut bytes = BytesMut::from(&batch.bytes()[..]);
    if rules.config.log_append_time {
        bytes[ATTRIBUTES_AT + 1] |= LOG_APPEND_TIME;
        bytes[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&rules.now_ms.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    }
    bytes
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
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;
const LOG_APPEND_TIME: u8 = 1 << 3;

/// A batch that decompresses to more than this is taken for an attack.
const DECOMPRESSED_MAX: usize = 256 << 20;
