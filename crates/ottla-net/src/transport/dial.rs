//! Tries the addresses of a name, one after the other, without waiting for a silent one.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use crate::race::first_success;

/// Connects to the first of `addresses` that accepts.
///
/// The next address is tried as soon as one fails, or when it has been silent for [`HEAD_START`];
/// each attempt has `patience` to itself. A broker with an IPv6 address that leads nowhere so costs a
/// moment, not the whole timeout (the idea of RFC 8305).
///
/// # Errors
/// The failure of the address that failed last, with the address in front.
pub(super) async fn dial<T, F, Fut>(
    addresses: Vec<SocketAddr>,
    patience: Duration,
    connect: F,
) -> io::Result<T>
where
    F: Fn(SocketAddr) -> Fut,
    Fut: Future<Output = io::Result<T>>,
{
    let attempt = |address: SocketAddr| {
        let connecting = connect(address);
        async move {
            match timeout(patience, connecting).await {
                Ok(Ok(stream)) => Ok(stream),
                Ok(Err(error)) => Err(io::Error::new(
                    error.kind(),
                    format!("{address}: {}", Reason(&error)),
                )),
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("{address}: no answer within {} ms", patience.as_millis()),
                )),
            }
        }
    };

    let attempts = interleave_families(addresses).into_iter().map(attempt);
    first_success(attempts, HEAD_START)
        .await
        .map_err(|mut failures| {
            failures.pop().unwrap_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, "the name has no address")
            })
        })
}

/// How long an address may be silent before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);

/// The system's order, but with the families taking turns, so that a network without one of them is
/// found out at the second attempt.
fn interleave_families(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let count = addresses.len();
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut mixed = Vec::with_capacity(count);
    while mixed.len() < count {
        mixed.extend(first.next());
        mixed.extend(second.next());
    }
    mixed
}

/// An I/O error without the "(os error N)" that says the same again.
struct Reason<'a>(&'a io::Error);

impl std::fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.raw_os_error() {
            Some(_) => {
                let text = self.0.to_string();
                let end = text.find(" (os error").unwrap_or(text.len());
                f.write_str(&text[..end])
            }
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    use tokio::time::Instant;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn v4(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 9092))
    }

    fn v6(last: u16) -> SocketAddr {
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 9092))
    }

    #[test]
    fn families_take_turns() {
        let mixed = interleave_families(vec![v6(1), v6(2), v6(3), v4(1)]);
        assert_eq!(mixed, [v6(1), v4(1), v6(2), v6(3)]);
        assert!(interleave_families(Vec::new()).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_leads_straight_to_the_next_address() {
        let start = Instant::now();
        let found = dial(vec![v4(1), v4(2), v4(3)], PATIENCE, |address| async move {
            if address == v4(3) {
                Ok(address)
            } else {
                Err(io::ErrorKind::ConnectionRefused.into())
            }
        })
        .await
        .unwrap();
        assert_eq!(found, v4(3));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_does_not_hold_up_the_next() {
        let start = Instant::now();
        let found = dial(vec![v6(1), v4(1)], PATIENCE, |address| async move {
            if address.is_ipv6() {
                std::future::pending::<()>().await;
            }
            Ok(address)
        })
        .await
        .unwrap();
        assert_eq!(found, v4(1));
        assert!(start.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_address_still_wins_when_the_others_refuse() {
        let found = dial(vec![v4(1), v4(2)], PATIENCE, |address| async move {
            if address == v4(2) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok(address)
        })
        .await
        .unwrap();
        assert_eq!(found, v4(1));
    }

    #[tokio::test(start_paused = true)]
    async fn every_address_is_tried_before_the_error() {
        let tried = Mutex::new(Vec::new());
        let start = Instant::now();
        let error = dial(vec![v4(1), v4(2)], PATIENCE, |address| {
            tried.lock().unwrap().push(address);
            std::future::pending::<io::Result<()>>()
        })
        .await
        .unwrap_err();
        assert_eq!(*tried.lock().unwrap(), [v4(1), v4(2)]);
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("192.0.2.2:9092"), "{error}");
        assert!(start.elapsed() < PATIENCE + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn no_address_is_an_error() {
        let error = dial(Vec::new(), PATIENCE, |_| async { Ok(()) })
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
