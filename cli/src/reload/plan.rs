//! [`plan`]: what another region file would change in a process that runs, or why it cannot be taken up there. Pure.
//!
//! What may change: clusters and their nodes, limits and secrets of clusters, rules, the grace at a stop. Everything else is what a
//! process is made of, and needs a restart.

use std::fmt;

use schemas::{
    config::{Cluster, Node, Region},
    ring::Hashing,
};

/// What would change, in words for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes(Vec<String>);

/// Everything that keeps a file from being taken up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) struct Refused(Vec<String>);

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

/// Compares the region that runs with one that is to.
pub(crate) fn plan(before: &Region, after: &Region) -> Result<Changes, Refused> {
    let mut refused = fixed(before, after);
    let mut changes = Vec::new();
    for cluster in &after.clusters {
        let name = &cluster.name;
        match before.clusters.iter().find(|old| old.name == *name) {
            None => changes.push(format!("cluster {name} is new")),
            Some(old) if old == cluster => {}
            Some(old) => {
                refused.extend(ring(old, cluster));
                changes.push(said(old, cluster));
            }
        }
    }
    for old in &before.clusters {
        if !after.clusters.iter().any(|cluster| cluster.name == old.name) {
            changes.push(format!("cluster {} is gone", old.name));
        }
    }
    if before.shutdown_grace != after.shutdown_grace {
        changes.push("shutdown.grace_ms".to_owned());
    }
    if refused.is_empty() { Ok(Changes(changes)) } else { Err(Refused(refused)) }
}

/// What a process is made of.
fn fixed(before: &Region, after: &Region) -> Vec<String> {
    let (old, new) = (&before.source, &after.source);
    let restart = [
        ("name", before.name == after.name),
        ("source.name", old.name == new.name),
        ("source.address", (&old.address, &old.standbys) == (&new.address, &new.standbys)),
        ("source.user", old.user == new.user),
        ("source.password", old.password == new.password),
        ("source.server_id", old.server_id == new.server_id),
        ("source.tls", old.tls == new.tls),
        ("source.statement_keys", old.statement_keys == new.statement_keys),
        ("source.progress_interval_ms", old.progress_interval == new.progress_interval),
        ("source.replicas", old.replicas == new.replicas),
        ("source.accept", old.accept == new.accept),
        ("source.hold_off_ms", old.hold_off == new.hold_off),
        ("stream", before.stream == after.stream),
        ("stream.relay", before.relay == after.relay),
        ("http", before.http == after.http),
        ("the first cluster with control ports or markers", asks(before) || !asks(after)),
    ];
    let changed = restart.iter().filter(|(_, same)| !same);
    changed.map(|(name, _)| format!("{name}: a change of it needs a restart")).collect()
}

/// Whether the process asks databases how far they are.
fn asks(region: &Region) -> bool {
    let controlled = |cluster: &Cluster| cluster.nodes.iter().any(|node| node.control.is_some());
    let clusters = || region.clusters.iter();
    !region.source.replicas.is_empty()
        || clusters().any(|cluster| cluster.markers || controlled(cluster))
}

/// Keys that move must be deleted where they were and where they are, and nodes must be able to tell which of two rings is the newer one.
fn ring(old: &Cluster, new: &Cluster) -> Vec<String> {
    let name = &new.name;
    let mut refused = Vec::new();
    let versioned = old.nodes.iter().chain(&new.nodes).any(|node| node.control.is_some());
    if new.ring_version < old.ring_version {
        refused
            .push(format!("cluster {name}: ring_version must not fall below {}", old.ring_version));
    }
    if is_same_ring(old, new) {
        return refused;
    }
    if versioned && new.ring_version == old.ring_version {
        let at_least = old.ring_version.saturating_add(1);
        refused.push(format!(
            "cluster {name}: ring_version must be at least {at_least}, because keys move"
        ));
    }
    let covers = new.former.as_ref().is_some_and(|former| {
        former.nodes.is_empty()
            || former.hashing == old.hashing && is_same(old.hashing, &former.nodes, &old.nodes)
    });
    if !covers {
        refused.push(format!(
            "cluster {name}: former must have the nodes of before as long as clients use them, or no nodes if none does"
        ));
    }
    refused
}

fn is_same_ring(old: &Cluster, new: &Cluster) -> bool {
    old.hashing == new.hashing && is_same(old.hashing, &old.nodes, &new.nodes)
}

/// In any order, unless the hashing goes by it; control ports do not count.
fn is_same(hashing: Hashing, old: &[Node], new: &[Node]) -> bool {
    let has = |nodes: &[Node], node: &Node| nodes.iter().any(|it| is_same_node(it, node));
    let same = if hashing.is_by_order() {
        old.iter().zip(new).all(|(old, new)| is_same_node(old, new))
    } else {
        old.iter().all(|node| has(new, node))
    };
    old.len() == new.len() && same
}

fn is_same_node(one: &Node, other: &Node) -> bool {
    (&one.address, one.weight) == (&other.address, other.weight)
}

fn said(old: &Cluster, new: &Cluster) -> String {
    let only = |of: &Cluster, other: &Cluster| {
        let other = |node: &Node| other.nodes.iter().any(|it| it.address == node.address);
        let only: Vec<String> = of
            .nodes
            .iter()
            .filter(|node| !other(node))
            .map(|node| node.address.to_string())
            .collect();
        only.join(", ")
    };
    let (added, removed) = (only(new, old), only(old, new));
    let mut said = format!("cluster {}", new.name);
    if !added.is_empty() {
        said.push_str(&format!(", added {added}"));
    }
    if !removed.is_empty() {
        said.push_str(&format!(", removed {removed}"));
    }
    said
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const EXAMPLE: &str = include_str!("../../../region-configs/shop.toml");
    const NODES: &str =
        "nodes = [\n  { address = \"127.0.0.1:11211\" },\n  { address = \"127.0.0.1:11212\" },\n]";

    fn region(edits: &[(&str, &str)]) -> Region {
        let mut text = EXAMPLE.to_owned();
        for (from, to) in edits {
            assert!(text.contains(from), "edit does not apply: {from}");
            text = text.replacen(from, to, 1);
        }
        Region::parse("shop.toml", &text).unwrap()
    }

    fn nodes(numbers: &[u16], more: &str) -> String {
        let node = |number: &u16| {
            format!(
                "{{ address = \"127.0.0.1:{number}\", control = \"127.0.0.1:{}\" }}",
                number + 10_000
            )
        };
        let nodes: Vec<String> = numbers.iter().map(node).collect();
        format!("nodes = [{}]\n{more}", nodes.join(", "))
    }

    fn check(before: &Region, after: &Region, expect: Expect) {
        let said = match plan(before, after) {
            Ok(changes) => format!("changes: {changes}"),
            Err(refused) => format!("refused: {refused}"),
        };
        expect.assert_eq(&said);
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let before = region(&[]);
        check(&before, &before, expect!["changes: "]);
        let after = region(&[
            ("127.0.0.1:3306", "127.0.0.1:3307"),
            ("server_id = 4217", "server_id = 4218"),
            ("partitions = 1", "partitions = 2"),
            ("127.0.0.1:9610", "127.0.0.1:9611"),
            ("grace_ms = 5000", "grace_ms = 6000"),
        ]);
        check(
            &before,
            &after,
            expect![
                "refused: source.address: a change of it needs a restart; source.server_id: a change of it needs a restart; stream: a change of it needs a restart; http: a change of it needs a restart"
            ],
        );
        let after = region(&[(NODES, &nodes(&[11211, 11212], ""))]);
        check(
            &before,
            &after,
            expect![
                "refused: the first cluster with control ports or markers: a change of it needs a restart"
            ],
        );
    }

    #[test]
    fn limits_clusters_and_grace_may_change() {
        let before = region(&[]);
        let second = "[[cluster]]\nname = \"second\"\nhashing = \"rendezvous\"\nnodes = [{ address = \"127.0.0.1:1\" }]\n[http]";
        let after = region(&[
            ("fill_age_ms_max = 10000", "fill_age_ms_max = 20000"),
            ("grace_ms = 5000", "grace_ms = 6000"),
            ("[http]", second),
        ]);
        check(
            &before,
            &after,
            expect!["changes: cluster main; cluster second is new; shutdown.grace_ms"],
        );
        check(
            &after,
            &before,
            expect!["changes: cluster main; cluster second is gone; shutdown.grace_ms"],
        );
    }

    #[test]
    fn a_ring_changes_with_its_version_and_what_was_before() {
        let with = |numbers: &[u16], version: u64, more: &str| {
            let version = format!("ring_version = {version}");
            region(&[(NODES, &nodes(numbers, more)), ("ring_version = 0", &version)])
        };
        let former = |numbers: &[u16]| format!("former = {{ {} }}", nodes(numbers, "").trim_end());
        let before = with(&[11211, 11212], 3, "");
        check(
            &before,
            &with(&[11211, 11212, 11213], 3, ""),
            expect![
                "refused: cluster main: ring_version must be at least 4, because keys move; cluster main: former must have the nodes of before as long as clients use them, or no nodes if none does"
            ],
        );
        let added = with(&[11211, 11212, 11213], 4, &former(&[11212, 11211]));
        check(&before, &added, expect!["changes: cluster main, added 127.0.0.1:11213"]);
        let ended = with(&[11211, 11212, 11213], 4, "");
        check(&added, &ended, expect!["changes: cluster main"]);
        check(
            &added,
            &with(&[11211, 11212, 11213], 3, ""),
            expect!["refused: cluster main: ring_version must not fall below 4"],
        );
        let removed = |version| with(&[11211, 11213], version, "former = { nodes = [] }");
        check(
            &ended,
            &removed(4),
            expect!["refused: cluster main: ring_version must be at least 5, because keys move"],
        );
        check(&ended, &removed(5), expect!["changes: cluster main, removed 127.0.0.1:11212"]);
        let wrong = with(&[11211, 11213], 5, &former(&[11211, 11213]));
        check(
            &ended,
            &wrong,
            expect![
                "refused: cluster main: former must have the nodes of before as long as clients use them, or no nodes if none does"
            ],
        );
    }

    #[test]
    fn the_order_of_nodes_counts_where_keys_are_spread_by_it() {
        let with = |numbers: &[u16], version: u64| {
            let version = format!("ring_version = {version}");
            let nodes = nodes(numbers, "former = { nodes = [] }");
            region(&[
                ("hashing = \"ketama\"", "hashing = \"ch3\""),
                (NODES, &nodes),
                ("ring_version = 0", &version),
            ])
        };
        let before = with(&[11211, 11212], 3);
        let refused =
            expect!["refused: cluster main: ring_version must be at least 4, because keys move"];
        check(&before, &with(&[11212, 11211], 3), refused);
        let added = expect!["changes: cluster main, added 127.0.0.1:11213"];
        check(&before, &with(&[11211, 11212, 11213], 4), added);
    }
}
