//! What one member holds, and its words on it: what its application said, what was sent, answered and told.

use std::collections::{BTreeMap, BTreeSet};

use super::super::event::{ACCEPT, GAP, RELEASE, RENEW, Verdict};
use super::{Outcome, Rule, holds};
use crate::history::Part;

/// An offset, and the node that it was acquired from: what a member says of a record it says to that one.
type Place = (Part, i64, i32);

/// Records that a member acquired, by their places.
#[derive(Default)]
pub(super) struct Holding {
    records: BTreeMap<Place, Vec<Held>>,
    /// Words that nobody waits for any more, and that may yet leave.
    strays: BTreeSet<(Place, i8)>,
}

/// A record, acquired once.
struct Held {
    count: i16,
    /// Until when the member may think that it is locked.
    until_ms: u64,
    handed_out: bool,
    /// When the member heard that it is not its any more.
    lost_ms: Option<u64>,
    /// A final word has its outcome. What is left are renewals of which nothing need come.
    done: bool,
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
    pub(super) fn acquired(&mut self, place: Place, count: i16, until_ms: u64, now: u64) {
        let of_place = self.records.entry(place).or_default();
        // The same node gave it away, so it was the member's no longer.
        for before in of_place.iter_mut() {
            before.lost_ms.get_or_insert(now);
        }
        of_place.push(Held {
            count,
            until_ms,
            handed_out: false,
            lost_ms: None,
            done: false,
            words: Vec::new(),
        });
    }

    pub(super) fn hand_out(&mut self, place: Place, count: i16, now: u64) -> Outcome {
        let held = self.records.get_mut(&place).into_iter().flatten();
        let held = held.filter(|held| held.count == count && !held.handed_out);
        // When the node begins to lead anew a count comes again: what the member had before it has dropped.
        let Some(held) = held.min_by_key(|held| (held.lost_ms.is_some(), !held.is_good(now)))
        else {
            let problem = "it has not acquired that, or was handed it before".to_owned();
            return Err((Rule::OnlyAcquired, problem));
        };
        held.handed_out = true;
        holds(now <= held.until_ms, Rule::OnlyAcquired, || {
            format!("its lock has timed out {} ms ago", now - held.until_ms)
        })?;
        let lost = held.lost_ms.filter(|lost| *lost < now);
        holds(lost.is_none(), Rule::OnlyAcquired, || {
            "it has lost that, or the share session in which it acquired it".to_owned()
        })
    }

    /// With implicit acknowledgement the application accepts all it has by coming for more.
    pub(super) fn accept_all(&mut self, index: usize) {
        let all = self.records.values_mut().flatten();
        for held in all.filter(|held| held.is_silent()) {
            held.words.push(Word::new(ACCEPT, index));
        }
    }

    /// The application gives everything back of which it has said nothing.
    pub(super) fn give_back(&mut self, now: u64) {
        for held in self.records.values_mut() {
            held.retain(|held| !held.words.is_empty() || !held.handed_out);
            for held in held.iter_mut().filter(|held| !held.handed_out) {
                held.lost_ms.get_or_insert(now);
            }
        }
    }

    pub(super) fn says(&mut self, place: Place, kind: i8, index: usize, now: u64) -> Outcome {
        let held = self.records.get_mut(&place).into_iter().flatten();
        let mut held = held.filter(|held| {
            let done = held.done || held.words.iter().any(|word| word.kind != RENEW);
            held.handed_out && !done && held.is_good(now)
        });
        // What it says of a record that it has acquired once more since it says of that.
        let Some(held) = held.next_back() else {
            let (part, offset, node) = place;
            return Err((
                Rule::HeldIsSaid,
                format!(
                    "word {kind} of {part}@{offset} from node {node} is taken, which is not locked for the member, or \
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

    pub(super) fn sent(&mut self, place: Place, kind: i8, number: u64) -> Outcome {
        let held = self.records.get_mut(&place).into_iter().flatten();
        if kind != GAP {
            // What was left over of one that is done, or was given away since, comes last.
            let words = held.flat_map(|held| {
                let over = (held.done, held.lost_ms.is_some());
                held.words.iter_mut().map(move |word| (over, word))
            });
            let words = words.filter(|(_, word)| word.kind == kind && word.sent.is_none());
            if let Some((_, word)) = words.min_by_key(|(over, _)| *over) {
                word.sent = Some(number);
                return Ok(());
            }
        }
        // The member itself says what has no record, and gives back what it will hand out to nobody. The application is
        // handed and told nothing of that.
        let held = self.records.get_mut(&place).into_iter().flatten();
        let mut held = held.filter(|held| !held.handed_out && matches!(kind, GAP | RELEASE));
        if let Some(held) = held.next() {
            held.handed_out = true;
            held.done = true;
            return Ok(());
        }
        if self.strays.remove(&(place, kind)) {
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
        let all = self.records.iter_mut();
        let of_node = all.filter(|((_, _, of), _)| *of == node);
        for held in of_node.flat_map(|(_, held)| held) {
            held.lost_ms.get_or_insert(now);
        }
    }

    /// The application is told what became of a word. Of which one, when it has acquired the record more than once, nobody
    /// says: of one that this can have become of, if there is one.
    pub(super) fn told(
        &mut self,
        place: Place,
        verdict: Verdict,
        implicit: bool,
        now: u64,
    ) -> Outcome {
        let wrong = |problem: String| Err((Rule::TrueOutcome, problem));
        let Some(of_place) = self.records.get_mut(&place) else {
            return wrong("it never had that".to_owned());
        };
        let concerned = of_place.iter().enumerate().flat_map(|(at, held)| {
            let words = held.words.iter().enumerate();
            let words = words.map(move |(n, word)| {
                let rank = (word.rank(), word.optional, word.said);
                (word.becomes(verdict), rank, at, Some(n))
            });
            // What it never came back for is accepted by nobody.
            let silent = implicit && held.is_silent();
            let silent = silent.then(|| {
                let becomes = match verdict {
                    Verdict::Stored => Err("it has said nothing of it".to_owned()),
                    _ => Ok(()),
                };
                let rank = if held.is_good(now) { 4 } else { 1 };
                (becomes, (rank, false, 0), at, None)
            });
            words.chain(silent)
        });
        let concerned = concerned.min_by_key(|(becomes, rank, ..)| (becomes.is_err(), *rank));
        let Some((becomes, _, at, n)) = concerned else {
            return wrong("it has said nothing of it".to_owned());
        };
        let Some(n) = n else {
            of_place.remove(at);
            return becomes.or_else(wrong);
        };
        let word = of_place[at].words.remove(n);
        let held = &mut of_place[at];
        if word.sent.is_none() && verdict == Verdict::Unknown {
            // Any of those that have not left may be on its way.
            let unsent = held.words.iter().filter(|word| word.sent.is_none());
            let kinds = unsent.map(|word| word.kind).chain([word.kind]);
            self.strays.extend(kinds.map(|kind| (place, kind)));
        }
        held.done |= word.kind != RENEW;
        // Nobody says which of its words it was that did not leave: perhaps the renewal before it.
        if held.done && held.words.is_empty() {
            of_place.remove(at);
        }
        becomes.or_else(wrong)
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

impl Held {
    /// It is handed out, and nothing was said of it.
    fn is_silent(&self) -> bool {
        self.handed_out && !self.done && self.words.is_empty()
    }

    /// Whether the member may think that it is locked.
    fn is_good(&self, now: u64) -> bool {
        now <= self.until_ms && self.lost_ms.is_none_or(|lost| lost >= now)
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
    /// What was answered is told before what was sent with it, and that before what was not.
    fn rank(&self) -> u8 {
        match (&self.answer, self.sent) {
            (Some(_), _) => 0,
            (None, Some(_)) => 2,
            (None, None) => 3,
        }
    }

    /// Whether this can have become of it.
    fn becomes(&self, verdict: Verdict) -> Result<(), String> {
        let wrong = |problem: &str| Err(problem.to_owned());
        match (verdict, self.answer) {
            (Verdict::Stored, Some((Some(0), _))) => Ok(()),
            (Verdict::Stored, _) => wrong("no broker has answered that"),
            (_, Some((Some(0), true))) => wrong("a broker has answered that it is stored"),
            (Verdict::Refused(told), Some((Some(error), _))) if error != 0 && told != error => {
                Err(format!("a broker has answered with error {error}"))
            }
            (Verdict::Refused(_), None) if self.sent.is_some() => wrong("no broker has answered"),
            _ => Ok(()),
        }
    }
}
