//! Every message at every version: what is written is read back the same, unknown tagged fields included.

use ottla_wire::introspect::{AnyMessage, MessageInfo, Random, messages};
use ottla_wire::{Bytes, Reader, Writer};

/// Random messages per message type and version.
const ROUNDS: u64 = 40;

#[test]
fn every_message_and_version_round_trips() {
    let mut cases = 0;
    for info in messages() {
        for version in info.each_version() {
            for seed in 0..ROUNDS {
                for message in random_messages(&info, version, seed) {
                    let bytes = encode(&*message, version);
                    let mut input = Reader::new(bytes.clone());
                    let decoded = (info.decode)(version, &mut input)
                        .unwrap_or_else(|error| panic!("seed {seed}: {error}\n{message:?}"));
                    input.finish().unwrap_or_else(|error| {
                        panic!("{} {version} seed {seed}: {error}", info.name)
                    });
                    assert!(
                        decoded.equals(&*message),
                        "{version} seed {seed}\n{message:?}\n{decoded:?}"
                    );
                    assert_eq!(
                        encode(&*decoded, version),
                        bytes,
                        "{} {version} seed {seed}",
                        info.name
                    );
                    cases += 1;
                }
            }
        }
    }
    // The table of APIs is not empty, and the generator made something of it.
    assert!(cases > 20_000, "{cases} cases");
}

#[test]
fn defaults_can_be_written_at_every_version_that_allows_them() {
    // A default of null at a version that refuses null is the one reason not to.
    for info in messages() {
        for version in info.each_version() {
            let default = (info.default)();
            let mut out = Writer::new();
            match default.encode(version, &mut out) {
                Ok(()) => {
                    let decoded =
                        (info.decode)(version, &mut Reader::new(out.into_bytes())).unwrap();
                    assert!(decoded.equals(&*default), "{} {version}", info.name);
                }
                Err(error) => assert_eq!(error.to_string(), "", "{} {version}", info.name),
            }
        }
    }
}

#[test]
fn random_messages_exercise_every_field() {
    // Guards the generator: with enough seeds, no field of the newest version stays at its default for ever.
    for info in messages() {
        let version = info.versions.max;
        let mut changed = std::collections::BTreeSet::new();
        let default = (info.default)().json(version);
        for seed in 0..200 {
            let json = (info.random)(&mut Random::new(seed, version)).json(version);
            let members = json.as_object().unwrap();
            changed.extend(
                members
                    .iter()
                    .filter(|(key, value)| default.get(key) != Some(value))
                    .map(|(key, _)| key.clone()),
            );
        }
        for key in default.as_object().unwrap().keys() {
            assert!(
                changed.contains(key),
                "{} {version}: {key} never changes",
                info.name
            );
        }
    }
}

fn random_messages(info: &MessageInfo, version: i16, seed: u64) -> Vec<Box<dyn AnyMessage>> {
    let mut messages = vec![(info.random)(&mut Random::new(seed, version))];
    if info.is_flexible(version) {
        messages.push((info.random)(
            &mut Random::new(seed, version).with_unknown_tags(),
        ));
    }
    messages
}

fn encode(message: &dyn AnyMessage, version: i16) -> Bytes {
    let mut out = Writer::new();
    message
        .encode(version, &mut out)
        .unwrap_or_else(|error| panic!("{error}\n{message:?}"));
    out.into_bytes()
}
