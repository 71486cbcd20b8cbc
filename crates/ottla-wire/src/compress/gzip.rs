//! Gzip members (RFC 1952) around deflate.

use flate2::{Compress, Crc, Decompress, FlushCompress, FlushDecompress, Status};

use super::codec::Compression;
use super::error::{CompressError, DecompressError};
use super::output::Output;

/// Log2 of the largest deflate window, 32 KiB.
const WINDOW_BITS: u8 = 15;

#[derive(Default)]
pub(super) struct Encoder {
    /// The context and the level it was built for.
    context: Option<(i32, Compress)>,
}

impl Encoder {
    pub(super) fn compress(
        &mut self,
        level: i32,
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CompressError> {
        let deflate = match &mut self.context {
            Some((built_for, deflate)) if *built_for == level => {
                deflate.reset();
                deflate
            }
            _ => {
                let wanted = flate2::Compression::new(u32::try_from(level).unwrap_or(6));
                let fresh = Compress::new_gzip(wanted, WINDOW_BITS);
                &mut self.context.insert((level, fresh)).1
            }
        };
        let refused = |reason: &str| CompressError {
            compression: Compression::Gzip,
            len: plain.len(),
            reason: reason.to_owned(),
        };
        out.clear();
        // Most batches shrink to a third or less; the loop below grows for those that do not.
        out.reserve(plain.len() / 2 + 64);
        loop {
            let consumed = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
            let rest = plain.get(consumed..).unwrap_or_default();
            match deflate.compress_vec(rest, out, FlushCompress::Finish) {
                Ok(Status::StreamEnd) => return Ok(()),
                Ok(Status::Ok | Status::BufError) => out.reserve(rest.len() / 2 + 4096),
                Err(error) => return Err(refused(&error.to_string())),
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Decoder {
    context: Option<Decompress>,
}

impl Decoder {
    pub(super) fn decompress(
        &mut self,
        input: &[u8],
        out: &mut Output,
    ) -> Result<(), DecompressError> {
        let mut rest = input;
        loop {
            let body = member_body(rest, out)?;
            rest = self.member(body, out)?;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Inflates one member and checks its trailer; returns what follows it.
    fn member<'a>(
        &mut self,
        body: &'a [u8],
        out: &mut Output,
    ) -> Result<&'a [u8], DecompressError> {
        let inflate = self.context.get_or_insert_with(|| Decompress::new(false));
        inflate.reset(false);
        let start = out.len();
        let mut rest = body;
        loop {
            let (in_before, out_before) = (inflate.total_in(), inflate.total_out());
            let has_room = out.room() > 0;
            let status = if has_room {
                // Deflate seldom makes more than four bytes of one; `append_with` doubles after that.
                let guess = rest.len().saturating_mul(4).max(512);
                out.append_with(guess, |bytes| {
                    inflate.decompress_vec(rest, bytes, FlushDecompress::None)
                })?
            } else {
                // The member may end exactly at the budget, with nothing left to write.
                inflate.decompress(rest, &mut [], FlushDecompress::None)
            };
            let consumed = inflate.total_in() - in_before;
            let progressed = consumed > 0 || inflate.total_out() > out_before;
            // Never more than was offered.
            rest = &rest[usize::try_from(consumed).map_or(rest.len(), |n| n.min(rest.len()))..];
            match status {
                Ok(Status::StreamEnd) => break,
                Ok(_) if progressed => {}
                Ok(_) if has_room => return Err(out.corrupt("the deflate stream is cut short")),
                Ok(_) => return Err(out.over_budget()),
                Err(error) => return Err(out.corrupt(error.to_string())),
            }
        }
        let Some((trailer, next)) = rest.split_first_chunk::<8>() else {
            return Err(out.corrupt("the gzip trailer is cut short"));
        };
        let produced = &out.produced()[start..];
        let mut crc = Crc::new();
        crc.update(produced);
        let [c0, c1, c2, c3, l0, l1, l2, l3] = *trailer;
        if u32::from_le_bytes([c0, c1, c2, c3]) != crc.sum()
            || u32::from_le_bytes([l0, l1, l2, l3]) != crc.amount()
        {
            return Err(out.corrupt("the gzip trailer does not match the data"));
        }
        Ok(next)
    }
}

/// Skips a member's header: magic, method, flags, time, and the optional fields that flags name.
fn member_body<'a>(input: &'a [u8], out: &Output) -> Result<&'a [u8], DecompressError> {
    const HEADER_CRC: u8 = 0x02;
    const EXTRA: u8 = 0x04;
    const NAME: u8 = 0x08;
    const COMMENT: u8 = 0x10;

    let short = || out.corrupt("the gzip header is cut short");
    let (header, mut rest) = input.split_first_chunk::<10>().ok_or_else(short)?;
    let [0x1f, 0x8b, 8, flags, ..] = *header else {
        return Err(out.corrupt("not a gzip header"));
    };
    if flags & 0xe0 != 0 {
        return Err(out.corrupt("the gzip header sets reserved flags"));
    }
    if flags & EXTRA != 0 {
        let (len, after) = rest.split_first_chunk::<2>().ok_or_else(short)?;
        rest = after
            .get(usize::from(u16::from_le_bytes(*len))..)
            .ok_or_else(short)?;
    }
    for field in [NAME, COMMENT] {
        if flags & field != 0 {
            let end = rest.iter().position(|&b| b == 0).ok_or_else(short)?;
            rest = &rest[end + 1..];
        }
    }
    if flags & HEADER_CRC != 0 {
        rest = rest.get(2..).ok_or_else(short)?;
    }
    Ok(rest)
}
