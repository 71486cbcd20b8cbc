//! `ottla perf`: how fast, how much processor time, how long.

mod consume;
mod cpu;
mod latency;
mod payload;
mod produce;
mod report;

use crate::args::PerfCommand;
use crate::exit::Failure;
use crate::session::Session;

pub(crate) async fn run(session: Session, command: PerfCommand) -> Result<(), Failure> {
    match command {
        PerfCommand::Produce(args) => produce::run(session, args).await,
        PerfCommand::Consume(args) => consume::run(session, args).await,
        PerfCommand::Latency(args) => latency::run(session, args).await,
    }
}
