//! `-o`: where to begin and end.

use std::str::FromStr;

/// One `-o`: a place to start reading each partition at, or a time to stop at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offset {
    /// `beginning` (`earliest`, `start`): the first record there is.
    Beginning,
    /// `end` (`latest`): behind the last record.
    End,
    /// `stored` (`committed`): what the group committed.
    Stored,
    /// `N`: this offset.
    Absolute(i64),
    /// `-N`: so many offsets before the end.
    Tail(i64),
    /// `s@MS`: the first record of this time or later, in milliseconds since 1970.
    StartTime(i64),
    /// `e@MS`: stop before the first record of this time or later.
    StopTime(i64),
}

impl FromStr for Offset {
    type Err = String;

    fn from_str(text: &str) -> Result<Offset, String> {
        let number = |digits: &str| {
            digits
                .parse::<i64>()
                .ok()
                .filter(|n| *n >= 0 && !digits.starts_with('+'))
        };
        let offset = match text {
            "beginning" | "earliest" | "start" => Some(Offset::Beginning),
            "end" | "latest" => Some(Offset::End),
            "stored" | "committed" => Some(Offset::Stored),
            _ => {
                if let Some(time) = text.strip_prefix("s@") {
                    number(time).map(Offset::StartTime)
                } else if let Some(time) = text.strip_prefix("e@") {
                    number(time).map(Offset::StopTime)
                } else if let Some(tail) = text.strip_prefix('-') {
                    number(tail).map(Offset::Tail)
                } else {
                    number(text).map(Offset::Absolute)
                }
            }
        };
        offset.ok_or_else(|| {
            "expected beginning, end, stored, N, -N (before the end), s@MS or e@MS \
             (milliseconds since 1970)"
                .into()
        })
    }
}

/// All `-o` options together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Where to start, if it was said.
    pub(crate) start: Option<Offset>,
    /// The time to stop before, if it was said.
    pub(crate) stop_ms: Option<i64>,
}

impl Span {
    /// What the options say together.
    ///
    /// # Errors
    /// Two starts, or two ends.
    pub(crate) fn of(offsets: &[Offset]) -> Result<Span, String> {
        let mut span = Span {
            start: None,
            stop_ms: None,
        };
        for offset in offsets {
            let twice = match *offset {
                Offset::StopTime(ms) => span.stop_ms.replace(ms).is_some(),
                start => span.start.replace(start).is_some(),
            };
            if twice {
                return Err("-o can say one place to start and one e@MS to stop".into());
            }
        }
        Ok(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form() {
        for (text, offset) in [
            ("beginning", Offset::Beginning),
            ("earliest", Offset::Beginning),
            ("end", Offset::End),
            ("stored", Offset::Stored),
            ("0", Offset::Absolute(0)),
            ("17", Offset::Absolute(17)),
            ("-5", Offset::Tail(5)),
            ("s@1700000000000", Offset::StartTime(1_700_000_000_000)),
            ("e@5", Offset::StopTime(5)),
        ] {
            assert_eq!(text.parse(), Ok(offset), "{text}");
        }
        for bad in [
            "",
            "-",
            "--5",
            "+5",
            "s@",
            "s@-1",
            "e@x",
            "middle",
            "99999999999999999999",
        ] {
            assert!(bad.parse::<Offset>().is_err(), "{bad}");
        }
    }

    #[test]
    fn start_and_stop_go_together_once() {
        let span = Span::of(&[Offset::StartTime(1), Offset::StopTime(2)]).unwrap();
        assert_eq!(
            span,
            Span {
                start: Some(Offset::StartTime(1)),
                stop_ms: Some(2)
            }
        );
        assert!(Span::of(&[Offset::End, Offset::Beginning]).is_err());
        assert!(Span::of(&[Offset::StopTime(1), Offset::StopTime(2)]).is_err());
    }
}
