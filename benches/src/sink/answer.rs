//! One request in, one reply out, for the few APIs that a producer and an assigned consumer need.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use super::State;
use super::inbound::{Inbound, malformed};
use super::outbound::Outbound;
use crate::workload::PARTITIONS;

const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
const LIST_OFFSETS: i16 = 2;
const METADATA: i16 = 3;
const FIND_COORDINATOR: i16 = 10;
const API_VERSIONS: i16 = 18;
const INIT_PRODUCER_ID: i16 = 22;

/// Key, lowest and highest version served, first flexible version.
type Api = (i16, i16, i16, i16);

/// Produce is advertised from 0, as Apache Kafka does, for clients that take a higher minimum as a
/// sign that a broker cannot take compressed batches; below 3 it is refused.
const APIS: [Api; 7] = [
    (PRODUCE, 0, 9, 9),
    (FETCH, 4, 12, 12),
    (LIST_OFFSETS, 1, 7, 6),
    (METADATA, 0, 9, 9),
    (FIND_COORDINATOR, 0, 3, 3),
    (API_VERSIONS, 0, 4, 3),
    (INIT_PRODUCER_ID, 0, 4, 2),
];

const NONE: i16 = 0;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const UNSUPPORTED_VERSION: i16 = 35;
const INVALID_RECORD: i16 = 87;
/// Where the log seems to end.
const HIGH_WATERMARK: i64 = 1 << 60;
const NODE: i32 = 1;
const HOST: &[u8] = b"127.0.0.1";

/// Reads the request whose frame has begun and prepares the reply. False when none is due.
pub(super) fn answer(
    input: &mut Inbound<'_>,
    out: &mut Outbound,
    state: &State,
) -> io::Result<bool> {
    let (key, version, correlation_id) = (input.i16()?, input.i16()?, input.i32()?);
    input.old_string()?;
    let Some((_, min, max, flexible_from)) = APIS.into_iter().find(|api| api.0 == key) else {
        return Err(malformed(&format!("API {key} is not served")));
    };
    out.begin(correlation_id);
    if key == API_VERSIONS {
        // Its reply header is never flexible, and a version too new is answered in version 0 with
        // the versions of this API alone, as KIP-511 has it.
        let known = version <= max;
        out.flexible = known && version >= flexible_from;
        if known {
            api_versions(out, version, NONE, &APIS);
        } else {
            api_versions(
                out,
                0,
                UNSUPPORTED_VERSION,
                &[(key, min, max, flexible_from)],
            );
        }
        return Ok(true);
    }
    if version < min || version > max {
        return Err(malformed(&format!(
            "version {version} of API {key} is not served"
        )));
    }
    input.flexible = version >= flexible_from;
    out.flexible = input.flexible;
    input.tags()?;
    out.tags();
    match key {
        PRODUCE => return produce(input, out, version, state),
        FETCH => fetch(input, out, version, state)?,
        LIST_OFFSETS => list_offsets(input, out, version)?,
        METADATA => metadata(input, out, version, state)?,
        FIND_COORDINATOR => {
            if version >= 1 {
                out.i32(0);
            }
            out.i16(NONE);
            if version >= 1 {
                out.string(None);
            }
            out.i32(NODE);
            out.string(Some(HOST));
            out.i32(i32::from(state.port));
            out.tags();
        }
        _ => {
            out.i32(0);
            out.i16(NONE);
            out.i64(4000);
            out.i16(0);
            out.tags();
        }
    }
    Ok(true)
}

fn api_versions(out: &mut Outbound, version: i16, error: i16, apis: &[Api]) {
    out.i16(error);
    out.array_len(apis.len());
    for &(key, min, max, _) in apis {
        out.i16(key);
        out.i16(min);
        out.i16(max);
        out.tags();
    }
    if version >= 1 {
        out.i32(0);
    }
    out.tags();
}

fn produce(
    input: &mut Inbound<'_>,
    out: &mut Outbound,
    version: i16,
    state: &State,
) -> io::Result<bool> {
    if version < 3 {
        return Err(malformed("Produce below version 3"));
    }
    let counts = &state.counts;
    counts.produce_requests.fetch_add(1, Relaxed);
    input.string()?;
    let acks = input.i16()?;
    input.i32()?;
    let topics = input.array_len()?.unwrap_or(0);
    out.array_len(topics);
    for _ in 0..topics {
        out.string(input.string()?);
        let partitions = input.array_len()?.unwrap_or(0);
        out.array_len(partitions);
        for _ in 0..partitions {
            let index = input.i32()?;
            let len = input.bytes_len()?;
            let mut error = NONE;
            let mut base_offset = -1;
            if len < crate::batch::HEADER {
                input.skip(len)?;
                error = INVALID_RECORD;
            } else {
                let header: [u8; crate::batch::HEADER] = input.array()?;
                input.skip(len - header.len())?;
                let length = i32::from_be_bytes([header[8], header[9], header[10], header[11]]);
                let records = i32::from_be_bytes([header[57], header[58], header[59], header[60]]);
                let offset = usize::try_from(index)
                    .ok()
                    .and_then(|i| state.offsets.get(i));
                match offset {
                    None => error = UNKNOWN_TOPIC_OR_PARTITION,
                    Some(_) if header[16] != 2 || length as usize + 12 != len || records < 1 => {
                        error = INVALID_RECORD;
                    }
                    Some(offset) => {
                        base_offset = offset.fetch_add(i64::from(records), Relaxed);
                        counts.produce_batches.fetch_add(1, Relaxed);
                        counts.produce_records.fetch_add(records as u64, Relaxed);
                        counts.produce_bytes.fetch_add(len as u64, Relaxed);
                    }
                }
            }
            input.tags()?;
            out.i32(index);
            out.i16(error);
            out.i64(base_offset);
            out.i64(-1);
            if version >= 5 {
                out.i64(0);
            }
            if version >= 8 {
                out.array_len(0);
                out.string(None);
            }
            out.tags();
        }
        input.tags()?;
        out.tags();
    }
    out.i32(0);
    out.tags();
    Ok(acks != 0)
}

fn fetch(
    input: &mut Inbound<'_>,
    out: &mut Outbound,
    version: i16,
    state: &State,
) -> io::Result<()> {
    state.counts.fetch_requests.fetch_add(1, Relaxed);
    input.i32()?;
    let wait_ms = input.i32()?;
    input.i32()?;
    let mut budget = i64::from(input.i32()?);
    input.i8()?;
    if version >= 7 {
        input.i32()?;
        input.i32()?;
    }
    out.i32(0);
    if version >= 7 {
        out.i16(NONE);
        out.i32(0);
    }
    let mut served_bytes = 0;
    let topics = input.array_len()?.unwrap_or(0);
    out.array_len(topics);
    for _ in 0..topics {
        out.string(input.string()?);
        let partitions = input.array_len()?.unwrap_or(0);
        out.array_len(partitions);
        for _ in 0..partitions {
            let index = input.i32()?;
            if version >= 9 {
                input.i32()?;
            }
            let mut offset = input.i64()?;
            if version >= 12 {
                input.i32()?;
            }
            if version >= 5 {
                input.i64()?;
            }
            let mut limit = i64::from(input.i32()?).min(budget);
            input.tags()?;

            let partition = usize::try_from(index)
                .ok()
                .filter(|index| *index < PARTITIONS);
            out.i32(index);
            out.i16(if partition.is_some() {
                NONE
            } else {
                UNKNOWN_TOPIC_OR_PARTITION
            });
            out.i64(HIGH_WATERMARK);
            out.i64(HIGH_WATERMARK);
            if version >= 5 {
                out.i64(0);
            }
            out.null_array();
            if version >= 11 {
                out.i32(-1);
            }
            // Whole batches up to the limit; the first of the reply whatever its size.
            let mut batches = Vec::new();
            let mut size = 0;
            while let Some((base, piece)) = partition.and_then(|p| state.served.batch_at(p, offset))
            {
                let len = piece.len() as i64;
                if len > limit && (served_bytes > 0 || size > 0 || budget <= 0) {
                    break;
                }
                limit -= len;
                size += piece.len();
                offset = base + state.served.count();
                batches.push((base, piece));
            }
            out.array_len(size);
            for (base, piece) in batches {
                out.batch(base, piece);
            }
            budget -= size as i64;
            served_bytes += size;
            out.tags();
        }
        input.tags()?;
        out.tags();
    }
    out.tags();
    state
        .counts
        .fetch_bytes
        .fetch_add(served_bytes as u64, Relaxed);
    if served_bytes == 0 {
        // Nothing asked for, or nothing to serve: hold the reply as a broker would.
        thread::sleep(Duration::from_millis(wait_ms.clamp(0, 500) as u64));
    }
    Ok(())
}

fn list_offsets(input: &mut Inbound<'_>, out: &mut Outbound, version: i16) -> io::Result<()> {
    const EARLIEST: i64 = -2;
    input.i32()?;
    if version >= 2 {
        input.i8()?;
        out.i32(0);
    }
    let topics = input.array_len()?.unwrap_or(0);
    out.array_len(topics);
    for _ in 0..topics {
        out.string(input.string()?);
        let partitions = input.array_len()?.unwrap_or(0);
        out.array_len(partitions);
        for _ in 0..partitions {
            let index = input.i32()?;
            if version >= 4 {
                input.i32()?;
            }
            let timestamp = input.i64()?;
            input.tags()?;
            out.i32(index);
            out.i16(NONE);
            out.i64(-1);
            out.i64(if timestamp == EARLIEST {
                0
            } else {
                HIGH_WATERMARK
            });
            if version >= 4 {
                out.i32(0);
            }
            out.tags();
        }
        input.tags()?;
        out.tags();
    }
    out.tags();
    Ok(())
}

fn metadata(
    input: &mut Inbound<'_>,
    out: &mut Outbound,
    version: i16,
    state: &State,
) -> io::Result<()> {
    if version >= 3 {
        out.i32(0);
    }
    out.array_len(1);
    out.i32(NODE);
    out.string(Some(HOST));
    out.i32(i32::from(state.port));
    if version >= 1 {
        out.string(None);
    }
    out.tags();
    if version >= 2 {
        out.string(Some(b"sink"));
    }
    if version >= 1 {
        out.i32(NODE);
    }
    // "All topics" is none: the sink knows only what it is asked about.
    let topics = input.array_len()?.unwrap_or(0);
    out.array_len(topics);
    for _ in 0..topics {
        out.i16(NONE);
        out.string(input.string()?);
        input.tags()?;
        if version >= 1 {
            out.i8(0);
        }
        out.array_len(PARTITIONS);
        for partition in 0..PARTITIONS {
            out.i16(NONE);
            out.i32(partition as i32);
            out.i32(NODE);
            if version >= 7 {
                out.i32(0);
            }
            for _ in 0..2 {
                out.array_len(1);
                out.i32(NODE);
            }
            if version >= 5 {
                out.array_len(0);
            }
            out.tags();
        }
        if version >= 8 {
            out.i32(i32::MIN);
        }
        out.tags();
    }
    if version >= 8 {
        out.i32(i32::MIN);
    }
    out.tags();
    Ok(())
}
