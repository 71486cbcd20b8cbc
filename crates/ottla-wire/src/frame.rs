//! Frames: a four-byte length, a header, a message.
//!
//! Turns a message into the chunks that go to a socket in one vectored write, and the bytes after a frame's length ("the
//! body") back into a message. Reading whole frames off a socket, and bounding their length, is the connection's business.

use bytes::Bytes;

use crate::header::{RequestHeader, ResponseHeader, write_request_header};
use crate::messages::api_versions::ApiVersionsResponse;
use crate::{
    ApiKey, DecodeError, EncodeError, EncodeErrorKind, ErrorCode, Message, Reader, Request,
    TaggedFields, Writer,
};

/// A message ready for the socket, length prefix included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    chunks: Vec<Bytes>,
    len: usize,
}

impl Frame {
    /// The bytes in order, for a vectored write. Large byte fields (record batches) are chunks of their own and were not
    /// copied; no chunk is empty.
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// The chunks themselves.
    pub fn into_chunks(self) -> Vec<Bytes> {
        self.chunks
    }

    /// Bytes in all chunks together, with the four of the length prefix.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a frame has at least its length prefix.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All bytes in one piece; copies.
    pub fn to_bytes(&self) -> Bytes {
        match &self.chunks[..] {
            [one] => one.clone(),
            chunks => chunks.concat().into(),
        }
    }
}

/// Writes a request with its header and length.
///
/// # Errors
/// If the version is unknown, a field cannot be said at this version, or the frame exceeds 2 GiB.
pub fn encode_request<R: Request>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
) -> Result<Frame, EncodeError> {
    encode_frame(request, version, |out| {
        let tags = TaggedFields::default();
        write_request_header(
            R::KEY as i16,
            version,
            correlation_id,
            client_id,
            &tags,
            out,
        )
    })
}

/// Writes a response to a request of version `version`, with its header and length.
///
/// # Errors
/// As [`encode_request`].
pub fn encode_response<R: Request>(
    response: &R::Response,
    version: i16,
    correlation_id: i32,
) -> Result<Frame, EncodeError> {
    let header = ResponseHeader {
        correlation_id,
        ..Default::default()
    };
    encode_frame(response, version, |out| header.encode(R::KEY, version, out))
}

/// Reads a response to a request of version `version`; `body` is the frame without its length.
///
/// A broker that does not know the version of an ApiVersions request answers with error 35 and a body of version 0; that
/// is recognised here.
///
/// # Errors
/// If the body is not such a response, or goes on behind its end.
pub fn decode_response<R: Request>(version: i16, body: Bytes) -> Result<R::Response, DecodeError> {
    let mut input = Reader::new(body);
    ResponseHeader::decode(R::KEY, version, &mut input)?;
    let version = if R::KEY == ApiKey::ApiVersions
        && input.peek_i16() == Some(ErrorCode::UNSUPPORTED_VERSION.0)
    {
        ApiVersionsResponse::VERSIONS.min
    } else {
        version
    };
    decode_rest(version, &mut input)
}

/// Reads a request, header and all; `body` is the frame without its length. For brokers and tests.
///
/// # Errors
/// If the body is not such a request, or goes on behind its end.
pub fn decode_request<R: Request>(body: Bytes) -> Result<(RequestHeader, R), DecodeError> {
    let mut input = Reader::new(body);
    let header = RequestHeader::decode(&mut input)?;
    let request = decode_rest(header.api_version, &mut input)?;
    Ok((header, request))
}

fn decode_rest<M: Message>(version: i16, input: &mut Reader) -> Result<M, DecodeError> {
    let message = M::decode(version, input)?;
    input
        .finish()
        .map_err(|error| error.in_message(M::NAME, version))?;
    Ok(message)
}

fn encode_frame<M: Message>(
    message: &M,
    version: i16,
    header: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
) -> Result<Frame, EncodeError> {
    let mut out = Writer::with_capacity(TYPICAL_FRAME);
    out.i32(0);
    header(&mut out)?;
    message.encode(version, &mut out)?;
    let len = out.len();
    let body_len = i32::try_from(len - LENGTH_PREFIX).map_err(|_| {
        let kind = EncodeErrorKind::TooLong {
            len: len - LENGTH_PREFIX,
            max: i32::MAX as usize,
        };
        EncodeError::new(kind).in_message(M::NAME, version)
    })?;
    out.patch_i32(0, body_len);
    Ok(Frame {
        chunks: out.into_chunks(),
        len,
    })
}

const LENGTH_PREFIX: usize = 4;

/// Room for the small requests, so that they grow no buffer.
const TYPICAL_FRAME: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DecodeErrorKind;
    use crate::messages::api_versions::ApiVersionsRequest;
    use crate::messages::produce::{
        PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
    };

    #[test]
    fn records_become_a_chunk_of_their_own() {
        let records = Bytes::from(vec![7; 4096]);
        let request = ProduceRequest {
            topic_data: vec![TopicProduceData {
                name: "t".into(),
                partition_data: vec![PartitionProduceData {
                    records: Some(records.clone()),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let frame = encode_request(&request, 9, 3, Some("c")).unwrap();
        assert_eq!(frame.chunks().len(), 3);
        assert_eq!(frame.chunks()[1].as_ptr(), records.as_ptr());
        let bytes = frame.to_bytes();
        assert_eq!(bytes.len(), frame.len());
        assert_eq!(bytes[..4], (bytes.len() as u32 - 4).to_be_bytes());
        let (header, decoded) = decode_request::<ProduceRequest>(bytes.slice(4..)).unwrap();
        assert_eq!(
            (header.api_key, header.api_version, header.correlation_id),
            (0, 9, 3)
        );
        assert_eq!(decoded, request);
    }

    #[test]
    fn a_broker_that_refuses_our_api_versions_is_understood() {
        // Correlation id, error 35, one API: 18 from 0 to 2, as version 0 lays it out, to a question of version 4.
        let body =
            Bytes::from_static(b"\x00\x00\x00\x07\x00\x23\x00\x00\x00\x01\x00\x12\x00\x00\x00\x02");
        let response = decode_response::<ApiVersionsRequest>(4, body).unwrap();
        assert_eq!(response.error_code, ErrorCode::UNSUPPORTED_VERSION);
        assert_eq!(
            (
                response.api_keys[0].api_key,
                response.api_keys[0].max_version
            ),
            (18, 2)
        );
    }

    #[test]
    fn bytes_behind_a_response_are_an_error() {
        let frame = encode_response::<ProduceRequest>(&ProduceResponse::default(), 9, 1).unwrap();
        let mut body = frame.to_bytes()[4..].to_vec();
        assert!(decode_response::<ProduceRequest>(9, body.clone().into()).is_ok());
        body.push(0);
        let error = decode_response::<ProduceRequest>(9, body.into()).unwrap_err();
        assert_eq!(*error.kind(), DecodeErrorKind::TrailingBytes(1));
        assert_eq!(error.message(), Some("ProduceResponse"));
    }

    #[test]
    fn a_frame_of_a_few_bytes_is_an_error() {
        for len in 0..4 {
            let error =
                decode_response::<ProduceRequest>(9, Bytes::from(vec![0; len])).unwrap_err();
            assert_eq!(error.message(), Some("ResponseHeader"), "{error}");
        }
    }
}
