//! A gateway that somebody took over: what its credentials are good for, and what it has; and what a control node that was
//! taken over can say of others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use portcullis::fleet::home::{Home, Membership, Piece};
use portcullis::fleet::starts::another;
use portcullis::mesh::{
    BoxFuture, Caller, Closing, Duplex, Handler, Member, Mesh, MeshError, MeshParts, Refused,
};
use portcullis_certs::fleet::{FleetTrust, JoinToken, NodeIdentity, Statement, mesh_client_config};
use portcullis_policy::{
    Author, Command, FEATURE_LEVEL, FleetId, GuardRails, KeyHash, NodeId, NodeRole, OperatorId,
    People, Principal, Proposal, Role, Tenant, Timestamp, encode_proposal,
};
use portcullis_tests::fleet::{Fleet, GATEWAY, Guests};
use portcullis_tests::vault::only_key;
use portcullis_tests::wait;
use tokio::runtime::Runtime;

const SOON: Duration = Duration::from_secs(20);

/// What nodes ask each other, by number.
const JOIN: u8 = 0;
const RAFT: u8 = 1;
const SIGN: u8 = 2;
const PROPOSE: u8 = 3;
const REPORT: u8 = 4;
const CONFIRM: u8 = 5;
const LET_GO: u8 = 10;
const PACED: [u8; 3] = [9, 11, 13];
const PASSED: u8 = 12;
/// Beyond them there is nothing.
const NOTHING: std::ops::Range<u8> = 18..0x7E;

/// Answers nobody.
struct Mute;

impl Handler for Mute {
    fn call(&self, _: Caller, _: u8, _: Vec<u8>) -> BoxFuture<'static, Result<Vec<u8>, Refused>> {
        Box::pin(std::future::ready(Err(Refused(String::new()))))
    }

    fn stream(&self, _: u64, _: u8, _: Duplex) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn newer_epoch(&self, _: &[u8]) {}

    fn started_again(&self, _: &[u8]) {}
}

/// Hostile code with everything that is in a gateway's data directory.
struct Evil {
    runtime: Runtime,
    home: Home,
    membership: Membership,
    control: u64,
}

impl Evil {
    fn with(data: &Path) -> Self {
        let home = Home::of(data);
        let membership = home.membership().unwrap().unwrap();
        let control = membership.seeds.first().unwrap().node.get();
        Self {
            runtime: Runtime::new().unwrap(),
            home,
            membership,
            control,
        }
    }

    /// A mesh of its own that says it is this node.
    fn mesh(&self, as_node: u64) -> Mesh {
        let read = |piece| self.home.read(piece).unwrap();
        let identity =
            NodeIdentity::from_pem(&read(Piece::Certificate), &read(Piece::Key)).unwrap();
        let trust = FleetTrust::from_pem(&read(Piece::Authority)).unwrap();
        let seed = self.membership.seeds.first().unwrap();
        let member = Member {
            key: *seed.key.as_bytes(),
            address: seed.address.clone(),
        };
        let _inside = self.runtime.enter();
        let mesh = Mesh::start(MeshParts {
            listen: None,
            node: as_node,
            fleet: trust.fleet(),
            epoch: self.membership.epoch,
            // Its latest start, or else it would be refused as a copy.
            start: another(&self.home, self.membership.epoch)
                .unwrap()
                .signed(&identity)
                .unwrap(),
            server: None,
            client: Arc::new(move |to| mesh_client_config(&identity, &trust, to).ok()),
            handler: Arc::new(Mute),
            denied: Arc::new(|_| {}),
            random: || 7,
        })
        .unwrap();
        mesh.set_members(
            self.membership.epoch,
            BTreeMap::from([(self.control, member)]),
        );
        mesh
    }

    fn ask(&self, mesh: &Mesh, service: u8, request: &[u8]) -> Result<Vec<u8>, MeshError> {
        let call = mesh.call(self.control, service, request.to_vec(), SOON);
        self.runtime.block_on(call)
    }

    /// What the control node says no with.
    fn refusal(&self, mesh: &Mesh, service: u8, request: &[u8]) -> String {
        match self.ask(mesh, service, request) {
            Err(MeshError::Refused(Refused(words))) => words,
            other => panic!("service {service}: {other:?}"),
        }
    }
}

/// A command as nodes pass it on: a proposal without its format and its moment.
fn draft(principal: Principal, command: Command) -> Vec<u8> {
    let proposal = Proposal {
        request: None,
        at: Timestamp::from_millis(0),
        author: Author {
            name: "edge".to_owned(),
            principal,
        },
        command,
    };
    let mut bytes = encode_proposal(&proposal).unwrap();
    assert_eq!(bytes[..3], [1, 0, 0], "format, no request, moment 0");
    drop(bytes.drain(..2));
    bytes
}

/// All that a fleet can be told to do, but for what a gateway may say of itself.
fn commands(me: NodeId, control: NodeId) -> Vec<(Principal, Command)> {
    let roles = [NodeRole::Control].into();
    let token = KeyHash::new([1; 32]);
    let report = |node| Command::Report {
        node,
        level: FEATURE_LEVEL,
        address: Some("203.0.113.66:7443".to_owned()),
    };
    let operator: OperatorId = "mallory".parse().unwrap();
    let commands = [
        Command::Apply {
            base: None,
            expected: BTreeMap::new(),
            put: vec![Tenant::new("acme".parse().unwrap())],
            remove: Vec::new(),
        },
        Command::Invite {
            token,
            name: "evil".parse().unwrap(),
            roles,
            expires: Timestamp::from_millis(i64::MAX),
        },
        Command::Admit {
            token,
            name: "evil".parse().unwrap(),
            roles: [NodeRole::Control].into(),
            key: KeyHash::new([2; 32]),
            view_key: Some([3; 32]),
            address: Some("203.0.113.66:7443".to_owned()),
        },
        Command::Remove { node: control },
        Command::PutOperator {
            operator: operator.clone(),
            roles: vec![Role::FleetOperator],
        },
        Command::RemoveOperator { operator },
        Command::SetGuardRails {
            guard_rails: GuardRails {
                anywhere: People::One,
                operators: People::One,
                guard_rails: People::One,
            },
        },
        Command::Recover {
            epoch: 2,
            survivor: me,
            statement: vec![0; 64],
        },
        Command::Succession {
            statement: vec![0; 64],
        },
        Command::Stage {
            stage: portcullis_policy::RequestId::new([4; 16]),
            index: 0,
            of: 1,
            bytes: vec![0],
        },
        report(control),
    ];
    let principals = [
        Principal::Node(me),
        Principal::Local,
        Principal::Node(control),
    ];
    let mut all: Vec<(Principal, Command)> = commands
        .iter()
        .flat_map(|command| principals.iter().map(|by| (by.clone(), command.clone())))
        .collect();
    // Its own introduction, in the name of others.
    all.push((Principal::Local, report(me)));
    all.push((Principal::Node(control), report(me)));
    all.push((Principal::Operator("root".parse().unwrap()), report(me)));
    all
}

/// One control node, and a gateway that has served.
fn fleet_with_gateway() -> (Fleet, usize) {
    let mut fleet = Fleet::of(1);
    let gateway = fleet.unmade("edge", GATEWAY);
    fleet.join(gateway, "gateway");
    fleet.nodes[gateway].start();
    let answer = fleet.nodes[0].apply(&[fleet.policy(Guests::Unwelcome)]);
    let reply = answer.ok();
    assert_eq!(reply["nodes_in_force"], 2, "{reply}");
    drop(fleet.connect(gateway, fleet.resident()));
    (fleet, gateway)
}

#[test]
fn a_gateways_credentials_command_nothing() {
    let (mut fleet, gateway) = fleet_with_gateway();
    fleet.nodes[gateway].kill();
    let evil = Evil::with(&fleet.nodes[gateway].data());
    let me = evil.membership.node;
    let control = NodeId::new(evil.control).unwrap();
    let mesh = evil.mesh(me.get());

    // What it may: say of itself what it is. The answer begins with "written", and the revision.
    let own = Command::Report {
        node: me,
        level: FEATURE_LEVEL,
        address: None,
    };
    let told = evil.ask(&mesh, PROPOSE, &draft(Principal::Node(me), own));
    let told = told.unwrap();
    assert_eq!(told[0], 0, "{told:?}");
    let revision = u64::from(told[1]);
    wait::wait_for("what it says of itself holds", SOON, || {
        fleet.nodes[0].revision() == revision
    });
    let before = (fleet.nodes[0].revision(), nodes(&fleet));

    for (by, command) in commands(me, control) {
        let said = evil.refusal(&mesh, PROPOSE, &draft(by.clone(), command.clone()));
        assert_eq!(said, "only control nodes propose", "{by:?}: {command:?}");
    }
    // Whatever it says to consensus is not even read.
    for message in [&[][..], &[0; 64], &[1, 9, 1, 1, 0], &[5; 4_096]] {
        let said = evil.refusal(&mesh, RAFT, message);
        assert_eq!(said, "only control nodes decide");
    }
    for service in [SIGN, REPORT] {
        let _words = evil.refusal(&mesh, service, &[0xFF; 100]);
    }
    // Words that nobody said are answered by none.
    assert_eq!(evil.ask(&mesh, SIGN, &[0]).unwrap(), [0]);
    // Whoever has a certificate has joined; no service invites, backs up or restores.
    for service in [JOIN].into_iter().chain(NOTHING) {
        let said = evil.refusal(&mesh, service, &[0; 32]);
        assert_eq!(said, format!("there is no service {service}"));
    }
    // Nobody is told what another node reports but by control nodes.
    let said = evil.refusal(&mesh, PASSED, &[1, 0]);
    assert_eq!(said, "this report is not taken from there");
    for service in [LET_GO, 14, 15, 16, 17] {
        let said = evil.refusal(&mesh, service, &[]);
        assert!(said.starts_with("only control nodes "), "{said}");
    }
    for service in PACED {
        let refused = (0..1_000).filter_map(|_| evil.ask(&mesh, service, &[]).err());
        let mut words = refused.map(|error| error.to_string());
        assert!(words.any(|it| it.ends_with("so much is not asked in a second")));
    }
    // A lease is lent for as long as the lender's own, which is known to everybody.
    assert!(evil.ask(&mesh, CONFIRM, &[]).unwrap().len() <= 2);
    // Only the view can be subscribed to.
    for service in [RAFT, SIGN, PROPOSE, LET_GO] {
        let frame = evil.runtime.block_on(async {
            let mut stream = mesh.open(evil.control, service).await.unwrap();
            stream.recv().await
        });
        assert!(!matches!(frame, Ok(Some(_))), "service {service}");
    }

    // Nor does it pass for another.
    let liar = evil.mesh(me.get() + 1);
    assert_eq!(
        evil.ask(&liar, CONFIRM, &[]),
        Err(MeshError::Denied(Closing::OtherNode))
    );
    fleet.nodes[0].event("a node that passes for another", |event| {
        event["kind"] == "fleet.denied" && event["code"] == "other_node"
    });

    assert_eq!((fleet.nodes[0].revision(), nodes(&fleet)), before);
    drop((mesh, liar));
    fleet.nodes[gateway].start();
    let answer = fleet.nodes[0].apply(&[fleet.policy(Guests::Welcome)]);
    let reply = answer.ok();
    assert_eq!(reply["nodes_in_force"], 2, "{reply}");
    drop(fleet.connect(gateway, fleet.guest()));
}

/// The nodes by name, as the control node knows them.
fn nodes(fleet: &Fleet) -> Vec<String> {
    let status = fleet.nodes[0].status().unwrap();
    assert_eq!(status["quorum"], true, "{status}");
    let nodes = status["nodes"].as_array().unwrap();
    nodes.iter().map(|node| node["name"].to_string()).collect()
}

#[test]
fn a_control_node_that_says_what_another_enforces_is_not_believed() {
    let mut fleet = Fleet::of(3);
    let edge = fleet.unmade("edge", GATEWAY);
    fleet.join(edge, "gateway");
    fleet.nodes[edge].start();
    let answer = fleet.nodes[0].apply(&[fleet.policy(Guests::Welcome)]);
    assert_eq!(answer.ok()["nodes_in_force"], 4);
    fleet.nodes[edge].kill();
    let evil = Evil::with(&fleet.nodes[2].data());
    fleet.nodes[2].kill();
    // What it heard at first hand it has forgotten.
    fleet.nodes[0].kill();
    fleet.nodes[0].start();
    let _ = fleet.settled();

    let silent = Evil::with(&fleet.nodes[edge].data());
    let node = silent.membership.node;
    let mesh = evil.mesh(evil.membership.node.get());
    let passed = |report: &[u8]| {
        [&[varint(node.get())], &[bytes(report)][..]]
            .concat()
            .concat()
    };
    let report = include_bytes!("../../gateway/testdata/mesh/report.v1.bin");
    let said = evil.refusal(&mesh, PASSED, &passed(report));
    assert_ne!(said, "this report is not taken from there");
    let of = evil.membership.fleet;
    for (signer, node, epoch) in [
        (&evil, node, 1),
        (&silent, evil.membership.node, 1),
        (&silent, node, 2),
    ] {
        let message = signed_report(signer, of, node, epoch, report);
        let said = evil.refusal(&mesh, PASSED, &passed(&message));
        assert_eq!(said, "a report that is not signed by its node");
    }
    let reply = fleet.nodes[0]
        .apply(&[fleet.policy(Guests::Unwelcome)])
        .ok();
    assert_eq!(reply["nodes_in_force"], 2, "{reply}");
    let receipts = reply["receipts"].as_array().unwrap();
    let receipt = receipts.iter().find(|it| it["name"] == "edge").unwrap();
    assert_eq!(receipt["in_force"], false, "{reply}");
    assert!(receipt["revision"].is_null(), "{reply}");

    // The same words with the node's own signature count, and no second time.
    let own = passed(&signed_report(&silent, of, node, 1, report));
    assert!(evil.ask(&mesh, PASSED, &own).unwrap().is_empty());
    let status = fleet.nodes[0].status().unwrap();
    let nodes = status["nodes"].as_array().unwrap();
    let known = nodes.iter().find(|it| it["name"] == "edge").unwrap();
    assert_eq!(known["revision"], 811, "{status}");
}

/// A report that this node's key signs as that of `node`, as it is passed on.
fn signed_report(
    signer: &Evil,
    fleet: FleetId,
    node: NodeId,
    epoch: u64,
    report: &[u8],
) -> Vec<u8> {
    let read = |piece| signer.home.read(piece).unwrap();
    let identity = NodeIdentity::from_pem(&read(Piece::Certificate), &read(Piece::Key)).unwrap();
    let started = 1_u64;
    let numbers = [node.get(), epoch, started].map(u64::to_be_bytes).concat();
    let message = [fleet.as_bytes(), &numbers[..], report].concat();
    let signature = identity.sign(Statement::Report, &message).unwrap();
    [vec![1], varint(started), bytes(report), bytes(&signature)].concat()
}

/// Bytes with their length before them, as nodes write them.
fn bytes(bytes: &[u8]) -> Vec<u8> {
    [&varint(u64::try_from(bytes.len()).unwrap()), bytes].concat()
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7F).unwrap() | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap());
    bytes
}

#[test]
fn a_gateways_disk_holds_no_key_of_the_fleet() {
    let (mut fleet, gateway) = fleet_with_gateway();
    let invited = fleet.nodes[0].invite("late", "gateway");
    let token = std::fs::read_to_string(invited).unwrap();
    let token = JoinToken::parse(token.trim()).unwrap();
    fleet.nodes[gateway].kill();
    let (control, edge) = (fleet.nodes[0].data(), fleet.nodes[gateway].data());

    let home = Home::of(&control);
    let recovery = std::fs::read_to_string(fleet.recovery_key()).unwrap();
    let key = |piece| secret_of(&home.read(piece).unwrap());
    let secrets = [
        ("the control node's key for views", key(Piece::ViewKey)),
        ("the control node's own key", key(Piece::Key)),
        ("the authority's key", secret_of(&only_key(&control).1)),
        ("the recovery key", secret_of(&recovery)),
        ("an invitation's secret", token.secret().to_vec()),
    ];
    for (what, secret) in &secrets {
        let found = holding(&edge, secret);
        assert!(found.is_empty(), "{what} is in {found:?}");
    }
    for (_, secret) in &secrets[..2] {
        assert_eq!(holding(&control, secret).len(), 1);
    }
    let own = secret_of(&Home::of(&edge).read(Piece::Key).unwrap());
    assert_eq!(holding(&edge, &own).len(), 1);
    for (what, secret) in &secrets[2..] {
        assert!(holding(&control, secret).is_empty(), "{what} is in plain");
    }
    assert!(!edge.join("vault").exists());
    for piece in [
        Piece::AuthorityKey,
        Piece::ViewKey,
        Piece::JoiningKey,
        Piece::JoiningViewKey,
    ] {
        assert!(Home::of(&edge).find(piece).unwrap().is_none(), "{piece:?}");
    }
}

/// The 32 bytes that are secret in a private key in PEM (PKCS#8, of an elliptic curve).
fn secret_of(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = BASE64.decode(body).unwrap();
    let at = der.windows(2).position(|pair| pair == [4, 32]);
    der[at.expect("an octet string") + 2..][..32].to_vec()
}

/// The files below a directory in which these bytes are: as they are, in hex, or in base64 of any
/// alignment, also broken into lines.
fn holding(directory: &Path, secret: &[u8]) -> Vec<PathBuf> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![secret.to_vec(), hex.clone().into_bytes()];
    forms.push(hex.to_uppercase().into_bytes());
    for shift in 0..3 {
        // What does not depend on the bytes before and after.
        let shifted = [&vec![0; shift][..], secret].concat();
        let text = BASE64.encode(&shifted).into_bytes();
        let end = shifted.len() / 3 * 4;
        forms.push(text[if shift == 0 { 0 } else { 4 }..end].to_vec());
    }
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap_or_default();
            let joined: Vec<u8> = bytes.iter().copied().filter(|it| *it != b'\n').collect();
            let has = |form: &Vec<u8>| {
                [&bytes, &joined]
                    .iter()
                    .any(|text| text.windows(form.len()).any(|part| part == form))
            };
            if forms.iter().any(has) {
                found.push(path);
            }
        }
    }
    found
}
