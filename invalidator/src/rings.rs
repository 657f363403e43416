//! [`members`]: the nodes of a cluster, and which keys each of them gets deletes of: its own, by every ring that some client uses.

use std::sync::Arc;

use protocol::control::RingPlace;
use schemas::{
    cure::Cure,
    ring::{Hashing, RingError},
};

pub use crate::intake::Share;
use crate::{ControlPort, NodeSettings, Settings, settings};

/// A node that gets deletes.
#[derive(Clone, Debug)]
pub struct Member {
    /// `host:port`, as clients write it.
    pub address: String,
    /// Where it takes deletes with versions.
    pub control: Option<ControlPort>,
    /// The keys of which it gets deletes.
    pub share: Share,
}

/// The nodes of the ring, and behind them those that only the former one has.
pub fn members(cluster: &Settings) -> Result<Vec<Member>, RingError> {
    let ring = Arc::new(cluster.ring()?);
    let former = match &cluster.former {
        Some(former) if !former.nodes.is_empty() && Cure::DeletesAtFormerOwner.works() => {
            let ring = settings::ring(former.hashing, &former.nodes)?;
            Some((Arc::new(ring), &former.nodes))
        }
        _ => None,
    };
    let former_nodes = || former.iter().flat_map(|(_, nodes)| nodes.iter());
    let at_former = |address: &str| former_nodes().position(|node| node.address == address);
    let share = |own: Option<usize>, address: &str| {
        let own_place = own.map(|at| place(cluster.hashing, &cluster.nodes, at));
        let own = own.map(|at| (Arc::clone(&ring), at));
        let before =
            former.as_ref().and_then(|(ring, _)| Some((Arc::clone(ring), at_former(address)?)));
        let before_place = cluster.former.as_ref().zip(before.as_ref());
        let before_place = before_place.map(|(it, (_, at))| place(it.hashing, &it.nodes, *at));
        Share {
            rings: own.into_iter().chain(before).collect(),
            said: own_place.into_iter().chain(before_place).collect(),
            on_floor: cluster.on_floor,
        }
    };
    let mut members = Vec::new();
    for (at, NodeSettings { address, control, .. }) in cluster.nodes.iter().enumerate() {
        let (address, control) = (address.clone(), control.clone());
        members.push(Member { share: share(Some(at), &address), address, control });
    }
    for NodeSettings { address, control, .. } in former_nodes() {
        if cluster.nodes.iter().any(|node| node.address == *address) {
            continue;
        }
        // It is not in this ring: its keys are those of the one before.
        let control = control
            .clone()
            .map(|port| ControlPort { ring_version: port.ring_version.saturating_sub(1), ..port });
        members.push(Member { share: share(None, address), address: address.clone(), control });
    }
    Ok(members)
}

/// What a node is told of a ring.
fn place(hashing: Hashing, nodes: &[NodeSettings], own: usize) -> RingPlace {
    let own = u16::try_from(own).expect("a ring has far fewer nodes");
    RingPlace { hashing, nodes: settings::ring_nodes(nodes), own }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use schemas::key::Key;

    use super::*;
    use crate::{Former, Markers, OnFloor};

    fn nodes(numbers: &[u16]) -> Vec<NodeSettings> {
        let control = |number| ControlPort {
            address: format!("127.0.0.1:{}", 20_000 + number),
            secret: None,
            tls: None,
            ring_version: 7,
        };
        let node = |number: &u16| NodeSettings {
            address: format!("127.0.0.1:{}", 10_000 + number),
            weight: 1,
            control: Some(control(*number)),
        };
        numbers.iter().map(node).collect()
    }

    fn cluster(now: &[u16], before: &[u16]) -> Vec<Member> {
        let former = Former { hashing: Hashing::Ketama, nodes: nodes(before) };
        let settings = Settings {
            cluster: "main".to_owned(),
            hashing: Hashing::Rendezvous,
            nodes: nodes(now),
            former: Some(former),
            revision: 0,
            fill_age_max: Duration::from_secs(1),
            on_floor: OnFloor::Alarm,
            markers: Markers::None,
        };
        members(&settings).unwrap()
    }

    #[test]
    fn deletes_go_to_the_owners_by_both_rings() {
        let both = cluster(&[1, 2, 3], &[2, 3, 4]);
        let (new, old) = (cluster(&[1, 2, 3], &[]), cluster(&[2, 3, 4], &[]));
        let hashed = |hashing| settings::ring(hashing, &nodes(&[2, 3, 4])).unwrap();
        let (ketama, mut moved) = (hashed(Hashing::Ketama), 0);
        for number in 0..1000 {
            let key = Key::new(format!("key:{number}")).unwrap();
            let owners = |of: &[Member]| -> BTreeSet<String> {
                let own = of.iter().filter(|member| member.share.owns(&key));
                own.map(|member| member.address.clone()).collect()
            };
            let mut expected = owners(&new);
            expected.insert(old[ketama.owner(&key)].address.clone());
            assert_eq!(owners(&both), expected);
            moved += usize::from(expected.len() == 2);
        }
        assert!(moved > 500, "{moved}");
    }

    #[test]
    fn a_node_that_is_in_the_former_ring_alone_does_not_hear_of_the_new_one() {
        let versions: Vec<(String, u64)> = cluster(&[1, 2], &[2, 3])
            .into_iter()
            .map(|member| (member.address, member.control.unwrap().ring_version))
            .collect();
        let of = |number: u16, version| (format!("127.0.0.1:{}", 10_000 + number), version);
        assert_eq!(versions, [of(1, 7), of(2, 7), of(3, 6)]);
    }
}
