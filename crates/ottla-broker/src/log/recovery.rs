//! Opening a log's directory: after an orderly stop, after a crash, or for the first time.
//!
//! Walks every batch once, front to back, and believes none: its checksum, its offset and its leader epoch must be
//! right. From the first that is wrong the log is cut, so that what is served is always the beginning of what was
//! acknowledged. What was found is kept in [`Log::damage`].

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::header::BatchHeader;
use super::segment::{Segment, file_name};
use super::transactions::marker_in;
use super::walk::{Flaw, Walk, holds_a_batch};
use super::{Log, LogSettings};
use crate::damage::{Damage, DamageKind};
use crate::disk::{Disk, ReadError, at, read_checked};

/// What a log notes beside its segments: that which cannot be read off them.
#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    /// DeleteRecords may have put it inside a segment.
    start_offset: i64,
    /// At least the records before this offset were written.
    end_offset: i64,
    /// From here on, no offset may be missing; before, compaction may have removed any.
    compacted_below: i64,
    /// Leader epochs and where each began. The checksum of a batch does not cover its epoch.
    epochs: Vec<(i32, i64)>,
}

impl Log {
    /// Opens the segment files in `dir`, which is made if it is missing.
    ///
    /// # Errors
    /// If the directory or a file cannot be read or, where that is necessary, cut or set aside. Damage is none.
    pub(crate) fn open(
        dir: &Path,
        disk: Arc<Disk>,
        settings: LogSettings,
        now_ms: i64,
    ) -> io::Result<Self> {
        fs::create_dir_all(dir).map_err(|error| at(dir, &error))?;
        let mut log = Self::with_segments(Some(dir.to_owned()), disk, VecDeque::new(), settings);
        Self::finish_swaps(dir)?;
        let checkpoint = log.read_checkpoint()?;
        let offsets = segment_offsets(dir)?;
        for (index, base_offset) in offsets.iter().enumerate() {
            if !log.take_segment(
                dir,
                *base_offset,
                checkpoint.as_ref(),
                now_ms,
                &offsets[index + 1..],
            )? {
                break;
            }
        }
        if log.segments.is_empty() {
            let first = Segment::create(dir, 0, now_ms, Arc::clone(&log.disk))?;
            log.segments.push_back(first);
        }
        log.start_offset = log.segments[0].base_offset();
        log.apply(checkpoint)?;
        log.restore_clean_until();
        if !log.damage.is_empty()
            && let Err(error) = log.write_checkpoint()
        {
            // The same will be found again at the next start; a full disk must not keep records from being read.
            tracing::warn!(%error, "cannot note what recovery did");
        }
        Ok(log)
    }

    /// Adds the next segment, whose successors are `later`. Returns whether the log goes on behind it.
    fn take_segment(
        &mut self,
        dir: &Path,
        base_offset: i64,
        checkpoint: Option<&Checkpoint>,
        now_ms: i64,
        later: &[i64],
    ) -> io::Result<bool> {
        let path = dir.join(file_name(base_offset));
        let may_skip = |offset| match checkpoint {
            Some(checkpoint) => offset < checkpoint.compacted_below,
            None => true,
        };
        if let Some(last) = self.segments.back() {
            let (end, len) = (last.next_offset(), last.len());
            if base_offset > end && !may_skip(end) {
                self.damage.push(Damage {
                    file: dir.join(file_name(last.base_offset())),
                    position: len,
                    kind: DamageKind::Missing {
                        from: end,
                        to: base_offset,
                    },
                    set_aside: None,
                });
                self.set_aside_all(dir, later)?;
                self.set_aside_all(dir, &[base_offset])?;
                return Ok(false);
            }
        }
        let file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| at(&path, &error))?;
        let mut walk = Walk::new(&file).map_err(|error| at(&path, &error))?;
        let over = file.try_clone().map_err(|error| at(&path, &error))?;
        let mut segment = Segment::over(
            over,
            path.clone(),
            base_offset,
            now_ms,
            Arc::clone(&self.disk),
        );
        let flaw = loop {
            let header = match walk.next().map_err(|error| at(&path, &error))? {
                Ok(None) => return self.add(segment, true),
                Ok(Some(header)) => header,
                Err(flaw) => break flaw,
            };
            let expected = segment.next_offset();
            if header.base_offset < expected
                || (header.base_offset > expected && !may_skip(expected))
                || later
                    .first()
                    .is_some_and(|next| header.next_offset() > *next)
            {
                break Flaw::Corrupt("the batch has another offset than its place");
            }
            if !self.epoch_fits(&header, checkpoint) {
                break Flaw::Corrupt("the batch has another leader epoch than its place");
            }
            let position = segment.len();
            segment.note_appended(&header);
            let marker = if header.is_control() {
                marker_in(&header, &segment.read(position, 0, i64::MAX, true)?)
            } else {
                None
            };
            self.note_appended(&header, marker, now_ms);
        };
        // Backwards, so that a crash on the way leaves no hole.
        let mut behind = std::mem::take(&mut self.damage);
        self.set_aside_all(dir, later)?;
        std::mem::swap(&mut behind, &mut self.damage);
        self.cut(&path, &file, segment.len(), flaw, later.is_empty())?;
        self.damage.extend(behind);
        self.add(segment, false)
    }

    fn add(&mut self, segment: Segment, goes_on: bool) -> io::Result<bool> {
        self.segments.push_back(segment);
        Ok(goes_on)
    }

    fn epoch_fits(&self, header: &BatchHeader, checkpoint: Option<&Checkpoint>) -> bool {
        let epoch = header.partition_leader_epoch;
        match checkpoint {
            // Epochs that ended before the log's start are not noted.
            Some(checkpoint) if header.base_offset >= checkpoint.start_offset => {
                let epochs = &checkpoint.epochs;
                let after = epochs.partition_point(|(_, start)| *start <= header.base_offset);
                after.checked_sub(1).is_some_and(|i| epochs[i].0 == epoch)
            }
            Some(_) => true,
            None => epoch >= self.latest_epoch(),
        }
    }

    /// Cuts a segment file at `position`, where `flaw` is.
    fn cut(
        &mut self,
        path: &Path,
        file: &File,
        position: u64,
        flaw: Flaw,
        is_last: bool,
    ) -> io::Result<()> {
        let cut = || -> io::Result<Damage> {
            let bytes = file.metadata()?.len() - position;
            let torn = match flaw {
                // What was written later would stand behind it.
                Flaw::Torn => is_last && !holds_a_batch(file, position)?,
                Flaw::Corrupt(_) => false,
            };
            let (kind, set_aside) = match flaw {
                Flaw::Torn if torn => (DamageKind::TornTail { bytes }, None),
                Flaw::Torn => {
                    let reason = "the batch goes on behind the end of the file";
                    (
                        DamageKind::Corrupt { reason },
                        Some(keep_tail(path, file, position)?),
                    )
                }
                Flaw::Corrupt(reason) => (
                    DamageKind::Corrupt { reason },
                    Some(keep_tail(path, file, position)?),
                ),
            };
            file.set_len(position)?;
            file.sync_all()?;
            let file = path.to_owned();
            Ok(Damage {
                file,
                position,
                kind,
                set_aside,
            })
        };
        self.damage.push(cut().map_err(|error| at(path, &error))?);
        Ok(())
    }

    /// Sets segments aside, the last first.
    fn set_aside_all(&mut self, dir: &Path, offsets: &[i64]) -> io::Result<()> {
        for base_offset in offsets.iter().rev() {
            let path = dir.join(file_name(*base_offset));
            let kept = free_name(&path);
            fs::rename(&path, &kept).map_err(|error| at(&path, &error))?;
            self.damage.push(Damage {
                file: path,
                position: 0,
                kind: DamageKind::BehindDamage,
                set_aside: Some(kept),
            });
        }
        Ok(())
    }

    /// Takes over what the checkpoint says, as far as the segments bear it out.
    fn apply(&mut self, checkpoint: Option<Checkpoint>) -> io::Result<()> {
        let end = self.end_offset();
        let Some(checkpoint) = checkpoint else {
            // Nobody can say where compaction was; what is here is all there is to miss.
            self.compacted_below = end;
            return Ok(());
        };
        let dir = self.dir.clone().unwrap_or_default();
        let missing = |file: &Segment, position, from, to| Damage {
            file: dir.join(file_name(file.base_offset())),
            position,
            kind: DamageKind::Missing { from, to },
            set_aside: None,
        };
        let (first, last) = (&self.segments[0], &self.segments[self.segments.len() - 1]);
        let mut found = Vec::new();
        if first.base_offset() > checkpoint.start_offset {
            let (from, to) = (checkpoint.start_offset, first.base_offset());
            found.push(missing(first, 0, from, to));
        }
        if end < checkpoint.end_offset && self.damage.is_empty() {
            found.push(missing(last, last.len(), end, checkpoint.end_offset));
        }
        self.damage.extend(found);
        self.start_offset = self.start_offset.max(checkpoint.start_offset).min(end);
        self.compacted_below = checkpoint.compacted_below;
        // An epoch whose records are gone was in force all the same: its number is not used again.
        self.epochs = checkpoint.epochs;
        for (_, start) in &mut self.epochs {
            *start = (*start).min(end);
        }
        self.trim_epochs();
        // A crash may have come between noting the start and removing what lies before it.
        while self.segments.len() > 1 && self.segments[1].base_offset() <= self.start_offset {
            self.drop_first_segment()?;
        }
        Ok(())
    }

    /// Notes what the segments do not say.
    pub(super) fn write_checkpoint(&self) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let checkpoint = Checkpoint {
            start_offset: self.start_offset,
            end_offset: self.end_offset(),
            compacted_below: self.compacted_below,
            epochs: self.epochs.clone(),
        };
        self.disk.note(&dir.join(CHECKPOINT), &checkpoint)
    }

    /// The checkpoint, if there is a sound one. There must be one as soon as there was a batch.
    fn read_checkpoint(&mut self) -> io::Result<Option<Checkpoint>> {
        let Some(dir) = &self.dir else {
            return Ok(None);
        };
        let file = dir.join(CHECKPOINT);
        match read_checked::<Checkpoint>(&file) {
            Ok(Some(checkpoint)) => return Ok(Some(checkpoint)),
            Ok(None) if !has_batches(dir)? => return Ok(None),
            Ok(None) | Err(ReadError::Damaged(_)) => {}
            Err(ReadError::Io(error)) => return Err(error),
        }
        self.damage.push(Damage {
            file,
            position: 0,
            kind: DamageKind::Checkpoint,
            set_aside: None,
        });
        Ok(None)
    }
}

fn has_batches(dir: &Path) -> io::Result<bool> {
    for base_offset in segment_offsets(dir)? {
        let path = dir.join(file_name(base_offset));
        if fs::metadata(&path)
            .map_err(|error| at(&path, &error))?
            .len()
            > 0
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Base offsets of the segment files; what is not named as one is not ours.
fn segment_offsets(dir: &Path) -> io::Result<Vec<i64>> {
    let mut offsets = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| at(dir, &error))? {
        let name = entry.map_err(|error| at(dir, &error))?.file_name();
        let offset = name
            .to_str()
            .and_then(|name| Some((name, name.strip_suffix(".log")?.parse().ok()?)))
            .filter(|(name, offset)| *offset >= 0 && file_name(*offset) == **name)
            .map(|(_, offset)| offset);
        offsets.extend(offset);
    }
    offsets.sort_unstable();
    Ok(offsets)
}

/// Copies what stands from `position` on into a file of its own.
fn keep_tail(path: &Path, mut file: &File, position: u64) -> io::Result<PathBuf> {
    let kept = free_name(path);
    file.seek(SeekFrom::Start(position))?;
    let copied =
        File::create_new(&kept).and_then(|mut copy| io::copy(&mut file.take(u64::MAX), &mut copy));
    if let Err(error) = copied {
        let _ = fs::remove_file(&kept);
        return Err(at(&kept, &error));
    }
    Ok(kept)
}

/// A name that nothing has yet, for what is set aside of `path`.
fn free_name(path: &Path) -> PathBuf {
    (0..)
        .map(|number: u32| match number {
            0 => path.with_extension("log.cut"),
            number => path.with_extension(format!("log.{number}.cut")),
        })
        .find(|kept| !kept.exists())
        .unwrap_or_else(|| path.with_extension("log.cut"))
}

const CHECKPOINT: &str = "checkpoint";

#[cfg(test)]
mod tests;
