//! A fleet of one node with everybody who may ask it, and two tenants.

use std::net::SocketAddr;
use std::sync::Arc;

use portcullis_audit::{Event, kinds};
use portcullis_certs::fleet::{
    FleetTrust, JoinRequest, OperatorIdentity, SERVER_NAME, api_client_config,
};
use portcullis_certs::generate_key;
use portcullis_policy::GuardRails;
use serde_json::json;
use tokio_rustls::rustls::ClientConfig;

use super::super::operator_types::ChangedReply;
use super::{Served, tenant};
use crate::http::Method;
use crate::http::client::{AnswerLimits, Question, ask_tls};
use crate::runtime::clock::Duration;

/// Who asks: a name, and the roles that the fleet gives them; none is somebody whom it does not know.
pub(super) const ASKING: [(&str, &str); 6] = [
    ("olga", "fleet-operator"),
    ("paul", "policy-author"),
    ("tess", "tenant-operator"),
    ("anna", "auditor"),
    ("rita", "reader"),
    ("nemo", ""),
];

/// Their own, somebody else's, nobody's.
pub(super) const TENANTS: [&str; 3] = ["acme", "globex", "nobody"];

pub(super) struct Fleet {
    pub(super) served: Served,
    pub(super) api: SocketAddr,
}

impl Fleet {
    /// A fleet of one node, with two tenants, everybody, and a story of each tenant.
    pub(super) async fn start(name: &str, rails: GuardRails) -> Self {
        let (served, api) = Served::in_fleet(name, rails).await;
        for owner in &TENANTS[..2] {
            served.apply(&tenant(owner, &["203.0.113.0/24"])).await;
        }
        for (number, owner) in TENANTS[..2].iter().enumerate() {
            let mut event = Event::new(0, kinds::CONNECTION_DENIED, "gw1");
            event.reference = Some(reference(number));
            event.tenant = Some((*owner).to_owned());
            served.node.ledger.record_durable(event).await.unwrap();
        }
        let fleet = Self { served, api };
        for (name, role) in ASKING {
            let tenants = if role == "tenant-operator" {
                &TENANTS[..1]
            } else {
                &[]
            };
            fleet.enlist(name, role, tenants).await;
        }
        fleet
    }

    /// Makes an operator and keeps the certificate under the name.
    pub(super) async fn enlist(&self, name: &str, role: &str, tenants: &[&str]) {
        let key = generate_key().unwrap();
        // Somebody whom the fleet forgot has a certificate all the same.
        let roles = if role.is_empty() { "reader" } else { role };
        let body = json!({
            "name": name, "roles": [roles], "tenants": tenants,
            "certificate_request": JoinRequest::pem_of(&key).unwrap(),
        });
        let reply: ChangedReply = self.served.post("/v1/operators", &body).await;
        for (kind, text) in [
            ("key", key.to_pem()),
            ("pem", reply.certificate.unwrap()),
            ("ca", reply.authority.unwrap()),
        ] {
            std::fs::write(self.served.path(&format!("{name}.{kind}")), text).unwrap();
        }
        if role.is_empty() {
            let _: ChangedReply = self
                .served
                .post("/v1/operators/remove", &json!({ "name": name }))
                .await;
        }
    }

    pub(super) fn read(&self, name: &str, kind: &str) -> String {
        std::fs::read_to_string(self.served.path(&format!("{name}.{kind}"))).unwrap()
    }

    pub(super) fn caller(&self, name: &str) -> Arc<ClientConfig> {
        let read = |kind| self.read(name, kind);
        let identity = OperatorIdentity::from_pem(&read("pem"), &read("key")).unwrap();
        let trust = FleetTrust::from_pem(&read("ca")).unwrap();
        api_client_config(&identity, &trust).unwrap()
    }

    pub(super) async fn ask(
        &self,
        caller: &Arc<ClientConfig>,
        method: Method,
        target: &str,
        body: Vec<u8>,
    ) -> (u16, String) {
        let limits = AnswerLimits {
            bytes: 16 * 1024 * 1024,
            time: Duration::from_secs(20),
        };
        let question = Question {
            method,
            target,
            body,
        };
        let address = self.api.to_string();
        let answer = ask_tls(&address, Arc::clone(caller), SERVER_NAME, question, limits)
            .await
            .unwrap();
        (
            answer.status,
            String::from_utf8_lossy(&answer.body).into_owned(),
        )
    }

    pub(super) async fn get(&self, caller: &Arc<ClientConfig>, target: &str) -> (u16, String) {
        self.ask(caller, Method::Get, target, Vec::new()).await
    }

    pub(super) async fn post(
        &self,
        caller: &Arc<ClientConfig>,
        target: &str,
        body: &impl serde::Serialize,
    ) -> (u16, String) {
        let body = serde_json::to_vec(body).unwrap();
        self.ask(caller, Method::Post, target, body).await
    }
}

pub(super) fn reference(number: usize) -> String {
    portcullis_policy::Reference::from_bits(u64::try_from(number).unwrap() + 1).to_string()
}
