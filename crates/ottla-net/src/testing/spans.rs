//! A `tracing` subscriber that keeps every span there was, for tests of what clients trace.

use std::{cell::RefCell, collections::HashMap, fmt::Debug, sync::Arc};

use parking_lot::Mutex;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::SetGlobalDefaultError,
};

/// The spans of a process, from when it was [installed](Self::install). Clones are the same log.
#[derive(Debug, Clone, Default)]
pub struct SpanLog {
    spans: Arc<Mutex<HashMap<u64, SeenSpan>>>,
    /// Of what it keeps.
    targets: &'static [&'static str],
}

/// A span there was.
#[derive(Debug, Clone, Default)]
pub struct SeenSpan {
    /// Its number, from 1 in the order in which spans were opened.
    pub id: u64,
    /// What it is called.
    pub name: &'static str,
    /// What was recorded of it, numbers and all as text.
    pub fields: HashMap<&'static str, String>,
    /// The spans it follows from.
    pub follows: Vec<u64>,
    /// The span it is a child of.
    pub parent: Option<u64>,
    /// Whether all that held it let go of it.
    pub closed: bool,
    references: u32,
}

thread_local! {
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

impl SpanLog {
    /// Keeps the spans whose targets begin like one of these, of the whole process from now on: callsites remember
    /// what subscribers say, so that one of a single thread would miss some.
    ///
    /// # Errors
    /// If the process has a subscriber already.
    pub fn install(targets: &'static [&'static str]) -> Result<Self, SetGlobalDefaultError> {
        let log = Self {
            targets,
            ..Self::default()
        };
        tracing::subscriber::set_global_default(log.clone())?;
        Ok(log)
    }

    /// All spans of this name, in the order in which they were opened.
    pub fn named(&self, name: &str) -> Vec<SeenSpan> {
        let spans = self.spans.lock();
        let named = spans.values().filter(|span| span.name == name);
        let mut named: Vec<_> = named.cloned().collect();
        named.sort_unstable_by_key(|span| span.id);
        named
    }

    fn with(&self, id: &Id, change: impl FnOnce(&mut SeenSpan)) {
        if let Some(span) = self.spans.lock().get_mut(&id.into_u64()) {
            change(span);
        }
    }
}

impl Subscriber for SpanLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let mut targets = self.targets.iter();
        targets.any(|target| metadata.target().starts_with(target))
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let parent = match attributes.is_contextual() {
            true => ENTERED.with_borrow(|entered| entered.last().copied()),
            false => attributes.parent().map(Id::into_u64),
        };
        let mut spans = self.spans.lock();
        let id = spans.len() as u64 + 1;
        let mut span = SeenSpan {
            id,
            name: attributes.metadata().name(),
            parent,
            references: 1,
            ..SeenSpan::default()
        };
        attributes.record(&mut span);
        spans.insert(id, span);
        Id::from_u64(id)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        self.with(id, |span| values.record(span));
    }

    fn record_follows_from(&self, id: &Id, follows: &Id) {
        self.with(id, |span| span.follows.push(follows.into_u64()));
    }

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, id: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(id.into_u64()));
    }

    fn exit(&self, _: &Id) {
        ENTERED.with_borrow_mut(|entered| {
            entered.pop();
        });
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.with(id, |span| span.references += 1);
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let mut closed = false;
        self.with(&id, |span| {
            span.references -= 1;
            span.closed = span.references == 0;
            closed = span.closed;
        });
        closed
    }
}

impl SeenSpan {
    /// # Panics
    /// If it has other values in these fields, or none.
    #[track_caller]
    pub fn check(&self, fields: &[(&str, &str)]) {
        for (field, value) in fields {
            let seen = self.fields.get(field).map(String::as_str);
            assert_eq!(seen, Some(*value), "{field} of {self:?}");
        }
    }
}

impl Visit for SeenSpan {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}
