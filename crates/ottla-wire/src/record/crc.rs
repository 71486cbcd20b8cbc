//! CRC-32C of two byte strings after each other, from the CRC of each.
//!
//! A batch's checksum covers header fields that change after its body is final: the producer's
//! identity is only known when it is sent, and changes when its epoch is bumped. Combining lets the
//! body be read once.

/// The CRC-32C of `a ‖ b`, from `crc_a`, `crc_b` and the length of `b` in bytes.
pub(crate) fn combine(crc_a: u32, crc_b: u32, len_b: usize) -> u32 {
    shift(crc_a, len_b) ^ crc_b
}

/// What appending `len` zero bytes makes of a raw CRC register. Linear, so the difference of two
/// headers shifts to the difference of the batches' checksums.
pub(crate) fn shift(crc: u32, len: usize) -> u32 {
    let mut crc = crc;
    let mut len = len;
    let mut power = 0;
    while len != 0 {
        if len & 1 == 1 {
            crc = multiply(X_TO_BYTES[power], crc);
        }
        len >>= 1;
        power += 1;
    }
    crc
}

/// The Castagnoli polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// x^(8 · 2^n) modulo the polynomial: the effect of 2^n zero bytes.
const X_TO_BYTES: [u32; usize::BITS as usize] = {
    let mut powers = [0; usize::BITS as usize];
    // x^8: bit 31 is x^0.
    powers[0] = 1 << (31 - 8);
    let mut n = 1;
    while n < powers.len() {
        powers[n] = multiply(powers[n - 1], powers[n - 1]);
        n += 1;
    }
    powers
};

/// Product of two polynomials modulo the Castagnoli polynomial, bits reversed.
const fn multiply(a: u32, b: u32) -> u32 {
    let mut product = 0;
    let mut b = b;
    let mut bit = 1 << 31;
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = (b >> 1) ^ if b & 1 == 1 { POLYNOMIAL } else { 0 };
        bit >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn combines_lengths_around_powers_of_two() {
        for len in [0, 1, 2, 3, 7, 8, 255, 256, 257, 65_535, 65_536, 1_000_003] {
            let body: Vec<u8> = (0..len).map(|i| (i * 7 % 251) as u8).collect();
            let whole = crc32c::crc32c_append(crc32c::crc32c(b"header"), &body);
            let combined = combine(crc32c::crc32c(b"header"), crc32c::crc32c(&body), len);
            assert_eq!(combined, whole, "{len}");
        }
    }

    proptest! {
        #[test]
        fn combines_anything(a: Vec<u8>, b: Vec<u8>) {
            let whole = crc32c::crc32c_append(crc32c::crc32c(&a), &b);
            prop_assert_eq!(combine(crc32c::crc32c(&a), crc32c::crc32c(&b), b.len()), whole);
        }
    }
}
