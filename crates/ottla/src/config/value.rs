//! Parses the text of one setting into a value of its key's type. Knows every spelling that Java
//! and librdkafka accept; knows nothing of where the text came from.

use std::time::Duration;

use ottla_consumer::OffsetReset;
use ottla_net::Address;

use super::key::{Choice, Kind};

/// A value of the type that its key's [`Kind`] says.
///
/// The accessors are for the `apply` functions of the table, which know their own key's kind; a
/// row that asks for another kind is a defect that the table's tests find.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Int(i64),
    Number(f64),
    Duration(Duration),
    Text(String),
    List(Vec<String>),
    Servers(Vec<Address>),
    Choice(&'static str),
    Choices(Vec<&'static str>),
    OffsetReset(OffsetReset),
}

/// Why a text is not a value of its kind.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Invalid {
    /// Not of the type, or out of range; more to say than the range does.
    Because(String),
    /// Not of the type, or out of range.
    Range,
    /// A known choice that this version does not implement yet.
    Planned(&'static str),
}

impl Kind {
    /// Parses `text`, whose numbers count in units of `unit`.
    pub(super) fn parse(&self, text: &str, unit: i64) -> Result<Value, Invalid> {
        let trimmed = text.trim();
        match *self {
            Kind::Bool => bool(trimmed).map(Value::Bool).ok_or(Invalid::Range),
            Kind::Int { min, max } | Kind::Bytes { min, max } => {
                int(trimmed, unit, min, max).map(Value::Int)
            }
            Kind::Millis { min, max } => int(trimmed, unit, min, max).map(|ms| {
                // A negative number of milliseconds is only in range where the key gives it a
                // meaning, and that meaning is always "never".
                match u64::try_from(ms) {
                    Ok(ms) => Value::Duration(Duration::from_millis(ms)),
                    Err(_) => Value::Duration(Duration::MAX),
                }
            }),
            Kind::FractionalMillis { min, max } => number(trimmed, min as f64, max as f64)
                .map(|ms| Value::Duration(Duration::from_secs_f64(ms / 1000.0))),
            Kind::Number { min, max } => number(trimmed, min, max).map(Value::Number),
            // Neither trimmed: a password may begin with a space.
            Kind::Text => Ok(Value::Text(text.to_owned())),
            Kind::List => Ok(Value::List(items(text).map(str::to_owned).collect())),
            Kind::Servers => match Address::parse_list(text) {
                Ok(addresses) => Ok(Value::Servers(addresses)),
                Err(error) => Err(Invalid::Because(error.to_string())),
            },
            Kind::Choice(choices) => choice(choices, trimmed).map(Value::Choice),
            Kind::Choices(choices) => {
                items(text)
                    .map(|item| choice(choices, item))
                    .collect::<Result<_, _>>()
                    .map(
                        // Naming one twice says no more than naming it once.
                        |mut chosen: Vec<_>| {
                            let mut seen = Vec::new();
                            chosen.retain(|c| {
                                !seen.contains(c) && {
                                    seen.push(*c);
                                    true
                                }
                            });
                            Value::Choices(chosen)
                        },
                    )
            }
            Kind::OffsetReset => offset_reset(trimmed).map(Value::OffsetReset),
            Kind::Object => Err(Invalid::Range),
        }
    }
}

impl Value {
    pub(super) fn bool(&self) -> bool {
        match self {
            Value::Bool(b) => *b,
            other => mismatch(other),
        }
    }

    pub(super) fn int(&self) -> i64 {
        match self {
            Value::Int(i) => *i,
            other => mismatch(other),
        }
    }

    /// An integer that its range keeps within `T`.
    pub(super) fn sized<T: TryFrom<i64>>(&self) -> T {
        T::try_from(self.int()).unwrap_or_else(|_| mismatch(self))
    }

    /// A number of bytes. What exceeds the address space is as good as all of it.
    pub(super) fn bytes(&self) -> usize {
        usize::try_from(self.int()).unwrap_or(usize::MAX)
    }

    pub(super) fn duration(&self) -> Duration {
        match self {
            Value::Duration(d) => *d,
            other => mismatch(other),
        }
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Value::Text(t) => t,
            other => mismatch(other),
        }
    }

    /// Text, where an empty one means "not set".
    pub(super) fn optional_text(&self) -> Option<String> {
        Some(self.text().to_owned()).filter(|t| !t.is_empty())
    }

    pub(super) fn servers(&self) -> &[Address] {
        match self {
            Value::Servers(s) => s,
            other => mismatch(other),
        }
    }

    pub(super) fn choice(&self) -> &'static str {
        match self {
            Value::Choice(c) => c,
            other => mismatch(other),
        }
    }

    pub(super) fn choices(&self) -> &[&'static str] {
        match self {
            Value::Choices(c) => c,
            other => mismatch(other),
        }
    }

    pub(super) fn offset_reset(&self) -> OffsetReset {
        match self {
            Value::OffsetReset(r) => *r,
            other => mismatch(other),
        }
    }
}

/// `apply` of a row asked for a value of another type than the row's kind, or the row's range is
/// wider than the setting's type: both are mistakes in the table itself.
fn mismatch(value: &Value) -> ! {
    unreachable!("the table applies a value of another kind: {value:?}")
}

fn bool(text: &str) -> Option<bool> {
    const TRUE: [&str; 5] = ["true", "t", "1", "yes", "on"];
    const FALSE: [&str; 5] = ["false", "f", "0", "no", "off"];
    let is = |names: [&str; 5]| names.iter().any(|n| n.eq_ignore_ascii_case(text));
    match (is(TRUE), is(FALSE)) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

fn int(text: &str, unit: i64, min: i64, max: i64) -> Result<i64, Invalid> {
    let number: i64 = text.parse().map_err(|_| Invalid::Range)?;
    number
        .checked_mul(unit)
        .filter(|n| (min..=max).contains(n))
        .ok_or(Invalid::Range)
}

fn number(text: &str, min: f64, max: f64) -> Result<f64, Invalid> {
    match text.parse::<f64>() {
        Ok(n) if n.is_finite() && (min..=max).contains(&n) => Ok(n),
        _ => Err(Invalid::Range),
    }
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

fn choice(choices: &[Choice], text: &str) -> Result<&'static str, Invalid> {
    match choices.iter().find(|c| c.matches(text)) {
        Some(c) if c.planned => Err(Invalid::Planned(c.name)),
        Some(c) => Ok(c.name),
        None => Err(Invalid::Range),
    }
}

fn offset_reset(text: &str) -> Result<OffsetReset, Invalid> {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "earliest" | "smallest" | "beginning" => return Ok(OffsetReset::Earliest),
        "latest" | "largest" | "end" => return Ok(OffsetReset::Latest),
        "none" | "error" => return Ok(OffsetReset::Fail),
        _ => {}
    }
    let Some(duration) = lower.strip_prefix("by_duration:") else {
        return Err(Invalid::Range);
    };
    ottla_wire::iso_duration(duration)
        .map(OffsetReset::ByDuration)
        .ok_or_else(|| {
            Invalid::Because(format!(
                "{duration:?} is not a duration such as PT1H, P7D or PT0.5S"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_in_every_spelling() {
        for (text, value) in [
            ("true", true),
            ("T", true),
            ("1", true),
            ("off", false),
            (" No ", false),
        ] {
            assert_eq!(Kind::Bool.parse(text, 1), Ok(Value::Bool(value)), "{text}");
        }
        assert_eq!(Kind::Bool.parse("maybe", 1), Err(Invalid::Range));
        assert_eq!(Kind::Bool.parse("", 1), Err(Invalid::Range));
    }

    #[test]
    fn numbers_keep_to_their_range_and_unit() {
        let kind = Kind::Bytes {
            min: 1024,
            max: 4096,
        };
        assert_eq!(kind.parse("1024", 1), Ok(Value::Int(1024)));
        assert_eq!(kind.parse("4", 1024), Ok(Value::Int(4096)));
        for (text, unit) in [("1023", 1), ("4097", 1), ("5", 1024), ("1e3", 1), ("", 1)] {
            assert_eq!(kind.parse(text, unit), Err(Invalid::Range), "{text}");
        }
        let wide = Kind::Bytes {
            min: 0,
            max: i64::MAX,
        };
        assert_eq!(wide.parse("9223372036854775807", 1024), Err(Invalid::Range));
    }

    #[test]
    fn milliseconds_may_have_a_fraction_where_the_key_says_so() {
        let half = Value::Duration(Duration::from_micros(500));
        assert_eq!(
            Kind::FractionalMillis { min: 0, max: 10 }.parse("0.5", 1),
            Ok(half)
        );
        assert_eq!(
            Kind::Millis { min: 0, max: 10 }.parse("0.5", 1),
            Err(Invalid::Range)
        );
        for text in ["-1", "NaN", "inf", "11"] {
            let kind = Kind::FractionalMillis { min: 0, max: 10 };
            assert_eq!(kind.parse(text, 1), Err(Invalid::Range), "{text}");
        }
    }

    #[test]
    fn choices_ignore_case_and_know_other_spellings() {
        static ALL: &[Choice] = &[
            Choice::of("a").also(&["first"]),
            Choice::of("b"),
            Choice::of("c").planned(),
        ];
        assert_eq!(Kind::Choice(ALL).parse("FIRST", 1), Ok(Value::Choice("a")));
        assert_eq!(Kind::Choice(ALL).parse("c", 1), Err(Invalid::Planned("c")));
        assert_eq!(Kind::Choice(ALL).parse("d", 1), Err(Invalid::Range));
        assert_eq!(
            Kind::Choices(ALL).parse("b, first,a", 1),
            Ok(Value::Choices(vec!["b", "a"]))
        );
    }

    #[test]
    fn text_is_taken_as_it_is() {
        assert_eq!(Kind::Text.parse(" a ", 1), Ok(Value::Text(" a ".into())));
    }

    #[test]
    fn offset_reset_in_every_spelling() {
        let parse = |text| match Kind::OffsetReset.parse(text, 1) {
            Ok(Value::OffsetReset(reset)) => Some(reset),
            _ => None,
        };
        assert_eq!(parse("Smallest"), Some(OffsetReset::Earliest));
        assert_eq!(parse("end"), Some(OffsetReset::Latest));
        assert_eq!(parse("error"), Some(OffsetReset::Fail));
        let by = |d| Some(OffsetReset::ByDuration(d));
        assert_eq!(parse("by_duration:PT1H"), by(Duration::from_secs(3600)));
        assert_eq!(
            parse("by_duration:P1DT2H3M4.5S"),
            by(Duration::from_millis(93_784_500))
        );
        assert_eq!(
            parse("by_duration:pt0.000000001s"),
            by(Duration::from_nanos(1))
        );
        for bad in [
            "by_duration:",
            "by_duration:P",
            "by_duration:PT",
            "by_duration:1H",
            "by_duration:PT1",
            "by_duration:P1H",
            "by_duration:PT-1H",
            "by_duration:PT1S1M",
            "by_duration:PT99999999999999999999H",
            "by_duration:PT18446744073709551615H",
            "sometimes",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
