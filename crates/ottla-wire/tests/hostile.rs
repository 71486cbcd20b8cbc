//! Bytes no honest peer sends: cut off, changed, or full of huge lengths and counts, at every place of every message.
//!
//! Decoding them never panics and never allocates more than the bytes that are there could justify.

use allocation_counter::{AllocationInfo, measure};
use ottla_wire::introspect::{MessageInfo, Random, messages};
use ottla_wire::{Bytes, DecodeErrorKind, Reader, Writer};

/// What decoding may hold at once for each byte of input. The largest ratio of a structure's size in memory to its
/// smallest encoding decides it; see `amplification_is_bounded_for_bytes_that_are_there`, which measures it.
const MAX_BYTES_PER_BYTE: u64 = 64;
/// And for any input: the boxed error with its path.
const MAX_BYTES_FIXED: u64 = 2048;

/// Written over the bytes of a message at every place: as an i32, an i16 and a varint, the largest lengths and some
/// negative ones.
const HOSTILE: [&[u8]; 8] = [
    b"\x7f\xff\xff\xff",
    b"\x7f\xff",
    b"\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\x07",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\x00\xff\xff\xff",
    b"\xff\xff\x03",
];

#[test]
fn every_truncation_is_an_error_that_names_its_place() {
    for_each_message(|info, version, bytes| {
        for len in 0..bytes.len() {
            let result = decode(info, version, bytes.slice(..len));
            let Err(error) = result else {
                panic!("{} {version} cut to {len} bytes", info.name)
            };
            assert_eq!(error.message(), Some(info.name));
            assert_eq!(error.version(), Some(version));
            assert!(error.offset() <= len, "{error}");
            assert!(!error.path().is_empty(), "{error}");
        }
    });
}

#[test]
fn hostile_lengths_and_counts_at_every_place() {
    let mut refused = 0;
    for_each_message(|info, version, bytes| {
        for place in 0..bytes.len() {
            for hostile in HOSTILE {
                let mut changed = bytes.to_vec();
                let end = changed.len().min(place + hostile.len());
                changed.splice(place..end, hostile.iter().copied());
                refused += u64::from(decode_within_bounds(info, version, changed.into()));
            }
        }
    });
    assert!(refused > 100_000, "only {refused} inputs were refused");
}

#[test]
fn random_changes() {
    let mut rng = fastrand::Rng::with_seed(1);
    for_each_message(|info, version, bytes| {
        for _ in 0..60 {
            let mut changed = bytes.to_vec();
            for _ in 0..rng.usize(1..4) {
                match rng.u8(..4) {
                    0 if !changed.is_empty() => {
                        changed.truncate(rng.usize(..changed.len()));
                    }
                    1 => {
                        let at = rng.usize(..=changed.len());
                        changed.insert(at, rng.u8(..));
                    }
                    _ if !changed.is_empty() => {
                        let at = rng.usize(..changed.len());
                        changed[at] = rng.u8(..);
                    }
                    _ => {}
                }
            }
            decode_within_bounds(info, version, changed.into());
        }
    });
}

#[test]
fn noise() {
    let mut rng = fastrand::Rng::with_seed(2);
    for info in messages() {
        for version in info.each_version() {
            for _ in 0..100 {
                let noise: Vec<u8> = (0..rng.usize(..200)).map(|_| rng.u8(..)).collect();
                decode_within_bounds(&info, version, noise.into());
                // Small numbers get further into a message.
                let noise: Vec<u8> = (0..rng.usize(..200)).map(|_| rng.u8(..4)).collect();
                decode_within_bounds(&info, version, noise.into());
            }
        }
    }
}

#[test]
fn amplification_is_bounded_for_bytes_that_are_there() {
    // Behind a hostile count lie enough bytes to justify a part of it: 4 KiB of zeros (empty strings, nulls) or ones
    // (empty compact strings and arrays). What memory those become is the structures' size over their smallest encoding.
    let mut worst = (0, "");
    for_each_message(|info, version, bytes| {
        // Layouts differ most between the oldest, the newest and the first flexible version.
        if ![info.versions.min, info.versions.max, info.flexible_from].contains(&version) {
            return;
        }
        for place in 0..bytes.len() {
            for (hostile, fill) in [
                (&b"\x00\x00\x7f\xff"[..], 0),
                (b"\xff\xff\x01", 1),
                (b"\xff\xff\x01", 0),
            ] {
                let mut changed = bytes[..place].to_vec();
                changed.extend_from_slice(hostile);
                changed.resize(changed.len() + 4096, fill);
                let len = changed.len() as u64;
                let input = Bytes::from(changed);
                let used = measure(|| drop(decode(info, version, input))).bytes_max;
                worst = worst.max((used / len, info.name));
            }
        }
    });
    assert!(worst.0 <= MAX_BYTES_PER_BYTE, "{worst:?}");
    // Guards the test itself: it does reach arrays of structures.
    assert!(worst.0 > 10, "{worst:?}");
}

#[test]
fn nine_bytes_cannot_ask_for_gigabytes() {
    // A Metadata response that claims 2^31 - 1 brokers.
    let info = messages()
        .into_iter()
        .find(|info| info.name == "MetadataResponse")
        .expect("it is there");
    let input = Bytes::from_static(b"\x00\x00\x00\x00\x7f\xff\xff\xff\x00");
    let mut error = None;
    let used = measure(|| error = decode(&info, 3, input).err());
    let error = error.expect("it is an error");
    assert_eq!(
        *error.kind(),
        DecodeErrorKind::CountTooLarge {
            count: 0x7fff_ffff,
            remaining: 1
        }
    );
    assert_eq!((error.path().as_str(), error.offset()), ("brokers", 8));
    assert!(used.bytes_max < 1024, "{used:?}");
}

fn for_each_message(mut check: impl FnMut(&MessageInfo, i16, &Bytes)) {
    for info in messages() {
        for version in info.each_version() {
            let mut random = Random::new(version as u64, version);
            if info.is_flexible(version) {
                random = random.with_unknown_tags();
            }
            let mut out = Writer::new();
            (info.random)(&mut random)
                .encode(version, &mut out)
                .expect("random messages are valid");
            check(&info, version, &out.into_bytes());
        }
    }
}

/// Whether the input was refused.
fn decode_within_bounds(info: &MessageInfo, version: i16, input: Bytes) -> bool {
    let len = input.len() as u64;
    let mut refused = false;
    let used: AllocationInfo = measure(|| refused = decode(info, version, input).is_err());
    assert!(
        used.bytes_max <= len * MAX_BYTES_PER_BYTE + MAX_BYTES_FIXED,
        "{} {version}: {used:?} for {len} bytes",
        info.name
    );
    refused
}

fn decode(info: &MessageInfo, version: i16, input: Bytes) -> Result<(), ottla_wire::DecodeError> {
    (info.decode)(version, &mut Reader::new(input)).map(drop)
}
