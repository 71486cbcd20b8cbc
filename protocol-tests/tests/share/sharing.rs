//! Several members, of ours and of Java's, that share the records of a topic.

use std::collections::BTreeSet;

use ottla_protocol_tests::Tool;

use crate::{
    Accepting, Place,
    client::{until, write},
    group, topic,
};

pub(super) async fn members_share_one_partition(place: &Place) {
    let bootstrap = &place.bootstrap;
    let (topic, group) = (
        topic(place, "shared", 1).await,
        group(bootstrap, "shared", &[]).await,
    );
    let members: Vec<_> = (0..3)
        .map(|_| Accepting::start(bootstrap, &group, &topic))
        .collect();
    until("each reads the partition", || {
        members
            .iter()
            .all(|member| member.consumer.assignment().len() == 1)
    })
    .await;
    // In many batches, so that there is something to share: until each had some, for they come as they can.
    let (seen_by, mut end) = (|member: &Accepting| member.seen().len(), 0);
    while end < 600 || members.iter().any(|member| seen_by(member) == 0) {
        assert!(end < 20_000, "one of them gets nothing");
        write(bootstrap, &topic, 1, end..end + 20).await;
        end += 20;
    }
    let seen = || members.iter().map(seen_by).sum::<usize>();
    until("all is read", || seen() >= end as usize).await;
    let mut numbers = Vec::new();
    for member in members {
        numbers.extend(member.end().await.into_iter().map(|(number, _)| number));
    }
    numbers.sort_unstable();
    assert_eq!(
        numbers,
        (0..end).collect::<Vec<_>>(),
        "each record went to one member"
    );
}

pub(super) async fn with_javas_console_share_consumer(place: &Place) {
    let bootstrap = &place.bootstrap;
    let (topic, group) = (
        topic(place, "mixed", 4).await,
        group(bootstrap, "mixed", &[]).await,
    );
    let class = Tool::Other("org.apache.kafka.tools.consumer.ConsoleShareConsumer");
    let args = ["--topic", &topic, "--group", &group];
    let mut java = place.tools.as_ref().unwrap().spawn(class, &args).record();
    write(bootstrap, &topic, 4, 0..40).await;
    blocking(|| java.wait_until("Java reads all", |out| lines(out).len() == 40));
    let ours = Accepting::start(bootstrap, &group, &topic);
    until("we have our share", || {
        !ours.consumer.assignment().is_empty()
    })
    .await;
    for begin in (40..440).step_by(20) {
        write(bootstrap, &topic, 4, begin..begin + 20).await;
    }
    let together = |java: &str| -> BTreeSet<u32> {
        let mine = ours.seen().into_iter().map(|(number, _)| number);
        mine.chain(lines(java)).collect()
    };
    blocking(|| java.wait_until("all is read", |out| together(out).len() == 440));
    // Java goes; what it had not accepted is ours, and so is all that comes.
    blocking(|| java.terminate());
    write(bootstrap, &topic, 4, 440..480).await;
    until("we read the rest", || {
        let seen: BTreeSet<u32> = ours.seen().iter().map(|seen| seen.0).collect();
        (440..480).all(|number| seen.contains(&number))
    })
    .await;
    let ours = ours.end().await;
    let theirs = lines(&java.stdout());
    assert!(theirs.len() > 40, "Java had a share of what came later");
    let mut once: Vec<u32> = ours
        .iter()
        .filter(|seen| seen.1 == 1)
        .map(|seen| seen.0)
        .collect();
    once.extend(&theirs);
    once.sort_unstable();
    // Java's last ones may have come again, with a higher count.
    assert_eq!(
        once,
        (0..480).collect::<Vec<_>>(),
        "each was delivered once for the first time"
    );
}

fn lines(out: &str) -> Vec<u32> {
    let whole = out.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .collect()
}

fn blocking<T>(wait: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(wait)
}
