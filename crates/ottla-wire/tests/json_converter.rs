//! Kafka's own classes as the judge: random messages of every API and version, both directions.
//!
//! For each message, Kafka writes bytes from our JSON and JSON from our bytes; both must equal ours. Needs Java 17 and the
//! jars of Kafka and Jackson from the local Maven repository (fetched with `mvn` if absent). Without them the tests say
//! so and pass, unless `OTTLA_REQUIRE_KAFKA=1`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use ottla_wire::introspect::{Random, messages};
use ottla_wire::{ErrorCode, Reader, Writer};

/// Random messages per message type and version.
const ROUNDS: u64 = 12;

#[test]
fn kafka_agrees_on_every_message_and_version() {
    let Some(mut oracle) = Oracle::start() else {
        return;
    };
    let mut cases = 0;
    for info in messages() {
        let class = class_of(info.name);
        for version in info.each_version() {
            for seed in 0..ROUNDS {
                let message = (info.random)(&mut Random::new(seed, version));
                let place = format!("{} version {version} seed {seed}", info.name);
                let mut out = Writer::new();
                message
                    .encode(version, &mut out)
                    .unwrap_or_else(|error| panic!("{place}: {error}"));
                let (hex, json) = (hex(&out.into_bytes()), message.json(version));
                let answer = oracle.ask(&class, version, &hex, &json, &place);
                assert_eq!(hex, answer.from_json, "{place}\n{json}");
                assert_eq!(hex, answer.from_bytes, "{place}\n{json}");
                assert_eq!(without_records(json), answer.json, "{place}");
                cases += 1;
            }
        }
    }
    assert!(cases > 6_000, "{cases} cases");
}

#[test]
fn kafka_reads_our_unknown_tagged_fields() {
    let Some(mut oracle) = Oracle::start() else {
        return;
    };
    for info in messages() {
        let version = info.versions.max;
        if !info.is_flexible(version) {
            continue;
        }
        for seed in 0..ROUNDS {
            let message = (info.random)(&mut Random::new(seed, version).with_unknown_tags());
            let place = format!("{} version {version} seed {seed}", info.name);
            let mut out = Writer::new();
            message.encode(version, &mut out).unwrap();
            let bytes = out.into_bytes();
            // Kafka's JSON knows no unknown fields, so only what it makes of our bytes is compared.
            let json = message.json(version);
            let answer = oracle.ask(&class_of(info.name), version, &hex(&bytes), &json, &place);
            assert_eq!(hex(&bytes), answer.from_bytes, "{place}");
            assert_eq!(without_records(json), answer.json, "{place}");
            let decoded = (info.decode)(version, &mut Reader::new(bytes)).unwrap();
            assert!(decoded.equals(&*message), "{place}");
        }
    }
}

#[test]
fn error_codes_are_kafkas() {
    let Some(mut oracle) = Oracle::start() else {
        return;
    };
    let theirs = oracle.errors();
    let ours: Vec<_> = ErrorCode::all()
        .map(|code| (code.0, code.name().to_string()))
        .collect();
    assert_eq!(
        theirs
            .iter()
            .map(|e| (e.0, e.1.clone()))
            .collect::<Vec<_>>(),
        ours
    );
    for (code, name, retriable, refreshes_metadata) in theirs {
        let code = ErrorCode(code);
        assert_eq!(code.is_retriable(), retriable, "{name}");
        // Where the controller is, and that a client must start over, is also news about metadata.
        let more = [ErrorCode::NOT_CONTROLLER, ErrorCode::REBOOTSTRAP_REQUIRED];
        assert_eq!(
            code.refreshes_metadata(),
            refreshes_metadata || more.contains(&code),
            "{name}"
        );
    }
}

/// Kafka's converter writes every field of records as an empty text. What is in them is compared as bytes.
fn without_records(mut json: serde_json::Value) -> serde_json::Value {
    match &mut json {
        serde_json::Value::Object(members) => {
            for (key, value) in members.iter_mut() {
                *value = match value.take() {
                    serde_json::Value::String(_) if key == "records" => "".into(),
                    other => without_records(other),
                };
            }
        }
        serde_json::Value::Array(elements) => {
            for element in elements {
                *element = without_records(element.take());
            }
        }
        _ => {}
    }
    json
}

/// What Kafka makes of a message.
struct Answer {
    /// Kafka's bytes of our JSON, in hex.
    from_json: String,
    /// Kafka's bytes of what it read from ours, in hex.
    from_bytes: String,
    /// Kafka's JSON of what it read from our bytes.
    json: serde_json::Value,
}

/// The Java program beside this file, running.
struct Oracle {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    fn start() -> Option<Self> {
        match Self::try_start() {
            Ok(oracle) => Some(oracle),
            Err(why)
                if std::env::var_os("OTTLA_REQUIRE_KAFKA").is_some_and(|value| value == "1") =>
            {
                panic!("Kafka's classes are required (OTTLA_REQUIRE_KAFKA=1): {why}")
            }
            Err(why) => {
                eprintln!("skipped: Kafka's classes are not available: {why}");
                None
            }
        }
    }

    fn try_start() -> Result<Self, String> {
        let java = Command::new("java")
            .arg("-version")
            .output()
            .map_err(|error| format!("java: {error}"))?;
        if !java.status.success() {
            return Err("java -version fails".into());
        }
        let jars = JARS.iter().map(fetch).collect::<Result<Vec<_>, _>>()?;
        let class_path = std::env::join_paths(jars).map_err(|error| error.to_string())?;
        let mut child = Command::new("java")
            .args(["-Xmx256m", "-XX:+UseSerialGC", "-cp"])
            .arg(class_path)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/java/JsonOracle.java"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let questions = child.stdin.take().ok_or("no stdin")?;
        let answers = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        Ok(Self {
            child,
            questions,
            answers,
        })
    }

    fn ask(
        &mut self,
        class: &str,
        version: i16,
        hex: &str,
        json: &serde_json::Value,
        place: &str,
    ) -> Answer {
        writeln!(self.questions, "{class}\t{version}\t{hex}\t{json}")
            .expect("the oracle has ended");
        let answer = self.line();
        let parts: Vec<_> = answer.splitn(4, '\t').collect();
        let ["ok", from_json, from_bytes, json] = parts[..] else {
            panic!("{place}: Kafka says: {answer}\n{json}");
        };
        let json =
            serde_json::from_str(json).unwrap_or_else(|error| panic!("{place}: {error}: {json}"));
        Answer {
            from_json: from_json.into(),
            from_bytes: from_bytes.into(),
            json,
        }
    }

    fn errors(&mut self) -> Vec<(i16, String, bool, bool)> {
        writeln!(self.questions, "errors").expect("the oracle has ended");
        std::iter::from_fn(|| Some(self.line()).filter(|line| !line.is_empty()))
            .map(|line| {
                let parts: Vec<_> = line.split('\t').collect();
                (
                    parts[0].parse().expect("a code is a number"),
                    parts[1].to_string(),
                    parts[2] == "true",
                    parts[3] == "true",
                )
            })
            .collect()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self
            .answers
            .read_line(&mut line)
            .expect("the oracle's answer is UTF-8");
        assert!(
            read > 0,
            "the oracle has ended; its standard error says why"
        );
        line.trim_end_matches('\n').to_string()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Group, artifact and version.
const JARS: [(&str, &str, &str); 5] = [
    ("org.apache.kafka", "kafka-clients", "4.3.1"),
    ("com.fasterxml.jackson.core", "jackson-databind", "2.21.2"),
    ("com.fasterxml.jackson.core", "jackson-core", "2.21.2"),
    ("com.fasterxml.jackson.core", "jackson-annotations", "2.21"),
    ("org.slf4j", "slf4j-api", "1.7.36"),
];

fn fetch((group, artifact, version): &(&str, &str, &str)) -> Result<PathBuf, String> {
    let home = std::env::var_os("HOME").ok_or("HOME is not set")?;
    let jar = Path::new(&home)
        .join(".m2/repository")
        .join(group.replace('.', "/"))
        .join(artifact)
        .join(version)
        .join(format!("{artifact}-{version}.jar"));
    if !jar.is_file() {
        let coordinates = format!("-Dartifact={group}:{artifact}:{version}");
        let status = Command::new("mvn")
            .args(["-q", "dependency:get", &coordinates, "-Dtransitive=false"])
            .status()
            .map_err(|error| format!("mvn: {error}"))?;
        if !status.success() {
            return Err(format!("mvn cannot fetch {group}:{artifact}:{version}"));
        }
    }
    Ok(jar)
}

/// The Java class of a message: requests and responses end in `Data`.
fn class_of(name: &str) -> String {
    let is_api = name.ends_with("Request") || name.ends_with("Response");
    if is_api {
        format!("{name}Data")
    } else {
        name.to_string()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
