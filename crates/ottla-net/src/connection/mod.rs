//! One connection to one broker.
//!
//! | module | concept |
//! | --- | --- |
//! | [`core`] | requests, replies, deadlines, throttling: a plain state machine |
//! | [`frame_reader`] | bytes to frames |
//! | [`write_queue`] | frames to vectored writes |
//! | [`driver`] | the task that moves bytes between these and a stream |
//! | [`handshake`] | versions and authentication, before the first request |
//! | [`versions`] | what the broker can do |
//! | [`handle`] | [`Connection`] and [`Pending`], what the layers above hold |

mod core;
mod driver;
mod frame_reader;
mod handle;
mod handshake;
mod versions;
mod write_queue;

#[cfg(test)]
mod tests;

pub use handle::{Connection, ConnectionStats, Pending, Written};
pub use handshake::{Authenticator, Handshake, Session};
pub use versions::BrokerVersions;

pub(crate) use core::Limits;
pub(crate) use driver::{Driver, Setup};
