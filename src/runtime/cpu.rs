//! The one door from tokio to rayon.
//!
//! Called by `pipeline` and `server` for decoding and checks, and by the simulated judge for batches. Its rule: work that
//! takes longer than about half a millisecond leaves the async threads; a panic in it is an error of that piece of work,
//! not of the process. The way not taken: `spawn_blocking`, whose hundreds of threads fight over two cores.

use tokio::sync::oneshot;

/// The work panicked; its message is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a computation panicked; see the log")]
pub struct Panicked;

/// Runs `work` on rayon's threads.
///
/// # Errors
/// When it panics.
#[expect(clippy::disallowed_methods, reason = "this is the one door to rayon")]
pub async fn run<T, F>(work: F) -> Result<T, Panicked>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let span = tracing::Span::current();
    rayon::spawn(move || {
        if reply.is_closed() {
            return; // whoever asked has gone
        }
        let result = span.in_scope(|| std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)));
        // The receiver may have gone meanwhile; then nobody misses the result.
        drop(reply.send(result.map_err(|_| Panicked)));
    });
    answer.await.unwrap_or(Err(Panicked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_and_panics_come_back() {
        assert_eq!(run(|| 2 + 2).await, Ok(4));
        assert_eq!(run(|| -> u8 { panic!("on purpose") }).await, Err(Panicked));
        assert_eq!(run(|| 5).await, Ok(5), "the pool survives a panic");
    }
}
