//! A TCP proxy in front of a broker that knows where Kafka's frames begin and end.
//!
//! A test says what becomes of each request and reply: passed on, changed, delayed, lost, or the
//! connection closed under it. Without a rule everything passes. Plain threads and blocking
//! sockets, so that it goes on whatever the test's own runtime does.
//!
//! A broker tells clients its own address; [`Options::proxied`](crate::Options::proxied) gives a
//! node a second listener whose advertised address is the proxy's, so that clients stay on it.

use std::{
    collections::HashMap,
    fmt,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::Error;

/// A proxy; dropping it closes its connections and stops listening.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// One request or reply on its way, as a rule sees it.
#[derive(Debug)]
pub struct Passing<'a> {
    /// Which of the two.
    pub direction: Direction,
    /// Kafka's number of the API: 0 Produce, 1 Fetch …
    pub api_key: i16,
    /// The version of the request.
    pub api_version: i16,
    /// What follows the four bytes of length; may be changed, also in length.
    pub frame: &'a mut Vec<u8>,
}

/// Where a frame is headed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "there is no third")]
pub enum Direction {
    /// From the client to the broker.
    Request,
    /// From the broker to the client.
    Reply,
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// It is passed on, as the rule left it.
    Pass,
    /// It never arrives; the connection lives on.
    Lose,
    /// It never arrives, and the connection is closed in both directions.
    Close,
    /// It arrives later, and so does what follows it in its direction.
    Delay(Duration),
    /// Half of it arrives, then the connection is closed.
    Cut,
}

type Rule = Arc<dyn Fn(Passing<'_>) -> Fate + Send + Sync>;

impl Proxy {
    /// Listens on a free port of the loopback address, for connections to `upstream`.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub fn to(upstream: SocketAddr) -> Result<Self, Error> {
        let proxy = Self::unconnected()?;
        proxy.connect(upstream);
        Ok(proxy)
    }

    /// Listens, and refuses connections until told what is behind it.
    pub(crate) fn unconnected() -> Result<Self, Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .map_err(|e| Error::io("binding the proxy", &e))?;
        let address = listener
            .local_addr()
            .map_err(|e| Error::io("binding the proxy", &e))?;
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Ok(Self { address, shared })
    }

    pub(crate) fn connect(&self, upstream: SocketAddr) {
        *lock(&self.shared.upstream) = Some(upstream);
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on `rule` decides on every request and reply, in place of the rule before.
    ///
    /// It is called from several threads at once.
    pub fn rule(&self, rule: impl Fn(Passing<'_>) -> Fate + Send + Sync + 'static) {
        *lock(&self.shared.rule) = Some(Arc::new(rule));
    }

    /// From now on everything passes.
    pub fn pass_all(&self) {
        *lock(&self.shared.rule) = None;
    }

    /// Closes every connection that is open now.
    pub fn close_connections(&self) {
        for stream in lock(&self.shared.streams).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.close_connections();
        // Wakes the thread that waits in accept.
        let _ = TcpStream::connect(self.address);
    }
}

#[derive(Default)]
struct Shared {
    upstream: Mutex<Option<SocketAddr>>,
    rule: Mutex<Option<Rule>>,
    streams: Mutex<Vec<TcpStream>>,
    accepted: AtomicUsize,
    stopped: AtomicBool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("accepted", &self.accepted)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn fate(&self, passing: Passing<'_>) -> Fate {
        // Cloned out, for a rule may take its time and must not hold up the other connections.
        let rule = lock(&self.rule).clone();
        rule.map_or(Fate::Pass, |rule| rule(passing))
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.stopped.load(Ordering::Relaxed) {
            return;
        }
        let Ok(client) = client else { continue };
        shared.accepted.fetch_add(1, Ordering::Relaxed);
        let upstream = *lock(&shared.upstream);
        // Without a broker behind, the client's connection is closed at once by its drop.
        let Some(broker) = upstream.and_then(|address| TcpStream::connect(address).ok()) else {
            continue;
        };
        let _ = serve(client, broker, shared);
    }
}

/// Starts the two threads of a connection.
fn serve(client: TcpStream, broker: TcpStream, shared: &Arc<Shared>) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    lock(&shared.streams).extend([client.try_clone()?, broker.try_clone()?]);
    // Which request each correlation id belongs to.
    let pending = Arc::new(Mutex::new(HashMap::new()));
    for direction in [Direction::Request, Direction::Reply] {
        let (mut from, mut to) = (client.try_clone()?, broker.try_clone()?);
        if direction == Direction::Reply {
            std::mem::swap(&mut from, &mut to);
        }
        let (shared, pending) = (Arc::clone(shared), Arc::clone(&pending));
        thread::spawn(move || {
            while pass_one(direction, &mut from, &mut to, &pending, &shared).is_ok() {}
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}

type Pending = Mutex<HashMap<[u8; 4], (i16, i16)>>;

fn pass_one(
    direction: Direction,
    from: &mut TcpStream,
    to: &mut TcpStream,
    pending: &Pending,
    shared: &Shared,
) -> std::io::Result<()> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    from.read_exact(&mut frame)?;
    let too_short = || std::io::Error::other("a frame too short to be Kafka's");
    let (api_key, api_version) = match direction {
        Direction::Request => {
            let &[k0, k1, v0, v1, c0, c1, c2, c3] =
                frame.first_chunk::<8>().ok_or_else(too_short)?;
            let request = (i16::from_be_bytes([k0, k1]), i16::from_be_bytes([v0, v1]));
            lock(pending).insert([c0, c1, c2, c3], request);
            request
        }
        Direction::Reply => {
            let correlation_id = frame.first_chunk::<4>().ok_or_else(too_short)?;
            lock(pending).remove(correlation_id).unwrap_or((-1, -1))
        }
    };
    let fate = shared.fate(Passing {
        direction,
        api_key,
        api_version,
        frame: &mut frame,
    });
    match fate {
        Fate::Pass => {}
        Fate::Delay(time) => thread::sleep(time),
        Fate::Lose => return Ok(()),
        Fate::Close => return Err(std::io::Error::other("closed by the rule")),
        Fate::Cut => {}
    }
    let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
    bytes.append(&mut frame);
    if fate == Fate::Cut {
        to.write_all(&bytes[..bytes.len() / 2])?;
        return Err(std::io::Error::other("cut by the rule"));
    }
    to.write_all(&bytes)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
