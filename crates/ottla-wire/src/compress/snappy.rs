//! Snappy blocks in the framing of the xerial library, which Java's clients write, and bare.

use super::codec::Compression;
use super::error::{CompressError, DecompressError};
use super::output::Output;

/// `82 'SNAPPY' 00`, version 1, compatible version 1.
const XERIAL_HEADER: [u8; 16] = [
    0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1,
];

/// What the xerial header starts with whatever its versions.
const XERIAL_MAGIC_LEN: usize = 8;

/// Plain bytes per block, as Java's stream writes them.
const BLOCK_LEN: usize = 32 * 1024;

#[derive(Default)]
pub(super) struct Encoder {
    context: Option<Box<snap::raw::Encoder>>,
}

impl Encoder {
    pub(super) fn compress(
        &mut self,
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CompressError> {
        let snappy = self
            .context
            .get_or_insert_with(|| Box::new(snap::raw::Encoder::new()));
        let block_max = 4 + snap::raw::max_compress_len(BLOCK_LEN);
        out.clear();
        out.extend_from_slice(&XERIAL_HEADER);
        for block in plain.chunks(BLOCK_LEN) {
            let start = out.len();
            out.resize(start + block_max, 0);
            let (len_field, body) = out[start..].split_at_mut(4);
            let len = snappy
                .compress(block, body)
                .map_err(|error| CompressError {
                    compression: Compression::Snappy,
                    len: plain.len(),
                    reason: error.to_string(),
                })?;
            // A block is at most 38 KiB compressed.
            len_field.copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
            out.truncate(start + 4 + len);
        }
        Ok(())
    }
}

pub(super) fn decompress(input: &[u8], out: &mut Output) -> Result<(), DecompressError> {
    if !input.starts_with(&XERIAL_HEADER[..XERIAL_MAGIC_LEN]) {
        return block(input, out);
    }
    let mut rest = input;
    while !rest.is_empty() {
        // Concatenated streams repeat the header; its first byte can start no block length, which
        // is positive.
        if rest.starts_with(&XERIAL_HEADER[..XERIAL_MAGIC_LEN]) {
            rest = rest
                .get(XERIAL_HEADER.len()..)
                .ok_or_else(|| out.corrupt("the xerial header is cut short"))?;
            continue;
        }
        let (len, after) = rest
            .split_first_chunk::<4>()
            .ok_or_else(|| out.corrupt("a xerial block length is cut short"))?;
        let len = u32::from_be_bytes(*len) as usize;
        let Some((body, next)) = after.split_at_checked(len) else {
            return Err(out.corrupt(format!(
                "a xerial block of {len} bytes where {} are left",
                after.len()
            )));
        };
        block(body, out)?;
        rest = next;
    }
    Ok(())
}

fn block(input: &[u8], out: &mut Output) -> Result<(), DecompressError> {
    let declared = snap::raw::decompress_len(input).map_err(|e| out.corrupt(e.to_string()))?;
    if input.is_empty() {
        return Err(out.corrupt("an empty snappy block"));
    }
    if declared > out.room() {
        return Err(out.over_budget());
    }
    // The densest snappy element makes 64 bytes of 3, so more than 22 for one is a lie, and
    // nothing is allocated for it.
    if declared > input.len().saturating_mul(22) {
        return Err(out.corrupt(format!(
            "a snappy block of {} bytes cannot hold the {declared} it declares",
            input.len()
        )));
    }
    let start = out.len();
    let (_, target) = out.grow(declared)?;
    let result = snap::raw::Decoder::new().decompress(input, target);
    match result {
        Ok(len) => {
            out.keep(start + len);
            Ok(())
        }
        Err(error) => Err(out.corrupt(error.to_string())),
    }
}
