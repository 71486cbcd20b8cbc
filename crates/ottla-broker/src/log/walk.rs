//! Reading a segment file from front to back without believing it.
//!
//! Holds one buffer of fixed size, however large a batch claims to be.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use super::header::{BatchHeader, CRC_COVERS_FROM, HEADER_LEN};

/// The batches of a file, one after the other.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    input: BufReader<&'a File>,
    left: u64,
}

/// Why a walk ends before its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// A batch begins, and the file ends before it does.
    Torn,
    /// What stands there is no batch, or not as it was written.
    Corrupt(&'static str),
}

impl<'a> Walk<'a> {
    /// Starts at the beginning of `file`.
    pub(super) fn new(mut file: &'a File) -> io::Result<Self> {
        let left = file.metadata()?.len();
        file.seek(SeekFrom::Start(0))?;
        let capacity = BUFFER_LEN.min(usize::try_from(left).unwrap_or(BUFFER_LEN));
        Ok(Self {
            input: BufReader::with_capacity(capacity, file),
            left,
        })
    }

    /// The next batch's header, once the whole batch has been read and its checksum is right; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Result<Option<BatchHeader>, Flaw>> {
        if self.left == 0 {
            return Ok(Ok(None));
        }
        if self.left < HEADER_LEN as u64 {
            return Ok(Err(Flaw::Torn));
        }
        let mut bytes = [0; HEADER_LEN];
        self.input.read_exact(&mut bytes)?;
        let Some(header) = BatchHeader::parse(&bytes) else {
            return Ok(Err(Flaw::Corrupt("no record batch begins here")));
        };
        if header.total_len() as u64 > self.left {
            return Ok(Err(Flaw::Torn));
        }
        let mut crc = crc32c::crc32c(&bytes[CRC_COVERS_FROM..]);
        let mut rest = header.total_len() - HEADER_LEN;
        while rest > 0 {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let step = rest.min(buffer.len());
            crc = crc32c::crc32c_append(crc, &buffer[..step]);
            self.input.consume(step);
            rest -= step;
        }
        if crc != header.crc {
            return Ok(Err(Flaw::Corrupt("the batch's checksum is wrong")));
        }
        self.left -= header.total_len() as u64;
        Ok(Ok(Some(header)))
    }
}

/// Whether a sound batch stands anywhere in `file` from `position` on: then what is there is not a single write
/// that was cut short. Taken for granted of a tail that is longer than any write.
pub(super) fn holds_a_batch(mut file: &File, position: u64) -> io::Result<bool> {
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(position))?;
    file.take(TAIL_MAX + 1).read_to_end(&mut tail)?;
    if tail.len() as u64 > TAIL_MAX {
        return Ok(true);
    }
    let sound = |at: usize| {
        let bytes = &tail[at..];
        BatchHeader::parse(bytes)
            .and_then(|header| Some((header, bytes.get(CRC_COVERS_FROM..header.total_len())?)))
            .map(|(header, covered)| header.crc == crc32c::crc32c(covered))
    };
    // What looks like a batch is looked at a bounded number of times, whatever clients put into their records.
    Ok((1..tail.len())
        .filter_map(sound)
        .take(LOOKS_MAX)
        .any(|sound| sound))
}

const BUFFER_LEN: usize = 1 << 20;
const TAIL_MAX: u64 = 16 << 20;
const LOOKS_MAX: usize = 64;
