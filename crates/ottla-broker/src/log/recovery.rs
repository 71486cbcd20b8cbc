//! Opening a log's directory: after an orderly stop, after a crash, or for the first time.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use ottla_wire::record::Batches;

use super::segment::{Segment, file_name};
use super::{Log, LogSettings};

impl Log {
    /// Opens the segment files in `dir`, which is made if it is missing. Batches are walked once: from the
    /// first that is torn or whose checksum is wrong, the rest of the log is cut, for nothing behind it can
    /// have been acknowledged before it.
    pub(crate) fn open(dir: &Path, settings: LogSettings, now_ms: i64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut log = Self::with_segments(Some(dir.to_owned()), VecDeque::new(), settings);
        let mut cut = false;
        for base_offset in segment_offsets(dir)? {
            let path = dir.join(file_name(base_offset));
            if cut {
                tracing::warn!(path = %path.display(), "removed: it lies behind a torn segment");
                fs::remove_file(&path)?;
                continue;
            }
            let mut appended = Vec::new();
            let (segment, torn) = Segment::recover(&path, base_offset, now_ms, |header, batch| {
                let sound = Batches::new(batch.clone())
                    .next()
                    .is_some_and(|batch| batch.is_ok_and(|batch| batch.verify_crc().is_ok()));
                if sound {
                    appended.push(*header);
                }
                sound
            })?;
            for header in &appended {
                log.note_appended(header, now_ms);
            }
            if torn > 0 {
                tracing::warn!(path = %path.display(), bytes = torn, "cut a torn tail");
                cut = true;
            }
            log.segments.push_back(segment);
        }
        if log.segments.is_empty() {
            log.segments.push_back(Segment::create(dir, 0, now_ms)?);
        }
        log.start_offset = log.segments[0].base_offset();
        let checkpoint = log.read_checkpoint()?.unwrap_or(0);
        log.start_offset = log.start_offset.max(checkpoint).min(log.end_offset());
        log.trim_epochs();
        Ok(log)
    }

    /// Notes the start offset, which DeleteRecords may have put inside a segment.
    pub(super) fn write_checkpoint(&self) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let fresh = dir.join("start-offset.new");
        fs::write(&fresh, self.start_offset.to_string())?;
        fs::rename(fresh, dir.join(CHECKPOINT))
    }

    fn read_checkpoint(&self) -> io::Result<Option<i64>> {
        let Some(dir) = &self.dir else {
            return Ok(None);
        };
        match fs::read_to_string(dir.join(CHECKPOINT)) {
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn segment_offsets(dir: &Path) -> io::Result<Vec<i64>> {
    let mut offsets = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(".log")) else {
            continue;
        };
        if let Ok(offset) = stem.parse() {
            offsets.push(offset);
        }
    }
    offsets.sort_unstable();
    Ok(offsets)
}

const CHECKPOINT: &str = "start-offset";
