//! Which offset of each partition may be committed: everything before it is dealt with.
//!
//! Used by `sources::kafka`. Its rule: an offset is passed only when it and all before it are settled, so a message that is still tried
//! holds its partition's place, and nothing else. The way not taken: committing the highest offset of a batch, which forgets a
//! message that is not settled yet.

use std::collections::{BTreeMap, BTreeSet};

/// A topic's partition.
pub(super) type Place = (String, i32);

/// What is in hand, by partition.
#[derive(Debug, Default)]
pub(super) struct Offsets(BTreeMap<Place, Progress>);

#[derive(Debug)]
struct Progress {
    open: BTreeSet<i64>,
    /// After the last message that we have seen.
    end: i64,
    /// What was handed out to be committed last.
    told: i64,
}

impl Progress {
    fn position(&self) -> i64 {
        self.open.first().copied().unwrap_or(self.end)
    }
}

impl Offsets {
    /// A message was taken.
    pub fn open(&mut self, place: Place, offset: i64) {
        let new = || Progress { open: BTreeSet::new(), end: offset, told: offset };
        let progress = self.0.entry(place).or_insert_with(new);
        progress.open.insert(offset);
        progress.end = progress.end.max(offset + 1);
    }

    /// A message is dealt with. One of a partition that was taken from us is somebody else's to settle.
    pub fn settle(&mut self, place: &Place, offset: i64) {
        if let Some(progress) = self.0.get_mut(place) {
            progress.open.remove(&offset);
        }
    }

    /// The positions that have moved since they were asked for last.
    pub fn due(&mut self) -> Vec<(Place, i64)> {
        let moved = self.0.iter_mut().filter(|(_, progress)| progress.position() > progress.told);
        moved
            .map(|(place, progress)| {
                progress.told = progress.position();
                (place.clone(), progress.told)
            })
            .collect()
    }

    /// A partition is taken from us; gives what may be committed before that.
    pub fn revoke(&mut self, place: &Place) -> Option<i64> {
        self.0.remove(place).map(|progress| progress.position())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        ("t".to_owned(), 0)
    }

    fn opened(range: std::ops::Range<i64>) -> Offsets {
        let mut offsets = Offsets::default();
        range.for_each(|n| offsets.open(place(), n));
        offsets
    }

    #[test]
    fn a_message_in_hand_holds_its_partition() {
        let mut offsets = opened(5..9);
        assert_eq!(offsets.due(), [], "nothing is settled");
        offsets.settle(&place(), 6);
        assert_eq!(offsets.due(), [], "5 is not settled");
        offsets.settle(&place(), 5);
        assert_eq!(offsets.due(), [(place(), 7)]);
        assert_eq!(offsets.due(), [], "told once");
        offsets.settle(&place(), 8);
        offsets.settle(&place(), 7);
        assert_eq!(offsets.due(), [(place(), 9)]);
    }

    #[test]
    fn a_partition_that_was_taken_away_is_not_committed_any_more() {
        let mut offsets = opened(5..7);
        offsets.settle(&place(), 5);
        assert_eq!(offsets.revoke(&place()), Some(6));
        offsets.settle(&place(), 6);
        assert_eq!(offsets.due(), []);
        assert_eq!(offsets.revoke(&place()), None);
        // It comes back, from where it was committed; what is settled late was dealt with all the same.
        offsets.open(place(), 6);
        offsets.settle(&place(), 6);
        assert_eq!(offsets.due(), [(place(), 7)]);
    }

    #[test]
    fn partitions_do_not_hold_each_other() {
        let mut offsets = opened(0..1);
        offsets.open(("t".to_owned(), 1), 7);
        offsets.settle(&("t".to_owned(), 1), 7);
        assert_eq!(offsets.due(), [(("t".to_owned(), 1), 8)]);
    }
}
