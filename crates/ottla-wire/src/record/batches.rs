//! A Fetch response's records, split into batches without copying.

use bytes::Bytes;

use super::batch::Batch;
use super::error::{BatchError, HeaderFault};
use super::header::{BatchHeader, HEADER_LEN, LOG_OVERHEAD, MAGIC_AT, i32_at};
use super::legacy;

/// Splits what a Fetch response brought for one partition into batches of magic 0, 1 or 2, which
/// may alternate.
///
/// The last batch is often cut off, because brokers fill a response up to its limit: that is no
/// error, and [`Self::partial_tail`] tells of it. After an error nothing further is found, for
/// where the next batch starts is then unknown.
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
    /// Where `rest` starts.
    position: usize,
    /// Whether the end was reached: by error, or at a tail that is no whole batch.
    ended: bool,
}

/// The start of a batch whose end is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialTail {
    /// Bytes there are.
    pub available: usize,
    /// Bytes the whole batch has, if its length field is among them.
    pub needed: Option<usize>,
    /// Whether no whole batch came before it: then asking again with the same limit brings the
    /// same bytes, and the limit must grow to `needed`. Brokers since 0.10.1 send the first batch
    /// whole, whatever the limit.
    pub is_first: bool,
}

impl Batches {
    /// Splits `records`, the field of that name in a Fetch response.
    #[must_use]
    pub fn new(records: Bytes) -> Self {
        Self {
            rest: records,
            position: 0,
            ended: false,
        }
    }

    /// The batch cut off at the end, once [`Iterator::next`] has returned `None`.
    #[must_use]
    pub fn partial_tail(&self) -> Option<PartialTail> {
        if !self.ended || self.rest.is_empty() {
            return None;
        }
        Some(PartialTail {
            available: self.rest.len(),
            needed: (self.rest.len() >= LOG_OVERHEAD)
                .then(|| LOG_OVERHEAD + i32_at(&self.rest, 8) as usize),
            is_first: self.position == 0,
        })
    }

    /// Bytes of the whole batches returned so far.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match first(&self.rest) {
            Ok(Some((header, len))) => {
                let bytes = self.rest.split_to(len);
                self.position += len;
                Some(Ok(Batch::new(header, bytes)))
            }
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(fault) => {
                self.ended = true;
                self.rest.clear();
                Some(Err(BatchError::Header {
                    position: self.position,
                    fault,
                }))
            }
        }
    }
}

/// The header of `bytes`, which are one batch of magic 2 and nothing else.
pub(super) fn header_of_one(bytes: &[u8]) -> Result<BatchHeader, HeaderFault> {
    match first(bytes)? {
        Some((header, len)) if header.magic == 2 && len == bytes.len() => Ok(header),
        Some((header, _)) if header.magic != 2 => Err(HeaderFault::Magic {
            magic: header.magic,
        }),
        _ => Err(HeaderFault::Length {
            length: i32::try_from(bytes.len()).unwrap_or(i32::MAX),
            min: HEADER_LEN as i32,
        }),
    }
}

/// The header of the batch that `bytes` start with, and its length in bytes; `None` when its end,
/// or anything needed to know where that is, is missing.
fn first(bytes: &[u8]) -> Result<Option<(BatchHeader, usize)>, HeaderFault> {
    if bytes.len() < LOG_OVERHEAD {
        return Ok(None);
    }
    let length = i32_at(bytes, 8);
    let magic = bytes.get(MAGIC_AT).map(|&magic| magic as i8);
    let min = match magic {
        // Until the magic is there, the smallest of the three.
        None | Some(0) => legacy::MIN_LENGTH_0,
        Some(1) => legacy::MIN_LENGTH_1,
        Some(2) => (HEADER_LEN - LOG_OVERHEAD) as i32,
        Some(magic) => return Err(HeaderFault::Magic { magic }),
    };
    if length < min {
        return Err(HeaderFault::Length { length, min });
    }
    // 31 bits and 12 fit a usize of 32.
    let len = LOG_OVERHEAD + length as usize;
    let Some(whole) = bytes.get(..len) else {
        return Ok(None);
    };
    let header = match whole.first_chunk::<HEADER_LEN>() {
        Some(head) if magic == Some(2) => BatchHeader::parse(head, len)?,
        _ => legacy::header(whole)?,
    };
    Ok(Some((header, len)))
}
