//! `assize health`: ask a running service whether it is ready.

use super::Context;
use std::process::ExitCode;
use std::time::Duration;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  assize health --url http://127.0.0.1:4318/readyz")]
pub(super) struct Args {
    /// What to ask; default: /readyz of the configured listen address
    #[arg(long)]
    url: Option<String>,
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let url = match args.url {
        Some(url) => url,
        None => format!("{}/readyz", context.config()?.server.local_url()),
    };
    let answer = crate::runtime::http::probe(Duration::from_secs(5))?.get(&url).send().await;
    match answer {
        Ok(response) if response.status().is_success() => {
            println!("ready");
            Ok(ExitCode::SUCCESS)
        }
        Ok(response) => {
            let status = response.status();
            eprintln!("{url} answers {status}: {}", response.text().await.unwrap_or_default());
            Ok(ExitCode::FAILURE)
        }
        Err(_) => {
            eprintln!("{url} does not answer");
            Ok(ExitCode::FAILURE)
        }
    }
}
