//! Puts groups on the disk, without keeping anybody waiting who has nothing to do with it.
//!
//! A group changes under the lock of all groups and is written after that lock was let go of. What is written is
//! the group as it is then, so that one write serves everybody who changed the group before it, and an older state
//! never replaces a newer one.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::context::Shared;
use crate::group::Groups;
use crate::storage::SavedGroup;

/// Who has what to write, and what was written.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    /// Counts wishes; a change that was made before a wish got its number is covered by a write that began later.
    wishes: AtomicU64,
    /// By a group's hash: up to which wish each group was written. Held while a group is written.
    written: [Mutex<HashMap<String, u64>>; WRITERS],
}

impl Shared {
    /// Makes sure that the group is on the disk as it is now, or newer, or that it is gone. Blocks for as long as the
    /// disk does; the groups must not be locked.
    pub(crate) fn keep_group(&self, id: &str) -> io::Result<()> {
        self.keep_group_or(id, |_| {})
    }

    /// [`Self::keep_group`] that takes the change back if it could not be kept, before anybody else's try could keep it
    /// along with a change of its own.
    pub(crate) fn keep_group_or(&self, id: &str, undo: impl FnOnce(&mut Groups)) -> io::Result<()> {
        let Some(data_dir) = &self.data_dir else {
            return Ok(());
        };
        let wish = self.keeper.wishes.fetch_add(1, Ordering::SeqCst);
        let place = crc32c::crc32c(id.as_bytes()) as usize % WRITERS;
        let mut written = self.keeper.written[place].lock();
        if written.get(id).is_some_and(|covered| wish < *covered) {
            return Ok(());
        }
        let covered = self.keeper.wishes.load(Ordering::SeqCst);
        let saved = self
            .groups
            .lock()
            .get_mut(id)
            .map(|group| SavedGroup::of(id, group));
        let kept = match &saved {
            Some(saved) => data_dir.save_group(saved),
            None => data_dir.delete_group(id),
        };
        match kept {
            Ok(()) if saved.is_some() => drop(written.insert(id.to_owned(), covered)),
            Ok(()) => drop(written.remove(id)),
            Err(_) => undo(&mut self.groups.lock()),
        }
        kept
    }

    /// [`Self::keep_group`] without blocking. It is written even if this future is dropped.
    pub(crate) async fn group_kept(self: &Arc<Self>, id: &str) -> io::Result<()> {
        self.group_kept_or(id, |_| {}).await
    }

    /// [`Self::keep_group_or`] without blocking. It is written, or taken back, even if this future is dropped.
    pub(crate) async fn group_kept_or(
        self: &Arc<Self>,
        id: &str,
        undo: impl FnOnce(&mut Groups) + Send + 'static,
    ) -> io::Result<()> {
        if self.data_dir.is_none() {
            return Ok(());
        }
        let (shared, id) = (Arc::clone(self), id.to_owned());
        tokio::task::spawn_blocking(move || shared.keep_group_or(&id, undo))
            .await
            .map_err(io::Error::other)?
    }
}

/// So many groups can be written at the same time.
const WRITERS: usize = 16;
