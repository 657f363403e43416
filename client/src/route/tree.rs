//! [`Routes`]: pools and routes as a tree that does not change, and what each part of it does with a request.

use std::{sync::Arc, time::Duration};

use schemas::{cure::Cure, ring::Ring};

use super::{
    Condition, LimitId, NodeId, Nodes, TargetId,
    ask::{Ask, Class, Failure, Op, Outcome},
    config::{Kind, LimitFile, RetriesFile, UnknownPrefix},
    errand::Place,
    health::Terms,
};

/// Everything that a routes file says, checked and ready to be asked. It is not changed, but replaced.
#[derive(Debug)]
pub struct Routes {
    pub(super) targets: Vec<Target>,
    pub(super) pools: Vec<Pool>,
    pub(super) nodes: Vec<Node>,
    pub(super) limits: Vec<LimitFile>,
    pub(super) retries: RetriesFile,
    pub(super) start: NodeId,
    pub(super) entries: Vec<Entry>,
    pub(super) unknown_prefix: UnknownPrefix,
}

/// A node of memcached's protocol, and how it is treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `host:port`, `host` or `[ipv6]:port`, as written.
    pub address: String,
    /// What it is.
    pub kind: Kind,
    /// Longest wait for an answer.
    pub server_timeout: Duration,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// When it is out of use, and when it is probed.
    pub health: Terms,
    /// The pools that it is in.
    pub pools: Vec<String>,
}

/// The usual way: one node that may be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direct {
    /// The node.
    pub target: TargetId,
    /// How many bytes of routing prefix are taken off the key.
    pub strip: u16,
    /// Where a token in the answer is worth something.
    pub place: Place,
    pub(super) misses_go_on: bool,
}

impl Direct {
    /// Whether an answer like this goes to the client; if not, the request goes on as an errand.
    pub fn ends_with(&self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Failed(_) => false,
            Outcome::NotFound => !self.misses_go_on,
            _ => true,
        }
    }
}

/// A routing prefix.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) region: String,
    pub(super) cluster: String,
    pub(super) node: NodeId,
}

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) hashing: &'static str,
    pub(super) ring: Ring,
    pub(super) members: Vec<TargetId>,
}

/// A part of the tree and the name it has in the file.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) work: Work,
}

#[derive(Debug)]
pub(super) enum Work {
    Pool(usize),
    Hash { ring: Ring, children: Vec<NodeId> },
    Prefix { prefixes: Prefixes, otherwise: NodeId },
    Operation { by_op: [NodeId; Op::ALL.len()] },
    All { children: Vec<NodeId>, judge: Judge },
    Series(Series),
    WarmUp { cold: NodeId, warm: NodeId, ttl_s_max: Option<u32> },
    RollOver { children: [NodeId; 2], share: Share },
    Random { children: Vec<NodeId> },
    Null,
    Error(Arc<str>),
}

/// One child after another.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) children: Vec<NodeId>,
    pub(super) on: GoOn,
    /// Of what is stored in all but the first.
    pub(super) ttl_s_max: Option<u32>,
    pub(super) limit: Option<LimitId>,
}

/// What leads to the next child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GoOn {
    /// These failures.
    Failures { reads: Failures, updates: Failures },
    /// A read that found nothing or failed.
    Misses,
}

/// A set of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failures(u16);

impl Failures {
    pub(super) fn of(list: &[Failure]) -> Failures {
        Failures(list.iter().fold(0, |set, &failure| set | 1 << failure as u16))
    }

    pub(super) fn has(self, failure: Failure) -> bool {
        self.0 & (1 << failure as u16) != 0
    }
}

/// Which of several answers is the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judge {
    Worst,
    Fastest,
    Majority,
    /// That of this child.
    Nth(usize),
}

/// A share of all keys.
#[derive(Clone, Debug)]
pub(super) struct Share {
    /// Of 2^32.
    pub(super) threshold: u64,
    pub(super) salt: String,
}

impl Share {
    pub(super) fn has(&self, key: &[u8]) -> bool {
        let seed = 0x726f_6c6c; // Not that of any ring: the share is the same on each node.
        let hash = xxhash_rust::xxh64::xxh64(self.salt.as_bytes(), seed);
        xxhash_rust::xxh64::xxh64(key, hash) >> 32 < self.threshold
    }
}

/// Prefixes in order, each with the longest other one that it begins with.
#[derive(Debug)]
pub(super) struct Prefixes(Vec<PrefixRoute>);

#[derive(Debug)]
struct PrefixRoute {
    prefix: Vec<u8>,
    node: NodeId,
    shorter: Option<usize>,
}

impl Prefixes {
    pub(super) fn new(mut all: Vec<(Vec<u8>, NodeId)>) -> Prefixes {
        all.sort();
        let mut out: Vec<PrefixRoute> = Vec::with_capacity(all.len());
        for (prefix, node) in all {
            let mut shorter = out.len().checked_sub(1);
            while let Some(at) = shorter.and_then(|at| out.get(at))
                && !prefix.starts_with(&at.prefix)
            {
                shorter = at.shorter;
            }
            out.push(PrefixRoute { prefix, node, shorter });
        }
        Prefixes(out)
    }

    /// The longest that `key` begins with.
    pub(super) fn found(&self, key: &[u8]) -> Option<&[u8]> {
        self.find(key).map(|it| it.prefix.as_slice())
    }

    /// The longest that `key` begins with: the last one that is not after it in order, or one that it begins with itself.
    fn find(&self, key: &[u8]) -> Option<&PrefixRoute> {
        let mut at = self.0.partition_point(|it| it.prefix.as_slice() <= key).checked_sub(1)?;
        loop {
            let found = self.0.get(at)?;
            if key.starts_with(&found.prefix) {
                return Some(found);
            }
            at = found.shorter?;
        }
    }
}

/// What a part of the tree does with a request.
#[derive(Debug)]
pub(super) enum Plan<'r> {
    To(NodeId),
    /// The next request may go to another one.
    ToAny(NodeId),
    Target(TargetId),
    Series(&'r Series),
    All {
        children: &'r [NodeId],
        judge: Judge,
    },
    WarmUp {
        cold: NodeId,
        warm: NodeId,
        ttl_s_max: Option<u32>,
    },
    Nothing,
    Error(&'r Arc<str>),
}

/// Where a request enters the tree.
#[derive(Debug)]
pub(super) enum Entrance {
    One {
        node: NodeId,
        strip: u16,
    },
    /// A routing prefix with an asterisk: all that it fits.
    Several {
        nodes: Vec<NodeId>,
        strip: u16,
    },
    Unknown,
}

impl Routes {
    /// All nodes, each once.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// All limits of failover, for which the caller keeps the tokens.
    pub fn limits(&self) -> &[LimitFile] {
        &self.limits
    }

    /// The budget of requests that are sent again, which the caller keeps.
    pub fn retries(&self) -> RetriesFile {
        self.retries
    }

    /// The one node that a request goes to, if it is that simple, and if this node may be asked. `dice`: any number, for
    /// routes that choose at random; the errand that goes on from here must have the same.
    pub fn direct(&self, ask: &Ask<'_>, nodes: &impl Nodes, dice: u64) -> Option<Direct> {
        let Entrance::One { node: mut at, strip } = self.entrance(ask.key) else { return None };
        let key = ask.key.get(usize::from(strip)..)?;
        let (mut misses_go_on, mut place) = (false, Place::Home);
        loop {
            match self.plan(at, ask.op, key, dice) {
                Plan::To(node) => at = node,
                Plan::ToAny(node) => (at, place) = (node, Place::Away),
                Plan::Series(series) => {
                    misses_go_on |= series.on == GoOn::Misses;
                    at = *series.children.first()?;
                }
                Plan::WarmUp { cold, .. } => {
                    misses_go_on = true;
                    at = cold;
                }
                Plan::Target(target) => {
                    let usable = may_ask(nodes.condition(target), ask.op);
                    return usable.then_some(Direct { target, strip, place, misses_go_on });
                }
                Plan::All { .. } | Plan::Nothing | Plan::Error(_) => return None,
            }
        }
    }

    pub(super) fn entrance(&self, key: &[u8]) -> Entrance {
        let one = |node, strip| Entrance::One { node, strip };
        if self.entries.is_empty() || key.first() != Some(&b'/') {
            return one(self.start, 0);
        }
        let Some((region, cluster, strip)) = routing_prefix(key) else {
            return one(self.start, 0);
        };
        let fits = |wanted: &[u8], has: &str| wanted == b"*" || wanted == has.as_bytes();
        let fitting = || {
            let all = self.entries.iter();
            all.filter(|it| fits(region, &it.region) && fits(cluster, &it.cluster))
        };
        if region == b"*" || cluster == b"*" {
            let mut nodes: Vec<NodeId> = Vec::new();
            for entry in fitting() {
                if !nodes.contains(&entry.node) {
                    nodes.push(entry.node);
                }
            }
            return if nodes.is_empty() {
                Entrance::Unknown
            } else {
                Entrance::Several { nodes, strip }
            };
        }
        match (fitting().next(), self.unknown_prefix) {
            (Some(entry), _) => one(entry.node, strip),
            (None, UnknownPrefix::Start) => one(self.start, strip),
            (None, UnknownPrefix::Refuse) => Entrance::Unknown,
        }
    }

    pub(super) fn plan(&self, node: NodeId, op: Op, key: &[u8], dice: u64) -> Plan<'_> {
        let Some(node) = self.nodes.get(usize::from(node.0)) else { return Plan::Nothing };
        match &node.work {
            Work::Pool(pool) => self.member(*pool, key).map_or(Plan::Nothing, Plan::Target),
            Work::Hash { ring, children } => nth(children, ring.owner_of(key)),
            Work::Prefix { prefixes, otherwise } => {
                Plan::To(prefixes.find(key).map_or(*otherwise, |found| found.node))
            }
            Work::Operation { by_op } => nth(by_op, op as usize),
            Work::All { children, judge } => Plan::All { children, judge: *judge },
            Work::Series(series) => match op.class() {
                Class::Delete if Cure::DeletesReachEveryRead.works() => {
                    Plan::All { children: &series.children, judge: Judge::Nth(0) }
                }
                Class::Update if is_bound(op) || series.on == GoOn::Misses => {
                    nth(&series.children, 0)
                }
                _ => Plan::Series(series),
            },
            Work::WarmUp { cold, .. } if op.class() != Class::Read => Plan::To(*cold),
            Work::WarmUp { cold, warm, ttl_s_max } => {
                Plan::WarmUp { cold: *cold, warm: *warm, ttl_s_max: *ttl_s_max }
            }
            Work::RollOver { children, share } => one_of(children, usize::from(share.has(key)), op),
            Work::Random { children } => {
                let count = children.len().max(1) as u64;
                match one_of(children, usize::try_from(dice % count).unwrap_or(0), op) {
                    Plan::To(node) => Plan::ToAny(node),
                    plan => plan,
                }
            }
            Work::Null => Plan::Nothing,
            Work::Error(message) => Plan::Error(message),
        }
    }

    fn member(&self, pool: usize, key: &[u8]) -> Option<TargetId> {
        let pool = self.pools.get(pool)?;
        pool.members.get(pool.ring.owner_of(key)).copied()
    }
}

/// Whether a node in this condition may be asked this.
pub(super) fn may_ask(condition: Condition, op: Op) -> bool {
    match condition {
        Condition::Ready => true,
        Condition::Behind => op.class() != Class::Read || !Cure::MissedKeepsFromReads.works(),
        Condition::Down => false,
    }
}

/// Whether a request is worth something to one node alone.
fn is_bound(op: Op) -> bool {
    op.is_bound() && Cure::TokenAsksItsNode.works()
}

fn nth<'r>(children: &[NodeId], at: usize) -> Plan<'r> {
    children.get(at).map_or(Plan::Nothing, |&child| Plan::To(child))
}

/// One of several that all may have the key: a delete goes to all of them.
fn one_of(children: &[NodeId], at: usize, op: Op) -> Plan<'_> {
    match op.class() {
        Class::Delete if Cure::DeletesReachEveryRead.works() => {
            Plan::All { children, judge: Judge::Nth(at) }
        }
        _ => nth(children, at),
    }
}

/// `/region/cluster/` at the beginning of a key, and how long it is.
fn routing_prefix(key: &[u8]) -> Option<(&[u8], &[u8], u16)> {
    let rest = key.strip_prefix(b"/")?;
    let mut parts = rest.splitn(3, |&byte| byte == b'/');
    let (region, cluster, key) = (parts.next()?, parts.next()?, parts.next()?);
    let strip = u16::try_from(region.len() + cluster.len() + 3).ok()?;
    (!key.is_empty()).then_some((region, cluster, strip))
}
