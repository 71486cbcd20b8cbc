//! Finds the schemas of the pinned Kafka version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;

/// The Kafka whose schemas the definitions follow.
pub(crate) const KAFKA_VERSION: &str = "4.3.1";

/// A directory with Kafka's `*.json` schemas.
pub(crate) fn schemas() -> Result<PathBuf> {
    if let Some(directory) = std::env::var_os("OTTLA_KAFKA_SCHEMAS") {
        return Ok(directory.into());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    );
    let directory = target.join(format!("kafka-schemas-{KAFKA_VERSION}"));
    let schemas = directory.join("common/message");
    if schemas.join("ProduceRequest.json").is_file() {
        return Ok(schemas);
    }
    fs::create_dir_all(&directory)?;
    let jar = jar()?.canonicalize()?;
    // The JDK's own tool, which is there whenever Maven is.
    run(Command::new("jar")
        .current_dir(&directory)
        .arg("xf")
        .arg(jar)
        .arg("common/message"))?;
    Ok(schemas)
}

fn jar() -> Result<PathBuf> {
    let repository = std::env::var_os("HOME").map(|home| Path::new(&home).join(".m2/repository"));
    let repository =
        repository.ok_or("HOME is not set, so the local Maven repository cannot be found")?;
    let jar = repository
        .join("org/apache/kafka/kafka-clients")
        .join(KAFKA_VERSION)
        .join(format!("kafka-clients-{KAFKA_VERSION}.jar"));
    if !jar.is_file() {
        let artifact = format!("-Dartifact=org.apache.kafka:kafka-clients:{KAFKA_VERSION}");
        run(Command::new("mvn").args(["-q", "dependency:get", &artifact, "-Dtransitive=false"]))?;
    }
    Ok(jar)
}

fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .map_err(|error| format!("cannot run {command:?}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?} failed: {status}").into())
    }
}
