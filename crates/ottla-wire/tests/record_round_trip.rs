//! Whatever is appended comes back, with every codec.
// Helpers of tests are tests: what they unwrap is what they check.
#![allow(clippy::unwrap_used)]

use bytes::{Bytes, BytesMut};
use ottla_wire::compress::{Codec, Compression, Compressor, Decompressor};
use ottla_wire::record::{BatchWriter, Batches, Header, NewRecord, SealOptions, restamp, split};
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn records_round_trip(records in vec(record(), 1..60), codec in codec(), id in 0i64..1 << 40) {
        let mut writer = BatchWriter::new(BytesMut::new());
        for (index, record) in records.iter().enumerate() {
            let headers = record.headers();
            let new = record.borrowed(&headers);
            let expected = writer.len() as u64 + writer.encoded_len(&new);
            prop_assert!(writer.encoded_len(&new) <= BatchWriter::max_encoded_len(&new));
            prop_assert_eq!(writer.append(&new).unwrap(), i32::try_from(index).unwrap());
            prop_assert_eq!(writer.len() as u64, expected);
        }
        let plain_len = writer.len();
        let mut compressor = Compressor::new();
        let options = SealOptions { codec };
        let mut sealed = writer.seal(&options, &mut compressor).unwrap();
        prop_assert_eq!(sealed.uncompressed_len(), plain_len);
        prop_assert!(sealed.len() <= plain_len);
        let latest = records.iter().map(|r| r.timestamp).max().unwrap();
        prop_assert_eq!(sealed.max_timestamp(), latest);
        sealed.stamp(id, 3, 77, true);
        let bytes = sealed.freeze();

        prop_assert_eq!(&read_one(&bytes), &records);
        let batch = Batches::new(bytes.clone()).next().unwrap().unwrap();
        let header = batch.header();
        prop_assert_eq!(header.producer_id(), id);
        prop_assert_eq!(header.producer_epoch(), 3);
        prop_assert_eq!(header.base_sequence(), 77);
        prop_assert!(header.is_transactional() && !header.is_control());
        prop_assert_eq!(header.max_timestamp(), latest);
        prop_assert_eq!(header.next_offset(), records.len() as i64);
        prop_assert_eq!(batch.control_type().unwrap(), None);

        // Another identity, once on shared and once on unshared bytes.
        let shared = restamp(bytes.clone(), id + 1, 4, 0).unwrap();
        let copy = BytesMut::from(&bytes[..]).freeze();
        let unshared = restamp(copy, id + 1, 4, 0).unwrap();
        prop_assert_eq!(&shared, &unshared);
        let batch = Batches::new(shared.clone()).next().unwrap().unwrap();
        batch.verify_crc().unwrap();
        prop_assert_eq!(batch.header().producer_id(), id + 1);
        prop_assert_eq!(batch.header().base_sequence(), 0);
        prop_assert_eq!(&shared[61..], &bytes[61..]);

        // Cut into parts, the same records again; into two at least, however much a part may hold.
        for limit in [61 + plain_len / 3, 1 << 30] {
            let parts =
                split(&bytes, limit, &options, &mut compressor, &mut Decompressor::new()).unwrap();
            prop_assert!(parts.len() > 1 || records.len() == 1);
            let mut joined = Vec::new();
            for part in parts {
                prop_assert!(part.record_count() == 1 || part.uncompressed_len() <= limit);
                joined.extend(read_one(&part.freeze()));
            }
            prop_assert_eq!(&joined, &records);
        }
    }

    /// Several batches after each other, cut anywhere: whole ones are read, the rest is a tail.
    #[test]
    fn any_cut_leaves_whole_batches_and_a_tail(
        sizes in vec(1usize..20, 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut all = BytesMut::new();
        let mut ends = vec![0];
        for &size in &sizes {
            let mut writer = BatchWriter::new(BytesMut::new());
            for _ in 0..size {
                writer
                    .append(&NewRecord {
                        timestamp: 5,
                        key: None,
                        value: Some(b"value"),
                        headers: &[],
                    })
                    .unwrap();
            }
            let sealed = writer.seal(&SealOptions::default(), &mut Compressor::new()).unwrap();
            all.extend_from_slice(&sealed.freeze());
            ends.push(all.len());
        }
        let cut = cut.index(all.len() + 1);
        let mut batches = Batches::new(all.freeze().slice(..cut));
        let mut count = 0;
        for batch in &mut batches {
            batch.unwrap().verify_crc().unwrap();
            count += 1;
        }
        let whole = ends.iter().filter(|&&end| end <= cut).count() - 1;
        prop_assert_eq!(count, whole);
        prop_assert_eq!(batches.position(), ends[whole]);
        let tail = batches.partial_tail();
        prop_assert_eq!(tail.is_some(), cut > ends[whole]);
        if let Some(tail) = tail {
            prop_assert_eq!(tail.available, cut - ends[whole]);
            prop_assert_eq!(tail.is_first, whole == 0);
            let needed = (tail.available >= 12).then(|| ends[whole + 1] - ends[whole]);
            prop_assert_eq!(tail.needed, needed);
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
struct TestRecord {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl TestRecord {
    fn headers(&self) -> Vec<Header<'_>> {
        self.headers
            .iter()
            .map(|(key, value)| Header {
                key,
                value: value.as_deref(),
            })
            .collect()
    }

    fn borrowed<'a>(&'a self, headers: &'a [Header<'a>]) -> NewRecord<'a> {
        NewRecord {
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers,
        }
    }
}

fn record() -> impl Strategy<Value = TestRecord> {
    let bytes = || {
        prop_oneof![
            1 => Just(None),
            1 => Just(Some(Vec::new())),
            4 => vec(any::<u8>(), 0..200).prop_map(Some),
            3 => (0usize..270).prop_map(|count| Some(b"{\"user\":17}".repeat(count))),
        ]
    };
    let timestamp = prop_oneof![
        4 => 1_700_000_000_000i64..1_700_000_010_000,
        1 => any::<i64>(),
        1 => Just(-1),
    ];
    let headers = vec(("[a-c]{0,3}|é+", bytes()), 0..4);
    (timestamp, bytes(), bytes(), headers).prop_map(|(timestamp, key, value, headers)| TestRecord {
        timestamp,
        key,
        value,
        headers,
    })
}

fn codec() -> impl Strategy<Value = Codec> {
    prop_oneof![
        Just(Codec::from(Compression::None)),
        (1..=9).prop_map(|level| Codec::new(Compression::Gzip, Some(level)).unwrap()),
        Just(Codec::from(Compression::Snappy)),
        Just(Codec::from(Compression::Lz4)),
        (-7..=22).prop_map(|level| Codec::new(Compression::Zstd, Some(level)).unwrap()),
    ]
}

/// Reads one batch both ways, lending and owning, which must agree.
fn read_one(bytes: &Bytes) -> Vec<TestRecord> {
    let mut batches = Batches::new(bytes.clone());
    let batch = batches.next().unwrap().unwrap();
    assert!(batches.next().is_none());
    assert_eq!(batches.partial_tail(), None);
    batch.verify_crc().unwrap();
    let decoded = batch.decode(&mut Decompressor::new(), 64 << 20).unwrap();
    let mut offsets = 0..;
    let lent: Vec<TestRecord> = decoded
        .records()
        .map(|record| {
            let record = record.unwrap();
            assert_eq!(Some(record.offset()), offsets.next());
            TestRecord {
                timestamp: record.timestamp(),
                key: record.key().map(<[u8]>::to_vec),
                value: record.value().map(<[u8]>::to_vec),
                headers: owned_headers(record.headers()),
            }
        })
        .collect();
    let mut offsets = 0..;
    let owned: Vec<TestRecord> = decoded
        .into_records()
        .map(|record| {
            let record = record.unwrap();
            assert_eq!(Some(record.offset()), offsets.next());
            assert_eq!(record.key(), record.key_bytes().as_deref());
            TestRecord {
                timestamp: record.timestamp(),
                key: record.key().map(<[u8]>::to_vec),
                value: record.value_bytes().map(|value| value.to_vec()),
                headers: owned_headers(record.headers()),
            }
        })
        .collect();
    assert_eq!(lent, owned);
    lent
}

fn owned_headers<'a>(
    headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> Vec<(String, Option<Vec<u8>>)> {
    headers
        .map(|(key, value)| {
            let key = String::from_utf8(key.to_vec()).unwrap();
            (key, value.map(<[u8]>::to_vec))
        })
        .collect()
}
