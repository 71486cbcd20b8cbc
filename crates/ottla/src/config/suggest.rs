//! Finds the key that a mistyped name most likely means.

use super::table;

/// The known name closest to `written`, if it is close enough to be meant.
///
/// Case and the choice of separator do not count, so `LINGER_MS` means `linger.ms`.
pub(super) fn nearest(written: &str) -> Option<&'static str> {
    let written = normal(written);
    if written.is_empty() || written.len() > NAME_BYTES_MAX {
        return None;
    }
    let mut best: Option<(usize, &'static str)> = None;
    for name in table::names() {
        let distance = strsim::damerau_levenshtein(&written, &normal(name));
        if best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, name));
        }
    }
    // A third of the name wrong is still a typing error; more is another word.
    best.filter(|(distance, _)| *distance <= (written.len() / 3).max(1))
        .map(|(_, name)| name)
        .or_else(|| unfinished(&written))
}

/// The shortest key that goes on where `written` stops at the end of a word.
fn unfinished(written: &str) -> Option<&'static str> {
    table::names()
        .filter(|name| {
            normal(name)
                .strip_prefix(written)
                .is_some_and(|rest| rest.starts_with('.'))
        })
        .min_by_key(|name| name.len())
}

fn normal(name: &str) -> String {
    name.trim().to_ascii_lowercase().replace(['_', '-'], ".")
}

/// Longer than any key; the distance is not worth computing for a pasted novel.
const NAME_BYTES_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_find_their_key() {
        for (written, meant) in [
            ("bootstrap.server", "bootstrap.servers"),
            ("linger", "linger.ms"),
            ("LINGER_MS", "linger.ms"),
            ("auto.offset.rest", "auto.offset.reset"),
            ("compresion.type", "compression.type"),
            ("group.di", "group.id"),
            ("enable-auto-commit", "enable.auto.commit"),
            ("queue.bufering.max.ms", "queue.buffering.max.ms"),
        ] {
            assert_eq!(nearest(written), Some(meant), "{written}");
        }
    }

    #[test]
    fn other_words_find_nothing() {
        for written in [
            "",
            "x",
            "colour",
            "retention.ms.of.the.broker",
            &"z".repeat(10_000),
        ] {
            assert_eq!(nearest(written), None, "{written}");
        }
    }
}
