//! Frames captured from Kafka's own tools, decoded and written again bit for bit. See `golden/README.md`.

use std::fs;
use std::path::{Path, PathBuf};

use ottla_wire::introspect::{echo_request, echo_response};
use ottla_wire::messages::fetch::FetchRequest;
use ottla_wire::messages::metadata::MetadataRequest;
use ottla_wire::{ApiKey, Bytes, decode_response};

#[test]
fn captured_frames_survive_bit_for_bit() {
    let mut frames = 0;
    for source in ["kafka-4.3.1", "kafka-3.9", "kcat"] {
        for path in files(source) {
            let place = path.display();
            let stem = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .expect("a name");
            let parts: Vec<_> = stem.split('-').collect();
            let [api, version, direction] = parts[..] else {
                panic!("{place}: not API-version-direction")
            };
            let api = ApiKey::ALL
                .iter()
                .find(|key| key.name() == api)
                .unwrap_or_else(|| panic!("{place}: no such API"));
            let version = version
                .parse()
                .unwrap_or_else(|error| panic!("{place}: {error}"));
            let frame = read(&path);
            let echo = match direction {
                "request" => echo_request(frame.clone()),
                _ => echo_response(*api, version, frame.clone()),
            };
            assert_eq!(
                echo.unwrap_or_else(|error| panic!("{place}: {error}")),
                frame,
                "{place}"
            );
            frames += 1;
        }
    }
    assert!(frames > 120, "only {frames} frames");
}

#[test]
fn captured_frames_say_what_was_done() {
    let metadata = read(&directory().join("kafka-4.3.1/Metadata-13-response.hex"));
    let metadata = decode_response::<MetadataRequest>(13, metadata).expect("a response");
    assert_eq!(metadata.brokers[0].host, "127.0.0.1");
    assert!(
        metadata
            .topics
            .iter()
            .any(|topic| topic.name.as_deref() == Some("golden") && !topic.topic_id.is_zero())
    );
    let fetch = read(&directory().join("kafka-4.3.1/Fetch-18-response.hex"));
    let fetch = decode_response::<FetchRequest>(18, fetch).expect("a response");
    let mut partitions = fetch.responses.iter().flat_map(|topic| &topic.partitions);
    assert!(partitions.any(|p| {
        p.records
            .as_ref()
            .is_some_and(|records| !records.is_empty())
    }));
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn files(source: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory().join(source)).expect("the directory is there");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    files.sort();
    files
}

fn read(path: &Path) -> Bytes {
    let text = fs::read_to_string(path).expect("the file can be read");
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).expect("hex"))
        .collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] << 4 | pair[1]) as u8)
        .collect::<Vec<_>>()
        .into()
}
