//! The headers in front of every request and response.
//!
//! Which header a message has follows from the API and its version alone, see [`ApiKey`]: flexible requests have header 2
//! and flexible responses header 1, except that an ApiVersions response has header 0 at every version, because a client
//! asks it before it knows anything about the broker.

use bytes::Bytes;

use crate::wire::Version;
use crate::{ApiKey, DecodeError, EncodeError, Reader, Str, TaggedFields, Writer};

/// What a client says in front of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestHeader {
    /// The API's number; a number, not an [`ApiKey`], since a broker must be able to answer for APIs it does not know.
    pub api_key: i16,
    /// The version of the request that follows and of the response that the client expects.
    pub api_version: i16,
    /// Repeated in the response.
    pub correlation_id: i32,
    /// The client's name in the broker's logs, metrics and quotas.
    pub client_id: Option<Str>,
    /// Tagged fields of header 2.
    pub unknown_tagged_fields: TaggedFields,
}

impl RequestHeader {
    /// Reads the header and leaves `input` at the request. For an unknown API it reads no tagged fields, as nobody can know
    /// whether there are any.
    pub fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let mut header = Self::default();
        header.read(input).map_err(|error| {
            error.in_message(
                "RequestHeader",
                header_version(header.api_key, header.api_version),
            )
        })?;
        Ok(header)
    }

    fn read(&mut self, input: &mut Reader) -> Result<(), DecodeError> {
        self.api_key = input.i16()?;
        self.api_version = input.i16()?;
        self.correlation_id = input.i32()?;
        // A 16-bit length even in header 2, so that any broker can read this far.
        self.client_id = input.string(false)?;
        let v = Version::new(2, header_version(self.api_key, self.api_version) == 2);
        self.unknown_tagged_fields
            .read(input, v, &mut |_, _| Ok(false))
    }

    /// Appends the header.
    ///
    /// # Errors
    /// If the client id is longer than 32767 bytes.
    pub fn encode(&self, out: &mut Writer) -> Result<(), EncodeError> {
        let version = header_version(self.api_key, self.api_version);
        out.i16(self.api_key);
        out.i16(self.api_version);
        out.i32(self.correlation_id);
        out.string(self.client_id.as_deref(), false)
            .map_err(|error| error.in_field("client_id"))
            .and_then(|()| {
                self.unknown_tagged_fields
                    .write(out, Version::new(version, version == 2))
            })
            .map_err(|error| error.in_message("RequestHeader", version))
    }
}

/// [`RequestHeader::encode`] of borrowed parts.
pub(crate) fn write_request_header(
    api_key: i16,
    api_version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    tags: &TaggedFields,
    out: &mut Writer,
) -> Result<(), EncodeError> {
    let version = header_version(api_key, api_version);
    out.i16(api_key);
    out.i16(api_version);
    out.i32(correlation_id);
    out.string(client_id, false)
        .map_err(|error| error.in_field("client_id"))
        .and_then(|()| tags.write(out, Version::new(version, version == 2)))
        .map_err(|error| error.in_message("RequestHeader", version))
}

/// What a broker says in front of a response.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResponseHeader {
    /// The request's.
    pub correlation_id: i32,
    /// Tagged fields of header 1.
    pub unknown_tagged_fields: TaggedFields,
}

impl ResponseHeader {
    /// Reads the header of a response of that API and version, and leaves `input` at the response.
    pub fn decode(api: ApiKey, version: i16, input: &mut Reader) -> Result<Self, DecodeError> {
        let mut header = Self::default();
        let header_version = api.response_header_version(version);
        let v = Version::new(header_version, header_version == 1);
        input
            .i32()
            .and_then(|id| {
                header.correlation_id = id;
                header
                    .unknown_tagged_fields
                    .read(input, v, &mut |_, _| Ok(false))
            })
            .map_err(|error| error.in_message("ResponseHeader", header_version))?;
        Ok(header)
    }

    /// Appends the header of a response of that API and version.
    pub fn encode(&self, api: ApiKey, version: i16, out: &mut Writer) -> Result<(), EncodeError> {
        let header_version = api.response_header_version(version);
        out.i32(self.correlation_id);
        self.unknown_tagged_fields
            .write(out, Version::new(header_version, header_version == 1))
            .map_err(|error| error.in_message("ResponseHeader", header_version))
    }
}

/// The correlation id of a response, before anything is known about it. `None` if it is shorter than four bytes.
pub fn peek_correlation_id(body: &Bytes) -> Option<i32> {
    body.first_chunk().map(|bytes| i32::from_be_bytes(*bytes))
}

impl ApiKey {
    /// Version of the header in front of this API's requests: 1, or 2 if the request's version is flexible.
    pub fn request_header_version(self, version: i16) -> i16 {
        if version >= self.flexible_from() {
            2
        } else {
            1
        }
    }

    /// Version of the header in front of this API's responses: 0, or 1 if the version is flexible; always 0 for ApiVersions.
    pub fn response_header_version(self, version: i16) -> i16 {
        i16::from(self != Self::ApiVersions && version >= self.flexible_from())
    }
}

fn header_version(api_key: i16, api_version: i16) -> i16 {
    ApiKey::try_from(api_key).map_or(1, |api| api.request_header_version(api_version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_id_keeps_its_16_bit_length_in_header_2() {
        let header = RequestHeader {
            api_key: ApiKey::ApiVersions as i16,
            api_version: 3,
            correlation_id: 7,
            client_id: Some("ab".into()),
            ..Default::default()
        };
        let mut out = Writer::new();
        header.encode(&mut out).unwrap();
        let bytes = out.into_bytes();
        assert_eq!(
            &bytes[..],
            b"\x00\x12\x00\x03\x00\x00\x00\x07\x00\x02ab\x00"
        );
        assert_eq!(
            RequestHeader::decode(&mut Reader::new(bytes)).unwrap(),
            header
        );
    }

    #[test]
    fn an_unknown_api_can_still_be_answered() {
        let mut input = Reader::new(Bytes::from_static(
            b"\x7f\x00\x00\x01\x00\x00\x00\x09\xff\xff\x05",
        ));
        let header = RequestHeader::decode(&mut input).unwrap();
        assert_eq!(
            (header.api_key, header.correlation_id, header.client_id),
            (0x7f00, 9, None)
        );
        assert_eq!(input.remaining(), 1);
    }

    #[test]
    fn header_versions() {
        assert_eq!(ApiKey::ApiVersions.response_header_version(4), 0);
        assert_eq!(ApiKey::ApiVersions.request_header_version(4), 2);
        assert_eq!(
            (
                ApiKey::Fetch.response_header_version(11),
                ApiKey::Fetch.response_header_version(12)
            ),
            (0, 1)
        );
        assert_eq!(
            (
                ApiKey::Fetch.request_header_version(11),
                ApiKey::Fetch.request_header_version(12)
            ),
            (1, 2)
        );
        assert_eq!(ApiKey::SaslHandshake.request_header_version(1), 1);
    }
}
