//! The settings of nodes that change while they run: the throttles that tools set while they move partitions.
//!
//! Nothing is copied between nodes here, so they slow nothing down; they are kept so that those tools find what
//! they set.

use std::collections::BTreeMap;

/// The throttles in force, by node.
#[derive(Debug, Default)]
pub(crate) struct Throttles {
    by_node: BTreeMap<i32, BTreeMap<&'static str, String>>,
}

impl Throttles {
    /// What is set for `node`.
    pub(crate) fn of(&self, node: i32) -> impl Iterator<Item = (&'static str, &str)> {
        let set = self.by_node.get(&node).into_iter().flatten();
        set.map(|(name, value)| (*name, value.as_str()))
    }

    /// Changes settings of `node`, all or none; `None` unsets one.
    ///
    /// # Errors
    /// A sentence that names the setting that cannot be changed, or the value it cannot have.
    pub(crate) fn change<'a>(
        &mut self,
        node: i32,
        validate_only: bool,
        changes: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<(), String> {
        let mut set = self.by_node.get(&node).cloned().unwrap_or_default();
        for (name, value) in changes {
            let known = NAMES.iter().find(|known| **known == name);
            let known = known
                .ok_or_else(|| format!("Cannot update these configs dynamically: Set({name})"))?;
            match value {
                None => {
                    set.remove(known);
                }
                Some(value) if value.trim().parse::<u64>().is_ok() => {
                    set.insert(known, value.trim().to_owned());
                }
                Some(value) => {
                    return Err(format!(
                        "Invalid value {value} for configuration {name}: Not a number of bytes per second"
                    ));
                }
            }
        }
        if !validate_only {
            self.by_node.insert(node, set);
        }
        Ok(())
    }
}

const NAMES: [&str; 3] = [
    "follower.replication.throttled.rate",
    "leader.replication.throttled.rate",
    "replica.alter.log.dirs.io.max.bytes.per.second",
];
