//! The fuzz targets on stable: every function of `fuzz/src/targets.rs`, fed with valid input that a seeded generator has
//! cut, changed and stretched. The same bytes each time; `fuzz/` goes on from there with a fuzzer.
// Helpers of tests are tests: what they unwrap is what they check.
#![allow(clippy::unwrap_used)]

#[path = "../../../fuzz/src/targets.rs"]
#[allow(unreachable_pub, reason = "public in the fuzz crate")]
mod targets;

use bytes::BytesMut;
use fastrand::Rng;
use ottla_wire::compress::{Codec, Compression, Compressor};
use ottla_wire::record::{BatchWriter, Header, NewRecord, SealOptions, control_batch};

/// Changed inputs per target and seed input.
const ROUNDS: usize = 1_000;

#[test]
fn record_batches_take_any_bytes() {
    for seed in batches() {
        for len in 0..=seed.len() {
            targets::record_batches(&seed[..len]);
        }
        mutate(&seed, targets::record_batches);
    }
}

#[test]
fn records_round_trip_whatever_they_are() {
    let mut rng = Rng::with_seed(7);
    for choice in 0..5u8 {
        for _ in 0..150 {
            let mut data = vec![choice, rng.u8(..)];
            let alphabet = rng.u8(2..=255);
            data.extend((0..rng.usize(..3000)).map(|_| rng.u8(..alphabet)));
            targets::record_round_trip(&data);
        }
    }
}

#[test]
fn gzip_takes_any_bytes() {
    decompressor(Compression::Gzip, targets::gzip);
}

#[test]
fn snappy_takes_any_bytes() {
    decompressor(Compression::Snappy, targets::snappy);
}

#[test]
fn lz4_takes_any_bytes() {
    decompressor(Compression::Lz4, targets::lz4);
}

#[test]
fn zstd_takes_any_bytes() {
    decompressor(Compression::Zstd, targets::zstd);
}

fn decompressor(compression: Compression, target: fn(&[u8])) {
    let mut compressor = Compressor::new();
    for plain in [
        Vec::new(),
        b"a".to_vec(),
        vec![b'a'; 20_000],
        text(3_000),
        text(10_000),
    ] {
        let packed = compressor
            .compress(Codec::from(compression), &plain)
            .unwrap()
            .to_vec();
        for len in 0..=packed.len().min(400) {
            target(&packed[..len]);
        }
        mutate(&packed, target);
        // Twice after each other: members, frames, and what must not repeat.
        target(&[&packed[..], &packed].concat());
    }
}

/// Changes, cuts, repeats and grows `seed`, and feeds each result.
fn mutate(seed: &[u8], target: fn(&[u8])) {
    let mut rng = Rng::with_seed(42);
    let mut data = Vec::new();
    for _ in 0..ROUNDS {
        data.clear();
        data.extend_from_slice(seed);
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..=data.len());
            match rng.u8(..6) {
                0 => data.truncate(at),
                1 => data.insert(at, rng.u8(..)),
                2 => {
                    let end = (at + rng.usize(..16)).min(data.len());
                    data.drain(at..end);
                }
                3 => {
                    // A number at its limits, where a length or a count may be.
                    let limit: &[u8] = match rng.u8(..4) {
                        0 => &[0xff; 4],
                        1 => &[0x7f, 0xff, 0xff, 0xff],
                        2 => &[0; 4],
                        _ => &[0xff, 0xff, 0xff, 0xff, 0x0f],
                    };
                    for (byte, new) in data.iter_mut().skip(at).zip(limit) {
                        *byte = *new;
                    }
                }
                _ => {
                    if let Some(byte) = data.get_mut(at) {
                        *byte ^= 1 << rng.u8(..8);
                    }
                }
            }
        }
        target(&data);
    }
}

fn batches() -> Vec<Vec<u8>> {
    let mut compressor = Compressor::new();
    let mut seeds = Vec::new();
    for compression in Compression::ALL {
        let mut writer = BatchWriter::new(BytesMut::new());
        for index in 0..20u8 {
            let value = [b'v'; 40];
            writer
                .append(&NewRecord {
                    timestamp: 1_700_000_000_000 + i64::from(index),
                    key: (index % 3 != 0).then_some(&[index; 3]),
                    value: (index % 5 != 0).then_some(&value[..usize::from(index)]),
                    headers: &[
                        Header {
                            key: "h",
                            value: None,
                        },
                        Header {
                            key: "h",
                            value: Some(b"twice"),
                        },
                    ][..usize::from(index % 3)],
                })
                .unwrap();
        }
        let options = SealOptions {
            codec: compression.into(),
        };
        let sealed = writer.seal(&options, &mut compressor).unwrap();
        seeds.push(sealed.freeze().to_vec());
    }
    let marker = control_batch(false, 9, 1, 2, 3).freeze().to_vec();
    let joined = [&seeds[0][..], &marker, &seeds[4]].concat();
    seeds.push(marker);
    seeds.push(joined);
    seeds
}

fn text(len: usize) -> Vec<u8> {
    let mut rng = Rng::with_seed(1);
    let words = ["click", "{\"user\":", "page", "17", ",", "view", "}\n"];
    let mut text = Vec::new();
    while text.len() < len {
        text.extend_from_slice(words[rng.usize(..words.len())].as_bytes());
    }
    text.truncate(len);
    text
}
