//! The log of processes that stay: `serve` and `dialer`.

/// Structured logs: JSON lines on standard error. The level is fixed: a log must not be talked
/// into telling more than it should.
pub(super) fn log_as_json() {
    let filter = tracing_subscriber::EnvFilter::new("warn,portcullis=info");
    drop(
        tracing_subscriber::fmt()
            .json()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .try_init(),
    );
}
