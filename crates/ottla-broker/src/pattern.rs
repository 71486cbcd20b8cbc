//! Patterns of names that clients send. They are matched in linear time, and no pattern takes more than a bounded
//! room, as with RE2 in Kafka.

use regex::{Error, Regex, RegexBuilder};

/// A pattern that the whole of a name has to match.
///
/// # Errors
/// If it is no regular expression, or too large.
pub(crate) fn whole(pattern: &str) -> Result<Regex, Error> {
    // Reading a pattern takes many times the room of its text, before anybody knows how large it is compiled.
    if pattern.len() > LEN_MAX {
        let why = format!("it is longer than {LEN_MAX} bytes");
        return Err(Error::Syntax(why));
    }
    // By itself first: parentheses that close what was opened around them are no part of a pattern.
    build(pattern)?;
    build(&format!("^(?:{pattern})$"))
}

fn build(pattern: &str) -> Result<Regex, Error> {
    RegexBuilder::new(pattern)
        .size_limit(SIZE_MAX)
        .dfa_size_limit(SIZE_MAX)
        .build()
}

/// Bytes that a pattern may take once it is compiled.
const SIZE_MAX: usize = 1 << 20;

/// Bytes of a pattern's text.
const LEN_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names() {
        let pattern = whole("foo|ba[rz]").unwrap();
        assert!(pattern.is_match("foo") && pattern.is_match("baz"));
        assert!(!pattern.is_match("foot") && !pattern.is_match("abar"));
    }

    #[test]
    fn what_is_no_pattern_or_too_large_is_refused() {
        for pattern in ["(", "a)|(b", "[", "a{1000}{1000}{1000}", "(?=look)"] {
            assert!(whole(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_only_its_text_makes_large_is_refused_before_it_is_read() {
        let comment = format!("(?x)a{}", " ".repeat(1 << 20));
        assert!(whole(&comment).is_err());
        let names = vec!["a-topic-of-some-name"; 500].join("|");
        assert!(whole(&names).is_ok());
    }
}
