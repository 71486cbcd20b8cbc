//! A run of consecutive batches: one file of a partition's log, or its like in memory.
//!
//! Owns the bytes and a sparse index into them. Knows where batches start and end (from their headers),
//! never what is in them; [`super::Log`] decides what is appended and when a segment ends.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::header::{BatchHeader, HEADER_LEN};
use crate::disk::{Disk, at};

/// Consecutive batches from `base_offset` on.
#[derive(Debug)]
pub(crate) struct Segment {
    base_offset: i64,
    len: u64,
    /// Offset after the last record; `base_offset` while empty.
    next_offset: i64,
    max_timestamp: i64,
    /// When the first record came, by the broker's clock in ms: decides when the segment is rolled.
    created_ms: i64,
    index: Vec<IndexEntry>,
    storage: Storage,
}

/// Where a batch starts; one for about every [`INDEX_INTERVAL`] bytes.
#[derive(Clone, Copy, Debug)]
struct IndexEntry {
    base_offset: i64,
    position: u64,
    /// The largest timestamp of all batches before `position`.
    max_timestamp_before: i64,
}

#[derive(Debug)]
enum Storage {
    /// Chunks that are full are shared with readers; the last one still grows.
    Memory {
        chunks: Vec<(u64, Bytes)>,
        open: BytesMut,
    },
    File {
        file: File,
        path: PathBuf,
        disk: Arc<Disk>,
        /// Part of a batch that could not be written whole may still stand behind the last one.
        torn: bool,
    },
}

impl Segment {
    pub(crate) fn in_memory(base_offset: i64, created_ms: i64) -> Self {
        let storage = Storage::Memory {
            chunks: Vec::new(),
            open: BytesMut::new(),
        };
        Self::new(base_offset, created_ms, storage)
    }

    /// Creates `<base offset>.log` in `dir`; a file of that name must not exist.
    pub(crate) fn create(
        dir: &Path,
        base_offset: i64,
        created_ms: i64,
        disk: Arc<Disk>,
    ) -> io::Result<Self> {
        let path = dir.join(file_name(base_offset));
        Self::create_at(path, base_offset, created_ms, disk)
    }

    /// Creates a segment in a file of any name, which must not exist.
    pub(super) fn create_at(
        path: PathBuf,
        base_offset: i64,
        created_ms: i64,
        disk: Arc<Disk>,
    ) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|error| at(&path, &error))?;
        Ok(Self::over(file, path, base_offset, created_ms, disk))
    }

    /// The same segment once more, for reading; neither must be appended to from now on.
    pub(super) fn share(&mut self) -> io::Result<Self> {
        let storage = match &mut self.storage {
            Storage::Memory { chunks, open } => {
                if !open.is_empty() {
                    let last = std::mem::take(open);
                    chunks.push((self.len - last.len() as u64, last.freeze()));
                }
                let chunks = chunks.clone();
                let open = BytesMut::new();
                Storage::Memory { chunks, open }
            }
            Storage::File {
                file, path, disk, ..
            } => {
                let file = file.try_clone().map_err(|error| at(path, &error))?;
                Storage::file(file, path.clone(), Arc::clone(disk))
            }
        };
        Ok(Self {
            index: self.index.clone(),
            storage,
            ..*self
        })
    }

    /// Gives the segment's file another name, and replaces one that has it.
    pub(super) fn rename(&mut self, to: PathBuf) -> io::Result<()> {
        if let Storage::File { path, .. } = &self.storage {
            std::fs::rename(path, &to).map_err(|error| at(path, &error))?;
        }
        self.note_path(to);
        Ok(())
    }

    /// The segment's file got another name.
    pub(super) fn note_path(&mut self, to: PathBuf) {
        if let Storage::File { path, .. } = &mut self.storage {
            *path = to;
        }
    }

    /// A segment over a file that recovery has opened; empty until [`Self::note_appended`] tells it of batches.
    pub(super) fn over(
        file: File,
        path: PathBuf,
        base_offset: i64,
        created_ms: i64,
        disk: Arc<Disk>,
    ) -> Self {
        Self::new(base_offset, created_ms, Storage::file(file, path, disk))
    }

    fn new(base_offset: i64, created_ms: i64, storage: Storage) -> Self {
        Self {
            base_offset,
            len: 0,
            next_offset: base_offset,
            max_timestamp: -1,
            created_ms,
            index: Vec::new(),
            storage,
        }
    }

    pub(crate) fn base_offset(&self) -> i64 {
        self.base_offset
    }

    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn created_ms(&self) -> i64 {
        self.created_ms
    }

    /// The time of the newest record: its own, or when it came if records carry no time.
    pub(crate) fn newest_ms(&self) -> i64 {
        if self.max_timestamp < 0 {
            self.created_ms
        } else {
            self.max_timestamp
        }
    }

    /// Appends one batch, in two parts, whose header, offsets included, is final; with `sync`, so that it survives a
    /// crash of the machine. After an error the segment is as it was.
    pub(crate) fn append(
        &mut self,
        header: &BatchHeader,
        parts: [&[u8]; 2],
        sync: bool,
    ) -> io::Result<()> {
        self.storage.append(self.len, parts, sync)?;
        self.note_appended(header);
        Ok(())
    }

    /// As [`Self::append`], for a batch in memory that need not be copied.
    pub(crate) fn keep(&mut self, header: &BatchHeader, batch: Bytes) {
        self.storage.keep(self.len, batch);
        self.note_appended(header);
    }

    /// Removes the batches from `offset` on; one that begins before it stays whole.
    pub(super) fn truncate(&mut self, offset: i64) -> io::Result<()> {
        let Some((mut position, header)) = self.find(offset)? else {
            return Ok(());
        };
        if header.base_offset < offset {
            position += header.total_len() as u64;
        }
        self.storage.truncate(position)?;
        self.len = 0;
        self.next_offset = self.base_offset;
        self.max_timestamp = -1;
        self.index.clear();
        while let Some(header) = self.header_within(self.len, position)? {
            self.note_appended(&header);
        }
        Ok(())
    }

    /// Counts in a batch that stands at the end already.
    pub(super) fn note_appended(&mut self, header: &BatchHeader) {
        let due = match self.index.last() {
            None => true,
            Some(last) => self.len - last.position >= INDEX_INTERVAL,
        };
        if due {
            self.index.push(IndexEntry {
                base_offset: header.base_offset,
                position: self.len,
                max_timestamp_before: self.max_timestamp,
            });
        }
        self.len += header.total_len() as u64;
        self.next_offset = header.next_offset();
        // What compaction emptied keeps a timestamp that no record has.
        if header.record_count > 0 {
            self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        }
    }

    /// Where the first batch starts that reaches `offset`, and its header; `None` if all end before it.
    pub(crate) fn find(&self, offset: i64) -> io::Result<Option<(u64, BatchHeader)>> {
        let after = self
            .index
            .partition_point(|entry| entry.base_offset <= offset);
        let start = after.checked_sub(1).map_or(0, |i| self.index[i].position);
        self.scan(start, |header| header.next_offset() > offset)
    }

    /// The first batch that reaches `from` and whose largest timestamp is at least `timestamp`.
    pub(crate) fn find_timestamp(
        &self,
        timestamp: i64,
        from: i64,
    ) -> io::Result<Option<(u64, BatchHeader)>> {
        if self.max_timestamp < timestamp {
            return Ok(None);
        }
        let after = self
            .index
            .partition_point(|e| e.max_timestamp_before < timestamp);
        let start = after.checked_sub(1).map_or(0, |i| self.index[i].position);
        self.scan(start, |header| {
            header.record_count > 0
                && header.max_timestamp >= timestamp
                && header.next_offset() > from
        })
    }

    /// The largest timestamp of the batches that begin at `from` or behind it; -1 if there is none.
    pub(crate) fn max_timestamp_from(&self, from: i64) -> io::Result<i64> {
        if self.next_offset <= from {
            return Ok(-1);
        }
        if self.base_offset >= from {
            return Ok(self.max_timestamp);
        }
        let mut newest = -1;
        let start = self.find(from)?.map_or(self.len, |(position, _)| position);
        self.scan(start, |header| {
            if header.base_offset >= from && header.record_count > 0 {
                newest = newest.max(header.max_timestamp);
            }
            newest == self.max_timestamp
        })?;
        Ok(newest)
    }

    fn scan(
        &self,
        mut position: u64,
        mut wanted: impl FnMut(&BatchHeader) -> bool,
    ) -> io::Result<Option<(u64, BatchHeader)>> {
        while let Some(header) = self.header_within(position, self.len)? {
            if wanted(&header) {
                return Ok(Some((position, header)));
            }
            position += header.total_len() as u64;
        }
        Ok(None)
    }

    /// Whole batches from `position` on: as many as end within `max_bytes` and below `limit_offset`; the
    /// first one even when it is larger, if `at_least_one`.
    pub(crate) fn read(
        &self,
        position: u64,
        max_bytes: usize,
        limit_offset: i64,
        at_least_one: bool,
    ) -> io::Result<Bytes> {
        let mut end = position;
        let in_one_piece = self.storage.piece_end(position);
        while let Some(header) = self.header_within(end, self.len)? {
            let next = end + header.total_len() as u64;
            if next > in_one_piece && end - position >= PIECE_MIN {
                break;
            }
            let first = at_least_one && end == position;
            if header.base_offset >= limit_offset || (next - position > max_bytes as u64 && !first)
            {
                break;
            }
            end = next;
        }
        self.storage.read(position, (end - position) as usize)
    }

    /// Makes what was appended survive a crash of the machine; nothing to do in memory.
    pub(crate) fn sync(&self) -> io::Result<()> {
        match &self.storage {
            Storage::Memory { .. } => Ok(()),
            Storage::File { file, path, .. } => file.sync_data().map_err(|error| at(path, &error)),
        }
    }

    /// Removes the segment's file.
    pub(crate) fn delete(self) -> io::Result<()> {
        match self.storage {
            Storage::Memory { .. } => Ok(()),
            Storage::File { path, .. } => match std::fs::remove_file(&path) {
                // A compaction that could not be finished may have removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                result => result.map_err(|error| at(&path, &error)),
            },
        }
    }

    /// The header at `position` if a whole batch stands there before `end`.
    fn header_within(&self, position: u64, end: u64) -> io::Result<Option<BatchHeader>> {
        if end - position < HEADER_LEN as u64 {
            return Ok(None);
        }
        let bytes = self.storage.read(position, HEADER_LEN)?;
        Ok(BatchHeader::parse(&bytes).filter(|h| h.total_len() as u64 <= end - position))
    }
}

impl Storage {
    fn file(file: File, path: PathBuf, disk: Arc<Disk>) -> Self {
        Self::File {
            file,
            path,
            disk,
            torn: false,
        }
    }

    /// Puts a batch behind the `len` bytes that count. Nothing of it counts after an error.
    fn append(&mut self, len: u64, parts: [&[u8]; 2], sync: bool) -> io::Result<()> {
        match self {
            Self::Memory { chunks, open } => {
                let incoming = parts[0].len() + parts[1].len();
                if !open.is_empty() && open.len() + incoming > CHUNK_LEN {
                    let full = std::mem::take(open);
                    chunks.push((len - full.len() as u64, full.freeze()));
                }
                if open.len() >= CHUNK_LEN / 8 {
                    // It will most likely become full: growing in steps would copy it over and over.
                    open.reserve(CHUNK_LEN - open.len());
                } else {
                    open.reserve(incoming);
                }
                for part in parts {
                    open.extend_from_slice(part);
                }
                Ok(())
            }
            Self::File {
                file,
                path,
                disk,
                torn,
            } => {
                // A torn batch must never stand in front of the next one, nor behind it.
                if *torn {
                    file.set_len(len).map_err(|error| at(path, &error))?;
                    *torn = false;
                }
                let mut written = write_parts(disk, file, parts, len);
                if sync && written.is_ok() {
                    written = file.sync_data();
                }
                written.map_err(|error| {
                    *torn = file.set_len(len).is_err();
                    at(path, &error)
                })
            }
        }
    }

    /// Keeps the first `len` bytes.
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        match self {
            Self::Memory { chunks, open } => {
                let open_at = chunks
                    .last()
                    .map_or(0, |(at, chunk)| at + chunk.len() as u64);
                open.truncate(usize::try_from(len.saturating_sub(open_at)).unwrap_or(usize::MAX));
                chunks.retain(|(at, _)| *at < len);
                if let Some((at, chunk)) = chunks.last_mut() {
                    chunk.truncate(usize::try_from(len - *at).unwrap_or(usize::MAX));
                }
                Ok(())
            }
            Self::File {
                file, path, torn, ..
            } => {
                file.set_len(len).map_err(|error| at(path, &error))?;
                *torn = false;
                Ok(())
            }
        }
    }

    /// Makes a batch in memory, which stands behind the `len` bytes that count, a chunk of its own.
    fn keep(&mut self, len: u64, batch: Bytes) {
        if let Self::Memory { chunks, open } = self {
            if !open.is_empty() {
                let before = std::mem::take(open);
                chunks.push((len - before.len() as u64, before.freeze()));
            }
            chunks.push((len, batch));
        }
    }

    /// Up to where what stands from `position` on can be read without copying it together.
    fn piece_end(&self, position: u64) -> u64 {
        match self {
            Self::File { .. } => u64::MAX,
            Self::Memory { chunks, .. } => {
                let after = chunks.partition_point(|(at, _)| *at <= position);
                let chunk = after.checked_sub(1).map(|i| &chunks[i]);
                chunk
                    .map(|(at, chunk)| at + chunk.len() as u64)
                    .filter(|end| *end > position)
                    .unwrap_or(u64::MAX)
            }
        }
    }

    fn read(&self, position: u64, len: usize) -> io::Result<Bytes> {
        match self {
            Self::Memory { chunks, open } => Ok(read_chunks(chunks, open, position, len)),
            Self::File { file, path, .. } => {
                let mut bytes = BytesMut::zeroed(len);
                file.read_exact_at(&mut bytes, position)
                    .map_err(|error| at(path, &error))?;
                Ok(bytes.freeze())
            }
        }
    }
}

/// Small batches cost one call of the system, large ones no copy.
fn write_parts(disk: &Disk, file: &File, parts: [&[u8]; 2], position: u64) -> io::Result<()> {
    let [head, records] = parts;
    if records.len() <= GATHERED_MAX {
        return disk.write_at(file, &[head, records].concat(), position);
    }
    disk.write_at(file, head, position)?;
    disk.write_at(file, records, position + head.len() as u64)
}

fn read_chunks(chunks: &[(u64, Bytes)], open: &BytesMut, position: u64, len: usize) -> Bytes {
    let open_at = chunks
        .last()
        .map_or(0, |(at, chunk)| at + chunk.len() as u64);
    let first = chunks.partition_point(|(at, chunk)| at + chunk.len() as u64 <= position);
    if let Some((at, chunk)) = chunks.get(first) {
        let from = (position - at) as usize;
        if from + len <= chunk.len() {
            return chunk.slice(from..from + len);
        }
    }
    let mut out = BytesMut::with_capacity(len);
    let mut position = position;
    let rest = chunks[first.min(chunks.len())..]
        .iter()
        .map(|(at, chunk)| (*at, chunk.as_ref()))
        .chain([(open_at, open.as_ref())]);
    for (at, chunk) in rest {
        if out.len() == len {
            break;
        }
        let from = (position - at) as usize;
        let take = (len - out.len()).min(chunk.len() - from);
        out.extend_from_slice(&chunk[from..from + take]);
        position += take as u64;
    }
    out.freeze()
}

/// A segment's file name: its base offset in twenty digits, as Kafka writes it.
pub(crate) fn file_name(base_offset: i64) -> String {
    format!("{base_offset:020}.log")
}

/// Bytes between two index entries, as Kafka's `index.interval.bytes`.
const INDEX_INTERVAL: u64 = 4096;

/// So much is worth an answer of its own, and is not copied together with what follows.
const PIECE_MIN: u64 = 128 << 10;

/// Batches up to this size are copied together to be written at once.
const GATHERED_MAX: usize = 16 << 10;

/// In memory, batches gather in chunks of this size, which readers then share without copying.
const CHUNK_LEN: usize = 1 << 20;
