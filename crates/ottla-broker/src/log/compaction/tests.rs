//! Compaction against a model: a map from key to newest value must read the same before and after.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use ottla_wire::Uuid;
use ottla_wire::compress::{Codec, Compression, Compressor};
use ottla_wire::record::{Batch, BatchWriter, NewRecord, SealOptions, control_batch};
use proptest::prelude::*;

use super::cleaner::{Cleaner, NewestOffsets, Rules, Verdict};
use super::*;
use crate::cluster::{Cluster, Partition, Topic};
use crate::log::tests::incoming;
use crate::topic_config::TopicConfig;

const SETTINGS: LogSettings = LogSettings {
    segment_bytes: 600,
    segment_ms: i64::MAX,
    retention_bytes: -1,
    retention_ms: -1,
    delete: false,
    compact: true,
    compaction: CompactionSettings {
        delete_retention_ms: 1000,
        lag_min_ms: 0,
        lag_max_ms: i64::MAX,
        dirty_ratio_min: 0.5,
    },
    sync_each_append: false,
};

/// Opens a log, which must be undamaged.
fn open(dir: &Path, now_ms: i64) -> Log {
    let log = Log::open(dir, Arc::default(), SETTINGS, now_ms).unwrap();
    assert_eq!(log.damage.len(), 0, "{:?}", log.damage);
    log
}

type Entry = (u8, Option<u8>);

fn sealed(
    records: &[Entry],
    timestamp: i64,
    codec: Compression,
) -> ottla_wire::record::SealedBatch {
    let mut writer = BatchWriter::new(BytesMut::new());
    for (key, value) in records {
        let value = value.map(|value| vec![value; 30]);
        writer
            .append(&NewRecord {
                timestamp,
                key: Some(&[*key]),
                value: value.as_deref(),
                headers: &[],
            })
            .unwrap();
    }
    let options = SealOptions {
        codec: Codec::from(codec),
    };
    writer.seal(&options, &mut Compressor::new()).unwrap()
}

fn write(log: &mut Log, records: &[Entry], now_ms: i64) {
    let batch = sealed(records, now_ms, Compression::None).freeze();
    log.append(&mut incoming(batch.to_vec()), 0, now_ms)
        .unwrap();
}

fn compact(log: &mut Log, now_ms: i64) -> bool {
    match log.cleaning_job(now_ms, true).unwrap() {
        Some(job) => log.install(job.run().unwrap()).unwrap(),
        None => false,
    }
}

fn batches(log: &Log) -> Vec<Batch> {
    let mut all = Vec::new();
    let mut offset = log.start_offset();
    while offset < log.end_offset() {
        let bytes = log.read(offset, i64::MAX, 1, true).unwrap();
        for batch in Batches::new(bytes) {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            offset = batch.next_offset();
            all.push(batch);
        }
    }
    all
}

fn records(log: &Log) -> Vec<(i64, u8, Option<u8>)> {
    let mut all = Vec::new();
    for batch in batches(log) {
        if batch.is_control() {
            continue;
        }
        let decoded = batch.decode(&mut Decompressor::new(), 1 << 20).unwrap();
        for record in decoded.records() {
            let record = record.unwrap();
            let key = record.key().unwrap()[0];
            all.push((record.offset(), key, record.value().map(|value| value[0])));
        }
    }
    all
}

fn newest(log: &Log) -> BTreeMap<u8, u8> {
    let mut map = BTreeMap::new();
    for (_, key, value) in records(log) {
        match value {
            Some(value) => map.insert(key, value),
            None => map.remove(&key),
        };
    }
    map
}

#[test]
fn the_log_of_a_deleted_topic_leaves_the_files_of_its_successor_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    for value in 0..40 {
        write(&mut log, &[(value % 3, Some(value))], 0);
    }
    let partition = Arc::new(Partition::new(0, vec![1], &BTreeSet::new(), log));
    let mut cluster = Cluster::new("c".to_owned(), Vec::new());
    cluster.add_topic(Topic {
        name: "t".to_owned(),
        id: Uuid([7; 16]),
        internal: false,
        config: Arc::new(TopicConfig::new([("cleanup.policy", "compact")]).unwrap()),
        partitions: vec![Arc::clone(&partition)],
    });
    let job = partition.state.lock().log.cleaning_job(0, true).unwrap();
    let cleaned = job.unwrap().run().unwrap();
    cluster.remove_topic("t");
    fs::remove_dir_all(dir.path()).unwrap();
    let mut successor = open(dir.path(), 0);
    write(&mut successor, &[(9, Some(9))], 0);
    let old = &mut partition.state.lock().log;
    // What comes of these does not matter, only what becomes of the files.
    let _ = old.install(cleaned);
    old.set_settings(LogSettings {
        delete: true,
        retention_bytes: 0,
        ..SETTINGS
    });
    let _ = old.enforce_retention(0);
    assert!(old.cleaning_job(0, true).unwrap().is_none());
    drop(successor);
    assert_eq!(newest(&open(dir.path(), 0)), BTreeMap::from([(9, 9)]));
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Entry>, u8),
    Compact,
    Reopen,
    Wait(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let entry = (0_u8..6, proptest::option::weighted(0.8, any::<u8>()));
    prop_oneof![
        8 => (proptest::collection::vec(entry, 1..12), 0_u8..5).prop_map(|(e, c)| Step::Write(e, c)),
        2 => Just(Step::Compact),
        1 => Just(Step::Reopen),
        1 => (0_u16..2000).prop_map(Step::Wait),
    ]
}

fn check(steps: &[Step], dir: Option<&Path>) -> Result<(), TestCaseError> {
    let open_any = |now_ms| match dir {
        None => Log::in_memory(SETTINGS, now_ms),
        Some(dir) => open(dir, now_ms),
    };
    let mut now_ms = 0;
    let mut log = open_any(now_ms);
    let mut expected = BTreeMap::new();
    for step in steps {
        match step {
            Step::Write(entries, codec) => {
                let codec = Compression::ALL[usize::from(*codec)];
                let batch = sealed(entries, now_ms, codec).freeze();
                log.append(&mut incoming(batch.to_vec()), 0, now_ms)
                    .unwrap();
                for (key, value) in entries {
                    match value {
                        Some(value) => expected.insert(*key, *value),
                        None => expected.remove(key),
                    };
                }
            }
            Step::Compact => {
                let active = log.segments.back().unwrap().base_offset();
                let active_records = |log: &Log| -> Vec<_> {
                    records(log).into_iter().filter(|r| r.0 >= active).collect()
                };
                let (before, end) = (active_records(&log), log.end_offset());
                compact(&mut log, now_ms);
                prop_assert_eq!(active_records(&log), before);
                prop_assert_eq!(log.end_offset(), end);
            }
            Step::Reopen if dir.is_some() => {
                let end = log.end_offset();
                drop(log);
                log = open_any(now_ms);
                prop_assert_eq!(log.end_offset(), end);
            }
            Step::Reopen => {}
            Step::Wait(ms) => now_ms += i64::from(*ms),
        }
        prop_assert_eq!(&newest(&log), &expected);
        let offsets: Vec<i64> = records(&log).iter().map(|record| record.0).collect();
        prop_assert!(offsets.is_sorted_by(|a, b| a < b), "{:?}", offsets);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_newest_values_survive_any_compaction(steps in proptest::collection::vec(step(), 1..60)) {
        check(&steps, None)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn they_survive_on_disk_too(steps in proptest::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        check(&steps, Some(dir.path()))?;
    }
}

fn both(check: impl Fn(&mut Log)) {
    check(&mut Log::in_memory(SETTINGS, 0));
    let dir = tempfile::tempdir().unwrap();
    check(&mut open(dir.path(), 0));
}

#[test]
fn old_values_go_and_small_segments_become_one() {
    both(|log| {
        for i in 0..100 {
            write(log, &[(1, Some(i)), (2, Some(i))], 0);
        }
        let (segments, size) = (log.segments.len(), log.size_bytes());
        assert!(segments > 10);
        assert!(compact(log, 0));
        assert!(log.size_bytes() < size / 10);
        // Neighbours are put together by the sizes they have before.
        assert!(compact(log, 0));
        assert_eq!(log.segments.len(), 2);
        let newest_closed = log.segments[1].base_offset() - 1;
        assert_eq!(records(log)[0].0, newest_closed - 1);
        assert_eq!(newest(log), BTreeMap::from([(1, 99), (2, 99)]));
        assert_eq!((log.start_offset(), log.end_offset()), (0, 200));
        // A fetch from anywhere in the gap finds what comes next.
        let found = log.read(17, i64::MAX, 1, true).unwrap();
        assert!(BatchHeader::parse(&found).unwrap().next_offset() > newest_closed);
    });
}

#[test]
fn compaction_waits_for_enough_dirt_and_for_the_lag() {
    both(|log| {
        for i in 0..40 {
            write(log, &[(1, Some(i)), (2, Some(i))], 100);
        }
        let settings = SETTINGS;
        log.set_settings(LogSettings {
            compaction: CompactionSettings {
                lag_min_ms: 50,
                ..settings.compaction
            },
            ..settings
        });
        assert!(log.cleaning_job(120, false).unwrap().is_none(), "too young");
        assert!(log.cleaning_job(150, false).unwrap().is_some());
        log.set_settings(SETTINGS);
        assert!(compact(log, 150));
        assert!(
            log.cleaning_job(150, false).unwrap().is_none(),
            "nothing is dirty"
        );
        for i in 0..9 {
            write(
                log,
                &[(10 + i, Some(i)), (20 + i, Some(i)), (30 + i, Some(i))],
                150,
            );
        }
        compact(log, 150);
        write(log, &[(1, Some(0))], 150);
        log.roll(150).unwrap();
        assert!(
            log.cleaning_job(150, false).unwrap().is_none(),
            "a small part is dirty"
        );
        log.set_settings(LogSettings {
            compaction: CompactionSettings {
                lag_max_ms: 10,
                ..settings.compaction
            },
            ..settings
        });
        assert!(
            log.cleaning_job(161, false).unwrap().is_some(),
            "it waited long enough"
        );
        log.set_settings(LogSettings {
            compact: false,
            ..settings
        });
        assert!(log.cleaning_job(i64::MAX, true).unwrap().is_none());
    });
}

#[test]
fn a_tombstone_goes_when_its_retention_has_passed_since_it_was_first_seen() {
    both(|log| {
        write(log, &[(1, Some(1)), (2, Some(2))], 0);
        write(log, &[(1, None)], 0);
        write(log, &[(3, Some(3))], 0);
        log.roll(0).unwrap();
        compact(log, 5000);
        let keys = |log: &Log| records(log).iter().map(|r| r.1).collect::<Vec<_>>();
        assert_eq!(keys(log), [2, 1, 3], "the value went, the tombstone stays");
        compact(log, 5999);
        assert_eq!(keys(log), [2, 1, 3]);
        compact(log, 6000);
        assert_eq!(keys(log), [2, 3]);
    });
}

#[test]
fn the_last_batch_of_a_producer_stays_so_that_repeats_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    let mut first = sealed(&[(1, Some(1)), (2, Some(1))], 0, Compression::Lz4);
    first.stamp(7, 0, 0, false);
    let first = first.freeze();
    log.append(&mut incoming(first.to_vec()), 0, 0).unwrap();
    write(&mut log, &[(1, Some(2)), (2, Some(2))], 0);
    log.roll(0).unwrap();
    write(&mut log, &[(9, Some(9))], 0);
    compact(&mut log, 0);
    assert_eq!(records(&log)[0].0, 2, "the records are gone");
    let empty = &batches(&log)[0];
    assert_eq!(empty.header().record_count(), Some(0));
    assert_eq!((empty.base_offset(), empty.last_offset()), (0, 1));
    drop(log);
    let mut log = open(dir.path(), 0);
    let again = log.append(&mut incoming(first.to_vec()), 0, 0).unwrap();
    assert!(again.duplicate && again.base_offset == 0);
    let found = log.batch_at_timestamp(0, 0).unwrap().unwrap();
    assert_eq!(BatchHeader::parse(&found).unwrap().base_offset, 2);
}

#[test]
fn what_changed_meanwhile_makes_a_result_void() {
    both(|log| {
        for i in 0..40 {
            write(log, &[(1, Some(i)), (2, Some(i))], 0);
        }
        let job = log.cleaning_job(0, false).unwrap().unwrap();
        log.delete_before(30).unwrap();
        let before = records(log);
        assert!(!log.install(job.run().unwrap()).unwrap());
        assert_eq!(records(log), before);
        assert!(compact(log, 0));
    });
}

#[test]
fn a_first_segment_without_records_is_still_the_logs_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    for i in 0..40 {
        write(&mut log, &[(1, Some(i)), (2, Some(i))], 0);
    }
    compact(&mut log, 0);
    assert!(log.segments[0].is_empty());
    drop(log);
    // Twice: what the first opening does shows in the second.
    for _ in 0..2 {
        let log = open(dir.path(), 0);
        assert_eq!((log.start_offset(), log.segments[0].base_offset()), (0, 0));
    }
}

/// What a crash leaves behind at each step of a swap.
#[test]
fn an_interrupted_swap_is_undone_or_finished() {
    for step in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), 0);
        for i in 0..40 {
            write(&mut log, &[(1, Some(i)), (2, Some(i))], 0);
        }
        let (expected, end, before) = (newest(&log), log.end_offset(), records(&log).len());
        let cleaned = log.cleaning_job(0, false).unwrap().unwrap().run().unwrap();
        // As the log notes it before.
        log.compacted_below = cleaned.until;
        log.write_checkpoint().unwrap();
        let (count, replacement) = cleaned.groups.into_iter().next().unwrap();
        let mut replacement = replacement.unwrap();
        let end_of_group = log.segments[count].base_offset();
        if step > 0 {
            let name = format!("{:020}-{end_of_group:020}.swap", 0);
            replacement.rename(dir.path().join(name)).unwrap();
        }
        if step > 1 {
            let second = log.segments[1].base_offset();
            fs::remove_file(dir.path().join(file_name(second))).unwrap();
        }
        if step > 2 {
            fs::remove_file(dir.path().join(file_name(0))).unwrap();
        }
        drop((log, replacement));
        let log = open(dir.path(), 0);
        assert_eq!(
            (newest(&log), log.end_offset()),
            (expected, end),
            "step {step}"
        );
        assert_eq!(records(&log).len() == before, step == 0, "step {step}");
        let left_over = fs::read_dir(dir.path()).unwrap().any(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.ends_with(".swap") || name.ends_with(".cleaned")
        });
        assert!(!left_over, "step {step}");
    }
}

#[test]
fn keys_that_do_not_fit_wait_for_the_next_round() {
    let mut newest = NewestOffsets::new(1, &[]);
    let mut tools = Decompressor::new();
    let (first, second) = (placed(&[(1, Some(1))], 0), placed(&[(2, Some(1))], 1));
    assert!(newest.note(&first, 0, &mut tools).unwrap());
    assert!(!newest.note(&second, 0, &mut tools).unwrap());
    assert_eq!(newest.end(), 1);
    let none = HashMap::new();
    let rules = Rules {
        now_ms: 0,
        delete_retention_ms: 0,
        end: 1,
    };
    let mut cleaner = Cleaner::new(&newest, rules, &none, &[]);
    assert!(matches!(
        cleaner.judge(&second).unwrap(),
        Verdict::Unchanged
    ));
}

fn placed(records: &[Entry], offset: i64) -> Batch {
    only(sealed(records, 0, Compression::None), offset)
}

fn transactional(records: &[Entry], producer: i64, offset: i64) -> Batch {
    let mut sealed = sealed(records, 0, Compression::None);
    sealed.stamp(producer, 0, 0, true);
    only(sealed, offset)
}

fn marker(commit: bool, producer: i64, offset: i64) -> Batch {
    only(control_batch(commit, producer, 0, 0, 0), offset)
}

fn only(mut sealed: ottla_wire::record::SealedBatch, offset: i64) -> Batch {
    sealed.place(offset, 0);
    Batches::new(sealed.freeze()).next().unwrap().unwrap()
}

/// Cleans batches and returns those that stay.
fn clean(log: &[Batch], aborted: &[AbortedTransaction], now_ms: i64) -> Vec<Batch> {
    let mut newest = NewestOffsets::new(usize::MAX, aborted);
    for batch in log {
        assert!(newest.note(batch, 0, &mut Decompressor::new()).unwrap());
    }
    let none = HashMap::new();
    let rules = Rules {
        now_ms,
        delete_retention_ms: 1000,
        end: -1,
    };
    let mut cleaner = Cleaner::new(&newest, rules, &none, aborted);
    let mut kept = Vec::new();
    for batch in log {
        let bytes: Bytes = match cleaner.judge(batch).unwrap() {
            Verdict::Unchanged => batch.bytes().clone(),
            Verdict::Rewritten(bytes) => bytes,
            Verdict::Removed => continue,
        };
        kept.extend(Batches::new(bytes).map(Result::unwrap));
    }
    kept
}

#[test]
fn aborted_records_count_for_nothing_and_markers_outlive_their_transaction() {
    let log = [
        placed(&[(1, Some(1))], 0),
        transactional(&[(1, Some(2))], 7, 1),
        transactional(&[(2, Some(3))], 8, 2),
        marker(false, 7, 3),
        marker(true, 8, 4),
        // The producer goes on after its aborted transaction.
        transactional(&[(3, Some(4))], 7, 5),
        marker(true, 7, 6),
    ];
    let aborted = [AbortedTransaction {
        producer_id: 7,
        first_offset: 1,
        last_offset: 3,
    }];
    let offsets = |log: &[Batch]| log.iter().map(Batch::base_offset).collect::<Vec<_>>();
    let once = clean(&log, &aborted, 0);
    assert_eq!(
        offsets(&once),
        [0, 2, 3, 4, 5, 6],
        "only the aborted record goes"
    );
    let twice = clean(&once, &aborted, 10);
    assert_eq!(offsets(&twice), [0, 2, 3, 4, 5, 6]);
    assert_eq!(twice[2].header().delete_horizon_ms(), Some(1010));
    assert_eq!(
        twice[3].header().delete_horizon_ms(),
        None,
        "its records are there"
    );
    let late = clean(&twice, &aborted, 1010);
    assert_eq!(offsets(&late), [0, 2, 4, 5, 6]);
    // The entry about the abort outlives its marker and must not hide what came later.
    assert_eq!(offsets(&clean(&late, &aborted, 2000)), [0, 2, 4, 5, 6]);
}
