//! A batch that a broker found too large, cut into several.

use bytes::{Bytes, BytesMut};

use crate::compress::{Compressor, Decompressor};

use super::batch::Batch;
use super::batches::header_of_one;
use super::error::{AppendError, BatchError, SealError};
use super::header::HEADER_LEN;
use super::sealed::{SealOptions, SealedBatch};
use super::writer::BatchWriter;

/// A batch that cannot be split.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] BatchError),
    /// A part cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A record does not fit a batch, though it came from one.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Re-reads the records of a sealed batch and writes them, in order, into batches of at most
/// `max_len` bytes before compression, header included, and never all of several into one: who splits
/// what comes of it again gets to single records in the end. A record that is larger alone gets a batch of its
/// own: whether that one is too large is the broker's to say.
///
/// Offsets and timestamps stay relative to each part; the parts carry no producer identity until
/// they are stamped: the first with the batch's base sequence, each further one with
/// [`next_sequence`](super::next_sequence) of the one before it.
///
/// # Errors
/// [`SplitError`] when `batch` is not a batch that [`BatchWriter::seal`] made, or the codec fails.
pub fn split(
    batch: &Bytes,
    max_len: usize,
    options: &SealOptions,
    compressor: &mut Compressor,
    decompressor: &mut Decompressor,
) -> Result<Vec<SealedBatch>, SplitError> {
    let header = header_of_one(batch).map_err(|fault| BatchError::Header { position: 0, fault })?;
    // These bytes are our own, so there is no bomb to fear.
    let decoded = Batch::new(header, batch.clone()).decode(decompressor, usize::MAX)?;
    let max_len = max_len.min(HEADER_LEN + decoded.body_len() / 2);
    let mut parts = Vec::new();
    let mut writer = BatchWriter::new(BytesMut::with_capacity(max_len));
    for record in decoded.records() {
        let record = record?;
        if !writer.is_empty() && writer.len() + record.encoded_len_max() > max_len {
            let mut part = writer.seal(options, compressor)?;
            writer = BatchWriter::new(part.take_spare().unwrap_or_default());
            parts.push(part);
        }
        writer.append_ref(&record)?;
    }
    if !writer.is_empty() {
        parts.push(writer.seal(options, compressor)?);
    }
    Ok(parts)
}
