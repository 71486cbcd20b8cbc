//! A bounded number of seeds in every test run; `cargo run --release -p ottla-sim -- --seeds 10000` runs more.

use ottla_sim::{FaultCounts, FaultKind, Scenario, run_seed};

fn keeps_its_promises(scenario: Scenario, seeds: u64) -> FaultCounts {
    let mut faults = FaultCounts::new();
    for seed in 1..=seeds {
        let run = run_seed(scenario, seed);
        if let Err(problem) = &run.outcome {
            let name = scenario.name();
            panic!(
                "seed {seed}, {name}: {problem}\nagain: cargo run --release -p ottla-sim -- \
                 --scenario {name} --seeds 1 --from {seed} -v"
            );
        }
        for (kind, count) in run.faults {
            *faults.entry(kind).or_default() += count;
        }
    }
    faults
}

#[test]
fn producers_keep_their_promises_in_bad_weather() {
    keeps_its_promises(Scenario::Produce, 15);
}

#[test]
fn groups_keep_their_promises_in_bad_weather_and_meet_every_fault() {
    let faults = keeps_its_promises(Scenario::Group, 18);
    for kind in FaultKind::ALL {
        assert!(
            faults.contains_key(kind),
            "{kind:?} never happened: {faults:?}"
        );
    }
}

#[test]
fn readers_by_hand_keep_their_promises_in_bad_weather() {
    keeps_its_promises(Scenario::Assign, 12);
}

#[test]
fn share_groups_keep_their_promises_in_bad_weather() {
    keeps_its_promises(Scenario::Share, 12);
}

#[test]
fn transactions_keep_their_promises_in_bad_weather() {
    keeps_its_promises(Scenario::Transactions, 15);
}

#[test]
fn a_seed_runs_the_same_every_time() {
    for scenario in Scenario::ALL {
        for seed in 1..=3 {
            let (first, second) = (run_seed(*scenario, seed), run_seed(*scenario, seed));
            if let Some(parting) = first.parting(&second) {
                panic!("{} {seed} runs in two ways:\n{parting}", scenario.name());
            }
        }
    }
}
