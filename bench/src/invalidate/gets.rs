//! What versions cost a node that serves: reads of the same entries, with and without a source, in turns.

use std::sync::Arc;

use anyhow::{Result, ensure};
use cache_node::{
    access::Users,
    node::Node,
    now::Now,
    rules::{Agreement, Batch, Continuity, EpochNews, Finding, Item, Rules},
    server::Session,
};
use schemas::{
    cursor::{Partition, Place, Term},
    moment::Moment,
    record::UnixMicros,
    version::Version,
};
use tokio::time::Instant;

use super::{node, rules_settings, version};
use crate::figures::median;

const PARTITIONS: u16 = 16;
const KEYS: usize = 10_000;
/// In one read of the socket.
const GETS_PER_TURN: usize = 50;
const TURNS: usize = 2000;
const ROUNDS: usize = 15;
const NOW: Now = Now { moment: Moment::START, unix: 1_000_000 };

/// Gets per second with a source over those without one, of pairs that were measured in turns.
pub(super) fn cost_ratio() -> Result<f64> {
    let mut plain = Client::new(node(None));
    let mut versioned = Client::new(node(Some(fresh_rules()?)));
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let (without, with) = if round % 2 == 0 {
            let without = plain.gets_per_s()?;
            (without, versioned.gets_per_s()?)
        } else {
            let with = versioned.gets_per_s()?;
            (plain.gets_per_s()?, with)
        };
        ratios.push(with / without);
    }
    Ok(median(ratios))
}

/// Of a node that is up to date.
fn fresh_rules() -> Result<Rules> {
    let mut rules = Rules::new(NOW.moment, rules_settings(PARTITIONS));
    rules.clocks(Finding { agreement: Agreement::Close, steps: 0 });
    let (last, resumed) = (Version::ZERO, Version::ZERO);
    rules.epoch(&EpochNews { epoch: 1, last, continuity: Continuity::Lossless, resumed });
    let place = |sequence| Place { term: Term(1), sequence };
    for partition in (0..PARTITIONS).map(Partition) {
        rules.begin(partition, place(0));
        let at = UnixMicros(NOW.unix * 1_000_000);
        let items = vec![Item::Progress { version: version(1), at }];
        let batch = Batch { partition, from: place(0), to: place(1), items };
        rules.apply(NOW.moment, at, &batch, &mut Nothing)?;
    }
    Ok(rules)
}

/// No entries yet.
struct Nothing;

impl cache_node::rules::Entries for Nothing {
    fn judge(
        &mut self,
        _: &schemas::key::Key,
        _: &mut dyn FnMut(&mut cache_node::rules::Mark) -> cache_node::rules::Fate,
    ) {
    }
}

struct Client {
    session: Session,
    requests: Vec<Vec<u8>>,
}

impl Client {
    fn new(node: Node) -> Client {
        let mut session = Session::new(Arc::new(node), 0, Users::default());
        for key in 0..KEYS {
            // A version that may be stored; without a source, the flag is refused and the plain set counts.
            let bits = version(1).bits();
            let set = format!(
                "ms k{key} 100 V{bits}\r\n{0}\r\nadd k{key} 0 0 100\r\n{0}\r\n",
                "v".repeat(100)
            );
            session.input.extend_from_slice(set.as_bytes());
        }
        session.execute(NOW, 0);
        session.output.clear();
        let mut requests = Vec::new();
        for turn in 0..100 {
            let gets =
                (0..GETS_PER_TURN).map(|at| format!("get k{}\r\n", (turn * 97 + at * 31) % KEYS));
            requests.push(gets.collect::<String>().into_bytes());
        }
        Client { session, requests }
    }

    fn gets_per_s(&mut self) -> Result<f64> {
        let begin = Instant::now();
        let mut bytes = 0;
        for turn in 0..TURNS {
            self.session.input.extend_from_slice(&self.requests[turn % self.requests.len()]);
            self.session.execute(NOW, 0);
            bytes += self.session.output.len();
            self.session.output.clear();
        }
        let took = begin.elapsed().as_secs_f64();
        ensure!(bytes > TURNS * GETS_PER_TURN * 100, "some keys are not there");
        Ok((TURNS * GETS_PER_TURN) as f64 / took)
    }
}
