//! What Rust writes, C reads, and the other way round, at every level.

use fastrand::Rng;

use super::{c, pure};
use crate::compress::codec::Compression;
use crate::compress::output::Output;

#[test]
fn each_reads_what_the_other_writes_at_every_level() {
    let (mut rust_out, mut c_out) = (pure::Encoder::default(), c::Encoder::default());
    let (mut rust_in, mut c_in) = (pure::Decoder::default(), c::Decoder::default());
    let mut packed = Vec::new();
    for level in (-7..=22).chain([-131_072, -50]) {
        for plain in samples(level) {
            rust_out.compress(level, &plain, &mut packed).unwrap();
            let mut out = Output::new(Compression::Zstd, packed.len(), plain.len());
            c_in.decompress(&packed, &mut out).unwrap();
            assert!(out.produced() == plain, "level {level}, Rust to C");

            c_out.compress(level, &plain, &mut packed).unwrap();
            let mut out = Output::new(Compression::Zstd, packed.len(), plain.len());
            rust_in.decompress(&packed, &mut out).unwrap();
            assert!(out.produced() == plain, "level {level}, C to Rust");
        }
    }
}

/// What both take they take for the same bytes, and Rust takes nothing that C refuses. It refuses a
/// few frames that C takes, for Huffman streams with bits left over: C's fast loop does not look.
#[test]
fn rust_is_the_stricter_judge_of_damaged_frames() {
    let mut rng = Rng::with_seed(3);
    let (mut rust_in, mut c_in) = (pure::Decoder::default(), c::Decoder::default());
    let mut c_out = c::Encoder::default();
    let mut packed = Vec::new();
    let (mut taken, mut refused, mut stricter) = (0, 0, 0);
    for round in 0..3_000 {
        let plain = &samples(round)[rng.usize(..4)];
        c_out.compress(rng.i32(1..6), plain, &mut packed).unwrap();
        for _ in 0..rng.usize(1..3) {
            let at = rng.usize(..packed.len());
            packed[at] ^= 1 << rng.u8(..8);
        }
        let mut rust = Output::new(Compression::Zstd, packed.len(), 1 << 20);
        let mut c = Output::new(Compression::Zstd, packed.len(), 1 << 20);
        let rust_says = rust_in.decompress(&packed, &mut rust);
        let c_says = c_in.decompress(&packed, &mut c);
        match (rust_says, c_says) {
            (Ok(()), Ok(())) => {
                assert!(rust.produced() == c.produced(), "round {round}");
                taken += 1;
            }
            (Err(_), Err(_)) => refused += 1,
            (Err(_), Ok(())) => stricter += 1,
            (Ok(()), Err(error)) => panic!("round {round}: only C says {error}"),
        }
    }
    println!("{taken} taken, {refused} refused, {stricter} by Rust alone");
    assert!(taken > 100 && refused > 1_000 && stricter < 300);
}

fn samples(seed: i32) -> [Vec<u8>; 5] {
    let mut rng = Rng::with_seed(seed as u64);
    let clicks: String = (0..600)
        .map(|i| {
            let (user, page) = (rng.u32(..5_000), rng.u32(..300));
            format!("{{\"id\":{i},\"user\":\"u{user}\",\"page\":\"/p/{page}\",\"ms\":{user}}}\n")
        })
        .collect();
    let noise = (0..3_000).map(|_| rng.u8(..)).collect();
    let skewed = (0..9_000).map(|_| rng.u8(..4) * rng.u8(..3)).collect();
    [
        Vec::new(),
        noise,
        skewed,
        clicks.as_bytes()[..2_000].to_vec(),
        clicks.repeat(8).into_bytes(),
    ]
}
