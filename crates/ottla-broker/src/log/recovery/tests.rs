//! Damage of every kind at every place: what comes back is the beginning of what was acknowledged, byte for byte, and
//! what is wrong is named.

use std::collections::BTreeMap;

use fastrand::Rng;
use tempfile::TempDir;

use super::*;
use crate::log::AppendError;
use crate::log::tests::{batch_of, incoming};

const SETTINGS: LogSettings = LogSettings {
    segment_bytes: 360,
    ..crate::log::tests::SETTINGS
};

/// Everything in a directory, by name.
type Files = BTreeMap<String, Vec<u8>>;

/// A log of three segments with a few batches each, and every batch as it was acknowledged.
fn whole() -> (Files, Vec<Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(&dir);
    let mut acknowledged = Vec::new();
    for i in 0..12 {
        acknowledged.push(append(&mut log, i, if i < 6 { 0 } else { 2 }).unwrap());
    }
    assert_eq!(log.segments.len(), 3);
    drop(log);
    (files(dir.path()), acknowledged)
}

fn open(dir: &TempDir) -> Log {
    Log::open(dir.path(), Arc::default(), SETTINGS, 0).unwrap()
}

fn append(log: &mut Log, i: i64, epoch: i32) -> Result<Vec<u8>, AppendError> {
    let mut batch = incoming(batch_of(&[(i, &[i as u8; 6]), (i, &[7; 6])]));
    log.append(&mut batch, epoch, 0)?;
    Ok(batch.to_bytes().to_vec())
}

fn files(dir: &Path) -> Files {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

fn put(files: &Files) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

/// Every batch that can be read, whole.
fn served(log: &Log) -> Vec<Vec<u8>> {
    let mut batches = Vec::new();
    let mut offset = log.start_offset();
    while offset < log.end_offset() {
        let bytes = log.read(offset, log.end_offset(), 0, true).unwrap();
        let header = BatchHeader::parse(&bytes).unwrap();
        assert_eq!(bytes.len(), header.total_len());
        offset = header.next_offset();
        batches.push(bytes.to_vec());
    }
    batches
}

/// Opens what `files` hold. Whatever they are, the result is a beginning of `acknowledged`, appending goes on behind
/// it, and the next start finds nothing wrong any more.
fn recover(files: &Files, acknowledged: &[Vec<u8>]) -> (TempDir, usize, Vec<Damage>) {
    let dir = put(files);
    let mut log = open(&dir);
    let damage = log.take_damage();
    let before = served(&log);
    assert!(acknowledged.starts_with(&before), "{damage:?}");
    assert_eq!(log.end_offset(), before.len() as i64 * 2);
    let epoch = log.latest_epoch() + 1;
    let more = append(&mut log, 50, epoch).unwrap();
    drop(log);
    let mut again = open(&dir);
    assert_eq!(again.take_damage(), []);
    let after = served(&again);
    assert_eq!(after.len(), before.len() + 1);
    assert!(after.starts_with(&before) && after.ends_with(&[more]));
    (dir, before.len(), damage)
}

fn segments(files: &Files) -> Vec<(String, usize)> {
    files
        .iter()
        .filter(|(name, _)| name.ends_with(".log"))
        .map(|(name, bytes)| (name.clone(), bytes.len()))
        .collect()
}

#[test]
fn nothing_is_wrong_with_what_nobody_touched() {
    let (files, acknowledged) = whole();
    let (_, batches, damage) = recover(&files, &acknowledged);
    assert_eq!((batches, damage), (acknowledged.len(), vec![]));
}

#[test]
fn a_changed_bit_anywhere_in_a_segment_is_found_and_what_follows_is_set_aside() {
    let (files, acknowledged) = whole();
    let batch_len = acknowledged[0].len();
    let mut before = 0;
    for (segment, (name, len)) in segments(&files).into_iter().enumerate() {
        // Every place of a batch, for its length is no multiple of the step.
        for place in (0..len).step_by(5) {
            let mut changed = files.clone();
            changed.get_mut(&name).unwrap()[place] ^= 1 << (place % 8);
            let (dir, batches, damage) = recover(&changed, &acknowledged);
            assert_eq!(batches, before + place / batch_len, "{name} {place}");
            let first = &damage[0];
            assert_eq!(first.file, dir.path().join(&name));
            assert_eq!(first.position, (place - place % batch_len) as u64);
            // In the very last batch a longer length looks just like a write that was cut short.
            let torn = matches!(first.kind, DamageKind::TornTail { .. });
            assert!(!torn || batches == acknowledged.len() - 1, "{damage:?}");
            if let Some(kept) = &first.set_aside {
                let rest = &changed[&name][place - place % batch_len..];
                assert_eq!(fs::read(kept).unwrap(), rest);
            }
            assert_eq!(
                damage.len(),
                3 - segment,
                "the segments behind it: {damage:?}"
            );
        }
        before += len / batch_len;
    }
}

#[test]
fn a_segment_cut_anywhere_leaves_what_was_before_the_cut() {
    let (files, acknowledged) = whole();
    let batch_len = acknowledged[0].len();
    let all = segments(&files);
    let mut before = 0;
    for (segment, (name, len)) in all.iter().enumerate() {
        for left in (0..*len).filter(|left| left % 3 == 0 || left % batch_len == 0) {
            let mut changed = files.clone();
            changed.get_mut(name).unwrap().truncate(left);
            let (_, batches, damage) = recover(&changed, &acknowledged);
            assert_eq!(batches, before + left / batch_len, "{name} {left}");
            let is_last = segment + 1 == all.len();
            match damage.first() {
                None => assert!(is_last && left % batch_len == 0, "{name} {left}"),
                Some(first) if left % batch_len == 0 => {
                    assert!(matches!(first.kind, DamageKind::Missing { .. }), "{first}");
                }
                Some(first) if is_last => {
                    let bytes = (left % batch_len) as u64;
                    assert_eq!(first.kind, DamageKind::TornTail { bytes });
                    assert_eq!(first.set_aside, None);
                }
                Some(first) => {
                    assert!(matches!(first.kind, DamageKind::Corrupt { .. }), "{first}");
                    assert!(first.set_aside.is_some());
                }
            }
        }
        before += len / batch_len;
    }
}

#[test]
fn records_missing_at_the_end_are_noticed_after_an_orderly_stop() {
    let (files, acknowledged) = whole();
    let dir = put(&files);
    open(&dir).sync().unwrap();
    let mut files = self::files(dir.path());
    let (name, len) = segments(&files).pop().unwrap();
    files
        .get_mut(&name)
        .unwrap()
        .truncate(len - acknowledged[0].len());
    let (_, _, damage) = recover(&files, &acknowledged);
    assert_eq!(damage[0].kind, DamageKind::Missing { from: 22, to: 24 });
}

#[test]
fn a_missing_segment_ends_the_log_in_front_of_it() {
    let (files, acknowledged) = whole();
    for (name, _) in segments(&files).into_iter().take(2).skip(1) {
        let mut changed = files.clone();
        changed.remove(&name);
        let (dir, batches, damage) = recover(&changed, &acknowledged);
        assert_eq!(batches as i64 * 2, name[..20].parse::<i64>().unwrap());
        assert!(matches!(damage[0].kind, DamageKind::Missing { .. }));
        assert_eq!(damage[1].kind, DamageKind::BehindDamage);
        let kept = damage[1].set_aside.as_ref().unwrap();
        assert_eq!(kept.parent(), Some(dir.path()));
        assert!(kept.exists());
    }
}

#[test]
fn a_missing_first_segment_is_told_and_the_rest_served() {
    let (mut files, acknowledged) = whole();
    let (name, len) = segments(&files).remove(0);
    files.remove(&name);
    let dir = put(&files);
    let mut log = open(&dir);
    let gone = len / acknowledged[0].len();
    assert_eq!(served(&log), acknowledged[gone..]);
    let to = gone as i64 * 2;
    assert_eq!(
        log.take_damage()[0].kind,
        DamageKind::Missing { from: 0, to }
    );
}

#[test]
fn a_missing_or_damaged_checkpoint_costs_nothing_but_what_it_hid() {
    let (files, acknowledged) = whole();
    let dir = put(&files);
    let mut log = open(&dir);
    log.delete_before(5).unwrap();
    drop(log);
    let files = self::files(dir.path());
    let len = files[CHECKPOINT].len();
    let mut variants: Vec<Option<Vec<u8>>> = vec![None, Some(vec![]), Some(b"garbage".to_vec())];
    for place in 0..len {
        let mut changed = files[CHECKPOINT].clone();
        changed[place] ^= 1 << (place % 8);
        variants.push(Some(changed));
    }
    for variant in variants {
        let mut changed = files.clone();
        match variant {
            None => changed.remove(CHECKPOINT),
            Some(bytes) => changed.insert(CHECKPOINT.to_owned(), bytes),
        };
        let (dir, batches, damage) = recover(&changed, &acknowledged);
        assert_eq!(batches, acknowledged.len());
        assert_eq!(damage.len(), 1);
        assert_eq!(damage[0].kind, DamageKind::Checkpoint);
        assert_eq!(damage[0].file, dir.path().join(CHECKPOINT));
    }
}

#[test]
fn files_of_foreign_names_and_empty_files_are_left_alone() {
    let (files, acknowledged) = whole();
    let mut foreign = files.clone();
    for name in [
        "5.log",
        "-0000000000000000001.log",
        "+0000000000000000004.log",
        "00000000000000000004.log.cut",
        "99999999999999999999.log",
        "lost+found",
        "00000000000000000000.index",
        "checkpoint.new",
        "noise.log",
    ] {
        foreign.insert(name.to_owned(), b"whatever".to_vec());
    }
    let (dir, batches, damage) = recover(&foreign, &acknowledged);
    assert_eq!((batches, damage), (acknowledged.len(), vec![]));
    let after = self::files(dir.path());
    assert!(
        foreign
            .iter()
            .filter(|(name, _)| !files.contains_key(*name) && *name != "checkpoint.new")
            .all(|(name, bytes)| after[name] == *bytes)
    );
    // The empty segment that a roll leaves when the process ends right after it.
    let mut rolled = files.clone();
    rolled.insert(file_name(24), Vec::new());
    let (_, batches, damage) = recover(&rolled, &acknowledged);
    assert_eq!((batches, damage), (acknowledged.len(), vec![]));
    // An empty file alone.
    let alone = Files::from([(file_name(0), Vec::new())]);
    let (_, batches, damage) = recover(&alone, &acknowledged);
    assert_eq!((batches, damage), (0, vec![]));
}

#[test]
fn any_mixture_of_damage_leaves_a_beginning() {
    let (files, acknowledged) = whole();
    for seed in 0..150 {
        let mut rng = Rng::with_seed(seed);
        let mut changed = files.clone();
        for _ in 0..rng.usize(1..4) {
            let names: Vec<String> = segments(&changed)
                .into_iter()
                .skip(1)
                .map(|s| s.0)
                .collect();
            let Some(name) = rng.choice(names.iter()).cloned() else {
                break;
            };
            let bytes = changed.get_mut(&name).unwrap();
            match rng.u8(..6) {
                0 => bytes.truncate(rng.usize(..=bytes.len())),
                1 => bytes.extend((0..rng.usize(..200)).map(|_| rng.u8(..))),
                2 => bytes.extend(acknowledged[rng.usize(..acknowledged.len())].clone()),
                3 => bytes.fill(0),
                4 if rng.bool() => drop(changed.remove(&name)),
                _ if bytes.is_empty() => {}
                _ => {
                    let at = rng.usize(..bytes.len());
                    bytes[at] = rng.u8(..);
                }
            }
        }
        recover(&changed, &acknowledged);
    }
}

#[test]
fn a_full_disk_refuses_and_keeps_what_it_has() {
    for limit in (0..600).step_by(7) {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(Disk::default());
        let mut log = Log::open(dir.path(), Arc::clone(&disk), SETTINGS, 0).unwrap();
        let mut acknowledged = vec![append(&mut log, 0, 0).unwrap()];
        disk.limit(Some(limit));
        let mut refused = 0;
        for i in 1..12 {
            match append(&mut log, i, if i < 4 { 0 } else { 1 }) {
                Ok(batch) => acknowledged.push(batch),
                Err(AppendError::Storage(error)) => {
                    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
                    assert!(
                        error.to_string().contains(dir.path().to_str().unwrap()),
                        "{error}"
                    );
                    refused += 1;
                }
                Err(other) => panic!("{other:?}"),
            }
            assert_eq!(served(&log), acknowledged, "read on while it is full");
        }
        assert!(refused > 0);
        // As after kill -9 at this moment, the disk still full.
        let on_disk = put(&files(dir.path()));
        let mut crashed = Log::open(on_disk.path(), Arc::clone(&disk), SETTINGS, 0).unwrap();
        assert_eq!(
            (served(&crashed), crashed.take_damage()),
            (acknowledged.clone(), vec![])
        );
        disk.limit(None);
        acknowledged.push(append(&mut log, 20, 1).unwrap());
        assert_eq!(served(&log), acknowledged);
        drop(log);
        let mut log = open(&dir);
        assert_eq!((served(&log), log.take_damage()), (acknowledged, vec![]));
    }
}
