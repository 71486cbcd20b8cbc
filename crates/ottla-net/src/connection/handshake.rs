//! What happens on a connection before its first request: versions, and proving who we are.
//!
//! Strictly one request at a time, on the bare stream, before the driver takes it over.

use std::fmt;
use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use ottla_wire::messages::api_versions::ApiVersionsRequest;
use ottla_wire::{
    ApiKey, ErrorCode, Message, PeerVersions, Request, decode_response, encode_request,
    peek_correlation_id,
};
use tokio::io::AsyncWriteExt;

use crate::connection::frame_reader::{BadLength, FrameReader};
use crate::connection::versions::BrokerVersions;
use crate::error::{Error, ForeignAnswer, Peer};
use crate::transport::{BoxFuture, Stream};

/// Proves to a broker who this client is, on a new connection: SASL, once its issue lands.
pub trait Authenticator: Send + Sync {
    /// Carries the exchange out. Runs after the versions are known and before any other request.
    ///
    /// Bounded by `request.timeout.ms`; dropping the future gives the connection up.
    ///
    /// # Errors
    /// [`Error::Authentication`] when the broker refuses: callers are told at once. Anything else that
    /// [`Handshake::call`] returned, which may be tried again.
    fn authenticate<'a>(
        &'a self,
        handshake: &'a mut Handshake,
    ) -> BoxFuture<'a, Result<Session, Error>>;
}

impl fmt::Debug for dyn Authenticator {
    /// Says nothing of the secret inside.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authenticator")
    }
}

/// What an authentication is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Session {
    /// How long the broker accepts it (`session_lifetime_ms`, KIP-368); `None`: as long as the connection
    /// lasts. The connection is replaced in good time before that.
    pub lifetime: Option<Duration>,
}

/// A connection in the making, for requests that precede all others.
pub struct Handshake {
    stream: Box<dyn Stream>,
    reader: FrameReader,
    peer: Peer,
    client_id: std::sync::Arc<str>,
    correlation_id: i32,
    versions: BrokerVersions,
}

impl Handshake {
    pub(super) fn new(
        stream: Box<dyn Stream>,
        peer: Peer,
        client_id: std::sync::Arc<str>,
        frame_bytes_max: usize,
    ) -> Self {
        Self {
            stream,
            reader: FrameReader::new(frame_bytes_max),
            peer,
            client_id,
            correlation_id: 0,
            versions: BrokerVersions::default(),
        }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What the broker can do.
    pub fn versions(&self) -> &BrokerVersions {
        &self.versions
    }

    /// The highest version of `R` that both sides speak, at most `cap`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if there is none.
    pub fn version<R: Request>(&self, cap: i16) -> Result<i16, Error> {
        self.versions.choose::<R>(cap, &self.peer)
    }

    /// Sends a request and waits for its response.
    ///
    /// # Errors
    /// [`Error::Handshake`] if the connection ends or the response is none; [`Error::NotKafka`] if it
    /// is no broker that answers; [`Error::Encode`], [`Error::Decode`].
    pub async fn call<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, Error> {
        let id = self.correlation_id;
        self.correlation_id += 1;
        let frame =
            encode_request(request, version, id, Some(&self.client_id)).map_err(|source| {
                Error::Encode {
                    peer: self.peer.clone(),
                    source,
                }
            })?;
        match self.write(frame.chunks()).await {
            Ok(()) => {}
            Err(error) if is_reset(&error) => return Err(self.closed_by_peer(R::KEY)),
            Err(error) => return Err(self.failed(format!("writing failed: {error}"))),
        }

        let body = self.read_frame(R::KEY).await?;
        if peek_correlation_id(&body) != Some(id) {
            return Err(self.failed("the answer is to another request".into()));
        }
        decode_response::<R>(version, body).map_err(|source| Error::Decode {
            peer: self.peer.clone(),
            api: R::KEY,
            source,
        })
    }

    /// Asks for the broker's versions (KIP-35), telling who asks (KIP-511).
    pub(super) async fn negotiate(&mut self) -> Result<(), Error> {
        let request = ApiVersionsRequest {
            client_software_name: SOFTWARE_NAME.into(),
            client_software_version: SOFTWARE_VERSION.into(),
            ..Default::default()
        };
        let mut version = ApiVersionsRequest::VERSIONS.max;
        let mut response = self.call(&request, version).await?;
        if response.error_code == ErrorCode::UNSUPPORTED_VERSION {
            // The broker is older than our ApiVersions, and answered in version 0 so that we can read
            // which versions it has.
            version = PeerVersions::retry_version(&response);
            response = self.call(&request, version).await?;
        }
        if !response.error_code.is_ok() {
            let code = response.error_code;
            return Err(Error::Handshake {
                peer: self.peer.clone(),
                reason: format!(
                    "it answers ApiVersions with {} ({})",
                    code.name(),
                    code.meaning()
                ),
                retriable: code.is_retriable(),
            });
        }
        self.versions = BrokerVersions::from_response(&response);
        Ok(())
    }

    /// The stream, what was read of it ahead, the versions, and the next correlation id.
    pub(super) fn into_parts(self) -> (Box<dyn Stream>, FrameReader, BrokerVersions, i32) {
        (self.stream, self.reader, self.versions, self.correlation_id)
    }

    async fn write(&mut self, chunks: &[Bytes]) -> std::io::Result<()> {
        for chunk in chunks {
            self.stream.write_all(chunk).await?;
        }
        self.stream.flush().await
    }

    async fn read_frame(&mut self, api: ApiKey) -> Result<Bytes, Error> {
        loop {
            match self.reader.next_frame() {
                Ok(Some(body)) => return Ok(body),
                Ok(None) => {}
                Err(bad) => return Err(self.not_a_frame(bad, api)),
            }
            let Self { stream, reader, .. } = self;
            let read = poll_fn(|cx| reader.poll_read(cx, stream)).await;
            match read {
                Ok(0) => return Err(self.closed_by_peer(api)),
                Ok(_) => {}
                // Whoever closes with our bytes unread resets the connection: the same thing, seen otherwise.
                Err(error) if is_reset(&error) => return Err(self.closed_by_peer(api)),
                Err(error) => return Err(self.failed(format!("reading failed: {error}"))),
            }
        }
    }

    fn not_a_frame(&self, bad: BadLength, api: ApiKey) -> Error {
        match ForeignAnswer::recognize(bad.prefix) {
            Some(answer) => Error::NotKafka {
                peer: self.peer.clone(),
                answer,
            },
            None => self.failed(format!(
                "its answer to {api} announces {} bytes; is this a Kafka broker?",
                bad.len()
            )),
        }
    }

    fn closed_by_peer(&self, api: ApiKey) -> Error {
        // A short answer of another protocol, such as a TLS alert of seven bytes, may look like the
        // beginning of a frame.
        if let Some(answer) = self.reader.peek_prefix().and_then(ForeignAnswer::recognize) {
            return Error::NotKafka {
                peer: self.peer.clone(),
                answer,
            };
        }
        let hint = if api == ApiKey::ApiVersions {
            "; a TLS listener does that to a client that speaks plain text: check the port and security.protocol"
        } else {
            ""
        };
        self.failed(format!(
            "it closed the connection instead of answering {api}{hint}"
        ))
    }

    fn failed(&self, reason: String) -> Error {
        Error::Handshake {
            peer: self.peer.clone(),
            reason,
            retriable: true,
        }
    }
}

fn is_reset(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset
    )
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// KIP-511: letters, digits, dots and hyphens.
const SOFTWARE_NAME: &str = "ottla";
const SOFTWARE_VERSION: &str = env!("CARGO_PKG_VERSION");
