//! A network in memory, for tests and simulation.
//!
//! Deterministic under a paused clock on a current-thread runtime: no socket, no thread, no timer of
//! its own. Faults (delays, cuts, lost bytes) are for the caller to put around the streams.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use crate::address::Address;
use crate::transport::{BoxFuture, Connector, Stream};

/// A set of listeners that connectors of the same network reach by address. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MemoryNetwork {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    stream_bytes: usize,
    hosts: Mutex<HashMap<Address, Host>>,
}

#[derive(Debug)]
enum Host {
    Listening(mpsc::UnboundedSender<DuplexStream>),
    Silent,
}

impl MemoryNetwork {
    /// A network whose streams hold 64 KiB each way before a writer must wait.
    pub fn new() -> Self {
        Self::with_stream_bytes(64 << 10)
    }

    /// A network whose streams hold `stream_bytes` each way (at least 1): with few, every write and
    /// read is partial.
    pub fn with_stream_bytes(stream_bytes: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                stream_bytes: stream_bytes.max(1),
                hosts: Mutex::default(),
            }),
        }
    }

    /// Listens at `address`, in place of whoever listened there before. Dropping the listener
    /// closes the address again.
    pub fn listen(&self, address: Address) -> MemoryListener {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.inner
            .hosts
            .lock()
            .insert(address.clone(), Host::Listening(sender));
        MemoryListener { address, receiver }
    }

    /// Makes `address` swallow connection attempts without an answer, as a host that is off does.
    pub fn silence(&self, address: Address) {
        self.inner.hosts.lock().insert(address, Host::Silent);
    }

    /// A connector into this network.
    pub fn connector(&self) -> Arc<dyn Connector> {
        Arc::new(self.clone())
    }
}

impl Default for MemoryNetwork {
    fn default() -> Self {
        Self::new()
    }
}

impl Connector for MemoryNetwork {
    fn connect<'a>(
        &'a self,
        address: &'a Address,
        timeout: Duration,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let silent = {
                let hosts = self.inner.hosts.lock();
                match hosts.get(address) {
                    Some(Host::Listening(listener)) => {
                        let (ours, theirs) = tokio::io::duplex(self.inner.stream_bytes);
                        if listener.send(theirs).is_ok() {
                            return Ok(Box::new(ours) as Box<dyn Stream>);
                        }
                        false
                    }
                    Some(Host::Silent) => true,
                    None => false,
                }
            };
            if silent {
                tokio::time::sleep(timeout).await;
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("{address}: no answer within {} ms", timeout.as_millis()),
                ));
            }
            Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                format!("{address}: connection refused"),
            ))
        })
    }
}

/// Accepts the streams that connectors open to one address of a [`MemoryNetwork`].
#[derive(Debug)]
pub struct MemoryListener {
    address: Address,
    receiver: mpsc::UnboundedReceiver<DuplexStream>,
}

impl MemoryListener {
    /// Where this listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The next stream. Cancel-safe: a stream not returned stays for the next call.
    pub async fn accept(&mut self) -> DuplexStream {
        match self.receiver.recv().await {
            Some(stream) => stream,
            // Another listener took the address over: nobody connects here any more.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn carries_bytes_between_connector_and_listener() {
        let network = MemoryNetwork::with_stream_bytes(3);
        let mut listener = network.listen(Address::new("a", 1));
        let mut ours = network
            .connector()
            .connect(&Address::new("a", 1), PATIENCE)
            .await
            .unwrap();
        let mut theirs = listener.accept().await;
        let write = async {
            ours.write_all(b"hello").await.unwrap();
            drop(ours);
        };
        let mut read = Vec::new();
        let (_, count) = tokio::join!(write, theirs.read_to_end(&mut read));
        assert_eq!((count.unwrap(), read.as_slice()), (5, b"hello".as_slice()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_refuses_unless_somebody_listens() {
        let network = MemoryNetwork::new();
        let address = Address::new("a", 1);
        let refused = |result: io::Result<Box<dyn Stream>>| {
            result.err().map(|error| error.kind()) == Some(io::ErrorKind::ConnectionRefused)
        };
        assert!(refused(network.connect(&address, PATIENCE).await));
        let listener = network.listen(address.clone());
        assert!(network.connect(&address, PATIENCE).await.is_ok());
        drop(listener);
        assert!(refused(network.connect(&address, PATIENCE).await));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_host_costs_the_whole_timeout() {
        let network = MemoryNetwork::new();
        network.silence(Address::new("a", 1));
        let start = tokio::time::Instant::now();
        let error = network
            .connect(&Address::new("a", 1), PATIENCE)
            .await
            .err()
            .unwrap();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), PATIENCE);
    }
}
