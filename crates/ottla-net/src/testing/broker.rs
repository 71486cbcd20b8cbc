//! A broker made of closures.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_wire::messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey,
};
use ottla_wire::{
    ApiKey, ErrorCode, Reader, Request, RequestHeader, VersionRange, decode_request,
    encode_response,
};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinSet;

use crate::address::Address;
use crate::transport::memory::{MemoryListener, MemoryNetwork};

/// What a script answers with.
#[derive(Debug, Clone)]
pub enum Reply<T> {
    /// This response, after that time. A broker works on one request of a connection at a time, so the
    /// wait holds up those behind it.
    After(Duration, T),
    /// These bytes as they are, in place of a frame.
    Raw(Bytes),
    /// Nothing, ever; later requests of the connection are not read either.
    Silence,
    /// Nothing, as to a request that has no response; later requests are read.
    Skip,
    /// The connection is closed.
    Close,
}

impl<T> Reply<T> {
    /// [`Reply::After`].
    pub fn after(delay: Duration, response: T) -> Self {
        Self::After(delay, response)
    }
}

impl<T> From<T> for Reply<T> {
    fn from(response: T) -> Self {
        Self::After(Duration::ZERO, response)
    }
}

/// What a script may want to know of the request, beside itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The broker asked.
    pub node: i32,
    /// The version of request and response.
    pub version: i16,
    /// The number of the connection, counted per broker from 0 in the order in which they were made.
    pub connection: usize,
    /// The request's correlation id.
    pub correlation_id: i32,
    /// The client's name.
    pub client_id: Option<String>,
}

/// A broker that answers what a test scripts. Cheap to clone; clones are the same broker.
///
/// Answers ApiVersions by itself. A request without a script closes the connection, so that no test
/// waits for an answer that nobody wrote.
#[derive(Clone)]
pub struct ScriptedBroker {
    inner: Arc<Inner>,
}

struct Inner {
    node: i32,
    address: Address,
    network: MemoryNetwork,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    scripts: HashMap<i16, Script>,
    versions: BTreeMap<i16, VersionRange>,
    features: BTreeMap<String, i16>,
    /// Every request that came, in order.
    log: Vec<(ApiKey, i16)>,
    connections: usize,
    running: Option<JoinSet<()>>,
    /// Connections are accepted and then ignored.
    is_deaf: bool,
}

type Script = Box<dyn FnMut(&Call, Bytes) -> Reply<Bytes> + Send>;

impl ScriptedBroker {
    /// Starts a broker at `address`. It speaks every version that this library does.
    pub fn start(network: &MemoryNetwork, node: i32, address: Address) -> Self {
        let versions = ApiKey::ALL.iter().map(|api| (*api as i16, api.versions()));
        let broker = Self {
            inner: Arc::new(Inner {
                node,
                address,
                network: network.clone(),
                state: Mutex::new(State {
                    versions: versions.collect(),
                    ..State::default()
                }),
            }),
        };
        let of_script = Arc::downgrade(&broker.inner);
        broker.on::<ApiVersionsRequest>(move |_, _| match of_script.upgrade() {
            Some(inner) => inner.state.lock().api_versions().into(),
            None => Reply::Close,
        });
        broker.restart();
        broker
    }

    /// The broker's id.
    pub fn node(&self) -> i32 {
        self.inner.node
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.inner.address
    }

    /// Answers requests of one API with what `script` says, in place of a script given before. The
    /// script is called on the broker's task, in the order of the requests of each connection.
    pub fn on<R: Request>(
        &self,
        mut script: impl FnMut(R, &Call) -> Reply<R::Response> + Send + 'static,
    ) {
        let script: Script = Box::new(move |call, body| {
            let (_, request) = match decode_request::<R>(body) {
                Ok(decoded) => decoded,
                Err(error) => panic!("the client sent a bad {} request: {error}", R::KEY),
            };
            match script(request, call) {
                Reply::After(delay, response) => {
                    let frame = encode_response::<R>(&response, call.version, call.correlation_id)
                        .unwrap_or_else(|error| panic!("a scripted response: {error}"));
                    Reply::After(delay, frame.to_bytes())
                }
                Reply::Raw(bytes) => Reply::Raw(bytes),
                Reply::Silence => Reply::Silence,
                Reply::Skip => Reply::Skip,
                Reply::Close => Reply::Close,
            }
        });
        let mut state = self.inner.state.lock();
        state.scripts.insert(R::KEY as i16, script);
    }

    /// Answers requests of one API with `replies`, one after the other, and closes the connection when
    /// there is none left.
    pub fn queue<R: Request>(&self, replies: impl IntoIterator<Item = Reply<R::Response>>) {
        let mut replies: std::collections::VecDeque<_> = replies.into_iter().collect();
        self.on::<R>(move |_, _| replies.pop_front().unwrap_or(Reply::Close));
    }

    /// Offers these versions of an API from the next connection on; `None`: does not know the API.
    pub fn speak(&self, api: ApiKey, versions: Option<VersionRange>) {
        let mut state = self.inner.state.lock();
        match versions {
            Some(versions) => state.versions.insert(api as i16, versions),
            None => state.versions.remove(&(api as i16)),
        };
    }

    /// Says that the cluster has switched a feature on at this level.
    pub fn finalize_feature(&self, name: &str, level: i16) {
        let mut state = self.inner.state.lock();
        state.features.insert(name.to_owned(), level);
    }

    /// The requests that came so far, with their versions, ApiVersions included.
    pub fn log(&self) -> Vec<(ApiKey, i16)> {
        self.inner.state.lock().log.clone()
    }

    /// How many requests of one API came so far.
    pub fn count(&self, api: ApiKey) -> usize {
        let state = self.inner.state.lock();
        state.log.iter().filter(|(of, _)| *of == api).count()
    }

    /// How many connections were made to it so far.
    pub fn connections(&self) -> usize {
        self.inner.state.lock().connections
    }

    /// Closes all connections at once and stops listening, as a broker that is killed.
    pub fn kill(&self) {
        self.inner.state.lock().running = None;
    }

    /// Closes all connections at once and goes on listening.
    pub fn drop_connections(&self) {
        self.restart();
    }

    /// Accepts connections and says nothing on them, old and new, until [`ScriptedBroker::restart`].
    pub fn fall_silent(&self) {
        self.inner.state.lock().is_deaf = true;
    }

    /// Listens again, with all connections closed. Scripts stay.
    pub fn restart(&self) {
        let mut state = self.inner.state.lock();
        // In this order: the old listener must not close the address that the new one opens.
        state.running = None;
        state.is_deaf = false;
        let listener = self.inner.network.listen(self.inner.address.clone());
        let mut running = JoinSet::new();
        running.spawn(accept(Arc::downgrade(&self.inner), listener));
        state.running = Some(running);
    }
}

impl fmt::Debug for ScriptedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedBroker")
            .field("node", &self.inner.node)
            .field("address", &self.inner.address)
            .finish_non_exhaustive()
    }
}

impl State {
    fn api_versions(&self) -> ApiVersionsResponse {
        ApiVersionsResponse {
            api_keys: self
                .versions
                .iter()
                .map(|(&api_key, range)| ApiVersion {
                    api_key,
                    min_version: range.min,
                    max_version: range.max,
                    ..Default::default()
                })
                .collect(),
            finalized_features_epoch: if self.features.is_empty() { -1 } else { 1 },
            finalized_features: self
                .features
                .iter()
                .map(|(name, &level)| FinalizedFeatureKey {
                    name: name.clone().into(),
                    max_version_level: level,
                    min_version_level: level,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }
    }
}

async fn accept(inner: std::sync::Weak<Inner>, mut listener: MemoryListener) {
    loop {
        let stream = listener.accept().await;
        let Some(broker) = inner.upgrade() else {
            return;
        };
        let mut state = broker.state.lock();
        let number = state.connections;
        state.connections += 1;
        if let Some(running) = &mut state.running {
            running.spawn(serve(inner.clone(), stream, number));
        }
    }
}

async fn serve(inner: std::sync::Weak<Inner>, mut stream: DuplexStream, connection: usize) {
    // Ids of one connection never repeat in a test.
    let mut seen = HashSet::new();
    while let Ok(len) = stream.read_i32().await {
        let len = usize::try_from(len).expect("the client sent a frame of negative length");
        let mut body = vec![0; len];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let body = Bytes::from(body);
        let header = RequestHeader::decode(&mut Reader::new(body.clone()))
            .expect("the client sent a bad header");
        assert!(
            seen.insert(header.correlation_id),
            "correlation id sent twice"
        );
        let Some(broker) = inner.upgrade() else {
            return;
        };
        match broker.reply(&header, body, connection) {
            Reply::After(delay, bytes) => {
                drop(broker);
                // Not even a sleep of no time: the clock must not move.
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Reply::Raw(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Reply::Silence => {
                drop(broker);
                std::future::pending::<()>().await;
            }
            Reply::Skip => {}
            Reply::Close => return,
        }
    }
}

impl Inner {
    fn reply(&self, header: &RequestHeader, body: Bytes, connection: usize) -> Reply<Bytes> {
        let Ok(api) = ApiKey::try_from(header.api_key) else {
            return Reply::Close;
        };
        let script = {
            let mut state = self.state.lock();
            state.log.push((api, header.api_version));
            if state.is_deaf {
                return Reply::Silence;
            }
            let offered = state.versions.get(&header.api_key).copied();
            if !offered.is_some_and(|range| range.contains(header.api_version)) {
                return refuse(&state, api, header.correlation_id);
            }
            state.scripts.remove(&header.api_key)
        };
        let Some(mut script) = script else {
            tracing::warn!(%api, node = self.node, "no script for this request");
            return Reply::Close;
        };
        let call = Call {
            node: self.node,
            version: header.api_version,
            connection,
            correlation_id: header.correlation_id,
            client_id: header.client_id.as_ref().map(ToString::to_string),
        };
        // Out of its place while it runs, so that it may look at the broker; unless it replaced itself
        // it comes back.
        let reply = script(&call, body);
        let mut state = self.state.lock();
        state.scripts.entry(header.api_key).or_insert(script);
        reply
    }
}

/// As a broker does: error 35 in version 0 for ApiVersions, and a closed connection for all others.
fn refuse(state: &State, api: ApiKey, correlation_id: i32) -> Reply<Bytes> {
    if api != ApiKey::ApiVersions {
        return Reply::Close;
    }
    let mut response = state.api_versions();
    response.error_code = ErrorCode::UNSUPPORTED_VERSION;
    response.api_keys.retain(|of| of.api_key == api as i16);
    match encode_response::<ApiVersionsRequest>(&response, 0, correlation_id) {
        Ok(frame) => Reply::Raw(frame.to_bytes()),
        Err(_) => Reply::Close,
    }
}
