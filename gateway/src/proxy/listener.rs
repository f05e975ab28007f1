//! The doors: listening sockets, and the accept loop of a worker.

use std::net::SocketAddr;
use std::sync::Arc;

use portcullis_policy::{Address, Cloud, Origin, Prefix, PrivateLinkId};
use portcullis_wire::proxy_protocol::{CloudTlv, LinkTlv};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::connection::connection;
use super::front::Front;
use crate::config::node::{Listener, ListenerDoor};
use crate::runtime::limits::ACCEPT_PAUSE;

/// How a listener establishes where a client comes from.
#[derive(Debug)]
pub struct Door {
    /// The origin of everything that arrives here; `None` where the PROXY header names it.
    pub(super) origin: Option<Arc<Origin>>,
    pub(super) balancer: Option<Balancer>,
    /// What it is called where its clients are not known yet.
    name: Arc<str>,
}

/// The load balancers before a listener.
#[derive(Debug)]
pub(super) struct Balancer {
    trusted: Vec<Prefix>,
    pub(super) cloud: Option<CloudTlv>,
}

impl Balancer {
    pub(super) fn trusts(&self, address: Address) -> bool {
        self.trusted.iter().any(|prefix| prefix.contains(address))
    }
}

impl Door {
    /// The door that a listener's configuration describes.
    #[must_use]
    pub fn new(configured: &Listener) -> Self {
        let name = configured.address.to_string().into();
        match &configured.door {
            ListenerDoor::Direct(origin) => Self {
                origin: Some(Arc::new(origin.clone())),
                balancer: None,
                name,
            },
            ListenerDoor::Balanced { origin, trusted } => Self {
                origin: Some(Arc::new(origin.clone())),
                balancer: Some(Balancer {
                    trusted: trusted.clone(),
                    cloud: None,
                }),
                name,
            },
            ListenerDoor::PrivateLinks { cloud, trusted } => {
                let cloud = match cloud {
                    Cloud::Aws => CloudTlv::Aws,
                    Cloud::Azure => CloudTlv::Azure,
                    Cloud::Gcp => CloudTlv::Gcp,
                };
                Self {
                    origin: None,
                    balancer: Some(Balancer {
                        trusted: trusted.clone(),
                        cloud: Some(cloud),
                    }),
                    name,
                }
            }
        }
    }
}

/// The private link that a header names, as policy types it.
pub(super) fn private_link(link: &LinkTlv) -> Result<PrivateLinkId, String> {
    match link {
        LinkTlv::Aws(id) => PrivateLinkId::aws(id).map_err(|error| error.to_string()),
        LinkTlv::Azure(id) => Ok(PrivateLinkId::Azure(*id)),
        LinkTlv::Gcp(id) => Ok(PrivateLinkId::Gcp(*id)),
    }
}

/// Accepts on `listener` until told to stop. Never awaits anything of a client: each connection
/// has a task of its own.
pub async fn serve(
    front: Arc<Front>,
    door: Arc<Door>,
    listener: TcpListener,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => welcome(&front, &door, tcp, peer, &tasks),
            Err(error) => {
                // Out of descriptors, or a client that left before we came to it.
                warn!(%error, "accept failed");
                metrics::counter!("portcullis_accept_errors_total").increment(1);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn welcome(
    front: &Arc<Front>,
    door: &Arc<Door>,
    tcp: TcpStream,
    peer: SocketAddr,
    tasks: &TaskTracker,
) {
    let place = match (&door.origin, &door.balancer) {
        (Some(origin), None) => front.throttle.enter(origin, Address::from(peer.ip())),
        // No balancer of ours: it counts for itself, and will be refused.
        (_, Some(balancer)) if !balancer.trusts(Address::from(peer.ip())) => {
            let stranger = Arc::new(Origin::Public);
            front.throttle.enter(&stranger, Address::from(peer.ip()))
        }
        (Some(_), Some(_)) | (None, _) => front.throttle.enter_behind_balancer(&door.name),
    };
    // The throttle has counted whoever it turned away.
    let Ok(ticket) = place else { return };
    tasks.spawn(connection(
        Arc::clone(front),
        Arc::clone(door),
        tcp,
        peer,
        ticket,
        tasks.clone(),
    ));
}
