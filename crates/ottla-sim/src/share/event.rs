//! What happened in share groups: what applications were handed, said and were told, and what passed between members and
//! brokers.

use std::fmt;

use crate::history::{End, Id, Member, Part};

/// Offsets, both ends included.
pub(crate) type Run = (i64, i64);

/// What became of an acknowledgement, as the application is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Verdict {
    Stored,
    /// With this error.
    Refused(i16),
    /// Nobody knows.
    Unknown,
}

/// A ShareFetch or ShareAcknowledge that left a member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    pub(crate) member: Member,
    /// That nothing else in this history has.
    pub(crate) number: u64,
    pub(crate) node: i32,
    /// Of the share session: 0 opens it, -1 closes it.
    pub(crate) epoch: i32,
    pub(crate) fetches: bool,
    /// What it says of records, by the numbers that acknowledgements have on the wire.
    pub(crate) words: Vec<(Part, Run, i8)>,
}

/// Its answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Answer {
    pub(crate) number: u64,
    pub(crate) error: i16,
    /// What became of what the request said, by partition.
    pub(crate) verdicts: Vec<(Part, i16)>,
    /// What the member has now, and how often that was acquired.
    pub(crate) acquired: Vec<(Part, Run, i16)>,
    /// In good time: the member surely still waited for it.
    pub(crate) heeded: bool,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// A group is set to this.
    Group {
        group: u8,
        lock_ms: u64,
        deliveries_max: i16,
        session_ms: u64,
    },
    /// A member began.
    Joins {
        member: Member,
        group: u8,
        explicit: bool,
    },
    /// The application comes for records or commits; with implicit acknowledgement it accepts all it has.
    Comes {
        member: Member,
    },
    /// It unsubscribes: what it has and said nothing of is given back.
    GivesBack {
        member: Member,
    },
    /// It is handed a record, which was acquired so often, this time from that node.
    Gets {
        member: Member,
        node: i32,
        part: Part,
        offset: i64,
        id: u64,
        count: i16,
    },
    /// It acknowledges a record that it was handed, and the consumer takes that.
    Says {
        member: Member,
        node: i32,
        part: Part,
        offset: i64,
        count: i16,
        kind: i8,
    },
    /// It is told what became of acknowledgements at a node.
    Told {
        member: Member,
        node: i32,
        part: Part,
        runs: Vec<Run>,
        verdict: Verdict,
    },
    /// It asks for a commit of all it has said.
    Commits {
        member: Member,
        number: u64,
    },
    /// That commit ended.
    Committed {
        member: Member,
        number: u64,
    },
    /// The member ended, and if `settled` everything that was to be done before.
    Ended {
        member: Member,
        how: End,
        settled: bool,
    },
    /// A heartbeat left the member.
    Beats {
        member: Member,
        epoch: i32,
    },
    /// And this was the answer to one.
    Beaten {
        member: Member,
        error: i16,
    },
    Asks(Request),
    Answered(Answer),
    /// At the end: the group is done with all before this offset.
    Passed {
        group: u8,
        part: Part,
        offset: i64,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group {
                group,
                lock_ms,
                deliveries_max,
                session_ms,
            } => write!(
                f,
                "share group {group} locks records for {lock_ms} ms, delivers them {deliveries_max} times, drops members after {session_ms} ms"
            ),
            Self::Joins {
                member,
                group,
                explicit,
            } => {
                let how = if *explicit { "explicit" } else { "implicit" };
                write!(f, "m{member} joins share group {group}, {how}")
            }
            Self::Comes { member } => write!(f, "m{member} comes"),
            Self::GivesBack { member } => write!(f, "m{member} unsubscribes"),
            Self::Gets {
                member,
                node,
                part,
                offset,
                id,
                count,
            } => write!(
                f,
                "m{member} gets {part}@{offset} = {}, delivery {count} from node {node}",
                Id(*id)
            ),
            Self::Says {
                member,
                node,
                part,
                offset,
                count,
                kind,
            } => {
                let kind = word(*kind);
                write!(
                    f,
                    "m{member} says {kind} of {part}@{offset}, delivery {count} from node {node}"
                )
            }
            Self::Told {
                member,
                node,
                part,
                runs,
                verdict,
            } => {
                let verdict = match verdict {
                    Verdict::Stored => "it is stored".to_owned(),
                    Verdict::Refused(error) => ottla_wire::ErrorCode(*error).to_string(),
                    Verdict::Unknown => "nobody knows".to_owned(),
                };
                write!(f, "m{member} is told of node {node}, {part}")?;
                for (first, last) in runs {
                    write!(f, " {first}..{last}")?;
                }
                write!(f, ": {verdict}")
            }
            Self::Commits { member, number } => write!(f, "m{member} commits (#{number})"),
            Self::Committed { member, number } => write!(f, "m{member} has committed (#{number})"),
            Self::Ended {
                member,
                how,
                settled,
            } => {
                let settled = if *settled { ", settled" } else { "" };
                write!(f, "m{member} ends: {how:?}{settled}")
            }
            Self::Beats { member, epoch } => write!(f, "m{member} beats in epoch {epoch}"),
            Self::Beaten { member, error } => {
                write!(f, "m{member} hears {}", ottla_wire::ErrorCode(*error))
            }
            Self::Asks(request) => request.fmt(f),
            Self::Answered(answer) => answer.fmt(f),
            Self::Passed {
                group,
                part,
                offset,
            } => write!(f, "share group {group} is done with {part} before {offset}"),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            member,
            number,
            node,
            epoch,
            ..
        } = self;
        let what = if self.fetches {
            "fetches"
        } else {
            "acknowledges"
        };
        write!(
            f,
            "m{member} {what} ({number}) at node {node} in epoch {epoch}"
        )?;
        for (part, (first, last), kind) in &self.words {
            write!(f, ", {} {part}@{first}..{last}", word(*kind))?;
        }
        Ok(())
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "share request {} is answered", self.number)?;
        if !self.heeded {
            f.write_str(", late")?;
        }
        if self.error != 0 {
            write!(f, ": {}", ottla_wire::ErrorCode(self.error))?;
        }
        for (part, error) in self.verdicts.iter().filter(|(_, error)| *error != 0) {
            write!(f, ", {part}: {}", ottla_wire::ErrorCode(*error))?;
        }
        for (part, (first, last), count) in &self.acquired {
            write!(f, ", {part}@{first}..{last} acquired, delivery {count}")?;
        }
        Ok(())
    }
}

fn word(kind: i8) -> &'static str {
    match kind {
        GAP => "gap",
        ACCEPT => "accept",
        RELEASE => "release",
        REJECT => "reject",
        RENEW => "renew",
        _ => "what nobody knows",
    }
}

/// On the wire: there is no record.
pub(crate) const GAP: i8 = 0;
pub(crate) const ACCEPT: i8 = 1;
pub(crate) const RELEASE: i8 = 2;
pub(crate) const REJECT: i8 = 3;
pub(crate) const RENEW: i8 = 4;
