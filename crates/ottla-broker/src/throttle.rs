//! The settings of nodes that change while they run: the throttles that tools set while they move partitions.
//!
//! Nothing is copied between nodes here, so they slow nothing down; they are kept so that those tools find what
//! they set.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The throttles in force, by node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Throttles {
    by_node: BTreeMap<i32, BTreeMap<String, String>>,
}

impl Throttles {
    /// What is set for `node`.
    pub(crate) fn of(&self, node: i32) -> impl Iterator<Item = (&str, &str)> {
        let set = self.by_node.get(&node).into_iter().flatten();
        set.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Changes settings of `node`; `None` unsets one. After an error, some may have changed.
    ///
    /// # Errors
    /// A sentence that names the setting that cannot be changed, or the value it cannot have.
    pub(crate) fn change<'a>(
        &mut self,
        node: i32,
        changes: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<(), String> {
        let set = self.by_node.entry(node).or_default();
        for (name, value) in changes {
            if !NAMES.contains(&name) {
                return Err(format!(
                    "Cannot update these configs dynamically: Set({name})"
                ));
            }
            match value {
                None => {
                    set.remove(name);
                }
                Some(value) if value.trim().parse::<u64>().is_ok() => {
                    set.insert(name.to_owned(), value.trim().to_owned());
                }
                Some(value) => {
                    return Err(format!(
                        "Invalid value {value} for configuration {name}: Not a number of bytes per second"
                    ));
                }
            }
        }
        Ok(())
    }
}

const NAMES: [&str; 3] = [
    "follower.replication.throttled.rate",
    "leader.replication.throttled.rate",
    "replica.alter.log.dirs.io.max.bytes.per.second",
];
