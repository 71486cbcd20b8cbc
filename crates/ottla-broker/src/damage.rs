//! What recovery found wrong in a data directory.

use std::fmt;
use std::path::PathBuf;

/// Something that was not as it had been written, and what became of it.
///
/// What a log serves after a start is always the beginning of what was acknowledged: from the first damaged place
/// on, nothing is served. Unless it is just a write that a crash cut short, what is no longer served is set aside
/// in files whose names end in `.cut`, which nobody reads or removes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in it the damage begins, in bytes.
    pub position: u64,
    /// What is wrong there.
    pub kind: DamageKind,
    /// Where the bytes from there on are kept, if they are.
    pub set_aside: Option<PathBuf>,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DamageKind {
    /// A crash interrupted the last write, which nobody was told of. It was cut off.
    TornTail {
        /// How many bytes were cut.
        bytes: u64,
    },
    /// The bytes are not a batch, or not the one that was written.
    Corrupt {
        /// What gives it away.
        reason: &'static str,
    },
    /// A whole segment lies behind damage.
    BehindDamage,
    /// Records are gone without a trace: a segment file is missing or ends too early.
    Missing {
        /// The first offset that is gone.
        from: i64,
        /// The first offset after it that is, or was, there.
        to: i64,
    },
    /// The partition's checkpoint is missing or damaged. Records that DeleteRecords had hidden are back.
    Checkpoint,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, byte {}: ", self.file.display(), self.position)?;
        match &self.kind {
            DamageKind::TornTail { bytes } => {
                write!(
                    f,
                    "the last write was cut short; {bytes} bytes of it removed"
                )?;
            }
            DamageKind::Corrupt { reason } => write!(f, "{reason}")?,
            DamageKind::BehindDamage => {
                f.write_str("a segment behind a damaged place cannot be served")?;
            }
            DamageKind::Missing { from, to } => {
                write!(
                    f,
                    "the records from offset {from} to {} are missing",
                    to - 1
                )?;
            }
            DamageKind::Checkpoint => {
                f.write_str("the checkpoint is missing or damaged; deleted records may be back")?;
            }
        }
        if let Some(path) = &self.set_aside {
            write!(f, "; set aside in {}", path.display())?;
        }
        Ok(())
    }
}
