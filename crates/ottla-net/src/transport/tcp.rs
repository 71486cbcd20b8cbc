//! TCP.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};

use crate::address::Address;
use crate::config::{AddressFamily, ClusterConfig};
use crate::transport::dial::dial;
use crate::transport::{BoxFuture, Connector, Stream};

/// Connects over TCP, resolving names with the system's resolver at every attempt.
#[derive(Debug, Clone, Default)]
pub struct TcpConnector {
    options: TcpOptions,
}

impl TcpConnector {
    /// A connector with these socket options.
    pub fn new(options: TcpOptions) -> Self {
        Self { options }
    }

    async fn open(&self, address: &Address, timeout: Duration) -> io::Result<TcpStream> {
        let resolved: Vec<SocketAddr> = tokio::time::timeout(
            timeout,
            tokio::net::lookup_host((address.host(), address.port())),
        )
        .await
        .map_err(|_| {
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the name {:?} was not resolved in time", address.host()),
            )
        })?
        .map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("the name {:?} does not resolve: {error}", address.host()),
            )
        })?
        .filter(|resolved| match self.options.family {
            AddressFamily::Any => true,
            AddressFamily::V4 => resolved.is_ipv4(),
            AddressFamily::V6 => resolved.is_ipv6(),
        })
        .collect();
        if resolved.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!(
                    "the name {:?} has no address of the family that broker.address.family asks for",
                    address.host()
                ),
            ));
        }
        dial(resolved, timeout, |address| self.open_one(address)).await
    }

    async fn open_one(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        // Buffer sizes count from the first packet: they decide the window that is offered.
        if let Some(bytes) = self.options.send_buffer_bytes {
            socket.set_send_buffer_size(clamp_u32(bytes))?;
        }
        if let Some(bytes) = self.options.receive_buffer_bytes {
            socket.set_recv_buffer_size(clamp_u32(bytes))?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(self.options.nodelay)?;
        if let Some(idle) = self.options.keepalive {
            let keepalive = TcpKeepalive::new().with_time(idle);
            #[cfg(not(any(target_os = "openbsd", target_os = "haiku")))]
            let keepalive = keepalive.with_interval(KEEPALIVE_INTERVAL);
            SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        }
        Ok(stream)
    }
}

impl Connector for TcpConnector {
    fn connect<'a>(
        &'a self,
        address: &'a Address,
        timeout: Duration,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = self.open(address, timeout).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// Options of each TCP socket. See the fields of the same names of [`ClusterConfig`].
#[derive(Debug, Clone)]
pub struct TcpOptions {
    /// `socket.nagle.disable`.
    pub nodelay: bool,
    /// The time a silent connection waits before it is probed; `None`: never probed.
    pub keepalive: Option<Duration>,
    /// `send.buffer.bytes`; `None` leaves it to the system.
    pub send_buffer_bytes: Option<usize>,
    /// `receive.buffer.bytes`; `None` leaves it to the system.
    pub receive_buffer_bytes: Option<usize>,
    /// `broker.address.family`.
    pub family: AddressFamily,
}

impl From<&ClusterConfig> for TcpOptions {
    fn from(config: &ClusterConfig) -> Self {
        Self {
            nodelay: config.tcp_nodelay,
            keepalive: config.tcp_keepalive,
            send_buffer_bytes: config.send_buffer_bytes,
            receive_buffer_bytes: config.receive_buffer_bytes,
            family: config.address_family,
        }
    }
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self::from(&ClusterConfig::default())
    }
}

/// Between two probes of a silent connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

fn clamp_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn connects_with_every_option_set() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::new("127.0.0.1", listener.local_addr().unwrap().port());
        let connector = TcpConnector::new(TcpOptions {
            send_buffer_bytes: Some(128 << 10),
            receive_buffer_bytes: Some(64 << 10),
            ..TcpOptions::default()
        });

        let stream = connector.open(&address, PATIENCE).await.unwrap();
        assert!(stream.nodelay().unwrap());
        assert!(SockRef::from(&stream).keepalive().unwrap());
        assert!(SockRef::from(&stream).recv_buffer_size().unwrap() >= 64 << 10);
        drop(stream);

        let mut stream = connector.connect(&address, PATIENCE).await.unwrap();
        listener.accept().await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        let mut read = [0; 4];
        peer.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"ping");
    }

    #[tokio::test]
    async fn a_closed_port_is_named_in_the_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let error = TcpConnector::default()
            .open(&Address::new("127.0.0.1", port), PATIENCE)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(
            error.to_string().contains(&format!("127.0.0.1:{port}")),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_family_that_the_name_lacks_is_an_error() {
        let connector = TcpConnector::new(TcpOptions {
            family: AddressFamily::V6,
            ..TcpOptions::default()
        });
        let error = connector
            .open(&Address::new("127.0.0.1", 9), PATIENCE)
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("broker.address.family"),
            "{error}"
        );
    }
}
