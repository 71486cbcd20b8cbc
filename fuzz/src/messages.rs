//! Every message, every version, and the frames around them.

use std::sync::LazyLock;

use bytes::Bytes;
use ottla_wire::introspect::{MessageInfo, echo_request, echo_response, messages};
use ottla_wire::{ApiKey, Reader, Writer, peek_correlation_id};

static MESSAGES: LazyLock<Vec<MessageInfo>> = LazyLock::new(messages);

/// Decodes the message and version that the first two bytes choose from the rest. What decodes
/// encodes again, to bytes that decode to the same.
pub fn message(data: &[u8]) {
    let [choice, version, body @ ..] = data else {
        return;
    };
    let info = &MESSAGES[usize::from(*choice) % MESSAGES.len()];
    let versions = i16::from(*version) % (info.versions.max - info.versions.min + 1);
    let version = info.versions.min + versions;
    let mut input = Reader::new(Bytes::copy_from_slice(body));
    let Ok(message) = (info.decode)(version, &mut input) else {
        return;
    };
    let mut out = Writer::new();
    if message.encode(version, &mut out).is_err() {
        return;
    }
    let again = Bytes::from(out.into_chunks().concat());
    let decoded = (info.decode)(version, &mut Reader::new(again.clone()))
        .unwrap_or_else(|error| panic!("{} {version}: {error}", info.name));
    let mut out = Writer::new();
    decoded.encode(version, &mut out).expect("it did before");
    // Bytes, not values: a NaN is not equal to itself.
    assert_eq!(out.into_chunks().concat(), again, "{} {version}", info.name);
}

/// A broker's side: a request with its header. A client's: the answer to any API and version.
pub fn frame(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let _ = peek_correlation_id(&body);
    let _ = echo_request(body.clone());
    if let [key, version, ..] = data
        && let Ok(api) = ApiKey::try_from(i16::from(*key))
    {
        let _ = echo_response(api, i16::from(*version), body.slice(2..));
    }
}
