//! What becomes of a batch: read, stored, parked.
//!
//! Called by `pipeline::pull` for the messages that it has in hand. Its rules: a batch is one submission, and only when the database answers and
//! does not take it is each message tried alone; nothing is given up while the database is away; a row in `parked_messages` comes
//! before its message is settled. The way not taken: a submission a message, which is a commit a message.

use super::read::{self, Taken};
use super::{Fate, Lane, reason};
use crate::pipeline::ingest::IngestError;
use crate::pipeline::note;
use crate::runtime::cpu;
use crate::sources::Letter;
use crate::store::inbox::InboxSpan;
use crate::store::parked_messages::Parked;
use sha2::{Digest, Sha256};
use std::ops::Range;
use std::sync::Arc;

/// What reading a message gave.
enum Read {
    /// Spans.
    Spans(Taken),
    /// It can never be read.
    Poison(String),
    /// Reading it panicked.
    Broken,
}

/// What the inbox said to a submission.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Committed,
    /// The database refuses what is in it.
    Refused,
    Stopping,
}

impl Lane {
    /// Reads, stores and parks; the answer has one entry a letter, in order.
    pub(super) async fn take(&self, letters: &Arc<[Letter]>) -> Vec<Fate> {
        let reads = self.read(letters).await;
        let units: Vec<&[InboxSpan]> =
            reads.iter().filter_map(|read| if let Read::Spans(t) = read { Some(&t.rows[..]) } else { None }).collect();
        let mut kept = self.store(&units).await.into_iter();
        let (mut fates, mut parked) = (Vec::with_capacity(letters.len()), Vec::new());
        for (letter, read) in letters.iter().zip(&reads) {
            let mut spans_taken = 0;
            let fate = match read {
                Read::Poison(why) => Fate::Parked(self.reason(why)),
                Read::Broken => self.failing(letter, "reading it panicked; the log has the place"),
                Read::Spans(taken) => match kept.next().unwrap_or(Kept::Stopping) {
                    Kept::Stopping => Fate::Back,
                    Kept::Refused => self.failing(letter, "the database refuses what is in it; the log has the error"),
                    Kept::Committed => {
                        spans_taken = taken.rows.len();
                        self.committed(taken)
                    }
                },
            };
            if let Fate::Parked(reason) = &fate {
                parked.push(self.row(letter, reason.clone(), spans_taken));
            }
            fates.push(fate);
        }
        if !self.park(&parked).await {
            // Without its row nobody would know of it.
            fates.iter_mut().filter(|fate| matches!(fate, Fate::Parked(_))).for_each(|fate| *fate = Fate::Back);
        }
        fates
    }

    /// A message that fails while others do not: again, and in the end parked.
    fn failing(&self, letter: &Letter, why: &str) -> Fate {
        if letter.deliveries < self.source.deliver_max {
            return Fate::Again;
        }
        Fate::Parked(format!("{why} ({} deliveries)", letter.deliveries))
    }

    fn committed(&self, taken: &Taken) -> Fate {
        let metrics = &self.app.bench.metrics;
        let door = self.source.kind.as_str();
        metrics.spans_accepted.with_label_values(&[door]).inc_by(taken.rows.len() as u64);
        metrics.spans_rejected.with_label_values(&[door]).inc_by(taken.refused.len() as u64);
        metrics.signals_dropped.with_label_values(&["logs"]).inc_by(taken.dropped);
        match taken.refused.first() {
            None => Fate::Stored,
            Some(first) => Fate::Parked(self.reason(&format!("{} refused; the first: {first}", taken.refused.len()))),
        }
    }

    fn reason(&self, text: &str) -> String {
        reason::without_values(&self.app.bench.redactor, text)
    }

    async fn read(&self, letters: &Arc<[Letter]>) -> Vec<Read> {
        let too_often = |letter: &Letter| letter.deliveries > self.source.deliver_max;
        let text = |letter: &Letter| {
            let times = letter.deliveries - 1;
            Read::Poison(format!("it was delivered {times} times and never settled; does reading it end the process?"))
        };
        if !letters.iter().any(too_often)
            && let Ok(reads) = self.read_some(letters, 0..letters.len()).await
        {
            return reads;
        }
        // One of them panicked, or has been here too often: each by itself.
        let mut reads = Vec::with_capacity(letters.len());
        for (n, letter) in letters.iter().enumerate() {
            if too_often(letter) {
                reads.push(text(letter));
                continue;
            }
            let one = self.read_some(letters, n..n + 1).await.ok().and_then(|mut one| one.pop());
            reads.push(one.unwrap_or(Read::Broken));
        }
        reads
    }

    async fn read_some(&self, letters: &Arc<[Letter]>, which: Range<usize>) -> Result<Vec<Read>, cpu::Panicked> {
        let (app, source, letters) = (Arc::clone(&self.app), Arc::clone(&self.source), Arc::clone(letters));
        let one = move |letter: &Letter| match read::read(&app.bench, &source, letter) {
            Ok(taken) => Read::Spans(taken),
            Err(why) => Read::Poison(why),
        };
        cpu::run(move || letters[which].iter().map(one).collect()).await
    }

    /// Stores units together; each alone when the database answers and does not take them together.
    async fn store(&self, units: &[&[InboxSpan]]) -> Vec<Kept> {
        let mut tries = 0;
        loop {
            match self.inbox.submit(units.concat()).await {
                Ok(()) => return vec![Kept::Committed; units.len()],
                Err(IngestError::Stopping) => break,
                Err(IngestError::Store) if self.app.store.is_migrated().await.is_ok_and(|is| is) => {
                    let mut kept = Vec::with_capacity(units.len());
                    for unit in units {
                        kept.push(self.store_alone(unit).await);
                    }
                    return kept;
                }
                // The database is away, or much waits: the messages stay in hand.
                Err(IngestError::Store | IngestError::Busy | IngestError::Backlog) => {}
            }
            tries += 1;
            if !self.rest(tries).await {
                break;
            }
        }
        vec![Kept::Stopping; units.len()]
    }

    /// Stores one unit. Only what the database says of its values is its own fault; a full disk is not.
    async fn store_alone(&self, unit: &[InboxSpan]) -> Kept {
        let mut tries = 0;
        while let Err(error) = self.inbox.submit_alone(unit.to_vec()).await {
            note(&self.app, &error, "a message was not stored");
            if error.is_refusal() {
                return Kept::Refused;
            }
            tries += 1;
            if !self.rest(tries).await {
                return Kept::Stopping;
            }
        }
        Kept::Committed
    }

    /// Stores what is parked; false when we stop before that.
    async fn park(&self, parked: &[Parked]) -> bool {
        if parked.is_empty() {
            return true;
        }
        let mut tries = 0;
        while let Err(error) = self.app.store.park(parked).await {
            note(&self.app, &error, "messages were not parked, trying again");
            tries += 1;
            if !self.rest(tries).await {
                return false;
            }
        }
        // One line a batch: a sender that sends nothing else must not fill the log.
        if let Some(Parked { source, position, reason, .. }) = parked.first() {
            tracing::warn!(source, position, reason, count = parked.len(), "messages were parked; this is the first");
        }
        true
    }

    fn row(&self, letter: &Letter, reason: String, spans_taken: usize) -> Parked {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        Parked {
            source: self.source.name.clone(),
            position: letter.position.clone(),
            subject: letter.subject.clone(),
            reason,
            spans_taken: number(spans_taken),
            size_bytes: number(letter.body.len()),
            body_sha256: hex::encode(Sha256::digest(&letter.body)),
            deliveries: letter.deliveries.into(),
            parked_at: self.app.bench.clock.now(),
        }
    }
}
