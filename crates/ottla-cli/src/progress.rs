//! Progress of long work, on standard error, for people only.

use std::fmt;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};

/// A line that shows how far it is, or nothing when nobody looks.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// `total` units of work, if it is known; `unit` is what they are called.
    pub(crate) fn new(quiet: bool, total: Option<u64>, unit: &str) -> Progress {
        if quiet || !std::io::stderr().is_terminal() {
            return Progress {
                bar: ProgressBar::hidden(),
            };
        }
        let (bar, template) = match total {
            Some(total) => (
                ProgressBar::new(total),
                // What is cut off on a narrow terminal stands last.
                format!(
                    "{{bar:20}} {{percent}}%  {{human_pos}} {unit}  {{rate}}  eta {{eta}}  {{msg}}"
                ),
            ),
            None => (
                ProgressBar::new_spinner(),
                format!("{{spinner}} {{human_pos}} {unit}  {{rate}}  {{elapsed}}  {{msg}}"),
            ),
        };
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.with_key("rate", rate));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress { bar }
    }

    /// This much is done in all.
    pub(crate) fn set(&self, position: u64) {
        self.bar.set_position(position);
    }

    /// Says something beside it.
    pub(crate) fn message(&self, message: String) {
        self.bar.set_message(message);
    }

    /// Takes the line away.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// So many a second, in whole numbers.
fn rate(state: &ProgressState, text: &mut dyn fmt::Write) {
    let whole = HumanCount(state.per_sec() as u64);
    // A line that cannot be shown is no reason to stop.
    let _ = write!(text, "{whole}/s");
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
