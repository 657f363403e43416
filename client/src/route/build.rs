//! From a routes file to [`Routes`]: names become places, and everything is checked that could go wrong later.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use schemas::ring::{Hashing, Ring, RingError, RingNode};

use super::{
    LimitId, NodeId, TargetId,
    ask::{Failure, Op},
    config::{
        FailoverErrors, LimitFile, PoolFile, RetriesFile, RouteFile, RoutesFile, Server, ServerFile,
    },
    health::Terms,
    tree::{
        Entry, Failures, GoOn, Judge, Node, Pool, Prefixes, Routes, Series, Share, Target, Work,
    },
};

/// Pools, and routes.
const NAMES_MAX: usize = 4096;
/// All nodes together.
const TARGETS_MAX: usize = 16_384;
/// Routes that one names.
const CHILDREN_MAX: usize = 256;
/// Routes inside one another.
const DEPTH_MAX: usize = 32;
/// What one request may become at most.
const SENDS_MAX: usize = 256;
/// A gutter's values are not invalidated as reliably as others.
const GUTTER_S_MAX: u32 = 3600;
const TIMEOUT_MS_MAX: u32 = 60_000;
const PROBE_MS_MAX: u32 = 600_000;
const MESSAGE_BYTES_MAX: usize = 200;

/// Why a routes file is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RoutesError {
    /// It is no TOML, or a key is unknown, missing or of the wrong type.
    #[error(transparent)]
    Toml(#[from] Box<toml::de::Error>),
    /// What it says does not fit together.
    #[error("{place}: {what}")]
    Refused {
        /// The pool, route or prefix.
        place: String,
        /// What is wrong with it.
        what: String,
    },
    /// The nodes of a pool, or the children of a hash route, make no ring.
    #[error("{place}")]
    Ring {
        /// The pool or route.
        place: String,
        /// What is wrong with it.
        source: RingError,
    },
}

impl Routes {
    /// Reads a routes file.
    pub fn parse(text: &str) -> Result<Routes, RoutesError> {
        let file: RoutesFile = toml::from_str(text).map_err(Box::new)?;
        Routes::new(&file)
    }

    /// Checks a routes file.
    pub fn new(file: &RoutesFile) -> Result<Routes, RoutesError> {
        let names = file.pool.len() + file.route.len();
        if names > NAMES_MAX {
            return Err(refused("routes", format!("more than {NAMES_MAX} pools and routes")));
        }
        if let Some(name) = file.pool.keys().find(|name| file.route.contains_key(*name)) {
            return Err(refused(format!("route {name:?}"), "a pool has this name, too"));
        }
        let RetriesFile { share, burst } = file.retries;
        let fits = (0.0..=1.0).contains(&share) && burst.is_finite() && burst >= 0.0;
        if !fits {
            return Err(refused("retries", "share 0 to 1, burst 0 or more"));
        }
        let mut builder = Builder::new(file);
        let start = builder.start()?;
        let mut entries = Vec::new();
        for (prefix, name) in &file.prefix {
            let place = format!("prefix {prefix:?}");
            let parts = prefix.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
            let parts = parts.and_then(|middle| middle.split_once('/'));
            let is_name = |part: &str| !part.is_empty() && !part.contains(['/', '*', ' ']);
            let Some((region, cluster)) =
                parts.filter(|(region, cluster)| is_name(region) && is_name(cluster))
            else {
                return Err(refused(place, "must be /region/cluster/"));
            };
            let node = builder.named(&place, name)?;
            let (region, cluster) = (region.to_owned(), cluster.to_owned());
            entries.push(Entry { region, cluster, node });
        }
        // What nobody names is checked as well.
        for name in file.pool.keys().chain(file.route.keys()) {
            builder.named("routes", name)?;
        }
        let several: BTreeSet<NodeId> = entries.iter().map(|entry| entry.node).collect();
        check_sends("/*/*/", several.iter().map(|&node| builder.sends_of(node)).sum())?;
        let Builder { targets, pools, nodes, limits, .. } = builder;
        let RoutesFile { unknown_prefix, retries, .. } = *file;
        Ok(Routes { targets, pools, nodes, limits, retries, start, entries, unknown_prefix })
    }
}

struct Builder<'a> {
    file: &'a RoutesFile,
    targets: Vec<Target>,
    by_address: HashMap<String, TargetId>,
    pools: Vec<Pool>,
    nodes: Vec<Node>,
    /// For each node, how many requests one may become there.
    sends: Vec<usize>,
    limits: Vec<LimitFile>,
    done: HashMap<&'a str, NodeId>,
    /// The names that are being made, each because of the one before.
    open: Vec<&'a str>,
}

impl<'a> Builder<'a> {
    fn new(file: &'a RoutesFile) -> Builder<'a> {
        Builder {
            file,
            targets: Vec::new(),
            by_address: HashMap::new(),
            pools: Vec::new(),
            nodes: Vec::new(),
            sends: Vec::new(),
            limits: Vec::new(),
            done: HashMap::new(),
            open: Vec::new(),
        }
    }

    fn start(&mut self) -> Result<NodeId, RoutesError> {
        let file = self.file;
        if let Some(start) = &file.start {
            return self.named("start", start);
        }
        let mut pools = file.pool.keys();
        match (pools.next(), pools.next(), file.route.is_empty()) {
            (Some(only), None, true) => self.named("start", only),
            (None, ..) if file.route.is_empty() => {
                Err(refused("routes", "there is neither a pool nor a route"))
            }
            _ => Err(refused("start", "name the route or pool where requests begin")),
        }
    }

    /// The part of the tree that has this name.
    fn named(&mut self, place: &str, name: &str) -> Result<NodeId, RoutesError> {
        let file = self.file;
        if let Some(&node) = self.done.get(name) {
            return Ok(node);
        }
        let pool = file.pool.get_key_value(name);
        let route = file.route.get_key_value(name);
        let Some(name) = pool.map(|it| it.0).or(route.map(|it| it.0)) else {
            return Err(refused(place, format!("there is no pool or route {name:?}")));
        };
        if self.open.contains(&name.as_str()) {
            return Err(refused(place, format!("{name:?} leads back to itself")));
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(refused(place, format!("more than {DEPTH_MAX} routes inside one another")));
        }
        self.open.push(name);
        let node = match (pool, route) {
            (Some((name, pool)), _) => self.pool(name, pool)?,
            (None, Some((name, route))) => self.route(name, route)?,
            (None, None) => return Err(refused(place, "there is no such pool or route")),
        };
        self.open.pop();
        self.done.insert(name, node);
        Ok(node)
    }

    fn push(&mut self, name: &str, work: Work, sends: usize) -> Result<NodeId, RoutesError> {
        check_sends(name, sends)?;
        let node = u16::try_from(self.nodes.len())
            .map_err(|_| refused(name, "too many routes"))
            .map(NodeId)?;
        self.nodes.push(Node { name: name.to_owned(), work });
        self.sends.push(sends);
        Ok(node)
    }

    fn sends_of(&self, node: NodeId) -> usize {
        self.sends.get(usize::from(node.0)).copied().unwrap_or(0)
    }
}

/// Pools.
impl<'a> Builder<'a> {
    fn pool(&mut self, name: &'a str, file: &'a PoolFile) -> Result<NodeId, RoutesError> {
        let place = format!("pool {name:?}");
        let health = check_times(&place, file)?;
        let mut members = Vec::with_capacity(file.servers.len());
        let mut ring = Vec::with_capacity(file.servers.len());
        for server in &file.servers {
            let (address, weight, kind) = match server {
                ServerFile::Address(address) => (address, None, None),
                ServerFile::Server(Server { address, weight, kind }) => (address, *weight, *kind),
            };
            let weight = weight.unwrap_or(1);
            ring.push(RingNode { name: address.clone(), weight });
            members.push(self.target(
                &place,
                name,
                Target {
                    address: address.clone(),
                    kind: kind.unwrap_or(file.kind),
                    server_timeout: Duration::from_millis(file.server_timeout_ms.into()),
                    connect_timeout: Duration::from_millis(file.connect_timeout_ms.into()),
                    health,
                    pools: Vec::new(),
                },
            )?);
        }
        let ring = Ring::salted(file.hashing, &ring, &file.salt)
            .map_err(|source| RoutesError::Ring { place: place.clone(), source })?;
        let pool = self.pools.len();
        let hashing = file.hashing.name();
        self.pools.push(Pool { hashing, ring, members });
        let mut node = self.push(name, Work::Pool(pool), 1)?;
        let stand_ins = [(&file.standby, None), (&file.gutter, Some(60))];
        for (stand_in, ttl_s_max) in stand_ins {
            if let Some(stand_in) = stand_in {
                let stand_in = self.named(&place, stand_in)?;
                let children = vec![node, stand_in];
                let on = go_on(&FailoverErrors::default());
                node = self.series(name, Series { children, on, ttl_s_max, limit: None })?;
            }
        }
        Ok(node)
    }

    /// A node that is in two pools is one: it has one health, and so one way to find out about it.
    fn target(&mut self, place: &str, pool: &str, new: Target) -> Result<TargetId, RoutesError> {
        let id = match self.by_address.get(&new.address) {
            Some(&id) => id,
            None if self.targets.len() >= TARGETS_MAX => {
                return Err(refused(place, format!("more than {TARGETS_MAX} nodes in all")));
            }
            None => {
                let id = TargetId(u16::try_from(self.targets.len()).unwrap_or(u16::MAX));
                self.by_address.insert(new.address.clone(), id);
                self.targets.push(new.clone());
                id
            }
        };
        if let Some(target) = self.targets.get_mut(id.index()) {
            let same = Target { pools: target.pools.clone(), ..new };
            if same != *target {
                let what = format!(
                    "{:?} is in pool {:?}, too, with another kind or other times",
                    same.address,
                    same.pools.first().map_or("", String::as_str),
                );
                return Err(refused(place, what));
            }
            target.pools.push(pool.to_owned());
        }
        Ok(id)
    }
}

/// Routes.
impl<'a> Builder<'a> {
    fn route(&mut self, name: &'a str, file: &'a RouteFile) -> Result<NodeId, RoutesError> {
        let place = format!("route {name:?}");
        match file {
            RouteFile::Hash { children, hashing, salt, weights } => {
                let children = self.children(&place, children)?;
                let ring = children_ring(&place, *hashing, salt, (children.len(), weights))?;
                let sends = self.most(&children);
                self.push(name, Work::Hash { ring, children }, sends)
            }
            RouteFile::Prefix { prefixes, otherwise } => {
                let mut all = Vec::with_capacity(prefixes.len());
                for (prefix, child) in prefixes {
                    if prefix.is_empty() {
                        return Err(refused(place, "a prefix is empty: that is `otherwise`"));
                    }
                    all.push((prefix.clone().into_bytes(), self.named(&place, child)?));
                }
                let otherwise = self.named(&place, otherwise)?;
                let nodes: Vec<NodeId> = all.iter().map(|it| it.1).chain([otherwise]).collect();
                let sends = self.most(&nodes);
                let prefixes = Prefixes::new(all);
                self.push(name, Work::Prefix { prefixes, otherwise }, sends)
            }
            RouteFile::Operation { operations, otherwise } => {
                let otherwise = self.named(&place, otherwise)?;
                let mut by_op = [otherwise; Op::ALL.len()];
                for (op, child) in operations {
                    let child = self.named(&place, child)?;
                    if let Some(slot) = by_op.get_mut(*op as usize) {
                        *slot = child;
                    }
                }
                let sends = self.most(&by_op);
                self.push(name, Work::Operation { by_op }, sends)
            }
            RouteFile::AllSync { children } => self.all(name, children, Judge::Worst),
            RouteFile::AllFastest { children } => self.all(name, children, Judge::Fastest),
            RouteFile::AllMajority { children } => self.all(name, children, Judge::Majority),
            RouteFile::Random { children } => {
                let children = self.children(&place, children)?;
                let sends = self.sum(&children);
                self.push(name, Work::Random { children }, sends)
            }
            RouteFile::Null {} => self.push(name, Work::Null, 0),
            RouteFile::Error { message } => {
                let message = message.as_deref().unwrap_or("error route");
                let is_text = message.chars().all(|it| !it.is_control());
                if message.is_empty() || message.len() > MESSAGE_BYTES_MAX || !is_text {
                    let what = format!("message: one line of 1 to {MESSAGE_BYTES_MAX} bytes");
                    return Err(refused(place, what));
                }
                self.push(name, Work::Error(Arc::from(message)), 0)
            }
            _ => self.one_after_the_other(name, &place, file),
        }
    }

    /// The routes that ask a second child only for a reason.
    fn one_after_the_other(
        &mut self,
        name: &'a str,
        place: &str,
        file: &'a RouteFile,
    ) -> Result<NodeId, RoutesError> {
        match file {
            RouteFile::Failover { children, errors, limit } => {
                let children = self.children(place, children)?;
                let limit = self.limit(place, limit.as_ref())?;
                let on = go_on(errors);
                self.series(name, Series { children, on, ttl_s_max: None, limit })
            }
            RouteFile::Gutter { normal, gutter, exptime_s, errors, limit } => {
                if !(1..=GUTTER_S_MAX).contains(exptime_s) {
                    return Err(refused(place, format!("exptime_s: 1 to {GUTTER_S_MAX}")));
                }
                let children = vec![self.named(place, normal)?, self.named(place, gutter)?];
                let limit = self.limit(place, limit.as_ref())?;
                let on = go_on(errors);
                self.series(name, Series { children, on, ttl_s_max: Some(*exptime_s), limit })
            }
            RouteFile::MissFailover { children } => {
                let children = self.children(place, children)?;
                let on = GoOn::Misses;
                self.series(name, Series { children, on, ttl_s_max: None, limit: None })
            }
            RouteFile::WarmUp { cold, warm, exptime_s } => {
                if *exptime_s == Some(0) {
                    return Err(refused(place, "exptime_s: must be 1 or more"));
                }
                let (cold, warm) = (self.named(place, cold)?, self.named(place, warm)?);
                // The cold node is told the value, and may be asked again.
                let sends = self.sum(&[cold, warm]) + 2;
                self.push(name, Work::WarmUp { cold, warm, ttl_s_max: *exptime_s }, sends)
            }
            RouteFile::RollOver { from, to, percent, salt } => {
                let children = [self.named(place, from)?, self.named(place, to)?];
                let Some(threshold) = threshold(*percent) else {
                    return Err(refused(place, "percent: 0 to 100"));
                };
                let share = Share { threshold, salt: salt.clone() };
                let sends = self.sum(&children);
                self.push(name, Work::RollOver { children, share }, sends)
            }
            _ => Err(refused(place, "no such kind of route")),
        }
    }

    fn all(
        &mut self,
        name: &'a str,
        children: &'a [String],
        judge: Judge,
    ) -> Result<NodeId, RoutesError> {
        let children = self.children(&format!("route {name:?}"), children)?;
        let sends = self.sum(&children);
        self.push(name, Work::All { children, judge }, sends)
    }

    fn series(&mut self, name: &str, series: Series) -> Result<NodeId, RoutesError> {
        let sends = self.sum(&series.children);
        self.push(name, Work::Series(series), sends)
    }

    fn children(&mut self, place: &str, names: &'a [String]) -> Result<Vec<NodeId>, RoutesError> {
        if names.is_empty() || names.len() > CHILDREN_MAX {
            return Err(refused(place, format!("children: 1 to {CHILDREN_MAX}")));
        }
        names.iter().map(|name| self.named(place, name)).collect()
    }

    fn limit(
        &mut self,
        place: &str,
        file: Option<&LimitFile>,
    ) -> Result<Option<LimitId>, RoutesError> {
        let Some(limit) = file else { return Ok(None) };
        let fits = |number: f64| number.is_finite() && number > 0.0;
        if !fits(limit.rate) || limit.burst.is_some_and(|burst| !fits(burst) || burst < 1.0) {
            return Err(refused(place, "limit: rate above 0, burst 1 or more"));
        }
        let id = LimitId(u16::try_from(self.limits.len()).unwrap_or(u16::MAX));
        self.limits.push(*limit);
        Ok(Some(id))
    }

    fn most(&self, nodes: &[NodeId]) -> usize {
        nodes.iter().map(|&node| self.sends_of(node)).max().unwrap_or(0)
    }

    fn sum(&self, nodes: &[NodeId]) -> usize {
        nodes.iter().map(|&node| self.sends_of(node)).sum()
    }
}

fn check_sends(name: &str, sends: usize) -> Result<(), RoutesError> {
    if sends > SENDS_MAX {
        let what = format!("one request could become {sends}, more than {SENDS_MAX}");
        return Err(refused(format!("route {name:?}"), what));
    }
    Ok(())
}

fn check_times(place: &str, file: &PoolFile) -> Result<Terms, RoutesError> {
    let check = |key: &str, value: u32, least: u32, most: u32| {
        if (least..=most).contains(&value) {
            return Ok(Duration::from_millis(value.into()));
        }
        Err(refused(place, format!("{key}: {least} to {most}")))
    };
    check("server_timeout_ms", file.server_timeout_ms, 1, TIMEOUT_MS_MAX)?;
    check("connect_timeout_ms", file.connect_timeout_ms, 1, TIMEOUT_MS_MAX)?;
    check("timeouts_until_tko", file.timeouts_until_tko, 1, 1000)?;
    let probe_max = check("probe_ms_max", file.probe_ms_max, 10, PROBE_MS_MAX)?;
    let probe_first = check("probe_ms_first", file.probe_ms_first, 10, file.probe_ms_max)?;
    Ok(Terms { timeouts_until_tko: file.timeouts_until_tko, probe_first, probe_max })
}

/// The ring over routes. They have no address that could be hashed, so only hashings that go by the order will do.
fn children_ring(
    place: &str,
    hashing: Hashing,
    salt: &str,
    (children, weights): (usize, &[u32]),
) -> Result<Ring, RoutesError> {
    if !hashing.is_by_order() {
        return Err(refused(place, "hashing: ch3, weighted-ch3 or crc32 for routes"));
    }
    let counts = if hashing == Hashing::WeightedCh3 { children } else { 0 };
    if weights.len() != counts {
        let what = format!("weights: {counts} with {}, not {}", hashing.name(), weights.len());
        return Err(refused(place, what));
    }
    let weight = |at: usize| weights.get(at).copied().unwrap_or(1);
    let nodes: Vec<RingNode> = (0..children)
        .map(|at| RingNode { name: format!("child-{at}"), weight: weight(at) })
        .collect();
    Ring::salted(hashing, &nodes, salt)
        .map_err(|source| RoutesError::Ring { place: place.to_owned(), source })
}

fn go_on(errors: &FailoverErrors) -> GoOn {
    let of = |list: Option<&[Failure]>| Failures::of(list.unwrap_or(&Failure::ALL));
    match errors {
        FailoverErrors::Same(list) => {
            GoOn::Failures { reads: of(Some(list)), updates: of(Some(list)) }
        }
        FailoverErrors::ByClass(lists) => GoOn::Failures {
            reads: of(lists.reads.as_deref()),
            updates: of(lists.updates.as_deref()),
        },
    }
}

/// A percentage of 2^32.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 to 2^32, as just checked"
)]
fn threshold(percent: f64) -> Option<u64> {
    (0.0..=100.0).contains(&percent).then(|| (percent / 100.0 * 4_294_967_296.0).round() as u64)
}

fn refused(place: impl Into<String>, what: impl Into<String>) -> RoutesError {
    RoutesError::Refused { place: place.into(), what: what.into() }
}
