//! A second opinion: the crate kafka-protocol reads our random messages and writes the same bytes again.
//!
//! Only inside its limits: it knows the schemas of Kafka 4.1, promises versions that it then refuses, and panics or
//! asks for gigabytes on bytes that are not trusted. Ours are.

use std::collections::BTreeSet;
use std::error::Error;

use bytes::BytesMut;
use kafka_protocol::messages::{ApiKey, RequestKind, ResponseKind};
use ottla_wire::introspect::{Random, messages};
use ottla_wire::{Bytes, Writer};

/// Random messages per message type and version.
const ROUNDS: u64 = 10;

/// What kafka-protocol 0.18 does not know, or promises and refuses.
const LIMITS: [&str; 18] = [
    "AddRaftVoterRequest 1",
    "AddRaftVoterResponse 1",
    "DescribeLogDirsRequest 5",
    "DescribeLogDirsResponse 5",
    "DescribeShareGroupOffsetsRequest 1",
    "DescribeShareGroupOffsetsResponse 1",
    "ListOffsetsRequest 11",
    "ListOffsetsResponse 11",
    "OffsetCommitRequest 10",
    "OffsetFetchRequest 10",
    "ShareAcknowledgeRequest 2",
    "ShareAcknowledgeResponse 2",
    "ShareFetchRequest 2",
    "ShareFetchResponse 2",
    "StreamsGroupDescribeRequest 0",
    "StreamsGroupDescribeResponse 0",
    "StreamsGroupHeartbeatRequest 0",
    "StreamsGroupHeartbeatResponse 0",
];

#[test]
fn kafka_protocol_reads_and_writes_the_same() {
    let mut agreed = 0;
    let mut refused = BTreeSet::new();
    for info in messages() {
        let Some((api, is_request)) = api_of(info.name) else {
            continue;
        };
        for version in info.each_version() {
            let place = format!("{} {version}", info.name);
            for seed in 0..ROUNDS {
                let mut random = Random::new(seed, version);
                if info.is_flexible(version) {
                    random = random.with_unknown_tags();
                }
                let message = (info.random)(&mut random);
                let mut out = Writer::new();
                message
                    .encode(version, &mut out)
                    .expect("random messages are valid");
                let ours = out.into_bytes();
                match echo(api, is_request, version, ours.clone()) {
                    Ok(theirs) => assert_eq!(ours, theirs, "{place} seed {seed}\n{message:?}"),
                    Err(_) if LIMITS.contains(&place.as_str()) => {
                        refused.insert(place.clone());
                        break;
                    }
                    Err(error) => panic!("{place} seed {seed}: {error:#}\n{message:?}"),
                }
                agreed += 1;
            }
        }
    }
    // A limit that is gone should be struck off the list.
    assert_eq!(refused, LIMITS.map(String::from).into());
    assert!(agreed > 5000, "{agreed} messages");
}

/// The bytes as kafka-protocol writes them after reading ours.
fn echo(
    api: ottla_wire::ApiKey,
    is_request: bool,
    version: i16,
    ours: Bytes,
) -> Result<Bytes, Box<dyn Error>> {
    let key = ApiKey::try_from(api as i16).map_err(|()| "unknown API")?;
    let known = key.valid_versions();
    if !(known.min..=known.max).contains(&version) {
        return Err("unknown version".into());
    }
    let (mut input, mut output) = (ours, BytesMut::new());
    if is_request {
        RequestKind::decode(key, &mut input, version)?.encode(&mut output, version)?;
    } else {
        ResponseKind::decode(key, &mut input, version)?.encode(&mut output, version)?;
    }
    if !input.is_empty() {
        return Err(format!("{} bytes are left over", input.len()).into());
    }
    Ok(output.freeze())
}

/// The API of a request or response, and which of the two it is.
fn api_of(name: &str) -> Option<(ottla_wire::ApiKey, bool)> {
    let (api, is_request) = match (name.strip_suffix("Request"), name.strip_suffix("Response")) {
        (Some(api), _) => (api, true),
        (_, Some(api)) => (api, false),
        _ => return None,
    };
    let api = ottla_wire::ApiKey::ALL
        .iter()
        .find(|key| key.name() == api)?;
    Some((*api, is_request))
}
