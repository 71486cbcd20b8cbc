//! Standard output: buffered, and quiet when nobody reads it any more.

use std::io::{self, Write as _};

use crate::exit::Failure;

/// Standard output for many records.
#[derive(Debug)]
pub(crate) struct Output {
    out: io::Stdout,
    buffer: Vec<u8>,
}

impl Output {
    pub(crate) fn new() -> Output {
        let out = io::stdout();
        Output {
            out,
            buffer: Vec::with_capacity(2 * BUFFER_BYTES),
        }
    }

    /// The bytes to be written next, to append to.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Writes out what has gathered, if it is much.
    pub(crate) fn spill(&mut self) -> Result<(), Failure> {
        if self.buffer.len() < BUFFER_BYTES {
            Ok(())
        } else {
            self.flush()
        }
    }

    /// Writes out what has gathered, if `now` or if it is much.
    pub(crate) fn flush_if(&mut self, now: bool) -> Result<(), Failure> {
        if now { self.flush() } else { self.spill() }
    }

    /// Writes out everything.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        let mut out = self.out.lock();
        let written = out.write_all(&self.buffer).and_then(|()| out.flush());
        self.buffer.clear();
        // One huge record should not be remembered in memory for ever.
        self.buffer.shrink_to(4 * BUFFER_BYTES);
        written.map_err(failure)
    }

    /// Whether whoever read it has closed it: known without writing, where the system tells.
    pub(crate) fn is_closed(&self) -> bool {
        #[cfg(unix)]
        {
            use rustix::event::{PollFd, PollFlags, Timespec, poll};
            let mut fds = [PollFd::new(&self.out, PollFlags::empty())];
            let now = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            poll(&mut fds, Some(&now)).is_ok_and(|n| n > 0)
                && fds[0].revents().intersects(PollFlags::ERR)
        }
        #[cfg(not(unix))]
        false
    }
}

/// Prints something short.
pub(crate) fn print(bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes.as_ref())
        .and_then(|()| out.flush())
        .map_err(failure)
}

/// Prints a JSON document and a line feed.
pub(crate) fn print_json(document: &serde_json::Value) -> Result<(), Failure> {
    print(format!("{document}\n"))
}

fn failure(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::nobody_listens(),
        _ => Failure::failed(format!("cannot write to standard output: {error}")),
    }
}

/// As much as is written at once.
const BUFFER_BYTES: usize = 64 * 1024;
