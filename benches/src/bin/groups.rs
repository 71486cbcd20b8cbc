//! `bench-groups`: how long a group's partitions stand still while members come and go. See [`ottla_bench::groups`].

use clap::Parser;
use ottla_bench::groups::{Settings, run};

fn main() -> std::io::Result<()> {
    run(&Settings::parse())
}
