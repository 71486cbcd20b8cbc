//! Structures that carry their version in front of them, since no header says it: what members of a classic group tell each
//! other through the coordinator, and the keys and values of control records.

use crate::{Bytes, DecodeError, EncodeError, Message, Reader, Writer};

/// Writes the version as an i16, then the structure.
///
/// ```
/// use ottla_wire::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
/// use ottla_wire::{decode_versioned, encode_versioned};
///
/// let subscription = ConsumerProtocolSubscription { topics: vec!["clicks".into()], ..Default::default() };
/// let bytes = encode_versioned(&subscription, 3)?;
/// assert_eq!(decode_versioned(bytes)?, (3, subscription));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`Message::encode`].
pub fn encode_versioned<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut out = Writer::new();
    out.i16(version);
    message.encode(version, &mut out)?;
    Ok(out.into_bytes())
}

/// Reads a version and a structure; returns both. Later versions only add to the end, so a version newer than ours is read
/// as our newest, and bytes behind the structure are left alone.
///
/// # Errors
/// If the version is below ours or the bytes are not such a structure.
pub fn decode_versioned<M: Message>(bytes: Bytes) -> Result<(i16, M), DecodeError> {
    let mut input = Reader::new(bytes);
    let version = input
        .i16()
        .map_err(|error| error.in_message(M::NAME, M::VERSIONS.min))?;
    let message = M::decode(version.min(M::VERSIONS.max), &mut input)?;
    Ok((version, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DecodeErrorKind;
    use crate::messages::consumer_protocol_assignment::ConsumerProtocolAssignment;
    use crate::messages::end_txn_marker::EndTxnMarker;

    #[test]
    fn a_newer_version_is_read_as_ours() {
        let marker = EndTxnMarker {
            coordinator_epoch: 7,
            ..Default::default()
        };
        let mut bytes = encode_versioned(&marker, 0).unwrap().to_vec();
        assert_eq!(bytes, [0, 0, 0, 0, 0, 7]);
        bytes[1] = 9;
        bytes.extend(b"what version 9 adds");
        assert_eq!(decode_versioned(bytes.into()).unwrap(), (9, marker));
    }

    #[test]
    fn foreign_bytes_are_refused() {
        let refused = |bytes: &'static [u8]| {
            decode_versioned::<ConsumerProtocolAssignment>(Bytes::from_static(bytes)).unwrap_err()
        };
        assert!(matches!(
            refused(b"").kind(),
            DecodeErrorKind::UnexpectedEnd { .. }
        ));
        assert!(matches!(
            refused(b"\xff\xff").kind(),
            DecodeErrorKind::UnsupportedVersion(_)
        ));
        assert!(matches!(
            refused(b"\x00\x00\x7f\xff\xff\xff").kind(),
            DecodeErrorKind::CountTooLarge { .. }
        ));
    }
}
