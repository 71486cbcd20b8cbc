//! Development tasks: message definitions, generated documents.
#![forbid(unsafe_code)]
fn main() {}
