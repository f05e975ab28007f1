//! A fleet on loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use portcullis_certs::fleet::{
    FleetAuthority, FleetId, JoinRequest, Joining, NodeIdentity, mesh_client_config,
    mesh_server_config,
};
use portcullis_certs::authority::generate_key;

use super::*;
use crate::runtime::clock;
use crate::runtime::random;

