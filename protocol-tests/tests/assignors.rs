//! Our assignors beside Java's: both distribute the same made-up groups, through rebalances in which members come, go,
//! are late, and claim what is not theirs.
#![allow(clippy::unwrap_used)]

#[path = "../../crates/ottla-consumer/tests/assignors/check.rs"]
mod check;

use ottla_protocol_tests::{Distribution, Tool, Tools, Version, or_skip};

/// How many groups: some 2.5 cases each. `OTTLA_GROUPS` asks for more, `OTTLA_SEED` for others.
const GROUPS: &str = "1000";

#[test]
fn distribute_as_javas_do() {
    for version in [Version::V4_3_1, Version::V3_9] {
        let Some(kafka) = or_skip(Distribution::get(version)) else {
            return;
        };
        let Some(tools) = or_skip(Tools::new(kafka, String::new()).in_one_jvm()) else {
            return;
        };
        let asked = |name: &str, or: &str| std::env::var(name).unwrap_or_else(|_| or.to_owned());
        let groups = asked("OTTLA_GROUPS", GROUPS);
        let printed = tools.run(Tool::Assignors, &[&asked("OTTLA_SEED", "1"), &groups]);
        let cases = check::all(printed.text());
        println!(
            "{cases} cases of {groups} groups, Kafka {}",
            version.number()
        );
        assert!(cases > groups.parse::<usize>().unwrap());
    }
}
