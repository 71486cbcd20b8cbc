//! The assignors against what Java's made of the same groups. `java-4.3.1.txt` was printed by
//! `protocol-tests/kafka/Assignors.java`, with which a protocol test compares many more.

#![allow(clippy::unwrap_used)]

mod check;

#[test]
fn distribute_as_javas_do() {
    let cases = check::all(include_str!("java-4.3.1.txt"));
    assert!(cases > 50, "{cases}");
}
