//! Looks at nodes. Nothing is disturbed: no lease is taken, nothing counts as read.
//!
//! | node | what is sent |
//! |---|---|
//! | ours | `mg KEY v c f u V`: what a reader would be served, and the version that it contains |
//! | memcached, to compare the value | `mg KEY v c f u` |
//! | memcached | `me KEY`: what it knows of the entry, without the value |
//!
//! (An entry that a client has marked as outdated (`md KEY I`) on a stock memcached is offered to the first `mg` for renewal:
//! do not give such keys a value rule.) The only thing that is ever stored is one entry of the auditor's own per node, by which
//! its counter is read, and the canary's.

use std::time::Duration;

use client::{
    Age, Node, NodeError,
    wire::{Answer, Found, Request, Turn},
};
use schemas::key::Key;

use crate::{placement::Place, settings::ValueRule, verdict::Sight};

/// Longest look, connecting included.
const LOOK_DEADLINE: Duration = Duration::from_secs(2);
/// How long the auditor's own entry lives.
const PROBE_TTL_S: u32 = 60;

/// Connections to a node.
pub(crate) fn open(place: &Place) -> Node {
    let mut settings = client::Settings::new(Vec::new());
    settings.request_timeout = LOOK_DEADLINE;
    Node::new(&place.address, &settings)
}

/// Looks at one key.
pub(crate) async fn look(node: &Node, place: &Place, key: &Key, rule: Option<&ValueRule>) -> Sight {
    let request = match (place.knows_versions, rule) {
        (true, _) => Request::LookVersioned { key },
        (false, Some(_)) => Request::Look { key },
        (false, None) => Request::Debug { key },
    };
    match node.ask(&request).await {
        Ok(answer) => sight(answer, rule),
        Err(_) => Sight::Unknown,
    }
}

fn sight(answer: Answer, rule: Option<&ValueRule>) -> Sight {
    match answer {
        Answer::Known { cas } => Sight::Entry { cas, value: None, filled: None },
        // Or whoever reads it is told that it is old.
        Answer::Missing(_) | Answer::Value(Found { age: Age::Old | Age::Unknown, .. }) => {
            Sight::Absent
        }
        // A place that is held for a value.
        Answer::Value(Found { turn: Turn::Ours | Turn::Theirs, data, .. }) if data.is_empty() => {
            Sight::Absent
        }
        Answer::Value(Found { data, cas, version, .. }) => {
            let value = rule.and_then(|rule| rule.digest_of(&data));
            Sight::Entry { cas, value, filled: version }
        }
        Answer::Done
        | Answer::NotStored
        | Answer::Exists
        | Answer::NotFound
        | Answer::Refused(_) => Sight::Unknown,
    }
}

/// Where the node's counter is.
pub(crate) async fn tick(node: &Node, probe: &Key) -> Result<Option<u64>, NodeError> {
    let store = Request::SetMarker { marker: probe, ttl_s: PROBE_TTL_S };
    let answers = node.send(&[store, Request::Look { key: probe }])?.wait().await?;
    Ok(match answers.get(1) {
        Some(Answer::Value(found)) => Some(found.cas),
        _ => None,
    })
}
