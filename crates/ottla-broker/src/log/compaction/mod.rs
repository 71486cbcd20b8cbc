//! Compaction (`cleanup.policy=compact`): old segments are rewritten with only the newest record of each key.
//!
//! Runs in three steps, so that a partition is not locked while its segments are read and written: a
//! [`CleaningJob`] is made from the log, runs by itself over segments that no longer change, and its
//! [`Cleaned`] segments take the place of the old ones, unless others did so meanwhile. Rules as of Apache
//! Kafka's log cleaner, see [`cleaner`].
//!
//! On disk new segments are written to `*.cleaned` files. Renaming one to `BASE-END.swap` decides: from then on
//! it replaces all segments from offset BASE up to but without END, also when the process ends at once.

mod cleaner;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_wire::compress::Decompressor;
use ottla_wire::record::Batches;

use cleaner::{Cleaner, LastOfProducer, NewestOffsets, Rules, Verdict};

use super::header::BatchHeader;
use super::segment::{Segment, file_name};
use super::transactions::AbortedTransaction;
use super::{Log, LogSettings, READ_STEP};
use crate::disk::{Disk, at, read_checked};

/// How far a log is compacted.
#[derive(Debug, Default)]
pub(crate) struct CleanerState {
    /// Everything before this offset has been compacted.
    clean_until: i64,
    /// Counts changes to the list of segments, by which a job sees that its segments are not the log's any more.
    revision: u64,
    /// Counts jobs, so that no two write to the same file.
    jobs: u64,
    /// A batch could not be read; trying again would not help.
    failed: bool,
}

/// A topic's settings, as far as compaction obeys them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CompactionSettings {
    /// `delete.retention.ms`
    pub(crate) delete_retention_ms: i64,
    /// `min.compaction.lag.ms`
    pub(crate) lag_min_ms: i64,
    /// `max.compaction.lag.ms`
    pub(crate) lag_max_ms: i64,
    /// `min.cleanable.dirty.ratio`
    pub(crate) dirty_ratio_min: f64,
}

/// Work to be done without the log.
#[derive(Debug)]
pub(crate) struct CleaningJob {
    /// From the log's first segment on, all closed.
    segments: Vec<Segment>,
    /// The offset after the last of them.
    until: i64,
    /// Where the records begin whose keys are looked at.
    dirty_from: i64,
    settings: LogSettings,
    producers: HashMap<i64, LastOfProducer>,
    aborted: Vec<AbortedTransaction>,
    dir: Option<PathBuf>,
    disk: Arc<Disk>,
    now_ms: i64,
    revision: u64,
    number: u64,
}

/// What a job made, ready to be put into the log.
#[derive(Debug)]
pub(crate) struct Cleaned {
    /// How many of the log's first segments each group replaces, and by what; `None`: they stay as they are.
    groups: Vec<(usize, Option<Segment>)>,
    /// The offset after the last segment that was read.
    until: i64,
    clean_until: i64,
    revision: u64,
}

impl Log {
    /// What compaction has to do now, `None` if nothing. `forced`, it is done however little there is, and also
    /// over what was compacted before, so that tombstones whose time has come go.
    pub(crate) fn cleaning_job(
        &mut self,
        now_ms: i64,
        forced: bool,
    ) -> io::Result<Option<CleaningJob>> {
        if !self.settings.compact || self.cleaner.failed || self.abandoned {
            return Ok(None);
        }
        let lag_min_ms = self.settings.compaction.lag_min_ms;
        let closed = self.segments.len() - 1;
        // What becomes of an open transaction's records is not known yet.
        let stable = self.last_stable_offset();
        let cleanable = self
            .segments
            .iter()
            .take(closed)
            .take_while(|segment| {
                segment.next_offset() <= stable
                    && (lag_min_ms == 0 || segment.newest_ms() <= now_ms.saturating_sub(lag_min_ms))
            })
            .count();
        let dirty_from = self.cleaner.clean_until.max(self.start_offset);
        let (mut clean_bytes, mut dirty_bytes, mut overdue) = (0, 0, false);
        for segment in self.segments.iter().take(cleanable) {
            if segment.next_offset() <= dirty_from {
                clean_bytes += segment.len();
            } else {
                dirty_bytes += segment.len();
                let age_ms = now_ms.saturating_sub(segment.created_ms());
                overdue |= age_ms > self.settings.compaction.lag_max_ms;
            }
        }
        let ratio = dirty_bytes as f64 / (clean_bytes + dirty_bytes).max(1) as f64;
        let worth_it =
            dirty_bytes > 0 && (overdue || ratio > self.settings.compaction.dirty_ratio_min);
        if cleanable == 0 || !(worth_it || forced) {
            return Ok(None);
        }
        let until = self.segments[cleanable].base_offset();
        let segments = self
            .segments
            .iter_mut()
            .take(cleanable)
            .map(Segment::share)
            .collect::<io::Result<_>>()?;
        let producers = self.producers.iter().map(|(id, producer)| {
            let last = LastOfProducer {
                epoch: producer.epoch,
                last_data_offset: producer.last_data_offset(),
            };
            (id, last)
        });
        self.cleaner.jobs += 1;
        Ok(Some(CleaningJob {
            segments,
            until,
            dirty_from: if forced {
                self.start_offset
            } else {
                dirty_from
            },
            settings: self.settings,
            producers: producers.collect(),
            aborted: self.transactions.aborted_in(0, until),
            dir: self.dir.clone(),
            disk: Arc::clone(&self.disk),
            now_ms,
            revision: self.cleaner.revision,
            number: self.cleaner.jobs,
        }))
    }

    /// Puts the result of a job in the place of the segments it was made from. False if those changed meanwhile,
    /// and nothing was done.
    ///
    /// # Errors
    /// If files cannot be renamed or removed. The log then goes on with its old segments; what was decided on disk
    /// takes effect when it is opened next.
    pub(crate) fn install(&mut self, cleaned: Cleaned) -> io::Result<bool> {
        if cleaned.revision != self.cleaner.revision {
            cleaned.discard()?;
            return Ok(false);
        }
        // Recovery must not take the gaps for damage.
        self.compacted_below = self.compacted_below.max(cleaned.until);
        self.write_checkpoint()?;
        let mut first = 0;
        for (count, replacement) in cleaned.groups {
            if let Some(mut replacement) = replacement {
                if let Some(dir) = &self.dir {
                    let end = self.segments[first + count].base_offset();
                    let old = self.segments.range(first..first + count);
                    swap(dir, &mut replacement, end, old.map(Segment::base_offset))?;
                }
                self.segments.drain(first..first + count);
                self.segments.insert(first, replacement);
                self.cleaner.revision += 1;
                first += 1;
            } else {
                first += count;
            }
        }
        self.cleaner.clean_until = self.cleaner.clean_until.max(cleaned.clean_until);
        self.write_clean_until()?;
        Ok(true)
    }

    /// Segments were added or removed at the front: jobs under way are void.
    pub(super) fn note_segments_changed(&mut self) {
        self.cleaner.revision += 1;
    }

    /// A job failed; the log is left alone until it is opened again.
    pub(crate) fn note_cleaning_failed(&mut self) {
        self.cleaner.failed = true;
    }

    /// Closes the segment that is written to, so that it can be compacted.
    pub(crate) fn roll(&mut self, now_ms: i64) -> io::Result<()> {
        match self.segments.back() {
            Some(active) if !active.is_empty() => self.start_segment(now_ms),
            _ => Ok(()),
        }
    }

    fn write_clean_until(&self) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        self.disk
            .note(&dir.join(CLEAN_UNTIL), &self.cleaner.clean_until)
    }

    /// Finishes what a crash interrupted, before the segments in `dir` are opened.
    pub(super) fn finish_swaps(dir: &Path) -> io::Result<()> {
        let mut names: Vec<String> = Vec::new();
        for entry in fs::read_dir(dir).map_err(|error| at(dir, &error))? {
            names.extend(entry?.file_name().into_string());
        }
        for name in &names {
            let path = dir.join(name);
            if name.ends_with(".cleaned") {
                fs::remove_file(&path).map_err(|error| at(&path, &error))?;
            } else if let Some((base, end)) = parse_swap(name) {
                tracing::info!(path = %path.display(), "finishing an interrupted compaction");
                let replaced = names.iter().filter_map(|name| {
                    let offset: i64 = name.strip_suffix(".log")?.parse().ok()?;
                    (base..end).contains(&offset).then_some(offset)
                });
                finish_swap(dir, &path, base, replaced)?;
            }
        }
        Ok(())
    }

    /// Reads how far the log in its folder was compacted; what is unknown is compacted again.
    pub(super) fn restore_clean_until(&mut self) {
        let dir = self.dir.as_ref();
        let saved = dir.and_then(|dir| read_checked::<i64>(&dir.join(CLEAN_UNTIL)).ok()?);
        self.cleaner.clean_until = saved.unwrap_or(0).min(self.end_offset());
    }
}

impl CleaningJob {
    /// Reads the segments and writes what remains of them; may take long.
    ///
    /// # Errors
    /// If a segment cannot be read or written, or holds a batch that cannot be decoded. Nothing has changed then.
    pub(crate) fn run(self) -> io::Result<Cleaned> {
        let newest = self.newest_offsets()?;
        let rules = Rules {
            now_ms: self.now_ms,
            delete_retention_ms: self.settings.compaction.delete_retention_ms,
            end: newest.end(),
        };
        let mut cleaner = Cleaner::new(&newest, rules, &self.producers, &self.aborted);
        let last_batch_end = self.segments.iter().map(Segment::next_offset).max();
        let all_known = last_batch_end.is_none_or(|end| newest.end() >= end);
        let mut cleaned = Cleaned {
            groups: Vec::new(),
            until: self.until,
            clean_until: if all_known { self.until } else { newest.end() },
            revision: self.revision,
        };
        for group in self.groups(newest.end()) {
            match self.clean_group(group, &mut cleaner) {
                Ok(replacement) => cleaned.groups.push((group.len(), replacement)),
                Err(error) => {
                    // The first error is the one to tell of.
                    let _ = cleaned.discard();
                    return Err(error);
                }
            }
        }
        Ok(cleaned)
    }

    fn newest_offsets(&self) -> io::Result<NewestOffsets> {
        let mut newest = NewestOffsets::new(KEYS_BYTES_MAX, &self.aborted);
        let mut decompressor = Decompressor::new();
        for segment in &self.segments {
            if segment.next_offset() <= self.dirty_from {
                continue;
            }
            let mut room = true;
            each_batch(segment, |batch| {
                if room && batch.next_offset() > self.dirty_from {
                    room = newest
                        .note(batch, self.dirty_from, &mut decompressor)
                        .map_err(invalid)?;
                }
                Ok(())
            })?;
            if !room {
                break;
            }
        }
        Ok(newest)
    }

    /// Neighbours that together stay below the size of one segment, up to where keys are known.
    fn groups(&self, end: i64) -> Vec<&[Segment]> {
        let known = self
            .segments
            .partition_point(|segment| segment.base_offset() < end);
        let mut groups = Vec::new();
        let mut rest = &self.segments[..known];
        while !rest.is_empty() {
            let base = rest[0].base_offset();
            let mut bytes = 0;
            let fitting = rest.iter().take_while(|segment| {
                bytes += segment.len();
                // Kafka's index files hold offsets relative to the segment's in 32 bits.
                bytes <= self.settings.segment_bytes
                    && segment.next_offset() - base <= i64::from(i32::MAX)
            });
            let (group, after) = rest.split_at(fitting.count().max(1));
            groups.push(group);
            rest = after;
        }
        groups
    }

    /// Writes what remains of some neighbours into one segment; `None` if nothing changes.
    fn clean_group(
        &self,
        group: &[Segment],
        cleaner: &mut Cleaner<'_>,
    ) -> io::Result<Option<Segment>> {
        let base_offset = group[0].base_offset();
        let created_ms = group.iter().map(Segment::created_ms).max().unwrap_or(0);
        let mut target = match &self.dir {
            None => Segment::in_memory(base_offset, created_ms),
            Some(dir) => {
                let name = format!("{base_offset:020}.{}.cleaned", self.number);
                Segment::create_at(
                    dir.join(name),
                    base_offset,
                    created_ms,
                    Arc::clone(&self.disk),
                )?
            }
        };
        match self.write_group(group, cleaner, &mut target) {
            Ok(changed) if changed || group.len() > 1 => Ok(Some(target)),
            Ok(_) => target.delete().map(|()| None),
            Err(error) => {
                // The first error is the one to tell of.
                let _ = target.delete();
                Err(error)
            }
        }
    }

    /// Whether any batch changed.
    fn write_group(
        &self,
        group: &[Segment],
        cleaner: &mut Cleaner<'_>,
        target: &mut Segment,
    ) -> io::Result<bool> {
        let mut changed = false;
        for segment in group {
            each_batch(segment, |batch| {
                let bytes = match cleaner.judge(batch).map_err(invalid)? {
                    Verdict::Unchanged => batch.bytes().clone(),
                    Verdict::Rewritten(bytes) => {
                        changed = true;
                        bytes
                    }
                    Verdict::Removed => {
                        changed = true;
                        return Ok(());
                    }
                };
                let header = BatchHeader::parse(&bytes).ok_or_else(|| {
                    invalid(format!("no batch at offset {}", batch.base_offset()))
                })?;
                target.append(&header, [&bytes, &[]], false)
            })?;
        }
        target.sync()?;
        Ok(changed)
    }
}

impl Cleaned {
    /// Removes the files that were written.
    pub(crate) fn discard(self) -> io::Result<()> {
        for segment in self.groups.into_iter().filter_map(|(_, segment)| segment) {
            segment.delete()?;
        }
        Ok(())
    }
}

fn each_batch(
    segment: &Segment,
    mut each: impl FnMut(&ottla_wire::record::Batch) -> io::Result<()>,
) -> io::Result<()> {
    let mut position = 0;
    while position < segment.len() {
        let bytes = segment.read(position, READ_STEP, i64::MAX, true)?;
        if bytes.is_empty() {
            return Err(invalid(format!("no batch at byte {position} of a segment")));
        }
        position += bytes.len() as u64;
        for batch in Batches::new(bytes) {
            let batch = batch.map_err(invalid)?;
            batch.verify_crc().map_err(invalid)?;
            each(&batch)?;
        }
    }
    Ok(())
}

/// Puts a written segment in the place of those whose base offsets are `old`.
fn swap(
    dir: &Path,
    replacement: &mut Segment,
    end: i64,
    old: impl Iterator<Item = i64>,
) -> io::Result<()> {
    let base = replacement.base_offset();
    let swap = dir.join(format!("{base:020}-{end:020}.swap"));
    replacement.rename(swap.clone())?;
    // From here on the new segment is the one that counts.
    sync_dir(dir)?;
    finish_swap(dir, &swap, base, old)?;
    replacement.note_path(dir.join(file_name(base)));
    Ok(())
}

fn finish_swap(
    dir: &Path,
    swap: &Path,
    base: i64,
    replaced: impl Iterator<Item = i64>,
) -> io::Result<()> {
    for offset in replaced.filter(|offset| *offset != base) {
        let path = dir.join(file_name(offset));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&path, &error)),
            _ => {}
        }
    }
    fs::rename(swap, dir.join(file_name(base))).map_err(|error| at(swap, &error))?;
    sync_dir(dir)
}

fn parse_swap(name: &str) -> Option<(i64, i64)> {
    let (base, end) = name.strip_suffix(".swap")?.split_once('-')?;
    Some((base.parse().ok()?, end.parse().ok()?))
}

/// Makes renamed and removed files survive a crash of the machine.
fn sync_dir(dir: &Path) -> io::Result<()> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| at(dir, &error))
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

const CLEAN_UNTIL: &str = "clean-until";

/// `log.cleaner.dedupe.buffer.size`: what the keys of one round may take; what does not fit waits for the next.
const KEYS_BYTES_MAX: usize = 128 << 20;
