//! Kafka's own judge reads a segment of nothing but our batches, with every codec.
#![allow(clippy::unwrap_used)]

use bytes::BytesMut;
use ottla_protocol_tests::{Kafka, Tool};
use ottla_wire::compress::{Codec, Compression, Compressor};
use ottla_wire::record::{BatchWriter, Header, NewRecord, SealOptions, SealedBatch, control_batch};

const RECORDS: i64 = 200;

#[test]
fn dump_log_segments_reads_every_codec() {
    let Some(kafka) = Kafka::shared() else { return };
    let mut segment = Vec::new();
    let mut offset = 0;
    let mut codecs = Vec::new();
    let mut push = |mut batch: SealedBatch, codec: &str| {
        batch.place(offset, 0);
        offset += i64::from(batch.record_count());
        codecs.push(format!(" compresscodec: {codec} "));
        segment.extend_from_slice(&batch.freeze());
    };
    let levels = |compression: Compression| match compression {
        Compression::Gzip => vec![1, 6, 9],
        Compression::Zstd => vec![-5, 1, 3, 9, 19, 22],
        _ => vec![compression.default_level()],
    };
    let mut sequence = 0;
    for compression in Compression::ALL {
        for level in levels(compression) {
            let codec = Codec::new(compression, Some(level)).unwrap();
            let mut batch = records(codec);
            batch.stamp(4_000, 2, sequence, true);
            assert_eq!(batch.compression(), compression);
            sequence += batch.record_count();
            push(batch, compression.name());
        }
    }
    push(control_batch(false, 4_000, 2, 1, 1_700_000_000_000), "none");
    push(control_batch(true, 4_000, 2, 1, 1_700_000_000_000), "none");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("00000000000000000000.log");
    std::fs::write(&file, &segment).unwrap();
    let file = file.display().to_string();
    let output = kafka.tools().run(
        Tool::DumpLogSegments,
        &["--print-data-log", "--files", &file],
    );
    let text = output.text();
    let batches: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("baseOffset: "))
        .collect();
    assert_eq!(batches.len(), codecs.len(), "{text}");
    for (batch, codec) in batches.iter().zip(&codecs) {
        assert!(batch.contains("isvalid: true"), "{batch}");
        assert!(batch.contains(codec.as_str()), "{codec} in {batch}");
    }
    for fault in ["isvalid: false", "invalid bytes", "Exception"] {
        assert!(
            !text.contains(fault) && !output.stderr.contains(fault),
            "{text}\n{}",
            output.stderr
        );
    }
    let lines = text.lines().filter(|line| line.starts_with("| offset: "));
    assert_eq!(lines.count() as i64, offset);
    let data = codecs.len() - 2;
    assert_eq!(text.matches("payload: value-199 ").count(), data);
    assert_eq!(
        text.matches("headerKeys: [twice,twice,é]").count(),
        data * 50
    );
    assert_eq!(text.matches("endTxnMarker: ABORT").count(), 1);
    assert_eq!(text.matches("endTxnMarker: COMMIT").count(), 1);
}

fn records(codec: Codec) -> SealedBatch {
    let headers = [
        Header {
            key: "twice",
            value: Some(b"1"),
        },
        Header {
            key: "twice",
            value: None,
        },
        Header {
            key: "é",
            value: Some(b""),
        },
    ];
    let mut writer = BatchWriter::new(BytesMut::new());
    for index in 0..RECORDS {
        let key = format!("key-{index}");
        let value = format!("value-{index} {}", "filler ".repeat(9));
        writer
            .append(&NewRecord {
                timestamp: 1_700_000_000_000 - index,
                key: (index % 3 != 0).then_some(key.as_bytes()),
                value: (index % 5 != 3).then_some(value.as_bytes()),
                headers: if index % 4 == 0 { &headers } else { &[] },
            })
            .unwrap();
    }
    writer
        .seal(&SealOptions { codec }, &mut Compressor::new())
        .unwrap()
}
