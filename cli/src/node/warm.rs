//! `[warm]` of a node's file: the cluster from which a cold node becomes warm.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use cache_node::{
    control,
    node::Node,
    server::Clock,
    warm::{Connect, Pace, Settings, Share, Socket, Source, SourceKind, Warm},
};
use invalidator::{NodeSettings, Tls};
use schemars::JsonSchema;
use schemas::{
    config::{Cluster, Region},
    ring::Ring,
};
use serde::Deserialize;
use tokio::net::TcpStream;

use super::control::Control;
use crate::{failure::Failure, load, run};

const DEADLINE_S: u64 = 1800;
const DEADLINE_S_MAX: u64 = 7 * 86_400;
const ENTRIES_PER_S: u32 = 50_000;
const WAIT_MS: u64 = 50;
const WAIT_MS_MAX: u64 = 10_000;
/// A key that changed this recently is not taken from memcached: its delete may not have come there yet.
const HOLD_OFF_MIN: Duration = Duration::from_secs(2);

/// Where a cold node becomes warm from: nodes of another cluster, in the same region or not.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Warm")]
pub(super) struct RawWarm {
    /// The region file that describes the warm cluster.
    region_file: PathBuf,
    /// The warm cluster's name; left out: what `warm_from` of this node's own cluster says.
    from: Option<String>,
    /// This node, as its own cluster in that file lists it: then only keys that are its own are taken.
    node: Option<String>,
    /// It ends after this, whatever was reached, in seconds.
    deadline_s: Option<u64>,
    /// Entries that are looked at in a second.
    entries_per_s_max: Option<u32>,
    /// How long a read waits for a copy, in milliseconds.
    wait_ms_max: Option<u64>,
}

/// What a node becomes warm from. Holding one means that it is valid.
#[derive(Debug)]
pub(crate) struct WarmUp {
    settings: Settings,
    tls: Option<Tls>,
}

impl RawWarm {
    /// Reads the region file.
    pub(super) fn resolve(&self, folder: &Path, control: Option<&Control>) -> Result<WarmUp> {
        let control = control
            .context("[warm] needs [control]: without versions, every copy could be stale")?;
        let path = folder.join(&self.region_file);
        let text = load::read(&path).map_err(Failure::into_error).context("warm.region_file")?;
        let region = Region::parse(&path.display().to_string(), &text)?;
        let own = self.node.as_deref().map(|name| own(&region, name)).transpose()?;
        let from =
            self.from.as_deref().or(own.and_then(|(cluster, _)| cluster.warm_from.as_deref()));
        let from = from
            .context("warm.from: say which cluster is warm, or `warm_from` in the region file")?;
        let cluster = region.clusters.iter().find(|cluster| *cluster.name == *from);
        let cluster =
            cluster.with_context(|| format!("warm.from: there is no cluster {from:?}"))?;
        ensure!(
            own.is_none_or(|(own, _)| own.name != cluster.name),
            "warm.from: {from:?} is this node's own cluster"
        );
        let share = own
            .map(|(cluster, own)| anyhow::Ok(Share { ring: ring(cluster)?, own }))
            .transpose()?;
        let settings = run::cluster_settings(&path, cluster, &HashMap::new());
        let settings = settings.map_err(Failure::into_error).context("warm.from")?;
        let tls = settings.nodes.iter().find_map(|node| node.control.as_ref()?.tls.clone());
        let sources: Vec<Source> = settings.nodes.iter().map(source).collect();
        let stock = sources.iter().any(|source| source.kind == SourceKind::Memcached);
        ensure!(
            !stock || control.rules.fill_age_max >= HOLD_OFF_MIN,
            "[warm] from memcached needs versions.fill_age_ms_max of at least {}: for so long after a change, its values are not taken",
            HOLD_OFF_MIN.as_millis()
        );
        let deadline_s = self.deadline_s.unwrap_or(DEADLINE_S);
        within("warm.deadline_s", deadline_s, DEADLINE_S_MAX)?;
        let entries_per_s_max = self.entries_per_s_max.unwrap_or(ENTRIES_PER_S);
        within("warm.entries_per_s_max", entries_per_s_max.into(), 100_000_000)?;
        let wait_ms_max = self.wait_ms_max.unwrap_or(WAIT_MS);
        within("warm.wait_ms_max", wait_ms_max, WAIT_MS_MAX)?;
        let pace = Pace { deadline: Duration::from_secs(deadline_s), entries_per_s_max };
        let wait_max = Duration::from_millis(wait_ms_max);
        let settings = Settings { share, ring: ring(cluster)?, sources, pace, wait_max };
        Ok(WarmUp { settings, tls })
    }
}

impl WarmUp {
    /// For this node; nothing happens before it runs.
    pub(super) fn begin(
        self,
        node: Arc<Node>,
        control: Arc<control::Control>,
        clock: Clock,
    ) -> Arc<Warm> {
        let tls = self.tls;
        let connect: Box<Connect> = Box::new(move |source| {
            let (address, tls) = (source.address.clone(), tls.clone());
            let tls = tls.filter(|_| source.kind == SourceKind::Mcsqueal);
            Box::pin(async move {
                let socket = TcpStream::connect(&address).await?;
                socket.set_nodelay(true)?;
                Ok::<Box<dyn Socket>, _>(match tls {
                    None => Box::new(socket),
                    Some(tls) => Box::new(tls.encrypt(socket, &address).await?),
                })
            })
        });
        Arc::new(Warm::new(node, control, clock, self.settings, connect))
    }
}

fn own<'a>(region: &'a Region, name: &str) -> Result<(&'a Cluster, usize)> {
    let place =
        |cluster: &Cluster| cluster.nodes.iter().position(|it| it.address.to_string() == name);
    let found = region.clusters.iter().find_map(|cluster| Some((cluster, place(cluster)?)));
    found.ok_or_else(|| anyhow!("warm.node: the region file lists no node {name:?}"))
}

fn ring(cluster: &Cluster) -> Result<Ring> {
    cluster.ring().context("warm.region_file: spread keys over the nodes")
}

fn source(node: &NodeSettings) -> Source {
    match &node.control {
        Some(port) => Source {
            kind: SourceKind::Mcsqueal,
            address: port.address.clone(),
            secret: port.secret.clone(),
        },
        None => Source { kind: SourceKind::Memcached, address: node.address.clone(), secret: None },
    }
}

fn within(what: &str, value: u64, most: u64) -> Result<()> {
    ensure!((1..=most).contains(&value), "{what}: not between 1 and {most}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::node::NodeArgs;

    const REGION: &str = include_str!("../../../region-configs/shop.toml");

    /// What is wrong with these lines of `[warm]`, where the node's own cluster is `new`.
    fn check(lines: &str, control: &str, expected: &str) {
        let folder = tempfile::tempdir().expect("a folder");
        let new = "[[cluster]]\nname = \"new\"\nhashing = \"ketama\"\nwarm_from = \"main\"\nnodes = [{ address = \"127.0.0.1:11213\", control = \"127.0.0.1:11913\" }]\n";
        let region = REGION.replacen("[http]", &format!("{new}\n[http]"), 1);
        std::fs::write(folder.path().join("region.toml"), region).expect("a region file");
        let text = format!("{control}\n[warm]\nregion_file = \"region.toml\"\n{lines}\n");
        let config = folder.path().join("node.toml");
        std::fs::write(&config, text).expect("a node file");
        let args = NodeArgs { config: Some(config), ..NodeArgs::default() };
        let said = match super::super::Config::load(&args) {
            Ok(config) => {
                let settings = config.warm.expect("a warm-up").settings;
                let kinds: Vec<_> =
                    settings.sources.iter().map(|it| (it.kind, &*it.address)).collect();
                format!("{:?} {kinds:?}", settings.share.map(|share| share.own))
            }
            Err(err) => format!("{err:#}"),
        };
        assert!(said.contains(expected), "{said}");
    }

    #[test]
    fn what_is_taken_and_what_is_refused() {
        let control = "[control]\nlisten = \"127.0.0.1:0\"";
        let stock = "Some(0) [(Memcached, \"127.0.0.1:11211\"), (Memcached, \"127.0.0.1:11212\")]";
        check("node = \"127.0.0.1:11213\"", control, stock);
        check("from = \"new\"", control, "None [(Mcsqueal, \"127.0.0.1:11913\")]");
        check("from = \"main\"", "", "[warm] needs [control]");
        check("", control, "say which cluster is warm");
        check("from = \"old\"", control, "there is no cluster \"old\"");
        check("node = \"a:1\"", control, "the region file lists no node \"a:1\"");
        check("node = \"127.0.0.1:11213\"\nfrom = \"new\"", control, "this node's own cluster");
        check("from = \"new\"\ndeadline_s = 0", control, "warm.deadline_s: not between");
        let young = format!("{control}\n[versions]\nfill_age_ms_max = 1999");
        check("from = \"main\"", &young, "needs versions.fill_age_ms_max of at least 2000");
    }
}
