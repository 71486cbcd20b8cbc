//! A broker that costs almost nothing: it acknowledges every batch at once, stores nothing, and
//! serves the same pre-built batches over and over with growing offsets. So the client is what limits.
//!
//! One blocking thread per connection. Of a produced batch it reads the header and lets the kernel
//! throw the rest away uncopied; a fetched batch goes out of one shared buffer with only its base
//! offset rewritten, which a batch's checksum does not cover. Any topic exists, with
//! [`PARTITIONS`] partitions, all on this broker. It serves topics by
//! name and gives no fetch sessions (session id 0), as Kafka 2.1 to 2.7 would, which every contestant
//! speaks; it advertises nothing about groups and transactions.

mod answer;
mod inbound;
mod outbound;
mod served;

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::thread;

pub use served::Served;

use crate::workload::PARTITIONS;
use inbound::Inbound;
use outbound::Outbound;

/// A sink, listening.
#[derive(Debug)]
pub struct Sink {
    listener: TcpListener,
    state: Arc<State>,
}

/// What the connections share.
#[derive(Debug)]
struct State {
    port: u16,
    served: Served,
    counts: Counts,
    /// Next offset of each partition, whatever the topic.
    offsets: [AtomicI64; PARTITIONS],
}

/// What went through since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Produce requests answered.
    pub produce_requests: AtomicU64,
    /// Batches in them.
    pub produce_batches: AtomicU64,
    /// Records in the batches, by their headers.
    pub produce_records: AtomicU64,
    /// Bytes of the batches.
    pub produce_bytes: AtomicU64,
    /// Fetch requests answered.
    pub fetch_requests: AtomicU64,
    /// Bytes of batches served.
    pub fetch_bytes: AtomicU64,
}

impl Counts {
    /// The counts as a JSON object.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "produce_requests": self.produce_requests.load(Relaxed),
            "produce_batches": self.produce_batches.load(Relaxed),
            "produce_records": self.produce_records.load(Relaxed),
            "produce_bytes": self.produce_bytes.load(Relaxed),
            "fetch_requests": self.fetch_requests.load(Relaxed),
            "fetch_bytes": self.fetch_bytes.load(Relaxed),
        })
    }
}

impl Sink {
    /// Listens on a free port of 127.0.0.1; fetches are answered from `served`.
    pub fn bind(served: Served) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let state = State {
            port: listener.local_addr()?.port(),
            served,
            counts: Counts::default(),
            offsets: Default::default(),
        };
        Ok(Self {
            listener,
            state: Arc::new(state),
        })
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.state.port
    }

    /// Serves connections for ever on threads of their own.
    pub fn start(self) -> Running {
        let state = Arc::clone(&self.state);
        thread::spawn(move || {
            for stream in self.listener.incoming().flatten() {
                let state = Arc::clone(&self.state);
                thread::spawn(move || {
                    // A contestant that is done just hangs up.
                    if let Err(error) = serve(stream, &state)
                        && !matches!(
                            error.kind(),
                            io::ErrorKind::UnexpectedEof
                                | io::ErrorKind::ConnectionReset
                                | io::ErrorKind::BrokenPipe
                        )
                    {
                        let _ = writeln!(io::stderr(), "sink: connection closed: {error}");
                    }
                });
            }
        });
        Running { state }
    }
}

/// A sink at work.
#[derive(Debug)]
pub struct Running {
    state: Arc<State>,
}

impl Running {
    /// What went through so far.
    pub fn counts(&self) -> &Counts {
        &self.state.counts
    }
}

fn serve(stream: TcpStream, state: &State) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut inbound = Inbound::new(&stream);
    let mut outbound = Outbound::default();
    loop {
        inbound.next_frame()?;
        if answer::answer(&mut inbound, &mut outbound, state)? {
            outbound.send(&stream, &state.served)?;
        }
    }
}
