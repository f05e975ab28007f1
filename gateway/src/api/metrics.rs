//! Metrics and health, on an address that must be named: never on a data listener.

use std::sync::Arc;

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::limit_table;
use crate::fleet::Fleet;
use crate::http::{Peer, Request, Response, Route, Router, Service, server};
use crate::proxy::Front;
use crate::runtime::clock::Duration;

/// Makes this process's metrics go to a recorder that can be rendered. Once in a process.
///
/// # Errors
/// If the process has a recorder already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new().install_recorder()
}

/// Serves `GET /metrics` (Prometheus text) and `GET /healthz` until `stop`.
///
/// Whoever asks for health wants to know whether customers are served here: they are also where this
/// node's part in the fleet is out of order, which is said on further lines.
pub async fn serve(
    front: Arc<Front>,
    fleet: Arc<Fleet>,
    listener: TcpListener,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) {
    let service = Arc::new(Metrics::new(front, fleet, metrics.clone()));
    tokio::select! {
        () = server::serve_tcp(listener, service, stop) => {}
        () = upkeep(metrics) => {}
    }
}

/// Drains histograms even when nobody scrapes; without it they grow. Never ends.
async fn upkeep(metrics: PrometheusHandle) {
    let mut tick = interval(UPKEEP_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        metrics.run_upkeep();
    }
}

const UPKEEP_EVERY: Duration = Duration::from_secs(5);

struct Metrics {
    router: Router<Action>,
    front: Arc<Front>,
    fleet: Arc<Fleet>,
    metrics: PrometheusHandle,
}

impl Metrics {
    fn new(front: Arc<Front>, fleet: Arc<Fleet>, metrics: PrometheusHandle) -> Self {
        let router = Router::new(vec![
            Route::get("/metrics", Action::Metrics),
            Route::get("/healthz", Action::Health),
        ]);
        Self {
            router,
            front,
            fleet,
            metrics,
        }
    }
}

#[derive(Clone, Copy)]
enum Action {
    Metrics,
    Health,
}

impl Service for Metrics {
    type Action = Action;

    fn router(&self) -> &Router<Action> {
        &self.router
    }

    /// Whoever reaches the address may read: what stands here names no client.
    fn admit(&self, _peer: &Peer) -> Result<(), Response> {
        Ok(())
    }

    async fn answer(&self, action: Action, _request: Request) -> Response {
        match action {
            Action::Metrics => {
                limit_table::measure(&self.front);
                Response::text(PROMETHEUS_TEXT, self.metrics.render())
            }
            Action::Health => {
                let mut text = "ok\n".to_owned();
                for problem in self.fleet.problems() {
                    text.push_str(&problem);
                    text.push('\n');
                }
                Response::text("text/plain; charset=utf-8", text)
            }
        }
    }
}

/// The media type of the Prometheus text format, version 0.0.4.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
