//! A partition as it lies on a broker's disk: its raw bytes, and Kafka's verdict on them.

use std::{collections::BTreeMap, fs, path::PathBuf};

use crate::{KafkaCluster, NodeId, Tool};

/// What `DumpLogSegments` found in the segments of a partition.
#[derive(Debug)]
pub struct Dump {
    /// One map per batch: `baseOffset`, `count`, `compresscodec`, `producerId`, `baseSequence` …
    pub batches: Vec<BTreeMap<String, String>>,
    /// How many records it could read.
    pub records: usize,
}

impl Dump {
    /// The numbers of `field`, batch by batch.
    ///
    /// # Panics
    ///
    /// When a batch has no such number.
    pub fn numbers(&self, field: &str) -> Vec<i64> {
        let number = |batch: &BTreeMap<String, String>| batch.get(field)?.parse().ok();
        self.batches
            .iter()
            .map(|batch| number(batch).unwrap_or_else(|| panic!("no number {field} in {batch:?}")))
            .collect()
    }
}

impl KafkaCluster {
    /// The segment files of a partition on node `id`, oldest first.
    ///
    /// # Panics
    ///
    /// When the node has no such partition.
    pub fn segments(&self, id: NodeId, topic: &str, partition: i32) -> Vec<PathBuf> {
        let dir = self.log_dir(id).join(format!("{topic}-{partition}"));
        let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let mut files: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .collect();
        files.sort();
        files
    }

    /// The bytes of those files.
    ///
    /// # Panics
    ///
    /// When they cannot be read.
    pub fn segment_bytes(&self, id: NodeId, topic: &str, partition: i32) -> Vec<u8> {
        let read = |path: PathBuf| {
            fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        self.segments(id, topic, partition)
            .into_iter()
            .flat_map(read)
            .collect()
    }

    /// Lets `DumpLogSegments` judge a partition.
    ///
    /// # Panics
    ///
    /// When it finds fault with anything, and shows it.
    pub fn dump(&self, id: NodeId, topic: &str, partition: i32) -> Dump {
        let files: Vec<_> = self
            .segments(id, topic, partition)
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let args = ["--print-data-log", "--files", &files.join(",")];
        let output = self.tools().run(Tool::DumpLogSegments, &args);
        let text = String::from_utf8_lossy(&output.stdout);
        // It ends with 0 whatever it found.
        for fault in [
            "isvalid: false",
            "invalid bytes",
            "Exception",
            "corrupt",
            "Mismatch",
        ] {
            if let Some(line) = text
                .lines()
                .find(|line| !is_record(line) && line.contains(fault))
            {
                panic!(
                    "DumpLogSegments of {topic}-{partition}: {line}\n{}",
                    output.stderr
                );
            }
        }
        assert!(
            !output.stderr.contains("Exception"),
            "DumpLogSegments: {}",
            output.stderr
        );
        let batches: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("baseOffset:"))
            .collect();
        for line in &batches {
            assert!(line.contains("isvalid: true"), "DumpLogSegments: {line}");
        }
        Dump {
            batches: batches.into_iter().map(fields).collect(),
            records: text.lines().filter(|line| is_record(line)).count(),
        }
    }
}

fn is_record(line: &str) -> bool {
    line.starts_with("| offset: ")
}

/// `name: value name: value …`
fn fields(line: &str) -> BTreeMap<String, String> {
    let mut words = line.split_whitespace();
    let mut fields = BTreeMap::new();
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        fields.insert(name.trim_end_matches(':').to_owned(), value.to_owned());
    }
    fields
}
