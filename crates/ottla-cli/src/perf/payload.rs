//! What perf sends: text that compresses about as well as JSON events do, made before the clock starts.

/// Values to send over and over, a thousand different ones of `size` bytes.
pub(crate) fn values(size: usize) -> Vec<Vec<u8>> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    (0..VALUES).map(|i| value(size, i, &mut random)).collect()
}

/// One value: fields of JSON with random contents, cut to length.
fn value(size: usize, number: usize, random: &mut Random) -> Vec<u8> {
    let mut text = String::with_capacity(size + 64);
    text.push_str("{\"n\":");
    text.push_str(&number.to_string());
    while text.len() < size {
        let (name, digits) = (NAMES[random.below(NAMES.len())], random.next() >> 40);
        text.push_str(&format!(",\"{name}\":{digits}"));
    }
    text.truncate(size.saturating_sub(1));
    if size > 0 {
        text.push('}');
    }
    text.into_bytes()
}

/// The keys of `keys` different entities.
pub(crate) fn key(number: u64) -> [u8; 12] {
    let mut key = *b"key-00000000";
    let mut rest = number;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// Marsaglia's xorshift: the same values in every run, so that runs compare.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

const VALUES: usize = 1000;
const NAMES: [&str; 8] = [
    "user",
    "session",
    "page",
    "referrer",
    "duration",
    "timestamp",
    "price",
    "quantity",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_size_and_repeat_from_run_to_run() {
        for size in [0, 1, 2, 24, 100, 1024] {
            let values = values(size);
            assert!(values.iter().all(|v| v.len() == size), "{size}");
        }
        assert_eq!(values(100), values(100));
        assert_ne!(values(100)[0], values(100)[1]);
    }

    #[test]
    fn keys_are_numbered() {
        assert_eq!(&key(42), b"key-00000042");
        assert_eq!(&key(1_234_567_890), b"key-34567890");
    }
}
