//! `-H NAME=VALUE`.

use std::convert::Infallible;
use std::str::FromStr;

/// A header given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderArg {
    pub(crate) name: String,
    /// `None` is null, which is not empty.
    pub(crate) value: Option<String>,
}

impl FromStr for HeaderArg {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<HeaderArg, Infallible> {
        Ok(match text.split_once('=') {
            Some((name, value)) => HeaderArg {
                name: name.into(),
                value: Some(value.into()),
            },
            None => HeaderArg {
                name: text.into(),
                value: None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_be_missing_empty_or_hold_equals_signs() {
        for (text, name, value) in [
            ("a=1", "a", Some("1")),
            ("a=", "a", Some("")),
            ("a", "a", None),
            ("a=b=c", "a", Some("b=c")),
        ] {
            let Ok(header) = text.parse::<HeaderArg>();
            assert_eq!(
                (header.name.as_str(), header.value.as_deref()),
                (name, value),
                "{text}"
            );
        }
    }
}
