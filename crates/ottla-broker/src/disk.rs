//! Writing to the data directory, and the seam through which a test fills the disk.
//!
//! Every byte that a log or a metadata file gains goes through [`Disk`]. It has no limit of its own; a test may give
//! it one, and from then on writes end as they do on a disk that is full: in the middle, with
//! [`ErrorKind::StorageFull`].

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// What a data directory is written through.
#[derive(Debug)]
pub(crate) struct Disk {
    /// Bytes that may still be written; [`u64::MAX`] for any number.
    left: AtomicU64,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            left: AtomicU64::new(NO_LIMIT),
        }
    }
}

impl Disk {
    /// Takes `bytes` more and then no more; `None` lifts the limit.
    pub(crate) fn limit(&self, bytes: Option<u64>) {
        self.left.store(bytes.unwrap_or(NO_LIMIT), Ordering::SeqCst);
    }

    /// Writes all of `bytes` at `position`. After an error, any part of them may stand in the file.
    pub(crate) fn write_at(&self, file: &File, bytes: &[u8], position: u64) -> io::Result<()> {
        let room = self.take(bytes.len());
        file.write_all_at(&bytes[..room], position)?;
        if room < bytes.len() {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// Replaces a file as a whole: after a crash, even of the machine, it is the old or the new one. A failure
    /// leaves the old one.
    ///
    /// The content is followed by its checksum, which [`read_checked`] wants to see.
    pub(crate) fn replace(&self, path: &Path, value: &impl Serialize) -> io::Result<()> {
        self.swap(path, value, File::sync_data)
    }

    /// [`Self::replace`] for what can be done without: a crash of the machine may leave neither file.
    pub(crate) fn note(&self, path: &Path, value: &impl Serialize) -> io::Result<()> {
        self.swap(path, value, |_| Ok(()))
    }

    fn swap(
        &self,
        path: &Path,
        value: &impl Serialize,
        finish: impl FnOnce(&File) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(format!("\n{CHECKSUM}{checksum:08x}\n").as_bytes());
        let fresh = path.with_extension("new");
        let written = File::create(&fresh)
            .and_then(|file| {
                self.write_at(&file, &bytes, 0)?;
                finish(&file)
            })
            .and_then(|()| fs::rename(&fresh, path));
        if written.is_err() {
            // It would only take up room that is short already.
            let _ = fs::remove_file(&fresh);
        }
        written.map_err(|error| at(path, &error))
    }

    fn take(&self, wanted: usize) -> usize {
        let mut room = wanted;
        // Always `Ok`: the closure never refuses.
        let _ = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                if left == NO_LIMIT {
                    room = wanted;
                    return Some(left);
                }
                room = wanted.min(usize::try_from(left).unwrap_or(usize::MAX));
                Some(left - room as u64)
            });
        room
    }
}

/// Why a file that [`Disk::replace`] wrote cannot be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    Io(io::Error),
    /// It is not what was written.
    Damaged(String),
}

/// Reads what [`Disk::replace`] wrote; `None` if there is no such file.
pub(crate) fn read_checked<T>(path: &Path) -> Result<Option<T>, ReadError>
where
    T: for<'de> Deserialize<'de>,
{
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ReadError::Io(at(path, &error))),
    };
    let content = checked(&bytes)
        .ok_or_else(|| ReadError::Damaged("its checksum is missing or wrong".to_owned()))?;
    serde_json::from_slice(content)
        .map(Some)
        .map_err(|error| ReadError::Damaged(error.to_string()))
}

/// The content in front of the last line, if that line is its checksum.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let line_len = 1 + CHECKSUM.len() + 8 + 1;
    let (content, line) = bytes.split_at_checked(bytes.len().checked_sub(line_len)?)?;
    let expected = format!("\n{CHECKSUM}{:08x}\n", crc32c::crc32c(content));
    (line == expected.as_bytes()).then_some(content)
}

/// The same error, saying which file it is about.
pub(crate) fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

const NO_LIMIT: u64 = u64::MAX;
const CHECKSUM: &str = "crc32c ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_any_change_to_it_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file.json");
        let value = vec!["one".to_owned(), "two\n".to_owned()];
        Disk::default().replace(&path, &value).unwrap();
        assert_eq!(read_checked::<Vec<String>>(&path).unwrap(), Some(value));
        let whole = fs::read(&path).unwrap();
        for place in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[place] ^= 1 << bit;
                fs::write(&path, &changed).unwrap();
                let read = read_checked::<Vec<String>>(&path);
                assert!(matches!(read, Err(ReadError::Damaged(_))), "{place} {bit}");
            }
            fs::write(&path, &whole[..place]).unwrap();
            let read = read_checked::<Vec<String>>(&path);
            assert!(matches!(read, Err(ReadError::Damaged(_))), "cut to {place}");
        }
    }

    #[test]
    fn a_full_disk_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file.json");
        let disk = Disk::default();
        disk.replace(&path, &1).unwrap();
        disk.limit(Some(5));
        let error = disk.replace(&path, &2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert!(error.to_string().contains("file.json"), "{error}");
        assert_eq!(read_checked::<i32>(&path).unwrap(), Some(1));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        disk.limit(None);
        disk.replace(&path, &2).unwrap();
        assert_eq!(read_checked::<i32>(&path).unwrap(), Some(2));
    }
}
