use super::tests_world::*;
use super::*;
use crate::runtime::clock;

#[tokio::test]
async fn calls_are_answered_both_ways_over_one_connection() {
    let world = World::new(1, &[1, 2]);
    // The second does not listen: the first can only use the connection that the second opened.
    let (one, two) = world.pair(Listens::No);
    assert_eq!(one.echo(2, b"x").await, Err(MeshError::NoAddress(2)));
    assert_eq!(two.echo(1, b"hello").await.unwrap(), b"hello");
    assert_eq!(one.echo(2, b"back").await.unwrap(), b"back");
    let who = one.mesh.call(2, WHO, vec![], SOON).await.unwrap();
    assert_eq!(who, b"Node(1)");
    assert_eq!((one.mesh.links().len(), two.mesh.links().len()), (1, 1));
    let no = one.mesh.call(2, NO, vec![], SOON).await;
    assert!(
        matches!(no, Err(MeshError::Refused(Refused(text))) if text.len() == limits::REASON_BYTES)
    );
    let large = vec![5; limits::FRAME_BYTES];
    assert_eq!(two.echo(1, &large).await.unwrap(), large);
    assert_eq!(one.reasons(), []);
}

#[tokio::test]
async fn another_fleets_certificate_is_refused_and_told() {
    let (world, other) = (World::new(1, &[1, 2]), World::new(2, &[1, 2]));
    let (one, _) = world.pair(Listens::Yes);
    let stranger = other.start(2, Listens::No);
    let members = world.members(&[(&one, Listens::Yes)]);
    stranger.mesh.set_members(EPOCH, members);
    assert!(stranger.echo(1, b"x").await.is_err());
    assert_eq!(one.reasons(), [], "the caller saw the difference first");
    // One that does not look: it trusts the fleet's authority, and shows another fleet's certificate.
    let trust = world.authority.trust();
    let config = portcullis_certs::fleet::mesh_client_config(&other.issue(2), trust, 1).unwrap();
    assert!(
        ask_as_stranger(&one.address().to_string(), config, JOIN, b"x", SOON)
            .await
            .is_err()
    );
    one.hears(Closing::Certificate).await;
}

#[tokio::test]
async fn a_node_that_answers_at_anothers_address_is_refused() {
    let world = World::new(1, &[1, 2, 3]);
    let (one, two) = world.pair(Listens::Yes);
    let mut members = world.members(&[(&one, Listens::Yes), (&two, Listens::Yes)]);
    let third = Member {
        key: world.issue(3).key(),
        address: members[&2].address.clone(),
    };
    members.insert(3, third);
    one.mesh.set_members(EPOCH, members);
    let error = one.echo(3, b"x").await;
    assert!(matches!(error, Err(MeshError::Unreachable(_))), "{error:?}");
    assert_eq!(two.echo(1, b"x").await.unwrap(), b"x");
}

#[tokio::test]
async fn whoever_says_another_number_than_its_certificate_is_refused_and_told() {
    let world = World::new(1, &[1, 2, 3]);
    let one = world.start(1, Listens::Yes);
    // Node 2 by certificate says that it is node 3.
    let liar = world.start_as(3, world.identity(2), EPOCH, Listens::No);
    let members = world.members_of(&[(1, Some(&one)), (2, None), (3, None)]);
    one.mesh.set_members(EPOCH, members.clone());
    liar.mesh.set_members(EPOCH, members);
    assert_eq!(
        liar.echo(1, b"x").await,
        Err(MeshError::Denied(Closing::OtherNode))
    );
    assert_eq!(one.hears(Closing::OtherNode).await.claimed, Some(2));
}

#[tokio::test]
async fn an_older_epoch_is_fenced_off_from_both_sides() {
    let world = World::new(1, &[1, 2]);
    let (one, two) = world.pair(Listens::Yes);
    assert_eq!(two.echo(1, b"x").await.unwrap(), b"x");
    let members = world.members(&[(&one, Listens::Yes), (&two, Listens::Yes)]);
    one.mesh.set_proof(b"proof".to_vec());
    one.mesh.set_members(EPOCH + 1, members.clone());
    assert_eq!(one.mesh.links(), [], "closed at once");
    until(|| two.mesh.links().is_empty()).await;
    let older = two.echo(1, b"x").await;
    assert_eq!(older, Err(MeshError::Denied(Closing::NewerEpoch)));
    one.hears(Closing::OlderEpoch).await;
    // Whoever is behind is told so, whoever called.
    assert_eq!(*two.seen.proofs.lock(), [b"proof"]);
    let newer = one.echo(2, b"x").await;
    assert_eq!(newer, Err(MeshError::Denied(Closing::NewerEpoch)));
    until(|| two.seen.proofs.lock().len() == 2).await;
    assert!(one.seen.proofs.lock().is_empty());
    // An epoch never goes back; with the new one they talk again.
    one.mesh.set_members(EPOCH, members.clone());
    two.mesh.set_members(EPOCH + 1, members);
    until_answered(&two, 1).await;
}

#[tokio::test]
async fn one_that_is_of_the_fleet_no_longer_hears_of_the_newer_epoch_and_nothing_else() {
    let world = World::new(1, &[1, 2]);
    let (one, two) = world.pair(Listens::No);
    one.mesh.set_proof(b"proof".to_vec());
    one.mesh
        .set_members(EPOCH + 1, world.members(&[(&one, Listens::Yes)]));
    until(|| two.mesh.links().is_empty()).await;
    let refused = two.echo(1, b"x").await;
    assert_eq!(refused, Err(MeshError::Denied(Closing::NewerEpoch)));
    assert_eq!(*two.seen.proofs.lock(), [b"proof"]);
    one.hears(Closing::NotAMember).await;
    assert_eq!(one.mesh.links(), []);
}

#[tokio::test]
async fn a_removed_member_is_cut_off_at_once_and_not_let_in_again() {
    let world = World::new(1, &[1, 2]);
    let (one, two) = world.pair(Listens::Yes);
    assert_eq!(two.echo(1, b"x").await.unwrap(), b"x");
    let waiting = {
        let mesh = two.mesh.clone();
        tokio::spawn(async move { mesh.call(1, NEVER, vec![], SOON).await })
    };
    until(|| one.seen.running.lock().0 == 1).await;
    one.mesh
        .set_members(EPOCH, world.members(&[(&one, Listens::Yes)]));
    assert_eq!(one.mesh.links(), []);
    let cut = waiting.await.unwrap();
    assert_eq!(cut, Err(MeshError::Broken("closed: not_a_member".into())));
    assert_eq!(one.echo(2, b"x").await, Err(MeshError::NotAMember(2)));
    let again = two.echo(1, b"x").await;
    assert_eq!(again, Err(MeshError::Denied(Closing::NotAMember)));
    assert_eq!(one.hears(Closing::NotAMember).await.claimed, Some(2));
}

#[tokio::test]
async fn a_member_with_another_key_than_the_state_knows_is_refused() {
    let world = World::new(1, &[1, 2]);
    let one = world.start(1, Listens::Yes);
    let two = world.start_as(2, world.issue(2), EPOCH, Listens::No);
    let members = world.members_of(&[(1, Some(&one)), (2, None)]);
    one.mesh.set_members(EPOCH, members.clone());
    two.mesh.set_members(EPOCH, members);
    let refused = two.echo(1, b"x").await;
    assert_eq!(refused, Err(MeshError::Denied(Closing::NotAMember)));
    one.hears(Closing::NotAMember).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_at_once_are_answered_so_many_at_a_time() {
    let world = World::new(1, &[1, 2]);
    let (one, two) = world.pair(Listens::Yes);
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..1000_u32 {
        let mesh = two.mesh.clone();
        calls.spawn(async move {
            let request = number.to_be_bytes().to_vec();
            mesh.call(1, ECHO, request.clone(), SOON).await == Ok(request)
        });
    }
    assert!(calls.join_all().await.into_iter().all(|it| it));
    let (_, most) = *one.seen.running.lock();
    assert!(most <= limits::STREAMS_PER_CONNECTION as usize, "{most}");
    assert_eq!(two.mesh.links().len(), 1, "all of them dialled once");
}

#[tokio::test]
async fn calls_to_a_peer_that_vanished_end_in_time_and_go_on_when_it_is_back() {
    let world = World::new(1, &[1, 2]);
    let (one, two) = world.pair(Listens::Yes);
    let wire = Wire::to(two.address()).await;
    let mut members = world.members(&[(&one, Listens::No), (&two, Listens::Yes)]);
    members.get_mut(&2).unwrap().address = Some(wire.address.to_string());
    one.mesh.set_members(EPOCH, members.clone());
    assert_eq!(one.echo(2, b"x").await.unwrap(), b"x");
    wire.lead(None);
    for within in [300, 100].map(Duration::from_millis) {
        let began = clock::instant();
        let lost = one.mesh.call(2, ECHO, vec![], within).await;
        // The first was sent; before the second, the connection was found wanting.
        assert!(
            matches!(lost, Err(MeshError::TimedOut | MeshError::Unreachable(_))),
            "{lost:?}"
        );
        assert!(began.elapsed() < within + Duration::from_secs(1));
    }
    // It comes back as another process, which knows nothing of the connection.
    two.mesh.shutdown(Duration::ZERO).await;
    let back = world.start(2, Listens::Yes);
    back.mesh.set_members(EPOCH, members);
    wire.lead(Some(back.address()));
    let began = clock::instant();
    until_answered(&one, 2).await;
    let sooner = limits::IDLE - Duration::from_secs(2);
    assert!(
        began.elapsed() < sooner,
        "it is not waited for the old connection to idle out"
    );
}

#[tokio::test]
async fn a_peer_that_moved_is_dialled_where_it_is() {
    let world = World::new(1, &[1, 2]);
    let (one, two) = world.pair(Listens::Yes);
    assert_eq!(one.echo(2, b"x").await.unwrap(), b"x");
    two.mesh.shutdown(Duration::ZERO).await;
    let moved = world.start(2, Listens::Yes);
    let members = world.members(&[(&one, Listens::Yes), (&moved, Listens::Yes)]);
    moved.mesh.set_members(EPOCH, members.clone());
    one.mesh.set_members(EPOCH, members);
    assert_eq!(one.echo(2, b"x").await.unwrap(), b"x");
    assert_eq!(one.mesh.links()[0].address, moved.address());
}

#[tokio::test]
async fn an_oversized_frame_is_refused_by_both_sides() {
    let world = World::new(1, &[1, 2]);
    let (one, two) = world.pair(Listens::Yes);
    let large = vec![0; limits::FRAME_BYTES + 1];
    assert!(matches!(
        two.echo(1, &large).await,
        Err(MeshError::Frame(_))
    ));
    // One that does not look at what it sends:
    let (_, mut send, _recv) = call::stream(&two.mesh.inner, 1).await.unwrap();
    send.write_all(&[0xff, 0xff, 0xff, 0xff, ECHO])
        .await
        .unwrap();
    assert_eq!(one.hears(Closing::Protocol).await.claimed, Some(2));
    until_answered(&two, 1).await;
}

#[tokio::test]
async fn a_stream_carries_frames_both_ways_and_ends() {
    let world = World::new(1, &[1, 2]);
    let (_one, two) = world.pair(Listens::Yes);
    let (mut send, mut recv) = two.mesh.open(1, MIRROR).await.unwrap().split();
    for size in [0, 1, 100_000, limits::FRAME_BYTES] {
        let frame = vec![7; size];
        let sending = send.send(&frame);
        let (sent, came) = tokio::join!(sending, recv.recv());
        sent.unwrap();
        assert_eq!(came.unwrap().unwrap(), frame);
    }
    send.finish().await.unwrap();
    assert_eq!(recv.recv().await, Ok(None));
}

#[tokio::test]
async fn a_slow_reader_stops_the_sender_and_given_up_reads_lose_nothing() {
    let world = World::new(1, &[1, 2]);
    let (one, two) = world.pair(Listens::Yes);
    let mut stream = two.mesh.open(1, FLOOD).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let flooded = *one.seen.flooded.lock();
    let most = limits::SEND_WINDOW_BYTES as usize + limits::CONNECTION_WINDOW_BYTES as usize;
    assert!(flooded > 0 && flooded * FLOOD_FRAME <= most, "{flooded}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(*one.seen.flooded.lock(), flooded, "it waits");
    // Other calls on the same connection go on meanwhile.
    assert_eq!(two.echo(1, b"x").await.unwrap(), b"x");
    let mut read = 0;
    while read < flooded + 200 {
        let moment = Duration::from_micros(50);
        if let Ok(frame) = tokio::time::timeout(moment, stream.recv()).await {
            assert_eq!(frame.unwrap().unwrap(), [7; FLOOD_FRAME]);
            read += 1;
        }
    }
}

#[tokio::test]
async fn a_stranger_may_join_and_nothing_else() {
    let world = World::new(1, &[1, 2]);
    let (one, _two) = world.pair(Listens::Yes);
    let address = one.address().to_string();
    let joined = ask_as_stranger(&address, world.join_config(), JOIN, b"let me in", SOON).await;
    let joined = joined.unwrap();
    assert_eq!(joined.answer, b"let me in");
    assert_eq!(joined.shown.len(), 2, "its leaf and the authority");
    assert_eq!(one.reasons(), []);
    let large = vec![0; limits::JOIN_FRAME_BYTES + 1];
    assert!(matches!(
        ask_as_stranger(&address, world.join_config(), JOIN, &large, SOON).await,
        Err(MeshError::Frame(_))
    ));
    // Another service:
    let endpoint = transport::endpoint(None, None).unwrap();
    let config = transport::client_config(world.join_config()).unwrap();
    let connection = dial::connect(&endpoint, config, &address).await.unwrap();
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    let frame = frame::encode(ECHO, b"x", 10).unwrap();
    send.write_all(&frame).await.unwrap();
    let closed = MeshError::from(connection.closed().await);
    assert_eq!(closed, MeshError::Denied(Closing::JoinOnly));
    one.hears(Closing::JoinOnly).await;
}

#[tokio::test]
async fn strangers_are_few_at_a_time_and_members_do_not_notice() {
    let world = World::new(1, &[1, 2]);
    let (one, two) = world.pair(Listens::Yes);
    let endpoint = transport::endpoint(None, None).unwrap();
    let mut silent = Vec::new();
    for _ in 0..=limits::STRANGERS {
        let config = transport::client_config(world.join_config()).unwrap();
        let address = one.address().to_string();
        silent.push(dial::connect(&endpoint, config, &address).await.unwrap());
    }
    one.hears(Closing::Busy).await;
    assert_eq!(two.echo(1, b"x").await.unwrap(), b"x");
}

#[tokio::test]
async fn rubbish_on_the_socket_disturbs_nobody() {
    let world = World::new(1, &[1, 2]);
    let (one, two) = world.pair(Listens::Yes);
    assert_eq!(two.echo(1, b"x").await.unwrap(), b"x");
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for size in 0..1000_usize {
        let rubbish: [u8; 1200] = crate::runtime::random::bytes();
        let part = &rubbish[..size.min(1200)];
        socket.send_to(part, one.address()).await.unwrap();
    }
    assert_eq!(two.echo(1, b"x").await.unwrap(), b"x");
    assert_eq!(two.mesh.links().len(), 1);
}

#[tokio::test]
async fn stopping_lets_answers_out_and_tells_the_peers() {
    let world = World::new(1, &[1, 2]);
    let (one, two) = world.pair(Listens::Yes);
    assert_eq!(two.echo(1, b"x").await.unwrap(), b"x");
    one.mesh.shutdown(Duration::from_secs(1)).await;
    until(|| two.mesh.links().is_empty()).await;
    assert_eq!(one.echo(2, b"x").await, Err(MeshError::ShutDown));
    assert!(
        two.mesh
            .call(1, ECHO, vec![], Duration::from_millis(300))
            .await
            .is_err()
    );
}

/// Calls until there is an answer: back-off takes its time.
async fn until_answered(node: &Node, to: u64) {
    let calling = async {
        while node
            .mesh
            .call(to, ECHO, vec![], Duration::from_secs(1))
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, calling).await.unwrap();
}

/// A start of the second node's process.
fn start(number: u64, random: u8) -> Option<Start> {
    let random = [random; 16];
    Some(Start {
        epoch: EPOCH,
        number,
        random,
    })
}

#[tokio::test]
async fn of_two_processes_with_one_nodes_key_the_later_start_is_the_node() {
    let world = World::new(1, &[1, 2]);
    let one = world.start(1, Listens::Yes);
    one.mesh
        .set_members(EPOCH, world.members_of(&[(1, Some(&one)), (2, None)]));
    let process = |start| {
        let node = world.start_of(2, world.identity(2), EPOCH, Listens::No, start);
        node.mesh
            .set_members(EPOCH, world.members_of(&[(1, Some(&one))]));
        node
    };
    let original = process(start(5, 9));
    assert_eq!(original.echo(1, b"x").await.unwrap(), b"x");
    assert_eq!(one.reasons(), []);

    // The copy counted on: it is taken, and what the original had open is closed.
    let copy = process(start(6, 1));
    assert_eq!(copy.echo(1, b"x").await.unwrap(), b"x");
    until(|| original.mesh.links().is_empty()).await;
    let refused = original.echo(1, b"x").await;
    assert_eq!(refused, Err(MeshError::Denied(Closing::StartedTwice)));
    let denied = one.hears(Closing::StartedTwice).await;
    assert_eq!(denied.claimed, Some(2));
    assert_eq!(denied.detail, "start 5 of epoch 3");
    // The original is shown by whom it was overtaken.
    until(|| !original.seen.overtaken.lock().is_empty()).await;
    let shown = original.seen.overtaken.lock().first().unwrap().clone();
    let key = world.identity(2).key();
    let shown = Start::verified(&shown, world.authority.trust().fleet(), 2, &key);
    assert_eq!(shown, start(6, 1));
    // It holds for what is said to it, too.
    assert_eq!(one.echo(2, b"back").await.unwrap(), b"back");
    assert_eq!(one.mesh.links().len(), 1);
    assert_eq!(copy.echo(1, b"x").await.unwrap(), b"x");

    // As many starts, another process: one of the two, whoever came first.
    for (other, reason) in [(0, Err(Closing::StartedTwice)), (2, Ok(()))] {
        let twin = process(start(6, other));
        let answered = twin.echo(1, b"x").await.map(|_| ());
        assert_eq!(answered, reason.map_err(MeshError::Denied));
    }
    // One that does not say which start it is, or whose words another key signed, is none of them.
    let silent = process(None);
    let refused = Err(MeshError::Denied(Closing::StartedTwice));
    assert_eq!(silent.echo(1, b"x").await, refused);
}

#[tokio::test]
async fn a_node_that_is_started_again_is_taken_and_one_that_never_said_so_too() {
    let world = World::new(1, &[1, 2]);
    let one = world.start(1, Listens::Yes);
    one.mesh
        .set_members(EPOCH, world.members_of(&[(1, Some(&one)), (2, None)]));
    for start in [None, None, start(1, 7), start(2, 3), start(3, 1)] {
        let node = world.start_of(2, world.identity(2), EPOCH, Listens::No, start);
        node.mesh
            .set_members(EPOCH, world.members_of(&[(1, Some(&one))]));
        assert_eq!(node.echo(1, b"x").await.unwrap(), b"x");
        node.mesh.shutdown(SOON).await;
    }
    assert_eq!(one.reasons(), []);
}
