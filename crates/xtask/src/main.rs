//! Development tasks. Run one with `cargo run -p xtask -- <task>`.
#![forbid(unsafe_code)]

mod messages;

use std::error::Error;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["check-schemas"] => messages::check(),
        ["translate-schemas"] => messages::translate(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What tasks return: an error here is text for a person.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "\
usage: cargo run -p xtask -- <task>

tasks:
  check-schemas      fail if a message definition differs from the schemas of the pinned Kafka version
  translate-schemas  write the message definitions anew from those schemas

Both need the jar org.apache.kafka:kafka-clients of that version; it is taken from the local Maven repository, and fetched
into it with `mvn` if it is not there. OTTLA_KAFKA_SCHEMAS names a directory of schemas to use instead.";
