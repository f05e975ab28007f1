//! The log of processes that stay: `serve` and `dialer`.

/// Structured logs: JSON lines on standard error. The level is fixed: a log must not be talked
/// into telling more than it should. Consensus' engine warns again and again of peers that are gone;
/// the mesh says so once.
pub(super) fn log_as_json() {
    let filter = tracing_subscriber::EnvFilter::new("warn,portcullis=info,openraft=error");
    drop(
        tracing_subscriber::fmt()
            .json()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .try_init(),
    );
}
