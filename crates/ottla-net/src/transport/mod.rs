//! How bytes get to a broker and back.
//!
//! A [`Connector`] makes byte streams; the layers above speak Kafka on them and know no more. TCP is
//! [`TcpConnector`], an in-memory network for tests and simulation is [`memory`]. TLS is a connector
//! that wraps another's streams. Authentication is not the transport's: it is a Kafka conversation
//! ([`Authenticator`](crate::Authenticator)).

mod dial;
pub mod memory;
mod tcp;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::address::Address;

pub use tcp::{TcpConnector, TcpOptions};

/// A stream of bytes to a broker.
///
/// Vectored writes should be supported ([`AsyncWrite::is_write_vectored`]): a request is written as
/// a small header beside the buffers that hold its records.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes streams to brokers.
///
/// One connector serves all connections of a cluster, from several tasks at once.
pub trait Connector: fmt::Debug + Send + Sync + 'static {
    /// Connects to `address`, trying each address its name resolves to, `timeout` for each.
    ///
    /// Dropping the future gives the attempt up.
    ///
    /// # Errors
    /// The name does not resolve, or no address accepts in time; the error names the address.
    fn connect<'a>(
        &'a self,
        address: &'a Address,
        timeout: Duration,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;
}
