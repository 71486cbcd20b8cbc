//! Why an administrative call, or one item of it, failed.

use ottla_wire::ErrorCode;

/// Why an administrative call, or one item of it, failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The broker could not be reached, or did not answer in time.
    #[error(transparent)]
    Net(#[from] ottla_net::Error),

    /// The broker refused this item.
    #[error("{item}: {code}{}", said(message.as_deref()))]
    Refused {
        /// What was refused, such as `topic "clicks"`.
        item: String,
        /// The broker's verdict.
        code: ErrorCode,
        /// What it added in words.
        message: Option<String>,
    },

    /// The broker answered, and left this item out.
    #[error("{item}: the broker's answer leaves it out")]
    LeftOut {
        /// What was asked about.
        item: String,
    },

    /// The broker is too old for what was asked.
    #[error(
        "{what} needs a newer broker: it asks for version {needed} of {api}, and the broker speaks {spoken}"
    )]
    TooOld {
        /// What was asked for.
        what: &'static str,
        /// The API that would carry it.
        api: ottla_wire::ApiKey,
        /// The version that can carry it.
        needed: i16,
        /// The newest version both sides speak.
        spoken: i16,
    },
}

impl Error {
    /// Whether the same call may succeed later.
    pub fn is_retriable(&self) -> bool {
        match self {
            Error::Net(error) => error.is_retriable(),
            Error::Refused { code, .. } => code.is_retriable(),
            Error::LeftOut { .. } | Error::TooOld { .. } => false,
        }
    }

    /// The code a broker answered with, when this error is an answer.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Error::Net(error) => error.code(),
            Error::Refused { code, .. } => Some(*code),
            Error::LeftOut { .. } | Error::TooOld { .. } => None,
        }
    }
}

fn said(message: Option<&str>) -> String {
    match message {
        Some(message) if !message.is_empty() => format!(": {message}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_and_why() {
        let error = Error::Refused {
            item: "topic \"a b\"".into(),
            code: ErrorCode::INVALID_TOPIC_EXCEPTION,
            message: Some("Topic name is invalid".into()),
        };
        let text = error.to_string();
        assert!(
            text.starts_with("topic \"a b\": INVALID_TOPIC_EXCEPTION (17)"),
            "{text}"
        );
        assert!(text.ends_with(": Topic name is invalid"), "{text}");
        assert!(!error.is_retriable());
    }
}
