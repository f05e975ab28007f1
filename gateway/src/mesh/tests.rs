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
    assert!(matches!(no, Err(MeshError::Refused(Refused(text))) if text.len() == limits::REASON_BYTES));
    let large = vec![5; limits::FRAME_BYTES];
    assert_eq!(two.echo(1, &large).await.unwrap(), large);
    assert_eq!(one.reasons(), []);
}
