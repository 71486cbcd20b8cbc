//! What every command begins with: settings, a client, and a cluster that answers.

use std::time::Duration;

use ottla::admin::{Admin, TopicDescription};
use ottla::config::{Config, Origin};
use ottla::{Client, ErrorCode};
use tokio::time::Instant;

use crate::args::Common;
use crate::exit::{Failure, say};

/// The settings of one run.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) config: Config,
    pub(crate) quiet: bool,
    timeout: Duration,
}

impl Session {
    /// Gathers settings: environment, then files, then `-X`, then options of their own.
    pub(crate) fn new(common: &Common) -> Result<Session, Failure> {
        let mut config = Config::new();
        config.load_environment()?;
        for file in &common.properties {
            config.load_properties_file(file)?;
        }
        set_all(&mut config, &common.settings)?;
        if let Some(bootstrap) = &common.bootstrap {
            config.set_from("bootstrap.servers", bootstrap, Origin::Option("-b".into()))?;
        }
        if !config.is_set("bootstrap.servers") {
            config.set("bootstrap.servers", "localhost:9092")?;
        }
        if !config.is_set("client.id") {
            config.set("client.id", "ottla-cli")?;
        }
        let session = Session {
            config,
            quiet: common.quiet,
            timeout: Duration::from_secs_f64(common.timeout),
        };
        if !session.quiet {
            for warning in session.config.warnings() {
                say(format_args!("warning: {warning}"));
            }
        }
        Ok(session)
    }

    /// Gives a setting its value from an option of a command, which comes before all else.
    pub(crate) fn option(
        &mut self,
        option: &str,
        key: &str,
        value: Option<&str>,
    ) -> Result<(), Failure> {
        if let Some(value) = value {
            self.config
                .set_from(key, value, Origin::Option(option.into()))?;
        }
        Ok(())
    }

    /// Until when the cluster must have answered.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// A client whose cluster has answered.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        let client = Client::new(self.config.clone())?;
        client.cluster().ready(self.deadline()).await?;
        Ok(client)
    }

    /// For administration, within the same time.
    pub(crate) fn admin(&self, client: &Client) -> Admin {
        client.admin().with_timeout(self.timeout)
    }

    /// Whether topics may be made on the way (`allow.auto.create.topics`), so that none need be there before.
    pub(crate) fn may_create_topics(&self) -> bool {
        self.config.get("allow.auto.create.topics").as_deref() == Some("true")
    }

    /// Topics that must exist.
    pub(crate) async fn find_topics(
        &self,
        client: &Client,
        names: &[&str],
    ) -> Result<Vec<TopicDescription>, Failure> {
        let admin = self.admin(client);
        let mut found = Vec::new();
        for (name, result) in admin.describe_topics(names).await {
            match result {
                Ok(topic) => found.push(topic),
                Err(error) if error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => {
                    return Err(self.unknown_topic(&admin, &name).await);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(found)
    }

    /// Says that there is no such topic, and which may be meant.
    async fn unknown_topic(&self, admin: &Admin, name: &str) -> Failure {
        let servers = self.config.get("bootstrap.servers").unwrap_or_default();
        let topics = admin.list_topics().await.unwrap_or_default();
        let similar = topics
            .iter()
            .map(|t| (strsim::damerau_levenshtein(name, &t.name), t.name.as_str()))
            .filter(|(distance, _)| *distance <= (name.len() / 3).max(1))
            .min();
        let hint = match similar {
            Some((_, similar)) => format!("did you mean `{similar}`?"),
            None => {
                format!("create it with `ottla topics create {name}`, or see `ottla topics list`")
            }
        };
        Failure::not_found(format!(
            "the cluster at {servers} has no topic `{name}`; {hint}"
        ))
    }
}

/// Gives settings the values of `-X KEY=VALUE`.
pub(crate) fn set_all(config: &mut Config, settings: &[String]) -> Result<(), Failure> {
    for setting in settings {
        let (key, value) = key_value(setting)?;
        config.set_from(key, value, Origin::Option("-X".into()))?;
    }
    Ok(())
}

/// The two halves of `-X KEY=VALUE`.
pub(crate) fn key_value(setting: &str) -> Result<(&str, &str), Failure> {
    setting.split_once('=').ok_or_else(|| {
        Failure::usage(format!(
            "-X {setting}: expected KEY=VALUE, or `-X list` for all keys"
        ))
    })
}

/// Sends the library's log to standard error: what `OTTLA_LOG` says, else more with each `-v`, and `least` without.
pub(crate) fn log(verbose: u8, least: &str) {
    use tracing_subscriber::EnvFilter;
    let filter = match std::env::var("OTTLA_LOG") {
        Ok(filter) if !filter.is_empty() => EnvFilter::new(filter),
        _ => EnvFilter::new(match verbose {
            0 => least,
            1 => "info",
            2 => "debug",
            _ => "trace",
        }),
    };
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}

/// Ready when Ctrl-C is pressed, or the system asks to terminate; from the call on, not only from when it is
/// awaited. A second time is not waited for: it ends the process.
#[cfg(unix)]
pub(crate) fn interrupted() -> impl Future<Output = ()> {
    use tokio::signal::unix::{Signal, SignalKind, signal};

    /// Without a handler the system's own way to end a process holds.
    async fn next(signal: &mut Option<Signal>) {
        match signal {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    }

    let mut interrupt = signal(SignalKind::interrupt()).ok();
    let mut terminate = signal(SignalKind::terminate()).ok();
    async move {
        tokio::select! {
            () = next(&mut interrupt) => {}
            () = next(&mut terminate) => {}
        }
        tokio::spawn(async move {
            let status = tokio::select! {
                () = next(&mut interrupt) => crate::exit::INTERRUPTED,
                () = next(&mut terminate) => crate::exit::TERMINATED,
            };
            end_at_once(status);
        });
    }
}

/// As on Unix, for Ctrl-C only.
#[cfg(not(unix))]
pub(crate) async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
    tokio::spawn(async {
        if tokio::signal::ctrl_c().await.is_ok() {
            end_at_once(crate::exit::INTERRUPTED);
        }
    });
}

/// What a second signal asks for.
fn end_at_once(status: u8) -> ! {
    say("told to stop again: ended at once, in the middle of stopping");
    std::process::exit(i32::from(status));
}
