//! The one door from async to blocking code.
//!
//! Nothing that changes a thread's namespaces, credentials, working directory or signal mask may
//! come through here: the threads are pooled and outlive the work.

/// Runs `work` on a thread that may block, and gives its result.
///
/// `what` names the work in traces. A panic in `work` goes on in the caller.
pub async fn run<T, F>(what: &'static str, work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    tracing::trace!(what, "blocking work");
    #[expect(clippy::disallowed_methods, reason = "this is the one door")]
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
