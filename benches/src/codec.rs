//! Compression for the floor and for the sink's batches: the C-free codecs of today, with contexts
//! and buffers reused, in the framing Kafka expects.

use std::io::{self, Read, Write};
use std::str::FromStr;

use flate2::{Compression as GzipLevel, bufread::GzDecoder, write::GzEncoder};
use lz4_flex::block::CompressTable;
use structured_zstd::decoding::FrameDecoder;
use structured_zstd::encoding::{CompressionLevel, FrameCompressor};

/// A codec, numbered as in a batch's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// Plain records.
    None = 0,
    /// gzip at level 6, zlib's default.
    Gzip = 1,
    /// Snappy in the blocks of snappy-java.
    Snappy = 2,
    /// LZ4 frames of independent 64 KiB blocks.
    Lz4 = 3,
    /// Zstandard at its default level, 3.
    Zstd = 4,
}

impl FromStr for Codec {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "none" => Ok(Self::None),
            "gzip" => Ok(Self::Gzip),
            "snappy" => Ok(Self::Snappy),
            "lz4" => Ok(Self::Lz4),
            "zstd" => Ok(Self::Zstd),
            _ => Err(format!(
                "unknown codec {name:?}: none, gzip, snappy, lz4 or zstd"
            )),
        }
    }
}

/// Everything the codecs need from call to call.
pub struct Contexts {
    lz4: CompressTable,
    snappy: snap::raw::Encoder,
    snappy_in: snap::raw::Decoder,
    zstd: FrameCompressor,
    zstd_in: FrameDecoder,
    /// One block of output before it is appended.
    block: Vec<u8>,
}

impl std::fmt::Debug for Contexts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Contexts")
    }
}

impl Default for Contexts {
    fn default() -> Self {
        Self {
            lz4: CompressTable::large(),
            snappy: snap::raw::Encoder::new(),
            snappy_in: snap::raw::Decoder::new(),
            zstd: FrameCompressor::new(CompressionLevel::from_level(3)),
            zstd_in: FrameDecoder::new(),
            block: Vec::new(),
        }
    }
}

/// Magic, version 1 with independent blocks, 64 KiB blocks, and the checksum of those two bytes.
const LZ4_HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
const LZ4_BLOCK: usize = 64 << 10;
const LZ4_STORED: u32 = 1 << 31;
const SNAPPY_HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
const SNAPPY_BLOCK: usize = 32 << 10;

impl Contexts {
    /// Appends `input`, compressed, to `out`. `Codec::None` appends it as it is.
    pub fn compress(&mut self, codec: Codec, input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match codec {
            Codec::None => out.extend_from_slice(input),
            Codec::Gzip => {
                let mut encoder = GzEncoder::new(out, GzipLevel::new(6));
                encoder.write_all(input)?;
                encoder.finish()?;
            }
            Codec::Snappy => {
                out.extend_from_slice(&SNAPPY_HEADER);
                for chunk in input.chunks(SNAPPY_BLOCK) {
                    self.block
                        .resize(snap::raw::max_compress_len(SNAPPY_BLOCK), 0);
                    let len = self.snappy.compress(chunk, &mut self.block)?;
                    out.extend_from_slice(&(len as u32).to_be_bytes());
                    out.extend_from_slice(&self.block[..len]);
                }
            }
            Codec::Lz4 => {
                out.extend_from_slice(&LZ4_HEADER);
                for chunk in input.chunks(LZ4_BLOCK) {
                    self.block
                        .resize(lz4_flex::block::get_maximum_output_size(LZ4_BLOCK), 0);
                    let len = lz4_flex::block::compress_into_with_table(
                        chunk,
                        &mut self.block,
                        &mut self.lz4,
                    )
                    .map_err(io::Error::other)?;
                    if len < chunk.len() {
                        out.extend_from_slice(&(len as u32).to_le_bytes());
                        out.extend_from_slice(&self.block[..len]);
                    } else {
                        out.extend_from_slice(&(chunk.len() as u32 | LZ4_STORED).to_le_bytes());
                        out.extend_from_slice(chunk);
                    }
                }
                out.extend_from_slice(&[0; 4]);
            }
            Codec::Zstd => {
                self.zstd
                    .compress_independent_frame_into(input, &mut self.block);
                out.extend_from_slice(&self.block);
            }
        }
        Ok(())
    }

    /// Decompresses `input` over the start of `out`, which must be large enough, and returns the
    /// length. Frames of other clients may have any framing; this reads the common ones.
    pub fn decompress(&mut self, codec: Codec, input: &[u8], out: &mut [u8]) -> io::Result<usize> {
        match codec {
            Codec::None => {
                out.get_mut(..input.len())
                    .ok_or_else(too_small)?
                    .copy_from_slice(input);
                Ok(input.len())
            }
            Codec::Gzip => {
                let mut decoder = GzDecoder::new(input);
                let mut len = 0;
                loop {
                    match decoder.read(&mut out[len..])? {
                        0 => return Ok(len),
                        more => len += more,
                    }
                }
            }
            Codec::Snappy => {
                let Some(mut rest) = input.strip_prefix(&SNAPPY_HEADER) else {
                    return Ok(self.snappy_in.decompress(input, out)?);
                };
                let mut len = 0;
                while let Some((size, tail)) = rest.split_first_chunk() {
                    let block = tail.get(..u32::from_be_bytes(*size) as usize);
                    let block = block.ok_or(io::ErrorKind::UnexpectedEof)?;
                    len += self.snappy_in.decompress(block, &mut out[len..])?;
                    rest = &tail[block.len()..];
                }
                Ok(len)
            }
            Codec::Lz4 => {
                let Some(mut rest) = input.strip_prefix(&LZ4_HEADER) else {
                    let mut decoder = lz4_flex::frame::FrameDecoder::new(input);
                    let mut len = 0;
                    loop {
                        match decoder.read(&mut out[len..])? {
                            0 => return Ok(len),
                            more => len += more,
                        }
                    }
                };
                let mut len = 0;
                while let Some((size, tail)) = rest.split_first_chunk() {
                    let size = u32::from_le_bytes(*size);
                    if size == 0 {
                        break;
                    }
                    let block = tail.get(..(size & !LZ4_STORED) as usize);
                    let block = block.ok_or(io::ErrorKind::UnexpectedEof)?;
                    if size & LZ4_STORED == 0 {
                        len += lz4_flex::block::decompress_into(block, &mut out[len..])
                            .map_err(io::Error::other)?;
                    } else {
                        let plain = out.get_mut(len..len + block.len()).ok_or_else(too_small)?;
                        plain.copy_from_slice(block);
                        len += block.len();
                    }
                    rest = &tail[block.len()..];
                }
                Ok(len)
            }
            Codec::Zstd => self
                .zstd_in
                .decode_all(input, out)
                .map_err(io::Error::other),
        }
    }
}

fn too_small() -> io::Error {
    io::Error::other("the batch is larger than the buffer for decompressed records")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_gives_back_what_it_took() {
        let mut contexts = Contexts::default();
        let input: Vec<u8> = (0..300_000_u32)
            .flat_map(|n| (n / 3).to_string().into_bytes())
            .collect();
        for codec in [
            Codec::None,
            Codec::Gzip,
            Codec::Snappy,
            Codec::Lz4,
            Codec::Zstd,
        ] {
            for _ in 0..2 {
                let mut packed = Vec::new();
                contexts.compress(codec, &input, &mut packed).unwrap();
                let mut plain = vec![0; input.len()];
                let len = contexts.decompress(codec, &packed, &mut plain).unwrap();
                assert!(len == input.len() && plain == input, "{codec:?}");
            }
        }
    }

    #[test]
    fn lz4_is_a_frame_that_others_read() {
        let mut packed = Vec::new();
        Contexts::default()
            .compress(Codec::Lz4, &[b'x'; 200_000], &mut packed)
            .unwrap();
        let mut plain = Vec::new();
        lz4_flex::frame::FrameDecoder::new(&packed[..])
            .read_to_end(&mut plain)
            .unwrap();
        assert_eq!(plain, vec![b'x'; 200_000]);
    }
}
