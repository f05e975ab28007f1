//! What can be done when more is lost than a fleet survives by itself.

use std::time::{Duration, Instant};

use portcullis_tests::Fleet;
use portcullis_tests::fleet::{BOTH, GATEWAY, Guests, figure};
use portcullis_tests::wait;

#[test]
fn one_node_goes_on_alone_after_a_majority_is_lost_for_good() {
    let mut fleet = Fleet::of(3);
    let edge = fleet.unmade("edge", GATEWAY);
    fleet.join(edge, "gateway");
    fleet.nodes[edge].start();
    let reply = fleet.nodes[0].apply(&[fleet.policy(Guests::Welcome)]).ok();
    assert_eq!(reply["nodes_in_force"], 4, "{reply}");
    let mut guest = fleet.connect(edge, fleet.guest());
    let revision = fleet.nodes[0].revision();
    let configuration = fleet.nodes[0].configuration().display().to_string();
    let key = fleet.recovery_key().display().to_string();
    let recover = [
        "recover",
        "--config",
        &configuration,
        "--recovery-key",
        &key,
    ];
    // While it runs, its state is not touched.
    let refused = fleet.nodes[0].portcullis(&recover);
    assert!(refused.refused().contains("another process"), "{refused}");
    fleet.nodes[1].kill();
    fleet.nodes[2].kill();
    let (refused, _) = fleet.nodes[0].write("without-a-quorum");
    assert_ne!(refused.status, 200, "{}", refused.body);
    fleet.nodes[0].kill();

    let other = fleet.nodes[0]
        .folder()
        .join("node.toml")
        .display()
        .to_string();
    let wrong = [
        "recover",
        "--config",
        &configuration,
        "--recovery-key",
        &other,
    ];
    assert!(
        fleet.nodes[0]
            .portcullis(&wrong)
            .refused()
            .contains("recovery key")
    );
    let membership = fleet.nodes[0].data().join("fleet/membership.json");
    let before = std::fs::read(&membership).unwrap();
    let told = fleet.nodes[0].portcullis(&recover);
    assert!(told.ok().contains("epoch 2"), "{told}");
    assert!(told.ok().contains("n2, n3"), "{told}");
    // Cut off before its last step, and repeated.
    std::fs::write(&membership, before).unwrap();
    for _ in 0..2 {
        let again = fleet.nodes[0].portcullis(&recover);
        assert!(again.ok().contains("nothing to do"), "{again}");
        assert!(again.ok().contains("epoch 2"), "{again}");
    }

    // Those who were lost come back before anybody else knows, and agree among themselves.
    fleet.nodes[1].start();
    fleet.nodes[2].start();
    let (written, _) = fleet.nodes[1].write("in-the-old-epoch");
    assert_eq!(written.status, 200, "{}", written.body);

    let began = Instant::now();
    fleet.nodes[0].start();
    // Whoever is told the policy follows by itself.
    wait::wait_for("the gateway follows the new epoch", SOON, || {
        let status = fleet.nodes[edge].status();
        status.is_some_and(|it| it["epoch"] == 2 && it["quorum"] == true)
    });
    figure("recovered-gateway-follows-ms", began.elapsed().as_millis());
    fleet.nodes[edge].event("the newer epoch", |event| {
        event["kind"] == "fleet.epoch" && event["outcome"] == "followed" && event["epoch"] == 2
    });
    // The others hear that they are of the fleet no longer, and say so, also after a restart in
    // which they hear nobody.
    for lost in [1, 2] {
        fenced(&fleet, lost);
        fleet.nodes[lost].event("the newer epoch", |event| {
            event["kind"] == "fleet.epoch" && event["outcome"] == "fenced" && event["epoch"] == 2
        });
    }
    figure("recovered-old-nodes-fenced-ms", began.elapsed().as_millis());
    let (refused, _) = fleet.nodes[2].write("fenced");
    assert_eq!((refused.status, refused.code()), (503, "fenced"));
    fleet.nodes[0].kill();
    for lost in [1, 2] {
        fleet.nodes[lost].kill();
        fleet.nodes[lost].start();
    }
    for lost in [1, 2] {
        fenced(&fleet, lost);
    }
    std::thread::sleep(Duration::from_secs(2));
    let (refused, _) = fleet.nodes[1].write("fenced");
    assert_ne!(refused.status, 200, "{}", refused.body);
    let socket = fleet.nodes[1].socket().display().to_string();
    let told = fleet.nodes[1].portcullis(&["fleet", "status", "--socket", &socket]);
    assert!(told.ok().contains("FENCED: epoch 2"), "{told}");
    fleet.nodes[0].start();
    wait::wait_for("the survivor decides", SOON, || {
        let status = fleet.nodes[0].status();
        status.is_some_and(|it| it["quorum"] == true)
    });
    assert!(fleet.nodes[0].revision() > revision);
    drop(fleet.connect(0, fleet.guest()));
    let (written, _) = fleet.nodes[0].write("alone");
    assert_eq!(written.status, 200, "{}", written.body);

    // Nothing of them reaches the new epoch, and a withdrawal reaches the gateway.
    let status = fleet.nodes[0].status().unwrap();
    assert_eq!(
        (&status["epoch"], &status["quorum"]),
        (&2.into(), &true.into()),
        "{status}"
    );
    assert_eq!(
        status["nodes"].as_array().map(Vec::len),
        Some(2),
        "{status}"
    );
    let reply = fleet.nodes[0]
        .apply(&[fleet.policy(Guests::Unwelcome)])
        .ok();
    assert_eq!(reply["nodes_in_force"], 2, "{reply}");
    assert_eq!(guest.refusal().sqlstate(), "57P01");
    let latest = fleet.nodes[0].revision();
    std::thread::sleep(Duration::from_secs(1));
    for lost in [1, 2] {
        assert_eq!(fleet.nodes[lost].status().unwrap()["epoch"], 1);
        assert!(fleet.nodes[lost].revision() < latest);
    }
    fleet.nodes[1].kill();
    fleet.nodes[2].kill();

    fleet.nodes[edge].kill();

    // New nodes take their place.
    let index = fleet.unmade("n4", BOTH);
    fleet.join(index, "control,gateway");
    fleet.nodes[index].start();
    let _ = fleet.settled();
    assert_eq!(fleet.nodes[index].revision(), fleet.nodes[0].revision());
    let status = fleet.nodes[index].status().unwrap();
    assert_eq!(status["epoch"], 2, "{status}");

    // The new node was given a snapshot, and has the audit logs from before it; so has one again
    // that lost files of them.
    audit_logs_are_whole(&fleet, index);
    fleet.nodes[index].kill();
    let tenant = fleet.nodes[index].data().join("audit/logs/tenants/acme");
    std::fs::remove_dir_all(tenant.join("tile/entries")).unwrap();
    std::fs::remove_dir_all(tenant.join("tile/0")).unwrap();
    fleet.nodes[index].start();
    audit_logs_are_whole(&fleet, index);
}

/// Waits until the tool finds the logs of a node whole, and as far as those of the first.
fn audit_logs_are_whole(fleet: &Fleet, node: usize) {
    let socket = fleet.nodes[0].socket().display().to_string();
    let logs = |node: usize| fleet.nodes[node].data().join("audit/logs");
    let trust = logs(0).join("trust.policy");
    wait::wait_for("the audit logs are whole", SOON, || {
        let told = fleet.nodes[0].portcullis(&["audit", "trust", "--socket", &socket]);
        std::fs::write(&trust, format!("{}\n", told.ok())).unwrap();
        let (trust, logs) = (
            trust.display().to_string(),
            logs(node).display().to_string(),
        );
        let told = fleet.nodes[node].portcullis(&["audit", "verify", &logs, "--trust", &trust]);
        told.status.success()
    });
    let sizes = |node: usize| {
        ["fleet", "tenants/acme"].map(|log| {
            let text = std::fs::read_to_string(logs(node).join(log).join("checkpoint")).unwrap();
            text.lines().nth(1).unwrap().to_owned()
        })
    };
    wait::wait_for("as far as the others", SOON, || sizes(node) == sizes(0));
}

const SOON: Duration = Duration::from_secs(40);

/// Waits until a node says that a newer epoch began without it.
fn fenced(fleet: &Fleet, node: usize) {
    wait::wait_for("an old control node to be fenced", SOON, || {
        fleet.nodes[node].status().is_some_and(|status| {
            let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
            let mut parts = nodes.iter().filter(|it| it["name"] == status["node"]);
            status["fenced"] == 2
                && status["quorum"] == false
                && parts.all(|it| it["consensus"] == "fenced")
        })
    });
}

#[test]
fn a_backup_begins_a_new_fleet_with_the_tenants_of_the_old_one() {
    let mut fleet = Fleet::of(1);
    let file = fleet.nodes[0].folder().join("kept").display().to_string();
    let socket = fleet.nodes[0].socket().display().to_string();
    let told = fleet.nodes[0].portcullis(&["backup", &file, "--socket", &socket]);
    assert!(told.ok().contains("1 tenants"), "{told}");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let bytes = std::fs::read(&file).unwrap();
    assert!(!bytes.windows(11).any(|text| text == b"PRIVATE KEY"));
    let revision = fleet.nodes[0].revision();
    let identity = fleet.nodes[0].status().unwrap()["fleet"].clone();
    fleet.nodes[0].kill();

    let key = fleet.recovery_key().display().to_string();
    let full = fleet.nodes[0].configuration().display().to_string();
    let into = |node: &portcullis_tests::fleet::Node, configuration: &str, file: &str| {
        node.portcullis(&[
            "restore",
            "--config",
            configuration,
            "--recovery-key",
            &key,
            file,
        ])
    };
    // Not over what is there.
    assert!(
        into(&fleet.nodes[0], &full, &file)
            .refused()
            .contains("already")
    );

    let index = fleet.unmade("r1", BOTH);
    let empty = fleet.nodes[index].configuration().display().to_string();
    let half = fleet.nodes[index]
        .folder()
        .join("half")
        .display()
        .to_string();
    std::fs::write(&half, &bytes[..bytes.len() - 1]).unwrap();
    assert!(
        into(&fleet.nodes[index], &empty, &half)
            .refused()
            .contains("damaged")
    );
    let told = into(&fleet.nodes[index], &empty, &file);
    assert!(told.ok().contains("restored"), "{told}");
    assert!(
        into(&fleet.nodes[index], &empty, &file)
            .refused()
            .contains("already")
    );

    fleet.nodes[index].start();
    let told = wait::until(Duration::from_secs(20), || {
        let status = fleet.nodes[index].status()?;
        (status["quorum"] == true).then_some(status)
    });
    let status = told.expect("it has a quorum");
    assert_ne!(status["fleet"], identity, "{status}");
    wait::wait_for("what was restored to be in force", SOON, || {
        fleet.nodes[index].revision() > revision
    });
    drop(fleet.connect(index, fleet.guest()));
    let (written, _) = fleet.nodes[index].write("anew");
    assert_eq!(written.status, 200, "{}", written.body);
}
