//! Taking back the end of a log, as a leader does that was elected without having it.

use std::io;

use super::header::BatchHeader;
use super::producers::Producers;
use super::segment::Segment;
use super::transactions::{LogTransactions, marker_in};
use super::{Log, READ_STEP};

impl Log {
    /// Removes the batches from `offset` on; one that begins before it stays whole. Returns where the log ends then.
    ///
    /// Leader epochs of what is gone stay known, from the new end on: their numbers are not used again.
    ///
    /// # Errors
    /// If a file cannot be cut or removed, or what is left cannot be read. Some may be gone then.
    pub(crate) fn truncate(&mut self, offset: i64, now_ms: i64) -> io::Result<i64> {
        let offset = offset.max(self.start_offset);
        if offset >= self.end_offset() {
            return Ok(self.end_offset());
        }
        self.note_segments_changed();
        while self.segments.len() > 1
            && let Some(last) = self.segments.back()
            && last.base_offset() >= offset
        {
            self.segments.pop_back().map_or(Ok(()), Segment::delete)?;
        }
        if let Some(last) = self.segments.back_mut() {
            last.truncate(offset)?;
        }
        let end = self.end_offset();
        for (_, start) in &mut self.epochs {
            *start = (*start).min(end);
        }
        self.compacted_below = self.compacted_below.min(end);
        self.learn_producers(now_ms)?;
        self.write_checkpoint()?;
        Ok(end)
    }

    /// Finds out from the batches that there are what is known of producers and their transactions.
    fn learn_producers(&mut self, now_ms: i64) -> io::Result<()> {
        let mut producers = Producers::default();
        let mut transactions = LogTransactions::default();
        let mut offset = self.segments.front().map_or(0, Segment::base_offset);
        let end = self.end_offset();
        while offset < end {
            let batches = self.read(offset, end, READ_STEP, true)?;
            let mut rest = &batches[..];
            while let Some(header) = BatchHeader::parse(rest)
                && let Some((batch, after)) = rest.split_at_checked(header.total_len())
            {
                producers.note_appended(&header, now_ms);
                transactions.note_appended(&header, marker_in(&header, batch));
                offset = header.next_offset();
                rest = after;
            }
            if rest.len() == batches.len() {
                return Err(io::Error::other(format!("no batch at offset {offset}")));
            }
        }
        transactions.trim(self.start_offset);
        self.producers = producers;
        self.transactions = transactions;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::{SETTINGS, batch_of, incoming};
    use super::*;

    fn append(log: &mut Log, epoch: i32, records: usize) -> i64 {
        let records: Vec<(i64, &[u8])> = (0..records).map(|_| (7, &[1; 300][..])).collect();
        let mut batch = incoming(batch_of(&records));
        log.append(&mut batch, epoch, 0).unwrap().base_offset
    }

    fn check(log: &mut Log) {
        for batch in 0..20 {
            append(log, batch / 10, 2);
        }
        assert!(log.segments.len() > 5);
        assert_eq!(log.truncate(100, 0).unwrap(), 40);
        // A batch that begins before stays.
        assert_eq!(log.truncate(25, 0).unwrap(), 26);
        assert_eq!(
            (log.epoch_end(0), log.epoch_end(1)),
            (Some((0, 20)), Some((1, 26)))
        );
        assert_eq!(log.truncate(8, 0).unwrap(), 8);
        assert_eq!(log.epoch_end(1), Some((1, 8)));
        assert_eq!(append(log, 2, 3), 8);
        assert_eq!(
            (log.epoch_end(0), log.epoch_end(2)),
            (Some((0, 8)), Some((2, 11)))
        );
        log.delete_before(9).unwrap();
        assert_eq!(
            log.truncate(0, 0).unwrap(),
            11,
            "no less than there is to read"
        );
        assert_eq!((log.start_offset(), log.end_offset()), (9, 11));
        let read = log.read(9, 11, 1 << 20, true).unwrap();
        assert_eq!(BatchHeader::parse(&read).unwrap().record_count, 3);
    }

    #[test]
    fn what_is_taken_back_is_gone_and_writing_goes_on_there() {
        check(&mut Log::in_memory(SETTINGS, 0));
        let dir = tempfile::tempdir().unwrap();
        let open = || Log::open(dir.path(), Arc::default(), SETTINGS, 0).unwrap();
        check(&mut open());
        let mut again = open();
        assert_eq!(again.take_damage(), []);
        assert_eq!((again.start_offset(), again.end_offset()), (9, 11));
        assert_eq!(again.epoch_end(2), Some((2, 11)));
        assert_eq!(again.truncate(9, 0).unwrap(), 11);
    }

    #[test]
    fn all_of_a_log_can_go() {
        let mut log = Log::in_memory(SETTINGS, 0);
        append(&mut log, 0, 2);
        append(&mut log, 3, 2);
        assert_eq!(log.truncate(0, 0).unwrap(), 0);
        assert_eq!(log.epoch_end(3), Some((3, 0)));
        assert_eq!(append(&mut log, 4, 1), 0);
    }
}
