//! News of the cluster: who leads what, which topics have more partitions now, which are missing.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use ottla_wire::ErrorCode;

use super::{Shared, now};
use crate::{Error, Str};

pub(super) async fn run(shared: Arc<Shared>) {
    let mut changes = shared.cluster.changes();
    let mut troubles: HashMap<Str, Trouble> = HashMap::new();
    loop {
        shared.tell_leaders();
        shared.match_topics();
        if let Some(group) = &shared.group
            && group.lock().topics_changed(&shared.cluster.metadata())
        {
            shared.membership.notify_one();
        }
        let due = look_for_trouble(&shared, &mut troubles);
        let mut next = due.unwrap_or_else(|| now() + Duration::from_secs(3600));
        if shared.core(|core| core.lacks_leader()) {
            // Telling the core asks for a refresh; one that brings nothing new wakes nobody.
            next = next.min(now() + shared.config.retry_backoff_max.max(LEADERS_MIN));
        }
        // Both outcomes mean: look again. The sender lives as long as the cluster.
        if let Ok(Err(_)) = tokio::time::timeout_at(next.into(), changes.changed()).await {
            return;
        }
    }
}

impl Shared {
    /// Looks for topics that a subscription by pattern is for, and that are new or gone.
    pub(crate) fn match_topics(&self) {
        let Some(group) = &self.group else { return };
        let internal = !self.config.exclude_internal_topics;
        let metadata = self.cluster.metadata();
        let matched = group.lock().topics_matched(&metadata, internal);
        if let Some(topics) = matched {
            self.track(topics.iter().cloned());
            // That a topic of a pattern is gone is no trouble.
            self.retain_tracked(&topics.into_iter().collect());
            self.membership.notify_one();
        }
    }
}

/// How often to ask for leaders that are missing, at the most.
const LEADERS_MIN: Duration = Duration::from_millis(100);

/// A topic that cannot be read, and since when.
#[derive(Debug)]
struct Trouble {
    error: ErrorCode,
    since: Instant,
    reported: bool,
}

/// Warns of topics that are missing, and reports them to the application when they still are after a while
/// or will not be let be read. Says when to look again.
fn look_for_trouble(shared: &Arc<Shared>, troubles: &mut HashMap<Str, Trouble>) -> Option<Instant> {
    let metadata = shared.cluster.metadata();
    let now = now();
    let mut next: Option<Instant> = None;
    let tracked = shared.tracked();
    troubles.retain(|topic, _| tracked.contains(topic));
    for name in tracked {
        let Some(topic) = metadata.topic(&name).filter(|topic| topic.error.is_err()) else {
            troubles.remove(&name);
            continue;
        };
        let trouble = troubles.entry(name.clone()).or_insert_with(|| {
            tracing::warn!(topic = %name, error = %topic.error, "topic cannot be read; waiting for it");
            Trouble { error: topic.error, since: now, reported: false }
        });
        if trouble.error != topic.error {
            trouble.error = topic.error;
            trouble.reported = false;
        }
        if trouble.reported {
            continue;
        }
        let error = match topic.error {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
                // It may be about to be created; and one of several subscribed topics must not
                // stop the others, so that it is an error once and then only waited for.
                let due = trouble.since + shared.config.default_api_timeout;
                if now < due {
                    next = Some(next.map_or(due, |next| next.min(due)));
                    continue;
                }
                Error::UnknownTopic {
                    topic: name,
                    waited: now - trouble.since,
                }
            }
            code if code.is_retriable() => continue,
            code => ottla_net::Error::Topic {
                topic: name.to_string(),
                code,
            }
            .into(),
        };
        trouble.reported = true;
        shared.core(|core| core.report(error));
    }
    next
}
