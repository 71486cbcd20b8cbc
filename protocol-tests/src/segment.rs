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
        self.dump_files(&[self.segments(id, topic, partition)])
            .remove(0)
    }

    /// Lets `DumpLogSegments` judge the partitions 0 to `partitions`, exclusive, in one run.
    ///
    /// # Panics
    ///
    /// When it finds fault with anything, and shows it.
    pub fn dump_all(&self, id: NodeId, topic: &str, partitions: i32) -> Vec<Dump> {
        let files: Vec<_> = (0..partitions)
            .map(|index| self.segments(id, topic, index))
            .collect();
        self.dump_files(&files)
    }

    fn dump_files(&self, partitions: &[Vec<PathBuf>]) -> Vec<Dump> {
        let files: Vec<_> = partitions
            .iter()
            .flatten()
            .map(|p| p.display().to_string())
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
                    "DumpLogSegments of {}: {line}\n{}",
                    files.join(", "),
                    output.stderr
                );
            }
        }
        assert!(
            !output.stderr.contains("Exception"),
            "DumpLogSegments: {}",
            output.stderr
        );
        let mut dumps = Vec::new();
        for files in partitions {
            let mut dump = Dump {
                batches: Vec::new(),
                records: 0,
            };
            for file in files {
                let head = format!("Dumping {}\n", file.display());
                let (_, of_file) = text
                    .split_once(&head)
                    .unwrap_or_else(|| panic!("DumpLogSegments is silent on {}", file.display()));
                let of_file = of_file
                    .split_once("\nDumping /")
                    .map_or(of_file, |(this, _)| this);
                for line in of_file.lines() {
                    if line.starts_with("baseOffset:") {
                        assert!(line.contains("isvalid: true"), "DumpLogSegments: {line}");
                        dump.batches.push(fields(line));
                    }
                    dump.records += usize::from(is_record(line));
                }
            }
            dumps.push(dump);
        }
        dumps
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
