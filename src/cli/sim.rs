//! `assize sim`: the simulated judge.

use crate::llm::sim::{Faults, Sim};
use crate::runtime::lifecycle::Lifecycle;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpListener;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  assize sim --port 8090 --latency 200ms --rpm 600 --error-rate 0.05\n\
    then configure a judge with base_url = \"http://127.0.0.1:8090/v1\" and model = \"sim-large\".\n\
    GET /stats counts what it did, POST /config changes its faults while it runs.")]
pub(super) struct Args {
    /// Port on the loopback; 0 picks a free one
    #[arg(long, default_value_t = 8090, conflicts_with = "listen")]
    port: u16,
    /// Full address instead of a loopback port, for containers
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Time to an answer, as in 200ms or 1.5s
    #[arg(long, default_value = "0ms", value_parser = milliseconds)]
    latency: u64,
    /// Up to this much more
    #[arg(long, default_value = "0ms", value_parser = milliseconds)]
    jitter: u64,
    /// Time from a batch's creation to its answers (POST /v1/batches)
    #[arg(long, default_value = "200ms", value_parser = milliseconds)]
    batch_latency: u64,
    /// Requests a minute; above it 429 with Retry-After
    #[arg(long)]
    rpm: Option<u32>,
    /// Prompt tokens a minute
    #[arg(long)]
    tpm: Option<u32>,
    /// Share of requests answered with 500
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    error_rate: f64,
    /// Share of requests never answered
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    hang_rate: f64,
    /// Share of requests answered with something that is no verdict
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    garbage_rate: f64,
    /// Refuse these with 400: json_schema, json_object, tools, temperature, max_tokens, max_completion_tokens
    #[arg(long, value_delimiter = ',')]
    refuse: Vec<String>,
    /// Say nothing of the limits in the replies' headers
    #[arg(long)]
    hide_limits: bool,
    /// Answer everything with this status, as an endpoint whose key, model or quota is gone
    #[arg(long)]
    unusable: Option<u16>,
    /// Obey instructions in the text that is judged, to see whether that is noticed
    #[arg(long)]
    obedient: bool,
}

/// `200ms`, `1.5s` or a plain number of milliseconds.
fn milliseconds(text: &str) -> Result<u64, String> {
    let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 0.001),
        (None, Some(number)) => (number, 1.0),
        (None, None) => (text, 0.001),
    };
    let bad = || format!("`{text}` is not a time; write 200ms or 1.5s");
    let seconds = number.trim().parse::<f64>().map_err(|_| bad())? * unit;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| bad())?;
    u64::try_from(duration.as_millis()).map_err(|_| bad())
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if (0.0..=1.0).contains(&x) => Ok(x),
        _ => Err(format!("`{text}` is not a share; give a number from 0 to 1")),
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let sim = Sim::new(Faults {
        latency_ms: args.latency,
        jitter_ms: args.jitter,
        batch_ms: args.batch_latency,
        rpm: args.rpm,
        tpm: args.tpm,
        error_rate: args.error_rate,
        hang_rate: args.hang_rate,
        garbage_rate: args.garbage_rate,
        obedient: args.obedient,
        hide_limits: args.hide_limits,
        unusable: args.unusable,
        refuse: args.refuse,
        ..Faults::default()
    });
    let address = args.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], args.port)));
    let listener = TcpListener::bind(address).await.map_err(|e| anyhow::anyhow!("cannot listen on {address}: {e}"))?;
    println!(
        "the simulated judge listens on http://{}/v1 (its verdicts come from rules, not from a model)",
        listener.local_addr()?
    );
    let life = Lifecycle::default();
    let stop = life.soft.clone();
    life.spawn("sim", async move {
        let serving = axum::serve(listener, sim.router()).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = serving.await {
            tracing::error!(%error, "the simulated judge stopped");
        }
    });
    life.run_until_stopped(Duration::from_secs(1)).await;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(milliseconds("200ms"), Ok(200));
        assert_eq!(milliseconds("1.5s"), Ok(1_500));
        assert_eq!(milliseconds("7"), Ok(7));
        assert!(milliseconds("soon").is_err() && milliseconds("-1s").is_err());
    }
}
