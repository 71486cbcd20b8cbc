//! Zstandard in Rust beside the C library: speed and size per level, for the decision page.
//!
//! `cargo bench -p ottla-bench --bench zstd_levels --features zstd-c`
//!
//! CPU time of this thread, the best of several runs, the two taking turns; blocks of click events
//! as a batch of 16 KiB and one of 1 MiB have them.

use std::hint::black_box;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use structured_zstd::decoding::FrameDecoder;
use structured_zstd::encoding::{CompressionLevel, FrameCompressor};
use zstd::zstd_safe::{CCtx, CParameter, DCtx, compress_bound};

const SIZES: [(&str, usize); 2] = [("16 KiB", 16 << 10), ("1 MiB", 1 << 20)];
const RUNS: usize = 5;
/// Bytes through the codec per run, at least.
const PER_RUN: usize = 2 << 20;

fn main() {
    println!("MB/s of plain bytes; µs of CPU to save a kilobyte");
    for (name, size) in SIZES {
        println!(
            "\n| {name}, level | C out | Rust out | C size | Rust size | C in | Rust in | C µs/KB | Rust µs/KB |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        for level in [-3, -1, 1, 2, 3, 4, 5, 6, 7, 9, 12, 15, 19, 22] {
            let row = Row::measure(level, &clicks(size));
            row.print(level, size);
        }
    }
}

struct Row {
    c_out: Duration,
    rust_out: Duration,
    c_in: Duration,
    rust_in: Duration,
    c_len: usize,
    rust_len: usize,
    repeats: u32,
}

impl Row {
    fn measure(level: i32, plain: &[u8]) -> Self {
        // High levels are slow enough to time in one pass.
        let repeats = if level > 9 {
            1
        } else {
            (PER_RUN / plain.len()).max(1) as u32
        };
        let mut c = CCtx::create();
        c.set_parameter(CParameter::CompressionLevel(level))
            .expect("a level");
        let mut rust: FrameCompressor = FrameCompressor::new(CompressionLevel::from_level(level));
        let mut c_packed = Vec::with_capacity(compress_bound(plain.len()));
        let mut rust_packed = Vec::new();
        let (mut c_decoder, mut rust_decoder) = (DCtx::create(), FrameDecoder::new());
        let mut target = vec![0; plain.len()];
        let mut row = Self {
            c_out: Duration::MAX,
            rust_out: Duration::MAX,
            c_in: Duration::MAX,
            rust_in: Duration::MAX,
            c_len: 0,
            rust_len: 0,
            repeats,
        };
        for _ in 0..RUNS {
            row.c_out = row.c_out.min(cpu(repeats, || {
                c_packed.clear();
                c.compress2(&mut c_packed, plain).expect("it compresses");
            }));
            row.rust_out = row.rust_out.min(cpu(repeats, || {
                rust.compress_independent_frame_into(plain, &mut rust_packed);
            }));
            // Each reads what C wrote.
            row.c_in = row.c_in.min(cpu(repeats, || {
                c_decoder
                    .decompress(&mut target[..], &c_packed)
                    .expect("intact");
                black_box(&target);
            }));
            row.rust_in = row.rust_in.min(cpu(repeats, || {
                rust_decoder
                    .decode_all(&c_packed, &mut target)
                    .expect("intact");
                black_box(&target);
            }));
        }
        row.c_len = c_packed.len();
        row.rust_len = rust_packed.len();
        row
    }

    fn print(&self, level: i32, size: usize) {
        let mbs = |time: Duration| size as f64 * f64::from(self.repeats) / time.as_secs_f64() / 1e6;
        let percent = |len: usize| 100.0 * len as f64 / size as f64;
        let per_kb = |time: Duration, len: usize| {
            let saved = (size - len) as f64 * f64::from(self.repeats) / 1000.0;
            time.as_secs_f64() * 1e6 / saved
        };
        println!(
            "| {level} | {:.0} | {:.0} | {:.1} % | {:.1} % | {:.0} | {:.0} | {:.1} | {:.1} |",
            mbs(self.c_out),
            mbs(self.rust_out),
            percent(self.c_len),
            percent(self.rust_len),
            mbs(self.c_in),
            mbs(self.rust_in),
            per_kb(self.c_out, self.c_len),
            per_kb(self.rust_out, self.rust_len),
        );
    }
}

/// CPU time of this thread for `repeats` calls.
fn cpu(repeats: u32, mut work: impl FnMut()) -> Duration {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let start = now();
    for _ in 0..repeats {
        work();
    }
    now() - start
}

/// JSON click events with a keyed user, a page, a referrer and a duration.
fn clicks(len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(11);
    let mut bytes = Vec::with_capacity(len + 256);
    let mut at = 1_700_000_000_000u64;
    while bytes.len() < len {
        at += rng.u64(..900);
        let (user, page, from, ms) = (
            rng.u32(..50_000),
            rng.u32(..700),
            rng.u32(..40),
            rng.u32(..9_000),
        );
        let line = format!(
            "{{\"ts\":{at},\"user\":\"u-{user:05}\",\"page\":\"/articles/{page}\",\"ref\":\"r{from}\",\"ms\":{ms}}}"
        );
        bytes.extend_from_slice(line.as_bytes());
    }
    bytes.truncate(len);
    bytes
}
