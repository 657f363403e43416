//! The ring against what real clients do, and its refusals.

use expect_test::{Expect, expect};
use serde::Deserialize;

use super::*;

/// Made by `e2e/python/ring_vectors.py --vectors`, one object for each ring.
const VECTORS: &str = include_str!("../../tests/ring_vectors.json");

#[derive(Deserialize)]
struct Vector {
    hashing: Hashing,
    nodes: Vec<VectorNode>,
    /// For each node, the keys that the client sends to it.
    keys: Vec<Vec<String>>,
}

#[derive(Deserialize)]
struct VectorNode {
    name: String,
    weight: u32,
}

#[test]
fn clients_agree() {
    let vectors: Vec<Vector> = serde_json::from_str(VECTORS).unwrap();
    assert_eq!(vectors.len(), 12);
    for vector in vectors {
        let nodes: Vec<RingNode> = vector
            .nodes
            .into_iter()
            .map(|node| RingNode { name: node.name, weight: node.weight })
            .collect();
        let ring = Ring::new(vector.hashing, &nodes).unwrap();
        assert_eq!(vector.keys.len(), nodes.len());
        assert!(vector.keys.iter().map(Vec::len).sum::<usize>() >= 200);
        for (owner, keys) in vector.keys.into_iter().enumerate() {
            for key in keys {
                let key = Key::new(key).unwrap();
                assert_eq!(ring.owner(&key), owner, "{:?} {nodes:?} {key}", vector.hashing);
            }
        }
    }
}

fn node(name: &str) -> RingNode {
    RingNode { name: name.to_owned(), weight: 1 }
}

#[test]
fn a_single_node_owns_everything() {
    for hashing in [Hashing::Ketama, Hashing::KetamaJenkins, Hashing::Rendezvous] {
        let ring = Ring::new(hashing, &[node("localhost")]).unwrap();
        for bytes in [&b"k"[..], b"\xff\xfe", "käse".as_bytes()] {
            assert_eq!(ring.owner(&Key::new(bytes.to_vec()).unwrap()), 0);
        }
    }
}

#[test]
fn every_hashing_is_spread_and_ignores_the_order_of_nodes() {
    let forward = ["a:1", "b:1", "c:1", "d:1"].map(node);
    let backward = ["d:1", "c:1", "b:1", "a:1"].map(node);
    for hashing in [Hashing::Ketama, Hashing::KetamaJenkins, Hashing::Rendezvous] {
        let rings = [&forward, &backward].map(|nodes| Ring::new(hashing, nodes).unwrap());
        let mut owned = [0_u32; 4];
        for number in 0..4000 {
            let key = Key::new(format!("key:{number}")).unwrap();
            let owner = rings[0].owner(&key);
            assert_eq!(rings[1].owner(&key), 3 - owner);
            owned[owner] += 1;
        }
        assert!(owned.iter().all(|keys| (500..2000).contains(keys)), "{hashing:?}: {owned:?}");
    }
}

#[test]
fn a_node_too_light_for_a_point_owns_nothing() {
    let nodes = [("a:1", 1), ("b:1", 4_000_000_000)]
        .map(|(name, weight)| RingNode { name: name.to_owned(), weight });
    let ring = Ring::new(Hashing::Ketama, &nodes).unwrap();
    assert!((0..1000).all(|number| ring.owner(&Key::new(format!("{number}")).unwrap()) == 1));
}

fn check_refused(hashing: Hashing, nodes: &[RingNode], expect: Expect) {
    expect.assert_eq(&Ring::new(hashing, nodes).expect_err("must be refused").to_string());
}

#[test]
fn refusals() {
    use Hashing::{Ketama, Rendezvous};
    check_refused(Ketama, &[], expect!["a ring needs at least one node"]);
    check_refused(
        Ketama,
        &vec![node("a:1"); 1025],
        expect!["a ring has at most 1024 nodes, not 1025"],
    );
    check_refused(
        Ketama,
        &[node("a"), node("b"), node("a:11211")],
        expect![[r#"node "a:11211" is listed twice"#]],
    );
    check_refused(
        Ketama,
        &[RingNode { name: "a:1".to_owned(), weight: 0 }],
        expect![[r#"node "a:1" has weight 0; leave it out, or give it a weight of 1 or more"#]],
    );
    check_refused(
        Rendezvous,
        &[RingNode { name: "a:1".to_owned(), weight: 2 }],
        expect![[r#"node "a:1" has weight 2, but rendezvous hashing has no weights"#]],
    );
    check_refused(
        Ketama,
        &[node("a:port")],
        expect![[r#"node "a:port" is not a host, host:port or [ipv6]:port"#]],
    );
    for bad in ["", ":1", "a:", "a:+1", "a:0", "a:65536", "::1", "[::1", "[::1]1", "[]:1", "a b:1"]
    {
        let refused = Ring::new(Ketama, &[node(bad)]);
        assert!(matches!(refused, Err(RingError::BadName { .. })), "{bad:?}");
    }
}
