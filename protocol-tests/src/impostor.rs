//! What listens on a port that someone took for Kafka's.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use crate::Error;

/// A server that is no Kafka broker. It stops listening when dropped.
#[derive(Debug)]
pub struct Impostor {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
}

/// How an impostor treats the first bytes it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Manner {
    /// An HTTP server: calls it a bad request and closes.
    Http,
    /// A TLS server: sends a fatal alert and closes.
    Tls,
    /// Takes everything and never answers.
    Silent,
    /// Closes.
    Closing,
    /// Closes as soon as it has accepted.
    Refusing,
    /// Answers with a frame that claims to be 2 GiB long.
    Huge,
    /// Answers with random bytes, in frames of a plausible length.
    Noise,
}

impl Impostor {
    /// Listens on a free port of the loopback address.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub fn start(manner: Manner) -> Result<Self, Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .map_err(|e| Error::io("binding an impostor", &e))?;
        let address = listener
            .local_addr()
            .map_err(|e| Error::io("binding an impostor", &e))?;
        let stopped = Arc::new(AtomicBool::new(false));
        let accepted = Arc::new(AtomicUsize::new(0));
        let (stop, count) = (Arc::clone(&stopped), Arc::clone(&accepted));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                count.fetch_add(1, Ordering::Relaxed);
                if let Ok(stream) = stream
                    && manner != Manner::Refusing
                {
                    thread::spawn(move || answer(stream, manner));
                }
            }
        });
        Ok(Self {
            address,
            stopped,
            accepted,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it accepted so far.
    pub fn connections(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that waits in accept.
        let _ = TcpStream::connect(self.address);
    }
}

fn answer(mut stream: TcpStream, manner: Manner) {
    let mut seen = [0; 512];
    let read = stream.read(&mut seen).unwrap_or(0);
    let correlation_id = *seen[..read]
        .get(8..12)
        .unwrap_or_default()
        .first_chunk()
        .unwrap_or(&[0; 4]);
    let answer: Vec<u8> = match manner {
        Manner::Http => {
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec()
        }
        // An alert record of TLS 1.2: fatal, unexpected message.
        Manner::Tls => vec![0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x0a],
        Manner::Huge => {
            let mut frame = i32::MAX.to_be_bytes().to_vec();
            frame.extend(correlation_id);
            frame
        }
        Manner::Noise => {
            let mut frame = 64_u32.to_be_bytes().to_vec();
            frame.extend(correlation_id);
            frame.extend((0..60).map(|_| fastrand::u8(..)));
            frame
        }
        Manner::Silent | Manner::Closing | Manner::Refusing => Vec::new(),
    };
    let _ = stream.write_all(&answer);
    if matches!(manner, Manner::Silent | Manner::Huge | Manner::Noise) {
        while stream.read(&mut seen).is_ok_and(|read| read > 0) {}
    }
}
