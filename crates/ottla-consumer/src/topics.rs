//! Names of topics to subscribe to.

use crate::{Error, Str};

/// Each once, in order.
///
/// # Errors
/// [`Error::Usage`] without a topic, or for a name that none can have.
pub(crate) fn topic_names<T: Into<Str>>(
    topics: impl IntoIterator<Item = T>,
) -> Result<Vec<Str>, Error> {
    let mut topics: Vec<Str> = topics.into_iter().map(Into::into).collect();
    topics.sort_unstable();
    topics.dedup();
    if topics.is_empty() {
        return Err(Error::Usage(
            "name at least one topic; to read none, unsubscribe",
        ));
    }
    if topics
        .iter()
        .any(|topic| !(1..=LEN_MAX).contains(&topic.len()))
    {
        return Err(Error::Usage("a topic's name has 1 to 249 characters"));
    }
    Ok(topics)
}

/// The broker's bound.
const LEN_MAX: usize = 249;
