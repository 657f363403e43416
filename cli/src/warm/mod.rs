//! `mcsqueal warm`: keys of a list, filled before somebody asks: from nodes of a warm cluster, or from the database with leases.
//!
//! What may be stored the nodes decide. How far it is stands in a state file, so that the same command goes on where it was stopped.

mod database;
mod node;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use invalidator::{Copier, NodeSettings};
use protocol::control::wire::COPIES_MAX;
use schemas::{config::Region, cursor::StreamId, key::Key, ring::Ring};
use stream::Reader;
use tokio::time::{Instant, sleep_until, timeout};

use self::{
    database::Database,
    node::{Asked, Node},
};
use crate::{
    args::WarmArgs,
    failure::Failure,
    invalidate::say,
    load, log,
    replay::{bar::Bar, state::State},
    run::{self, Signals},
    stream::block_on,
};

/// Longest list.
const KEYS_MAX: usize = 50_000_000;
/// Keys between two looks at signals and the rate.
const AT_ONCE: usize = 100;
/// How long a warm node may take for some copies.
const COPIES_DEADLINE: Duration = Duration::from_secs(10);

const _: () = assert!(AT_ONCE <= COPIES_MAX);

/// Runs the command.
pub(crate) fn warm(args: &WarmArgs) -> Result<(), Failure> {
    if args.rate == 0 {
        return Err(Failure::Config(anyhow!("--rate 0: nothing would ever be filled")));
    }
    let (region, rules) = load::region(&args.config)?;
    let keys = keys(&args.keys)?;
    let cold = Cluster::named(&args.config, &region, args.cluster.as_deref())?;
    let source = match (&args.from_peer, &args.select) {
        (Some(name), _) => {
            Source::Peer(Cluster::named(&args.config, &region, Some(name))?, HashMap::new())
        }
        (None, Some(select)) => {
            Source::Database(Box::new(Database::new(&args.config, &region, rules, select)?))
        }
        (None, None) => return Err(Failure::Config(anyhow!("--from-db needs --select"))),
    };
    let seconds = keys.len() / usize::try_from(args.rate).unwrap_or(1).max(1);
    let from = match &source {
        Source::Peer(cluster, _) => format!("cluster {}", cluster.name),
        Source::Database(_) => "the database".to_owned(),
    };
    let (count, to) = (keys.len(), cold.name.clone());
    let plan = format!(
        "{count} keys from {from} to cluster {to}, about {seconds} s at {} keys/s\n",
        args.rate
    );
    say(&mut io::stdout().lock(), &plan)?;
    if args.dry_run {
        source.show(&keys)?;
        return say(&mut io::stdout().lock(), "dry run: nothing was done\n");
    }
    block_on(async {
        let mut signals = Signals::install()?;
        let reader = log::reader(&args.config, &region).await?;
        let stream = (reader.stream_id(), reader.partitions());
        let identity =
            format!("warm {} {} {from} {to} {:?}", region.name, args.keys.display(), args.select);
        let state = State::open(&args.state, &identity)?;
        let counts = Counts::default();
        let work = Work { stream, cold, nodes: HashMap::new(), source, counts, ttl_s: args.ttl };
        work.run(&keys, state, args.rate, &mut signals).await
    })
}

/// A key on each line.
fn keys(path: &Path) -> Result<Vec<Key>, Failure> {
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| format!("--keys: read {}", path.display()));
    let text = text.map_err(Failure::Config)?;
    let mut keys = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let key = Key::new(line.trim().as_bytes().to_vec());
        let key = key.with_context(|| format!("{}:{number}", path.display()));
        keys.push(key.map_err(Failure::Config)?);
    }
    if keys.is_empty() || keys.len() > KEYS_MAX {
        return Err(Failure::Config(anyhow!("--keys: a list has 1 to {KEYS_MAX} keys")));
    }
    Ok(keys)
}

/// Nodes, and who owns which key.
struct Cluster {
    name: String,
    ring: Ring,
    nodes: Vec<NodeSettings>,
}

impl Cluster {
    /// The first one, where none is named.
    fn named(file: &Path, region: &Region, name: Option<&str>) -> Result<Cluster, Failure> {
        let found = region.clusters.iter().find(|it| name.is_none_or(|name| *it.name == *name));
        let found =
            found.ok_or_else(|| Failure::Config(anyhow!("the region has no such cluster")))?;
        let settings = run::cluster_settings(file, found, &HashMap::new())?;
        let ring = settings.ring().context("spread keys over the nodes");
        let ring = ring.map_err(Failure::Config)?;
        if settings.nodes.iter().any(|node| node.control.is_none()) {
            let what =
                "cluster {} has stock memcached: without versions, what is filled could be stale";
            return Err(Failure::Config(anyhow!(what.replace("{}", &found.name))));
        }
        Ok(Cluster { name: settings.cluster, ring, nodes: settings.nodes })
    }

    fn owners<'k>(&self, keys: &'k [Key]) -> BTreeMap<usize, Vec<&'k Key>> {
        let mut owners: BTreeMap<usize, Vec<&Key>> = BTreeMap::new();
        for key in keys {
            owners.entry(self.ring.owner(key)).or_default().push(key);
        }
        owners
    }
}

/// Where values come from.
enum Source {
    Peer(Cluster, HashMap<usize, Copier>),
    Database(Box<Database>),
}

impl Source {
    /// What would be asked for the first of the keys.
    fn show(&self, keys: &[Key]) -> Result<(), Failure> {
        let Source::Database(database) = self else { return Ok(()) };
        let lines = keys.iter().take(3).map(|key| match database.statement(key) {
            Some((statement, texts)) => format!("{key}: {statement} {texts:?}\n"),
            None => format!("{key}: no rule makes this key, so it is left out\n"),
        });
        say(&mut io::stdout().lock(), &lines.collect::<Vec<_>>().concat())
    }
}

/// What became of the keys.
#[derive(Debug, Default)]
struct Counts {
    filled: u64,
    there: u64,
    absent: u64,
    refused: u64,
}

struct Work {
    stream: (StreamId, u16),
    cold: Cluster,
    nodes: HashMap<usize, Node>,
    source: Source,
    counts: Counts,
    ttl_s: u32,
}

impl Work {
    async fn run(
        mut self,
        keys: &[Key],
        mut state: State,
        rate: u32,
        signals: &mut Signals,
    ) -> Result<(), Failure> {
        let (begun, resumed) = (Instant::now(), state.keys);
        let mut bar = Bar::new(keys.len() as u64, resumed);
        let left = keys.get(usize::try_from(resumed).unwrap_or(usize::MAX)..).unwrap_or_default();
        let mut ended = Ok(());
        for some in left.chunks(AT_ONCE) {
            if let Err(err) = self.some(some).await {
                ended = Err(err);
                break;
            }
            state.keys += some.len() as u64;
            state.keep()?;
            bar.show(state.keys);
            let done = state.keys - resumed;
            let due = begun + Duration::from_millis(done.saturating_mul(1000) / u64::from(rate));
            tokio::select! {
                name = signals.wait() => {
                    ended = Err(anyhow!("stopped by {name}"));
                    break;
                }
                () = sleep_until(due) => {}
            }
        }
        bar.end();
        let Counts { filled, there, absent, refused } = self.counts;
        let summary = format!(
            "{} of {} keys in {:.1} s: {filled} filled, {there} were there, {absent} have no value, {refused} were not taken\n",
            state.keys,
            keys.len(),
            begun.elapsed().as_secs_f64()
        );
        say(&mut io::stdout().lock(), &summary)?;
        match ended {
            Ok(()) => state.finish(),
            Err(err) => Err(Failure::Failed(err.context("the same command goes on from here"))),
        }
    }

    /// All of these keys, or an error; then they are done again, which is harmless.
    async fn some(&mut self, keys: &[Key]) -> Result<()> {
        match &mut self.source {
            Source::Peer(..) => self.copy(keys).await,
            Source::Database(_) => self.read(keys).await,
        }
    }

    async fn copy(&mut self, keys: &[Key]) -> Result<()> {
        let Source::Peer(warm, copiers) = &mut self.source else { return Ok(()) };
        let mut copies = Vec::new();
        for (owner, asked) in warm.owners(keys) {
            let Some(port) = warm.nodes.get(owner).and_then(|node| node.control.as_ref()) else {
                continue;
            };
            let mut copier = if let Some(copier) = copiers.remove(&owner) {
                copier
            } else {
                let (stream, partitions) = self.stream;
                let connected = Copier::connect(port, stream, partitions).await;
                connected.with_context(|| format!("connect to {}", port.address))?
            };
            let asking = copier.copies(asked.iter().copied().cloned().collect());
            let answered = timeout(COPIES_DEADLINE, asking).await.context("no answer in time");
            let (found, _) = answered?.with_context(|| format!("ask {}", port.address))?;
            self.counts.absent += (asked.len() - found.len()) as u64;
            copies.extend(found);
            copiers.insert(owner, copier);
        }
        for copy in &copies {
            let owner = self.cold.ring.owner(&copy.key);
            if node(&mut self.nodes, &self.cold, owner).await?.add(copy).await? {
                self.counts.filled += 1;
            } else {
                self.counts.refused += 1;
            }
        }
        Ok(())
    }

    async fn read(&mut self, keys: &[Key]) -> Result<()> {
        let Source::Database(database) = &mut self.source else { return Ok(()) };
        for key in keys {
            let node = node(&mut self.nodes, &self.cold, self.cold.ring.owner(key)).await?;
            let cas = match node.ask(key).await? {
                Asked::There => {
                    self.counts.there += 1;
                    continue;
                }
                Asked::NotNow => {
                    self.counts.refused += 1;
                    continue;
                }
                Asked::Lease(cas) => cas,
            };
            match database.value(key).await? {
                None => self.counts.absent += 1,
                Some(value) if node.fill(key, cas, self.ttl_s, &value).await? => {
                    self.counts.filled += 1;
                }
                Some(_) => self.counts.refused += 1,
            }
        }
        Ok(())
    }
}

async fn node<'n>(
    nodes: &'n mut HashMap<usize, Node>,
    cluster: &Cluster,
    at: usize,
) -> Result<&'n mut Node> {
    use std::collections::hash_map::Entry;
    Ok(match nodes.entry(at) {
        Entry::Occupied(open) => open.into_mut(),
        Entry::Vacant(none) => {
            let address =
                cluster.nodes.get(at).map(|node| &node.address).context("there is no such node")?;
            let node =
                Node::connect(address).await.with_context(|| format!("connect to {address}"))?;
            none.insert(node)
        }
    })
}
