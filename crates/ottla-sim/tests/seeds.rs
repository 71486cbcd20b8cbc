//! A bounded number of seeds in every test run; `cargo run --release -p ottla-sim -- --seeds 10000` runs more.

use ottla_sim::{Scenario, run_seed};

#[test]
fn producers_keep_their_promises_in_bad_weather() {
    for seed in 1..=40 {
        if let Err(problem) = run_seed(Scenario::Produce, seed) {
            panic!("seed {seed}: {problem}");
        }
    }
}
