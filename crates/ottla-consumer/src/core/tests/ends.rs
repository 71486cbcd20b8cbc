//! Where logs end, within a fetch session whose broker names no partition without news.

use super::*;

fn tells_ends() -> (Core<Data>, Instant) {
    let mut core = Core::new(CoreConfig {
        tells_ends: true,
        ..config()
    });
    for partition in 0..2 {
        core.assign(tp(partition), Offset::At(1000), leader(1, 1));
    }
    core.new_brokers();
    (core, Instant::now())
}

fn told(core: &mut Core<Data>) -> Option<(i32, i64)> {
    match core.next_handout() {
        Handout::Error(Error::PartitionEof { partition, offset }) => {
            Some((partition.partition, offset))
        }
        Handout::Nothing => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_end_is_told_again_to_who_seeks_there() {
    let (mut core, now) = tells_ends();
    order(&mut core, 1, now);
    let both = vec![answer(0, vec![]), answer(1, vec![])];
    core.handle_fetched(1, ErrorCode::NONE, 7, both, now);
    assert_eq!(told(&mut core), Some((0, 1000)));
    assert_eq!(told(&mut core), Some((1, 1000)));
    // While the broker waits for news.
    assert!(order(&mut core, 1, now).session.partitions.is_empty());
    core.seek(&tp(1), Offset::At(1000)).unwrap();
    core.handle_fetched(1, ErrorCode::NONE, 7, vec![], now);
    assert_eq!(told(&mut core), None);
    let asked = order(&mut core, 1, now);
    assert_eq!(asked.session.session_epoch, 0, "a new session names all");
    let both = vec![answer(0, vec![]), answer(1, vec![])];
    core.handle_fetched(1, ErrorCode::NONE, 8, both, now);
    assert_eq!(told(&mut core), Some((1, 1000)));
    assert_eq!(told(&mut core), None);
    // And is gone on with.
    let asked = order(&mut core, 1, now).session;
    assert_eq!((asked.session_epoch, asked.partitions.len()), (1, 0));
}

#[test]
fn a_partition_that_comes_back_has_marks_though_nothing_is_written() {
    let (mut core, now) = assigned(2, 1000);
    order(&mut core, 1, now);
    let both = vec![answer(0, vec![]), answer(1, vec![])];
    core.handle_fetched(1, ErrorCode::NONE, 7, both, now);
    order(&mut core, 1, now);
    core.unassign(&tp(1));
    core.assign(tp(1), Offset::At(1000), leader(1, 1));
    core.handle_fetched(1, ErrorCode::NONE, 7, vec![], now);
    assert_eq!(core.watermarks(&tp(1)).unwrap(), None);
    assert_eq!(order(&mut core, 1, now).session.session_epoch, 0);
    let both = vec![answer(0, vec![]), answer(1, vec![])];
    core.handle_fetched(1, ErrorCode::NONE, 8, both, now);
    assert_eq!(core.watermarks(&tp(1)).unwrap(), Some(watermarks()));
}

#[test]
fn who_seeks_and_knows_the_ends_keeps_the_session() {
    let (mut core, now) = assigned(2, 1000);
    order(&mut core, 1, now);
    let both = vec![answer(0, vec![]), answer(1, vec![])];
    core.handle_fetched(1, ErrorCode::NONE, 7, both, now);
    core.seek(&tp(1), Offset::At(5)).unwrap();
    let asked = order(&mut core, 1, now);
    assert_eq!(asked.session.session_epoch, 1);
    assert_eq!(offsets(&asked), HashMap::from([(1, 5)]));
}
