//! A whole broker in memory, fed with frames: every request decoder and every handler behind it.
//!
//! The fuzz binary calls [`requests`] under libFuzzer; `crates/ottla-broker/tests/hostile.rs` includes this file and
//! calls it with seeded mutations. The clock stands still and jumps, so that a request that waits costs no time.

use std::time::Duration;

use bytes::Bytes;
use ottla_broker::{BrokerOptions, EmbeddedCluster};
use ottla_wire::introspect::echo_response;
use ottla_wire::{ApiKey, ErrorCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// Reads `data` as frames, sends them to a fresh broker, one after the other, and reads what it answers: either an
/// answer that a client can decode, or nothing, or the end of the connection. The broker goes on serving others.
///
/// A frame is an API key, a version (a byte each), the length of its body (two bytes), and the body; API 255 takes the
/// body as the whole frame, header and all.
pub fn requests(data: &[u8]) {
    let runtime = runtime();
    runtime.block_on(async {
        let cluster = broker();
        let mut rest = data;
        let mut stream = None;
        for correlation_id in 0..FRAMES_MAX {
            let [api, version, low, high, after @ ..] = rest else {
                break;
            };
            let len = usize::from(u16::from_le_bytes([*low, *high])).min(after.len());
            let (body, after) = after.split_at(len);
            rest = after;
            let connection = match &mut stream {
                Some(connection) => connection,
                // The broker closed the last one.
                none => none.insert(cluster.connect(1).expect("node 1 is up")),
            };
            let request = Request {
                api: i16::from(*api),
                version: i16::from(*version),
                correlation_id,
                body,
            };
            if !request.run(connection).await {
                stream = None;
            }
        }
        still_serves(&cluster).await;
        cluster.stop().await;
    });
}

/// One frame to be sent.
#[derive(Debug)]
pub struct Request<'a> {
    /// 255 for a body that brings its own header.
    pub api: i16,
    pub version: i16,
    pub correlation_id: i32,
    pub body: &'a [u8],
}

impl Request<'_> {
    /// The frame with its length.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0; 4];
        if self.api != RAW {
            frame.extend(self.api.to_be_bytes());
            frame.extend(self.version.to_be_bytes());
            frame.extend(self.correlation_id.to_be_bytes());
            frame.extend(b"\x00\x01f");
            if ApiKey::try_from(self.api).is_ok_and(|api| self.version >= api.flexible_from()) {
                frame.push(0);
            }
        }
        frame.extend(self.body);
        let len = frame.len() as u32 - 4;
        frame[..4].copy_from_slice(&len.to_be_bytes());
        frame
    }

    /// Sends the frame and checks the answer. Whether the connection is still open.
    pub async fn run(&self, connection: &mut tokio::io::DuplexStream) -> bool {
        if connection.write_all(&self.frame()).await.is_err() {
            return false;
        }
        let answer = async {
            let len = connection.read_u32().await.ok()?;
            let mut body = vec![0; len as usize];
            connection.read_exact(&mut body).await.ok()?;
            Some(Bytes::from(body))
        };
        match timeout(PATIENCE, answer).await {
            // No answer is wanted, or a group waits for members that never come.
            Err(_) => false,
            Ok(None) => false,
            Ok(Some(body)) => {
                self.check(&body);
                true
            }
        }
    }

    fn check(&self, body: &Bytes) {
        let Ok(api) = ApiKey::try_from(self.api) else {
            return;
        };
        assert_eq!(body[..4], self.correlation_id.to_be_bytes(), "{self:?}");
        // To versions that it does not know, a broker answers as of version 0.
        let refused = api == ApiKey::ApiVersions
            && body[4..6] == ErrorCode::UNSUPPORTED_VERSION.0.to_be_bytes();
        let version = if refused { 0 } else { self.version };
        let again = echo_response(api, version, body.clone())
            .unwrap_or_else(|error| panic!("{self:?}: {error}"));
        assert_eq!(again, *body, "{self:?}");
    }
}

/// A runtime of one thread with a clock that stands still while there is something to do.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
}

/// A broker with a topic `t`, as small as it may be.
pub fn broker() -> EmbeddedCluster {
    let options = BrokerOptions {
        nodes: 2,
        topics: vec![("t".to_owned(), 2)],
        idle_max: 10 * PATIENCE,
        ..BrokerOptions::default()
    };
    EmbeddedCluster::start_in_memory(options).expect("options that work")
}

/// Whatever was sent, others are answered.
pub async fn still_serves(cluster: &EmbeddedCluster) {
    let mut connection = cluster.connect(1).expect("node 1 is up");
    let question = Request {
        api: ApiKey::ApiVersions as i16,
        version: 0,
        correlation_id: 7,
        body: &[],
    };
    assert!(question.run(&mut connection).await, "the broker is mute");
}

/// An API key that says: no header.
pub const RAW: i16 = 255;

const FRAMES_MAX: i32 = 16;

/// Longer than the broker lets any request wait but those for a group.
const PATIENCE: Duration = Duration::from_secs(3600);
