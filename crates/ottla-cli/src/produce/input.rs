//! Records from standard input and files: read in large chunks on a thread of their own, split at the
//! delimiter.
//!
//! Memory is bounded: a few chunks wait at a time, and a record longer than the limit is an error
//! that names its line rather than memory that grows.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use memchr::memmem;
use tokio::sync::mpsc;

/// Whole records in a row, of one source.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// The file's name, or `standard input`.
    pub(crate) source: Arc<str>,
    /// Which record of the source the first one is, from 1: its line, where lines are records.
    pub(crate) first: u64,
    /// The records with their delimiters; the last one's may be missing.
    pub(crate) bytes: Vec<u8>,
}

/// What to read, and how to split it.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    /// Empty: standard input.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) delimiter: Vec<u8>,
    /// Each file is one record.
    pub(crate) whole: bool,
    /// The longest record that is taken, in bytes.
    pub(crate) record_bytes_max: usize,
}

impl Input {
    /// Starts reading. The channel ends after the last chunk, or with why reading stopped.
    ///
    /// The thread may stay in a read of standard input for ever; it ends with the process.
    pub(crate) fn start(self) -> mpsc::Receiver<Result<Chunk, String>> {
        let (send, receive) = mpsc::channel(CHUNKS_WAITING_MAX);
        std::thread::spawn(move || {
            if let Err(error) = self.read_all(&send) {
                // Nobody left to tell, if this fails.
                let _ = send.blocking_send(Err(error));
            }
        });
        receive
    }

    fn read_all(&self, send: &mpsc::Sender<Result<Chunk, String>>) -> Result<(), String> {
        if self.files.is_empty() {
            return self.read(io::stdin().lock(), "standard input".into(), send);
        }
        for path in &self.files {
            if path.as_os_str() == "-" {
                self.read(io::stdin().lock(), "standard input".into(), send)?;
            } else {
                let file = File::open(path)
                    .map_err(|error| format!("cannot open {}: {error}", path.display()))?;
                self.read(file, path.display().to_string().into(), send)?;
            }
        }
        Ok(())
    }

    /// Reads one source to its end. `Ok` too when nobody takes chunks any more.
    fn read(
        &self,
        mut source: impl Read,
        name: Arc<str>,
        send: &mpsc::Sender<Result<Chunk, String>>,
    ) -> Result<(), String> {
        let mut first = 1;
        let mut rest: Vec<u8> = Vec::new();
        loop {
            let mut bytes = Vec::with_capacity(rest.len() + CHUNK_BYTES);
            bytes.append(&mut rest);
            let searched = bytes.len();
            let ended = fill(&mut source, &mut bytes)
                .map_err(|error| format!("cannot read {name}: {error}"))?;
            if !ended {
                if self.whole {
                    rest = std::mem::take(&mut bytes);
                } else {
                    // A delimiter may lie across the seam.
                    let from = searched.saturating_sub(self.delimiter.len() - 1);
                    let end = memmem::rfind(&bytes[from..], &self.delimiter)
                        .map_or(0, |at| from + at + self.delimiter.len());
                    rest = bytes.split_off(end);
                }
                if rest.len() > self.record_bytes_max {
                    let line = first + self.count(&bytes);
                    return Err(format!(
                        "{name}:{line}: a record of more than {} bytes, above max.request.size; raise it \
                         with -X max.request.size=N, and max.message.bytes of the topic with it",
                        self.record_bytes_max
                    ));
                }
            }
            if !bytes.is_empty() {
                let records = self.count(&bytes);
                let chunk = Chunk {
                    source: name.clone(),
                    first,
                    bytes,
                };
                first += records;
                if send.blocking_send(Ok(chunk)).is_err() {
                    return Ok(());
                }
            }
            if ended {
                return Ok(());
            }
        }
    }

    fn count(&self, bytes: &[u8]) -> u64 {
        self.records(bytes).count() as u64
    }

    /// The records of a chunk, without their delimiters.
    pub(crate) fn records<'a>(&'a self, bytes: &'a [u8]) -> Records<'a> {
        Records {
            rest: bytes,
            delimiter: if self.whole { &[] } else { &self.delimiter },
        }
    }
}

/// Reads until a chunk is full, there is nothing more for the moment, or the end: then `true`.
///
/// What a terminal or a pipe has is passed on at once, even if it is little.
fn fill(source: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let start = bytes.len();
    bytes.resize(start + CHUNK_BYTES, 0);
    loop {
        match source.read(&mut bytes[start..]) {
            Ok(n) => {
                bytes.truncate(start + n);
                return Ok(n == 0);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Iterates over the records of a chunk.
#[derive(Clone, Debug)]
pub(crate) struct Records<'a> {
    rest: &'a [u8],
    /// Empty: all of it is one record.
    delimiter: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let found = match self.delimiter {
            [] => None,
            [byte] => memchr::memchr(*byte, self.rest),
            several => memmem::find(self.rest, several),
        };
        let record = match found {
            Some(at) => {
                let record = &self.rest[..at];
                self.rest = &self.rest[at + self.delimiter.len()..];
                record
            }
            None => std::mem::take(&mut self.rest),
        };
        Some(record)
    }
}

const CHUNK_BYTES: usize = 256 * 1024;
const CHUNKS_WAITING_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn input(delimiter: &[u8]) -> Input {
        Input {
            files: vec![],
            delimiter: delimiter.into(),
            whole: false,
            record_bytes_max: 1 << 20,
        }
    }

    /// Hands out a few bytes at a time, so that every seam is met.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(self.0.len()).min(buffer.len());
            buffer[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn read(input: &Input, text: &[u8], step: usize) -> Result<Vec<(u64, Vec<u8>)>, String> {
        let (send, mut receive) = mpsc::channel(10_000);
        input.read(Trickle(text, step), "test".into(), &send)?;
        drop(send);
        let mut records = Vec::new();
        while let Some(chunk) = receive.blocking_recv() {
            let chunk = chunk?;
            let numbered = input.records(&chunk.bytes).enumerate();
            records.extend(numbered.map(|(i, r)| (chunk.first + i as u64, r.to_vec())));
        }
        Ok(records)
    }

    #[test]
    fn records_are_the_same_however_they_arrive() {
        let text = b"one\n\ntwo\xff\0\nthree";
        let expected: Vec<(u64, Vec<u8>)> = [&b"one"[..], b"", b"two\xff\0", b"three"]
            .iter()
            .zip(1..)
            .map(|(r, n)| (n, r.to_vec()))
            .collect();
        for step in 1..=text.len() {
            assert_eq!(
                read(&input(b"\n"), text, step).unwrap(),
                expected,
                "{step} at a time"
            );
        }
        assert!(read(&input(b"\n"), b"", 1).unwrap().is_empty());
        assert_eq!(read(&input(b"\n"), b"\n", 1).unwrap(), [(1, vec![])]);
    }

    #[test]
    fn delimiters_of_several_bytes_are_found_across_seams() {
        let text = b"a-b--c---";
        let expected: Vec<Vec<u8>> = vec![b"a-b".to_vec(), b"c".to_vec(), b"-".to_vec()];
        for step in 1..=text.len() {
            let records = read(&input(b"--"), text, step).unwrap();
            let values: Vec<_> = records.into_iter().map(|(_, v)| v).collect();
            assert_eq!(values, expected, "{step} at a time");
        }
    }

    #[test]
    fn a_whole_file_is_one_record() {
        let whole = Input {
            whole: true,
            ..input(b"\n")
        };
        assert_eq!(
            read(&whole, b"a\nb\n", 1).unwrap(),
            [(1, b"a\nb\n".to_vec())]
        );
        assert!(read(&whole, b"", 1).unwrap().is_empty());
    }

    #[test]
    fn a_record_without_end_is_an_error_with_its_line() {
        let small = Input {
            record_bytes_max: 10,
            ..input(b"\n")
        };
        let error = read(&small, b"short\nand then something long\n", 4).unwrap_err();
        assert!(
            error.starts_with("test:2: a record of more than 10 bytes"),
            "{error}"
        );
    }
}
