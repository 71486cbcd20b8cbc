//! `-X list` and `-X dump`: the table of settings, and the settings in force.

use ottla::config::{Kind, Scope, Status, environment_variable, key_groups};

use crate::args::Common;
use crate::exit::Failure;
use crate::session::Session;
use crate::stdout;

pub(crate) fn run(common: &Common) -> Result<(), Failure> {
    if common.settings.iter().any(|s| s == "list") {
        return stdout::print(list());
    }
    if common.settings.iter().any(|s| s == "dump") {
        let settings = common
            .settings
            .iter()
            .filter(|s| *s != "dump")
            .cloned()
            .collect();
        let session = Session::new(&Common {
            settings,
            bootstrap: common.bootstrap.clone(),
            properties: common.properties.clone(),
            ..*common
        })?;
        return stdout::print(session.config.to_string());
    }
    Err(Failure::usage("no command; `ottla --help` lists them"))
}

/// Every key that can be set, with its documentation.
fn list() -> String {
    let mut text = String::new();
    for (heading, keys) in key_groups() {
        text.push_str(&format!("{}\n\n", heading.to_uppercase()));
        for key in keys.iter().filter(|k| !matches!(k.kind, Kind::Object)) {
            let scope = match key.scope {
                Scope::Producer => "producer",
                Scope::Consumer => "consumer",
                _ => "client",
            };
            let default = match key.default {
                Some(default) => format!("default {default:?}"),
                None => "not set".into(),
            };
            let status = match key.status {
                Status::Honoured => String::new(),
                Status::Ignored(why) => format!(" [no effect: {why}]"),
                _ => " [not built yet]".into(),
            };
            text.push_str(&format!(
                "{}\n    {scope}; {}; {default}{status}\n",
                key.name,
                key.kind.range()
            ));
            let aliases: Vec<_> = key.aliases.iter().map(|a| a.name).collect();
            if !aliases.is_empty() {
                text.push_str(&format!("    also: {}\n", aliases.join(", ")));
            }
            text.push_str(&format!(
                "    environment: {}\n",
                environment_variable(key.name)
            ));
            for line in wrap(key.doc, 92) {
                text.push_str(&format!("    {line}\n"));
            }
            text.push('\n');
        }
    }
    text
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_what_can_be_set() {
        let list = list();
        assert!(list.contains("linger.ms\n    producer; 0 to 900000 ms; default \"5\"\n"));
        assert!(list.contains("also: queue.buffering.max.ms"));
        assert!(list.contains("environment: OTTLA_CONFIG_LINGER_MS"));
        assert!(!list.contains("dr_msg_cb"));
        assert!(
            list.lines().all(|line| line.len() <= 200),
            "a line is too long"
        );
    }

    #[test]
    fn text_is_wrapped_at_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("extraordinary", 5), ["extraordinary"]);
    }
}
