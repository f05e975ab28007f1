//! The dialer and its client together, in real network namespaces where this process may make
//! them. Without that right those tests say so loudly and pass.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use portcullis_policy::Via;
use tokio::net::TcpSocket;

use super::protocol::{Place, Refusal, Reply, unframe};
use super::server::{Allowed, Server};
use super::testing::{
    Namespace, Running, options, own_namespace, read_name, scratch, serve_name, us,
};
use super::{Dialer, DialerError};
use crate::runtime::sockets::Family;

const SAME_ADDRESS: &str = "10.0.0.5:5432";

#[tokio::test]
async fn two_tenants_with_the_same_address_reach_different_servers() {
    let (Some(acme), Some(globex)) = (Namespace::new(), Namespace::new()) else {
        return;
    };
    let running = Running::start(us(), Allowed::Any);
    let dialer = running.dialer();
    let address: SocketAddr = SAME_ADDRESS.parse().unwrap();
    for namespace in [&acme, &globex] {
        let listener = dialer
            .listener(Some(&namespace.via()), address, 16)
            .await
            .unwrap();
        serve_name(listener, namespace.name.clone());
    }
    for namespace in [&acme, &globex, &acme] {
        let socket = dialer
            .tcp_socket(Some(&namespace.via()), Family::V4)
            .await
            .unwrap();
        let stream = TcpSocket::from_std_stream(socket.into())
            .connect(address)
            .await
            .unwrap();
        assert_eq!(read_name(stream).await, namespace.name);
    }
}

#[tokio::test]
async fn a_privileged_process_needs_no_dialer_and_stays_where_it_is() {
    let Some(acme) = Namespace::new() else { return };
    let before = own_namespace();
    let address: SocketAddr = SAME_ADDRESS.parse().unwrap();
    let dialer = Dialer::local();
    let listener = dialer
        .listener(Some(&acme.via()), address, 16)
        .await
        .unwrap();
    serve_name(listener, acme.name.clone());
    let socket = dialer
        .tcp_socket(Some(&acme.via()), Family::V4)
        .await
        .unwrap();
    let stream = TcpSocket::from_std_stream(socket.into())
        .connect(address)
        .await
        .unwrap();
    assert_eq!(read_name(stream).await, acme.name);
    assert_eq!(own_namespace(), before);
    for _ in 0..4 {
        assert_eq!(
            tokio::task::spawn_blocking(own_namespace).await.unwrap(),
            before
        );
    }
}

#[tokio::test]
async fn a_gateway_without_any_privilege_gets_a_socket_where_it_could_not_go_itself() {
    const NOBODY: u32 = 65_534;
    let Some(acme) = Namespace::new() else { return };
    let running = Running::start(BTreeSet::from([NOBODY]), Allowed::Any);
    // We are root and not on its list.
    let refused = running.refusal(&acme.name).await;
    assert!(matches!(refused, DialerError::Refused { .. }), "{refused}");
    // This very test program again, as nobody.
    let ask = |socket: &Path| {
        Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--ignored",
                "runtime::dialer::tests::asks_as_another_user",
            ])
            .env("PORTCULLIS_TEST_DIALER", socket)
            .env("PORTCULLIS_TEST_NAMESPACE", &acme.name)
            .output()
    };
    let socket = running.socket.clone();
    let output = ask(&socket).unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !said.contains("running 1 test") {
        eprintln!(
            "SKIPPED: nobody may not run this program ({})",
            String::from_utf8_lossy(&output.stderr)
        );
        return;
    }
    assert!(output.status.success(), "{said}");
    assert!(!ask(Path::new("/nonexistent")).unwrap().status.success());
}

#[tokio::test]
#[ignore = "run by the test above, as another user"]
async fn asks_as_another_user() {
    let [socket, namespace] = ["PORTCULLIS_TEST_DIALER", "PORTCULLIS_TEST_NAMESPACE"]
        .map(|name| std::env::var(name).unwrap_or_default());
    let via = Via::NetworkNamespace(namespace);
    let address: SocketAddr = SAME_ADDRESS.parse().unwrap();
    assert!(
        Dialer::local()
            .listener(Some(&via), address, 16)
            .await
            .is_err()
    );
    let dialer = Dialer::remote(socket);
    let listener = dialer.listener(Some(&via), address, 16).await.unwrap();
    serve_name(listener, "acme".into());
    let socket = dialer.tcp_socket(Some(&via), Family::V4).await.unwrap();
    let stream = TcpSocket::from_std_stream(socket.into())
        .connect(address)
        .await
        .unwrap();
    assert_eq!(read_name(stream).await, "acme");
}

#[tokio::test]
async fn each_worker_gets_a_listener_of_its_own_on_the_same_address() {
    let Some(acme) = Namespace::new() else { return };
    let running = Running::start(us(), Allowed::Any);
    let address: SocketAddr = SAME_ADDRESS.parse().unwrap();
    let first = running
        .dialer()
        .listener(Some(&acme.via()), address, 16)
        .await
        .unwrap();
    let second = running
        .dialer()
        .listener(Some(&acme.via()), address, 16)
        .await
        .unwrap();
    assert_eq!(first.local_addr().unwrap(), second.local_addr().unwrap());
}

#[tokio::test]
async fn a_socket_bound_to_an_interface_says_so() {
    let running = Running::start(us(), Allowed::Any);
    let via = Via::Interface("lo".into());
    let socket = running
        .dialer()
        .tcp_socket(Some(&via), Family::V4)
        .await
        .unwrap();
    assert_eq!(socket.device().unwrap().as_deref(), Some(&b"lo"[..]));
    let address = "127.0.0.1:0".parse().unwrap();
    let listener = running
        .dialer()
        .listener(Some(&via), address, 16)
        .await
        .unwrap();
    let device = socket2::SockRef::from(&listener).device().unwrap();
    assert_eq!(device.as_deref(), Some(&b"lo"[..]));
    let error = running
        .dialer()
        .listener(Some(&Via::Interface("nosuch0".into())), address, 16)
        .await;
    let said = error.unwrap_err().to_string();
    assert!(said.contains("interface nosuch0 does not exist"), "{said}");
}

#[tokio::test]
async fn an_unknown_namespace_is_refused_with_what_to_do() {
    let running = Running::start(us(), Allowed::Any);
    let said = running.refusal("portcullis-none").await.to_string();
    let path = running.socket.display();
    assert!(
        said.contains(&format!(
            "the dialer at {path} refused: namespace portcullis-none does not exist"
        )),
        "{said}"
    );
    assert!(said.contains("ip netns list"), "{said}");
}

#[tokio::test]
async fn another_user_is_refused_before_anything_is_read() {
    let nobody_else = BTreeSet::from([us().first().unwrap() + 1]);
    let running = Running::start(nobody_else, Allowed::Any);
    let refused = running.refusal("acme").await;
    assert!(
        matches!(
            refused,
            DialerError::Refused {
                refusal: Refusal::Stranger { .. },
                ..
            }
        ),
        "{refused}"
    );
}

#[tokio::test]
async fn a_place_that_was_not_named_is_refused_and_none_named_means_none() {
    let named: Place = "network-namespace:acme".parse().unwrap();
    for allowed in [
        Allowed::Only(BTreeSet::new()),
        Allowed::Only(BTreeSet::from([named])),
    ] {
        let running = Running::start(us(), allowed);
        let refused = running.refusal("globex").await;
        assert!(
            matches!(
                refused,
                DialerError::Refused {
                    refusal: Refusal::NotAllowed { .. },
                    ..
                }
            ),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_name_that_is_a_path_never_reaches_the_dialer_and_would_be_refused_there() {
    let running = Running::start(us(), Allowed::Any);
    let refused = running.refusal("../../proc/1/ns/net").await;
    assert!(matches!(refused, DialerError::Place(_)), "{refused}");

    let text = br#"{"make":{"socket":{"family":"v4"}},"place":"network-namespace:../net"}"#;
    let reply = running.say(text);
    assert!(
        matches!(reply, Reply::Refused(Refusal::Malformed { .. })),
        "{reply:?}"
    );
}

#[tokio::test]
async fn a_file_that_is_no_namespace_and_a_link_to_one_are_refused() {
    let directory = scratch("files");
    std::fs::write(directory.join("file"), "").unwrap();
    std::os::unix::fs::symlink("/proc/self/ns/net", directory.join("link")).unwrap();
    let running = Running::start_with(us(), Allowed::Any, directory.clone());
    for name in ["file", "link"] {
        let refused = running.refusal(name).await;
        assert!(
            matches!(
                refused,
                DialerError::Refused {
                    refusal: Refusal::NotANamespace { .. },
                    ..
                }
            ),
            "{name}: {refused}"
        );
    }
    std::fs::remove_dir_all(directory).unwrap();
}

#[tokio::test]
async fn a_client_that_says_nothing_does_not_stop_the_next() {
    let running = Running::start(us(), Allowed::Any);
    let _silent = UnixStream::connect(&running.socket).unwrap();
    let refused = running.refusal("portcullis-none").await;
    assert!(matches!(refused, DialerError::Refused { .. }), "{refused}");
}

#[tokio::test]
async fn a_silent_client_is_told_and_left_within_the_deadline() {
    let running = Running::start(us(), Allowed::Any);
    let mut silent = UnixStream::connect(&running.socket).unwrap();
    silent
        .set_read_timeout(Some(super::server::REQUEST_DEADLINE * 2))
        .unwrap();
    let mut answer = Vec::new();
    silent.read_to_end(&mut answer).unwrap();
    let reply = unframe::<Reply>(&answer).unwrap().unwrap();
    assert!(
        matches!(reply, Reply::Refused(Refusal::Malformed { .. })),
        "{reply:?}"
    );
}

#[tokio::test]
async fn one_request_more_than_are_served_at_once_is_told_so() {
    let running = Running::start(us(), Allowed::Any);
    let crowd: Vec<_> = (0..super::server::MAX_CONCURRENT)
        .map(|_| UnixStream::connect(&running.socket).unwrap())
        .collect();
    let refused = running.refusal("portcullis-none").await;
    assert!(
        matches!(
            refused,
            DialerError::Refused {
                refusal: Refusal::Busy,
                ..
            }
        ),
        "{refused}"
    );
    drop(crowd);
}

#[tokio::test]
async fn without_a_dialer_the_message_says_so() {
    let dialer = Dialer::remote("/nonexistent/dialer.sock");
    let via = Via::NetworkNamespace("acme".into());
    let error = dialer.tcp_socket(Some(&via), Family::V4).await.unwrap_err();
    assert_eq!(error.reason(), "dialer_unreachable");
    assert!(
        error
            .to_string()
            .contains("is `portcullis dialer` running?"),
        "{error}"
    );
    assert!(dialer.tcp_socket(None, Family::V4).await.is_ok());
}

#[tokio::test]
async fn a_socket_left_behind_is_replaced_and_a_living_dialer_is_not() {
    let running = Running::start(us(), Allowed::Any);
    let second = Server::bind(options(
        &running.socket,
        us(),
        Allowed::Any,
        "/run/netns".into(),
    ));
    assert!(second.unwrap_err().to_string().contains("another dialer"));

    let directory = scratch("left-behind");
    let path = directory.join("dialer.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    Server::bind(options(&path, us(), Allowed::Any, "/run/netns".into())).unwrap();
    std::fs::remove_dir_all(directory).unwrap();
}
