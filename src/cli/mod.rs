//! L4: the commands, one file each.
//!
//! Called by `main`. Its rule: a command parses, builds, calls and prints; what it prints is for people, with `--json` for
//! programs. Exit codes: 0 done, 1 the answer is no (a missed `--min`, not ready), 2 bad input. The way not taken: commands
//! that do work of their own, which the service would then do differently.

mod alerts;
mod calibrate;
mod database;
mod datadog;
mod demo;
mod doctor;
mod eval;
mod explain;
mod grafana;
mod health;
mod input;
mod junit;
mod labels;
mod migrate;
mod progress;
mod prometheus;
mod queue;
mod replay;
mod report;
mod rubric;
mod serve;
mod sim;
mod table;
mod watched;

use crate::config::{Ambient, Config};
use crate::runtime::telemetry;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Judge what your LLM application really answers: sample production traces, check and judge them, store every verdict.
#[derive(Debug, Parser)]
#[command(name = "assize", version, arg_required_else_help = true, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Configuration file, by default ./assize.toml if there is one; ASSIZE__SECTION__KEY wins over it
    #[arg(long, global = true, value_name = "FILE", env = "ASSIZE_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service: take traces in, judge them, send verdicts out
    Serve(serve::Args),
    /// Show the whole product on this machine, with nothing configured
    Demo(demo::Args),
    /// Judge files of traces without a database
    Eval(eval::Args),
    /// Tell what happened to a trace, and why
    Explain(explain::Args),
    /// Judge stored traces again by another version of a rubric, and compare
    Replay(replay::Args),
    /// Rates of what was judged, corrected for sampling, with their intervals
    Report(report::Args),
    /// Measure judges on human labels, and learn what their votes are worth
    Calibrate(calibrate::Args),
    /// Take in what people say about answers, and ask them about the right ones
    Labels(labels::Args),
    /// Look at alerts, take them, close them, and try channels
    Alerts(alerts::Args),
    /// Monitors and the dashboard for Datadog, as JSON or Terraform, or put there
    Datadog(datadog::Args),
    /// The dashboard for Grafana over Prometheus
    Grafana(grafana::Args),
    /// Alerting rules for Prometheus
    Prometheus(prometheus::Args),
    /// Look at work that waits
    Queue(queue::Args),
    /// Work on rubric files: check, test, compare, begin one
    Rubric(rubric::Args),
    /// Bring the database's tables up to date
    Migrate(migrate::Args),
    /// Look for what is wrong with configuration, database, rubrics, judges and sinks
    Doctor(doctor::Args),
    /// Ask a running service whether it is ready (for container health checks)
    Health(health::Args),
    /// Run the simulated judge: an OpenAI-compatible server with verdicts from rules
    Sim(sim::Args),
}

/// What every command gets.
struct Context {
    config_file: Option<PathBuf>,
    ambient: Ambient,
}

impl Context {
    fn config(&self) -> anyhow::Result<Config> {
        Ok(Config::load(self.config_file.as_deref(), &self.ambient)?)
    }
}

/// `assize … | head` ends when head has had enough, without the words of a crash.
fn quiet_when_nobody_reads() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.to_string().contains("failed printing to stdout: Broken pipe") {
            usual(info);
        }
    }));
}

/// Exit code for input that cannot be used.
const BAD_INPUT: u8 = 2;

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    quiet_when_nobody_reads();
    let cli = Cli::parse();
    // The file that lies here is meant, unless another is named: then every command sees what the service sees.
    let here = PathBuf::from("assize.toml");
    let config_file = cli.config.or_else(|| here.is_file().then_some(here));
    let context = Context { config_file, ambient: Ambient::read() };
    let quiet = !matches!(cli.command, Command::Serve(_) | Command::Sim(_));
    let filter = context.ambient.get("RUST_LOG").or(quiet.then_some("warn,sqlx=error,assize::app=off"));
    let json = context.config().is_ok_and(|config| config.log.json);
    telemetry::install(filter, json);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli.command, &context)) {
        Ok(code) => code,
        Err(error) => {
            // Each cause on a line of its own; none repeats the one above it.
            eprintln!("error: {error}");
            let mut last = error.to_string();
            for cause in error.chain().skip(1).map(ToString::to_string) {
                if !last.contains(&cause) {
                    eprintln!("  because: {cause}");
                }
                last = cause;
            }
            ExitCode::from(BAD_INPUT)
        }
    }
}

async fn run(command: Command, context: &Context) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => serve::run(args, context).await,
        Command::Demo(args) => demo::run(args, context).await,
        Command::Eval(args) => eval::run(args, context).await,
        Command::Explain(args) => Box::pin(explain::run(args, context)).await,
        Command::Replay(args) => Box::pin(replay::run(args, context)).await,
        Command::Report(args) => report::run(args, context).await,
        Command::Calibrate(args) => calibrate::run(args, context).await,
        Command::Labels(args) => labels::run(args, context).await,
        Command::Alerts(args) => alerts::run(args, context).await,
        Command::Datadog(args) => datadog::run(args, context).await,
        Command::Grafana(args) => grafana::run(&args, context),
        Command::Prometheus(args) => prometheus::run(args, context),
        Command::Queue(args) => queue::run(args, context).await,
        // Boxed: its futures hold whole configurations, which would be copied at each wrapping.
        Command::Rubric(args) => Box::pin(rubric::run(args, context)).await,
        Command::Migrate(args) => migrate::run(args, context).await,
        Command::Doctor(args) => Box::pin(doctor::run(args, context)).await,
        Command::Health(args) => health::run(args, context).await,
        Command::Sim(args) => sim::run(args).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("assize "), "`{}` has no example", command.get_name());
        }
    }
}
