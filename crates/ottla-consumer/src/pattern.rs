//! Topics by pattern: regular expressions over their names, matched by the client.

use std::fmt;

use regex::{Regex, RegexBuilder};

use crate::Error;

/// Topics whose names match one regular expression and none of some others, for
/// [`Consumer::subscribe_pattern`](crate::Consumer::subscribe_pattern).
///
/// A name matches as a whole, as in Java: `orders-.*` matches `orders-eu` and not `old-orders-eu`. The syntax is that
/// of the [`regex`](https://docs.rs/regex/latest/regex/#syntax) crate: linear in time, hence without look-around and back
/// references. To leave names out, [say so](TopicPattern::except) instead.
///
/// ```
/// use ottla_consumer::TopicPattern;
///
/// let pattern = TopicPattern::new("orders-.*")?.or("refunds")?.except(".*-test")?;
/// assert!(pattern.matches("orders-eu") && pattern.matches("refunds"));
/// assert!(!pattern.matches("orders-eu-test") && !pattern.matches("old-orders-eu"));
/// # Ok::<(), ottla_consumer::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TopicPattern {
    wanted: Vec<Regex>,
    unwanted: Vec<Regex>,
}

impl TopicPattern {
    /// Topics whose names match `pattern`.
    ///
    /// # Errors
    /// [`Error::Pattern`] for what is no regular expression, or one that compiles to more than 1 MiB.
    pub fn new(pattern: &str) -> Result<Self, Error> {
        Ok(Self {
            wanted: vec![whole(pattern)?],
            unwanted: Vec::new(),
        })
    }

    /// And topics whose names match this one.
    ///
    /// # Errors
    /// As [`TopicPattern::new`].
    pub fn or(mut self, pattern: &str) -> Result<Self, Error> {
        self.wanted.push(whole(pattern)?);
        Ok(self)
    }

    /// But no topics whose names match this one.
    ///
    /// # Errors
    /// As [`TopicPattern::new`].
    pub fn except(mut self, pattern: &str) -> Result<Self, Error> {
        self.unwanted.push(whole(pattern)?);
        Ok(self)
    }

    /// The same for brokers to match against whole names, if they can (KIP-848): they know no exceptions, and leave none of
    /// the cluster's own topics out. `internal`: those are wanted where they match.
    pub(crate) fn for_brokers(&self, internal: bool) -> Option<String> {
        let unwanted = !self.unwanted.is_empty();
        if unwanted || !internal && INTERNAL_TOPICS.iter().any(|topic| self.matches(topic)) {
            return None;
        }
        let mut wanted: Vec<&str> = self.wanted.iter().map(written).collect();
        if wanted.len() == 1 {
            return wanted.pop().map(str::to_owned);
        }
        let each: Vec<_> = wanted.iter().map(|regex| format!("(?:{regex})")).collect();
        Some(each.join("|"))
    }

    /// Whether a topic of this name is wanted.
    pub fn matches(&self, topic: &str) -> bool {
        self.wanted.iter().any(|wanted| wanted.is_match(topic))
            && !self
                .unwanted
                .iter()
                .any(|unwanted| unwanted.is_match(topic))
    }
}

/// Two are equal if they are written alike.
impl PartialEq for TopicPattern {
    fn eq(&self, other: &Self) -> bool {
        let same =
            |a: &[Regex], b: &[Regex]| a.iter().map(Regex::as_str).eq(b.iter().map(Regex::as_str));
        same(&self.wanted, &other.wanted) && same(&self.unwanted, &other.unwanted)
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = |patterns: &[Regex]| {
            let written: Vec<_> = patterns.iter().map(Regex::as_str).collect();
            written.join("|")
        };
        f.write_str(&written(&self.wanted))?;
        match self.unwanted.is_empty() {
            true => Ok(()),
            false => write!(f, " except {}", written(&self.unwanted)),
        }
    }
}

/// As it was given to [`whole`].
fn written(regex: &Regex) -> &str {
    let text = regex.as_str();
    let text = text.strip_prefix(BEGIN).unwrap_or(text);
    text.strip_suffix(END).unwrap_or(text)
}

/// One that matches names as a whole.
fn whole(pattern: &str) -> Result<Regex, Error> {
    RegexBuilder::new(&format!("{BEGIN}{pattern}{END}"))
        .size_limit(COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| Error::Pattern {
            pattern: pattern.to_owned(),
            reason: error.to_string(),
        })
}

const BEGIN: &str = r"\A(?:";
const END: &str = r")\z";

/// The topics that a cluster keeps for itself.
const INTERNAL_TOPICS: [&str; 3] = [
    "__consumer_offsets",
    "__transaction_state",
    "__share_group_state",
];

/// Far more than any list of names needs.
const COMPILED_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_pattern_is_explained() {
        for pattern in ["orders-(", r"(?=orders)", "(a{1000}){1000}"] {
            let error = TopicPattern::new(pattern).unwrap_err();
            assert!(error.to_string().contains(pattern), "{error}");
        }
    }

    #[test]
    fn brokers_are_given_what_they_can_match() {
        let pattern = TopicPattern::new("a.*").unwrap();
        assert_eq!(pattern.for_brokers(false).unwrap(), "a.*");
        let either = pattern.clone().or("b|c").unwrap();
        assert_eq!(either.for_brokers(false).unwrap(), "(?:a.*)|(?:b|c)");
        assert_eq!(pattern.except("ab").unwrap().for_brokers(true), None);
        let all = TopicPattern::new(".*").unwrap();
        assert_eq!(
            all.for_brokers(false),
            None,
            "__consumer_offsets is left out"
        );
        assert_eq!(all.for_brokers(true).unwrap(), ".*");
    }

    #[test]
    fn an_alternative_does_not_escape() {
        let pattern = TopicPattern::new("a|b").unwrap();
        assert!(pattern.matches("a") && pattern.matches("b"));
        assert!(!pattern.matches("ab") && !pattern.matches("a\n"));
        assert_eq!(pattern, TopicPattern::new("a|b").unwrap());
        assert_ne!(pattern, TopicPattern::new("b|a").unwrap());
    }
}
