//! Sequence numbers of an idempotent producer.

/// The sequence that follows `count` records starting at `base`: after 2^31-1 comes 0, also in the
/// middle of a batch. `base` and `count` are not negative.
///
/// ```
/// use ottla_wire::record::next_sequence;
///
/// assert_eq!(next_sequence(5, 10), 15);
/// assert_eq!(next_sequence(i32::MAX, 1), 0);
/// assert_eq!(next_sequence(i32::MAX - 1, 5), 3);
/// ```
#[must_use]
pub fn next_sequence(base: i32, count: i32) -> i32 {
    debug_assert!(base >= 0 && count >= 0);
    base.wrapping_add(count) & i32::MAX
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_addition_modulo_two_to_the_31(base in 0..=i32::MAX, count in 0..=i32::MAX) {
            let expected = (i64::from(base) + i64::from(count)) % (1 << 31);
            prop_assert_eq!(i64::from(next_sequence(base, count)), expected);
        }
    }
}
