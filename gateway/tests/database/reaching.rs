//! Reaching a real server, and refusing one that is not who it should be.

use portcullis::database::{UpstreamError, UpstreamStream};
use portcullis_policy::{Backend, UpstreamTls};

use crate::postgres::{Functions, Postgres, SERVER_NAME, authority, free_port, target};

#[tokio::test]
async fn a_verified_server_is_reached_and_its_binding_hash_is_its_certificates() {
    let Some(postgres) = Postgres::start(Functions::Missing) else {
        return;
    };
    let target = postgres.target();
    let upstream = postgres
        .upstreams()
        .connect(&target.tenant, &target.id, &target.cluster)
        .await
        .unwrap();
    assert_eq!(
        upstream.backend,
        format!("127.0.0.1:{}", postgres.port).parse().unwrap()
    );
    assert!(upstream.stream.tcp().nodelay().unwrap());
    let UpstreamStream::Tls(stream) = &upstream.stream else {
        panic!("not under TLS")
    };
    let leaf = &stream.get_ref().1.peer_certificates().unwrap()[0];
    let expected = portcullis_certs::binding::tls_server_end_point(leaf).unwrap();
    assert_eq!(upstream.end_point_hash, Some(expected));
}

#[tokio::test]
async fn a_certificate_of_another_authority_or_another_name_is_refused() {
    let Some(postgres) = Postgres::start(Functions::Missing) else {
        return;
    };
    let tls = |server_name: &str, authorities: &str| UpstreamTls::Verified {
        server_name: server_name.into(),
        authorities: authorities.into(),
    };
    let own = postgres.authority.authority_pem();
    let stranger = authority("stranger");
    for (tls, reason) in [
        (
            tls(SERVER_NAME, stranger.authority_pem()),
            "certificate_authority",
        ),
        (tls("db.globex.internal", own), "certificate_name"),
        (tls("127.0.0.1", own), "certificate_name"),
        (tls("not a name", own), "tls_configuration"),
        (tls(SERVER_NAME, "no pem"), "tls_configuration"),
    ] {
        let mut cluster = postgres.cluster();
        cluster.tls = tls;
        assert_eq!(fail(&postgres, cluster).await.reason(), reason);
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_unless_the_policy_says_so_in_words() {
    let Some(postgres) = Postgres::start(Functions::Missing) else {
        return;
    };
    postgres.configure("postgresql.conf", |text| text + "\nssl = off\n");
    let error = fail(&postgres, postgres.cluster()).await;
    assert_eq!(error.reason(), "tls_not_offered");
    let mut cluster = postgres.cluster();
    cluster.tls = UpstreamTls::Unencrypted;
    let target = target(cluster);
    let upstream = postgres
        .upstreams()
        .connect(&target.tenant, &target.id, &target.cluster)
        .await
        .unwrap();
    assert!(matches!(upstream.stream, UpstreamStream::Plain(_)));
    assert_eq!(upstream.end_point_hash, None);
}

#[tokio::test]
async fn the_next_backend_is_tried_and_no_third() {
    let Some(postgres) = Postgres::start(Functions::Missing) else {
        return;
    };
    let dead = || Backend {
        host: "127.0.0.1".into(),
        port: free_port(),
    };
    let alive = postgres.cluster().backends[0].clone();
    let upstreams = postgres.upstreams();

    let mut cluster = postgres.cluster();
    cluster.backends = vec![dead(), alive.clone()];
    let one_dead = target(cluster);
    let upstream = upstreams
        .connect(&one_dead.tenant, &one_dead.id, &one_dead.cluster)
        .await
        .unwrap();
    assert_eq!(upstream.backend.port(), postgres.port);

    let mut cluster = postgres.cluster();
    cluster.backends = vec![dead(), dead(), alive];
    let two_dead = target(cluster);
    let upstreams = postgres.upstreams();
    let connect = || upstreams.connect(&two_dead.tenant, &two_dead.id, &two_dead.cluster);
    let error = connect().await.unwrap_err();
    assert_eq!(error.tries.len(), 2, "{error}");
    // Both rest now, so the next connection begins with the third.
    assert_eq!(connect().await.unwrap().backend.port(), postgres.port);
}

#[tokio::test]
async fn a_name_that_leads_to_loopback_is_refused_where_the_address_itself_is_not() {
    let Some(postgres) = Postgres::start(Functions::Missing) else {
        return;
    };
    let mut cluster = postgres.cluster();
    cluster.backends[0].host = "localhost".into();
    let error = fail(&postgres, cluster).await;
    assert_eq!(error.reason(), "rebind");
    let mut cluster = postgres.cluster();
    cluster.backends[0].host = "169.254.169.254".into();
    assert_eq!(fail(&postgres, cluster).await.reason(), "forbidden_address");
}

#[tokio::test]
async fn a_changed_policy_is_used_for_the_next_connection() {
    let Some(postgres) = Postgres::start(Functions::Missing) else {
        return;
    };
    let upstreams = postgres.upstreams();
    let target = postgres.target();
    upstreams
        .connect(&target.tenant, &target.id, &target.cluster)
        .await
        .unwrap();
    let mut changed = postgres.cluster();
    changed.tls = UpstreamTls::Verified {
        server_name: SERVER_NAME.into(),
        authorities: authority("stranger").authority_pem().into(),
    };
    let error = upstreams
        .connect(&target.tenant, &target.id, &changed)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "certificate_authority");
}

async fn fail(postgres: &Postgres, cluster: portcullis_policy::Cluster) -> UpstreamError {
    let target = target(cluster);
    let connected = postgres
        .upstreams()
        .connect(&target.tenant, &target.id, &target.cluster)
        .await;
    let error = connected.unwrap_err();
    assert_eq!(
        error.for_client(),
        "the database cannot be reached right now"
    );
    error
}
