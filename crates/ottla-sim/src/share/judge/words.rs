//! What one member holds, and its words on it: what its application said, what was sent, answered and told.

use std::collections::{BTreeMap, BTreeSet};

use super::super::event::{ACCEPT, GAP, RENEW, Verdict};
use super::{Outcome, Rule, holds};
use crate::history::Part;

type Place = (Part, i64);

/// Records that a member acquired, by their places.
#[derive(Default)]
pub(super) struct Holding {
    records: BTreeMap<Place, Vec<Held>>,
    /// Words that nobody waits for any more, and that may yet leave.
    strays: BTreeSet<(Place, i32, i8)>,
}

/// A record, acquired once.
struct Held {
    node: i32,
    count: i16,
    /// Until when the member may think that it is locked.
    until_ms: u64,
    handed_out: bool,
    /// When the member heard that its share session is over.
    lost_ms: Option<u64>,
    words: Vec<Word>,
}

/// What the application said.
struct Word {
    kind: i8,
    /// In which event.
    said: usize,
    /// Nothing need come of it.
    optional: bool,
    /// With which request it was sent.
    sent: Option<u64>,
    /// The answer, where there was one: its error, and whether the member surely waited for it.
    answer: Option<(Option<i16>, bool)>,
}

impl Holding {
    pub(super) fn acquired(&mut self, place: Place, node: i32, count: i16, until_ms: u64) {
        self.records.entry(place).or_default().push(Held {
            node,
            count,
            until_ms,
            handed_out: false,
            lost_ms: None,
            words: Vec::new(),
        });
    }

    pub(super) fn hand_out(&mut self, place: Place, count: i16, now: u64) -> Outcome {
        let held = self.records.get_mut(&place).into_iter().flatten();
        let mut held = held.filter(|held| held.count == count && !held.handed_out);
        let Some(held) = held.next() else {
            let problem = "it has not acquired that, or was handed it before".to_owned();
            return Err((Rule::OnlyAcquired, problem));
        };
        held.handed_out = true;
        holds(now <= held.until_ms, Rule::OnlyAcquired, || {
            format!("its lock has timed out {} ms ago", now - held.until_ms)
        })?;
        let lost = held.lost_ms.filter(|lost| *lost < now);
        holds(lost.is_none(), Rule::OnlyAcquired, || {
            "it has lost the share session in which it acquired that".to_owned()
        })
    }

    /// With implicit acknowledgement the application accepts all it has by coming for more.
    pub(super) fn accept_all(&mut self, index: usize) {
        let all = self.records.values_mut().flatten();
        for held in all.filter(|held| held.handed_out && held.words.is_empty()) {
            held.words.push(Word::new(ACCEPT, index));
        }
    }

    /// The application gives everything back of which it has said nothing.
    pub(super) fn give_back(&mut self) {
        for held in self.records.values_mut() {
            held.retain(|held| !held.words.is_empty());
        }
    }

    pub(super) fn says(
        &mut self,
        place: Place,
        count: i16,
        kind: i8,
        index: usize,
        now: u64,
    ) -> Outcome {
        let (part, offset) = place;
        let all = self.records.get(&place).into_iter().flatten();
        let mut lent = all.filter(|held| held.handed_out);
        let lender = lent.find(|held| held.count == count).map(|held| held.node);
        let held = self.records.get_mut(&place).into_iter().flatten();
        let held = held.filter(|held| {
            let done = held.words.iter().any(|word| word.kind != RENEW);
            let lost = held.lost_ms.is_some_and(|lost| lost < now);
            held.handed_out && !done && !lost && now <= held.until_ms
        });
        // What it says of a record that it has acquired once more since, from the same broker, it says of that.
        let Some(held) = held.max_by_key(|held| (Some(held.node) == lender, held.count)) else {
            return Err((
                Rule::HeldIsSaid,
                format!(
                    "word {kind} of {part}@{offset}, delivery {count}, is taken, which is not locked for the member, or \
                     was said to be done with"
                ),
            ));
        };
        // Of a renewal that has not left and what comes after it only one need leave: the final word, or the first renewal.
        let mut word = Word::new(kind, index);
        for before in held.words.iter_mut().filter(|word| word.sent.is_none()) {
            match kind {
                RENEW => word.optional = true,
                _ => before.optional = true,
            }
        }
        held.words.push(word);
        Ok(())
    }

    pub(super) fn sent(&mut self, place: Place, node: i32, kind: i8, number: u64) -> Outcome {
        let held = self.records.get_mut(&place).into_iter().flatten();
        let held = held.filter(|held| held.node == node);
        if kind == GAP {
            let mut held = held.filter(|held| !held.handed_out);
            if let Some(held) = held.next() {
                // Nothing is handed out or told of it.
                held.handed_out = true;
                return Ok(());
            }
        } else {
            let words = held.flat_map(|held| &mut held.words);
            let mut words = words.filter(|word| word.kind == kind && word.sent.is_none());
            let word = words.next();
            if let Some(word) = word {
                word.sent = Some(number);
                return Ok(());
            }
        }
        if self.strays.remove(&(place, node, kind)) {
            return Ok(());
        }
        let problem = "the application has not said that, or it was sent before".to_owned();
        Err((Rule::WordsAreTheApplications, problem))
    }

    pub(super) fn answered(
        &mut self,
        place: Place,
        number: u64,
        error: Option<i16>,
        heeded: bool,
        renewed_until_ms: u64,
    ) {
        for held in self.records.get_mut(&place).into_iter().flatten() {
            for word in &mut held.words {
                if word.sent == Some(number) {
                    word.answer = Some((error, heeded));
                    if word.kind == RENEW && error == Some(0) {
                        held.until_ms = held.until_ms.max(renewed_until_ms);
                    }
                }
            }
        }
    }

    /// The member has heard that its session with the node is over.
    pub(super) fn session_lost(&mut self, node: i32, now: u64) {
        let all = self.records.values_mut().flatten();
        for held in all.filter(|held| held.node == node) {
            held.lost_ms.get_or_insert(now);
        }
    }

    pub(super) fn told(&mut self, place: Place, verdict: Verdict, implicit: bool) -> Outcome {
        let wrong = |problem: &str| Err((Rule::TrueOutcome, problem.to_owned()));
        let Some(of_place) = self.records.get_mut(&place) else {
            return wrong("it never had that");
        };
        // Of what was sent before of what was not: that is told together with what it was sent with.
        let order = |word: &Word| {
            let unsent = word.sent.is_none();
            (word.answer.is_none(), unsent, word.optional, word.said)
        };
        let words = of_place.iter().enumerate().flat_map(|(at, held)| {
            let words = held.words.iter().enumerate();
            words.map(move |(n, word)| (order(word), at, n))
        });
        let Some((_, at, n)) = words.min() else {
            // What it never came back for is accepted by nobody.
            let lost = of_place.iter().position(|held| held.handed_out);
            if let Some(at) = lost.filter(|_| implicit && verdict != Verdict::Stored) {
                of_place.remove(at);
                return Ok(());
            }
            return wrong("it has said nothing of it");
        };
        let word = of_place[at].words.remove(n);
        if word.sent.is_none() && verdict == Verdict::Unknown {
            let stray = (place, of_place[at].node, word.kind);
            self.strays.insert(stray);
        }
        if word.kind != RENEW {
            of_place.remove(at);
        }
        let answer = word.answer;
        match (verdict, answer) {
            (Verdict::Stored, Some((Some(0), _))) => Ok(()),
            (Verdict::Stored, _) => wrong("no broker has answered that"),
            (_, Some((Some(0), true))) => wrong("a broker has answered that it is stored"),
            (Verdict::Refused(told), Some((Some(error), _))) if error != 0 && told != error => {
                wrong(&format!("a broker has answered with error {error}"))
            }
            (Verdict::Refused(_), None) if word.sent.is_some() => wrong("no broker has answered"),
            _ => Ok(()),
        }
    }

    /// Something that was said before that event, and has no outcome.
    pub(super) fn untold(&self, before: usize) -> Option<Place> {
        let mut records = self.records.iter();
        let untold = records.find(|(_, held)| {
            let mut words = held.iter().flat_map(|held| &held.words);
            words.any(|word| word.said < before && !word.optional)
        });
        untold.map(|(place, _)| *place)
    }
}

impl Word {
    fn new(kind: i8, said: usize) -> Self {
        Self {
            kind,
            said,
            optional: false,
            sent: None,
            answer: None,
        }
    }
}
