//! The ottla command-line tool.
//!
//! | module | concept |
//! | --- | --- |
//! | [`args`] | what can be typed |
//! | [`session`] | settings from options, files and environment; the client; reaching the cluster |
//! | [`produce`], [`consume`], [`topics`], [`groups`], [`cluster`], [`perf`] | the commands for a cluster |
//! | [`broker`], [`demo`] | the commands that bring their own |
//! | [`stdout`], [`table`], [`latencies`], [`progress`] | what is shown |
//! | [`exit`] | how it ends |
#![forbid(unsafe_code)]

mod args;
mod broker;
mod cluster;
mod consume;
mod demo;
mod escape;
mod exit;
mod groups;
mod latencies;
mod perf;
mod produce;
mod progress;
mod session;
mod settings_list;
mod stdout;
mod table;
mod topics;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Cli, Command};
use exit::Failure;
use session::Session;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // `--help` comes this way too; clap knows which of the two streams and codes is right.
        Err(error) => {
            let code = if error.use_stderr() {
                exit::USAGE
            } else {
                exit::DONE
            };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let quiet = cli.common.quiet;
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return exit::end(
                Err(Failure::failed(format!("cannot start threads: {error}"))),
                quiet,
            );
        }
    };
    let outcome = runtime.block_on(run(cli));
    // A thread may sit in a read of standard input that never returns.
    runtime.shutdown_background();
    exit::end(outcome, quiet)
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let is_broker = matches!(cli.command, Some(Command::Broker(_)));
    // Nobody else hears of a disk that is full.
    let least = if is_broker { "warn" } else { "off" };
    session::log(cli.common.verbose, least);
    let Some(command) = cli.command else {
        return settings_list::run(&cli.common);
    };
    // The settings of a broker are others than those of clients.
    if !is_broker
        && cli
            .common
            .settings
            .iter()
            .any(|s| s == "list" || s == "dump")
    {
        return settings_list::run(&cli.common);
    }
    let session = || Session::new(&cli.common);
    match command {
        Command::Produce(args) => produce::run(session()?, args).await,
        Command::Consume(args) => consume::run(session()?, args).await,
        Command::Topics(command) => topics::run(session()?, command).await,
        Command::Groups(command) => groups::run(session()?, command).await,
        Command::Cluster(args) => cluster::run(session()?, args).await,
        Command::Perf(command) => perf::run(session()?, command).await,
        Command::Demo(args) => demo::run(&cli.common, args).await,
        Command::Broker(args) => broker::run(&cli.common, args).await,
        Command::Completions(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "ottla", &mut script);
            stdout::print(&script)
        }
    }
}
