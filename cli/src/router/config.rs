//! What a router runs with: from its file, then its flags. Holding a [`Config`] means that it is valid.

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use client::route::{Routes, RoutesFile, mcrouter};
use invalidator::{Identity, Tls};
use router::{
    link::Link,
    settings::{Current, Discovery, FlushAll, Settings, SpoolSettings},
};
use schemars::JsonSchema;
use serde::Deserialize;
use xxhash_rust::xxh64::xxh64;

use super::RouterArgs;
use crate::node::{NodeArgs, RawTls, RawUnix, RawUser, Reached};

const VALUE_BYTES_MAX: usize = 1 << 20;
const MULTIGET_KEYS_MAX: usize = 500;
const CLIENT_BYTES_MAX: usize = 4 << 20;
const CONNECTIONS: usize = 16_384;
const OUTSTANDING_MAX: usize = 1024;
const LANES_MAX: usize = 64;
const THREADS_MAX: usize = 1024;
const SPOOL_BYTES_MAX: u64 = 64 << 20;
const SPOOL_RETRY: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) settings: Settings,
    pub(crate) current: Current,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) handover: Option<PathBuf>,
}

/// A router.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "mcsqueal router")]
struct RawConfig {
    /// Addresses, with or without a port (11211). With `tls`, a leading `notls:` makes one plain.
    listen: Option<Vec<String>>,
    /// A socket in the file system as well.
    unix_socket: Option<RawUnix>,
    /// Metrics and health: `ip:port`.
    http: Option<SocketAddr>,
    /// Threads that serve clients; as many as there are processors, if left out.
    threads: Option<NonZeroUsize>,
    /// Most clients at a time.
    connections_max: Option<NonZeroUsize>,
    /// Whoever neither sends nor takes anything for so long is dropped; 0: nobody is.
    idle_seconds_max: Option<u64>,
    /// How long clients may take to finish when the router stops, in milliseconds.
    drain_ms: Option<u64>,
    /// TLS on every address that does not say `notls:`.
    tls: Option<RawTls>,
    /// Where there are users, everybody has to log in.
    #[serde(default, rename = "user")]
    users: Vec<RawUser>,
    /// The largest value in bytes; a larger one is refused here, and the key deleted, as memcached does.
    value_bytes_max: Option<NonZeroUsize>,
    /// Keys of one multiget that are asked for at a time: their values would else arrive all at once.
    multiget_keys_max: Option<NonZeroUsize>,
    /// What replies to one client may hold, in bytes, before he is not read from any more.
    client_bytes_max: Option<NonZeroUsize>,
    /// Whether clients may empty all nodes with `flush_all`.
    #[serde(default)]
    flush_all: RawFlushAll,
    /// The socket at which a newer process of this router takes over.
    handover: Option<PathBuf>,
    /// How nodes are connected to.
    #[serde(default)]
    nodes: RawNodes,
    /// Where deletes are kept that a stock node has missed, until it was told.
    deletes: Option<RawDeletes>,
    /// What clients with discovery (`config get cluster`) are told.
    #[serde(default)]
    discovery: RawDiscovery,
    /// Pools and routes.
    routes: Option<RoutesFile>,
    /// A file with pools and routes, in place of `routes`: TOML, or mcrouter's JSON where its name ends in `.json`.
    routes_file: Option<PathBuf>,
}

/// Whether clients may empty all nodes.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "FlushAll")]
enum RawFlushAll {
    /// They may not.
    #[default]
    Refuse,
    /// They may.
    Allow,
}

/// How nodes are connected to.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Nodes")]
struct RawNodes {
    /// Connections of each thread to each node.
    connections_per_thread: Option<NonZeroUsize>,
    /// Requests of one connection that wait for replies; the next ones wait here.
    outstanding_max: Option<NonZeroUsize>,
    /// TLS towards all nodes.
    tls: Option<RawNodeTls>,
    /// Who the router is to nodes where everybody has to log in.
    login: Option<RawLogin>,
}

/// TLS towards nodes. Files are PEM; paths are relative to this file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NodeTls")]
struct RawNodeTls {
    /// Who has signed the nodes' certificates.
    ca_file: PathBuf,
    /// The router's own certificate, where nodes want one.
    certificate_chain: Option<PathBuf>,
    /// Its private key.
    key: Option<PathBuf>,
}

/// Name and password.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Login")]
struct RawLogin {
    /// Without spaces.
    name: String,
    /// The file whose first line is the password.
    password_file: PathBuf,
}

/// The log of changes that nodes have missed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Deletes")]
struct RawDeletes {
    /// Its folder, which one process has at a time.
    directory: PathBuf,
    /// What one node may miss, in bytes, about; beyond that it is emptied when it returns.
    bytes_max: Option<u64>,
    /// Between two tries to tell a node what it has missed, in milliseconds.
    retry_ms: Option<u64>,
}

/// What clients with discovery are told.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Discovery")]
struct RawDiscovery {
    /// The routers, as clients reach them: `host:port`. Without any, the nodes are told.
    #[serde(default)]
    routers: Vec<String>,
}

/// What a router's file may have, for editors.
pub(crate) fn json_schema() -> schemars::Schema {
    schemars::schema_for!(RawConfig)
}

/// The routes of a router file alone.
pub(super) fn routes(path: &Path) -> Result<Routes> {
    let raw = read(path)?;
    raw.routes(folder(path))
}

fn read(path: &Path) -> Result<RawConfig> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("parse {}", path.display()))
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

impl Config {
    /// Reads the file and the flags.
    pub(crate) fn load(args: &RouterArgs) -> Result<Config> {
        let (raw, folder) = (read(&args.config)?, folder(&args.config));
        let flags = NodeArgs {
            listen: args.listen.clone(),
            auth_file: args.auth_file.clone(),
            ..NodeArgs::default()
        };
        let connections = raw.connections_max.map_or(CONNECTIONS, NonZeroUsize::get);
        let server = Reached {
            listen: raw.listen.as_deref(),
            unix: raw.unix_socket.as_ref(),
            tls: raw.tls.as_ref(),
            users: &raw.users,
            connections_max: Some(connections),
            idle_seconds_max: raw.idle_seconds_max,
            drain_ms: raw.drain_ms,
        };
        let server = server.options(&flags, folder)?;
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let workers = raw.threads.map_or(processors, NonZeroUsize::get);
        ensure!(workers <= THREADS_MAX, "threads: more than {THREADS_MAX}");
        let spool = raw.deletes.as_ref().map(|deletes| SpoolSettings {
            directory: folder.join(&deletes.directory),
            bytes_max: deletes.bytes_max.unwrap_or(SPOOL_BYTES_MAX),
            retry: deletes.retry_ms.map_or(SPOOL_RETRY, Duration::from_millis),
        });
        let handover = raw.handover.as_ref().map(|path| folder.join(path));
        let http = args.http.or(raw.http);
        let current = raw.current(folder)?;
        Ok(Config { settings: Settings { server, workers, spool }, current, http, handover })
    }
}

impl RawConfig {
    fn routes(&self, folder: &Path) -> Result<Routes> {
        let read;
        let file = match (&self.routes, &self.routes_file) {
            (Some(routes), None) => routes,
            (None, Some(path)) => {
                read = routes_file(&folder.join(path))?;
                &read
            }
            _ => anyhow::bail!("either [routes] or routes_file is needed"),
        };
        Routes::new(file).context("routes")
    }

    fn current(&self, folder: &Path) -> Result<Current> {
        let routes = self.routes(folder)?;
        let (link, link_number) = self.nodes.link(folder)?;
        let addresses = if self.discovery.routers.is_empty() {
            routes.targets().iter().map(|target| target.address.clone()).collect()
        } else {
            self.discovery.routers.clone()
        };
        // Clients look again when the number changes.
        let version = xxh64(format!("{addresses:?}").as_bytes(), 0) >> 1;
        let number =
            |given: Option<NonZeroUsize>, otherwise| given.map_or(otherwise, NonZeroUsize::get);
        Ok(Current {
            routes: Arc::new(routes),
            leases: Current::no_leases(),
            link,
            link_number,
            value_bytes_max: number(self.value_bytes_max, VALUE_BYTES_MAX),
            multiget_keys_max: number(self.multiget_keys_max, MULTIGET_KEYS_MAX),
            client_bytes_max: number(self.client_bytes_max, CLIENT_BYTES_MAX),
            flush_all: match self.flush_all {
                RawFlushAll::Refuse => FlushAll::Refused,
                RawFlushAll::Allow => FlushAll::Allowed,
            },
            discovery: Discovery { version, addresses },
        })
    }
}

/// TOML, or mcrouter's JSON where the name ends so.
fn routes_file(path: &Path) -> Result<RoutesFile> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let parsing = || format!("parse {}", path.display());
    if path.extension().is_some_and(|it| it == "json") {
        return mcrouter::read(&text, None).with_context(parsing);
    }
    toml::from_str(&text).with_context(parsing)
}

impl RawNodes {
    /// How to connect, and a number that changes with it.
    fn link(&self, folder: &Path) -> Result<(Link, usize)> {
        let lanes = self.connections_per_thread.map_or(1, NonZeroUsize::get);
        ensure!(lanes <= LANES_MAX, "nodes.connections_per_thread: more than {LANES_MAX}");
        let outstanding_max = self.outstanding_max.map_or(OUTSTANDING_MAX, NonZeroUsize::get);
        let tls = self.tls.as_ref().map(|tls| tls.load(folder)).transpose()?;
        let tls = tls.as_ref().map(Tls::connector);
        let login = self.login.as_ref().map(|login| login.load(folder)).transpose()?;
        let number = xxh64(format!("{self:?} {login:?}").as_bytes(), 0);
        let number = usize::try_from(number & u64::from(u32::MAX)).unwrap_or(0);
        Ok((Link { tls, login, lanes, outstanding_max }, number))
    }
}

impl RawNodeTls {
    fn load(&self, folder: &Path) -> Result<Tls> {
        let chain = self.certificate_chain.as_ref().map(|path| folder.join(path));
        let key = self.key.as_ref().map(|path| folder.join(path));
        ensure!(
            chain.is_some() == key.is_some(),
            "nodes.tls: a certificate and its key go together"
        );
        let identity = chain.zip(key);
        let identity = identity.map(|(certificate_chain, key)| Identity { certificate_chain, key });
        let loaded = Tls::load(&folder.join(&self.ca_file), identity.as_ref());
        loaded.context("nodes.tls")
    }
}

impl RawLogin {
    fn load(&self, folder: &Path) -> Result<Arc<[u8]>> {
        let path = folder.join(&self.password_file);
        let text = std::fs::read_to_string(&path);
        let text = text.with_context(|| format!("nodes.login: read {}", path.display()))?;
        let password = text.lines().next().unwrap_or_default();
        let fits = |word: &str| !word.is_empty() && !word.contains(char::is_whitespace);
        ensure!(
            fits(&self.name) && fits(password),
            "nodes.login: name and password are one word each"
        );
        Ok(Arc::from(format!("{} {password}", self.name).into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn load(text: &str) -> Result<Config> {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("router.toml");
        std::fs::write(&path, text).expect("room");
        Config::load(&args(&path))
    }

    fn args(path: &Path) -> RouterArgs {
        RouterArgs {
            config: path.to_owned(),
            listen: Vec::new(),
            http: None,
            auth_file: None,
            take_over: false,
            ready_file: None,
            verbose: 0,
            log_format: crate::args::LogFormat::Text,
        }
    }

    fn check(text: &str, expect: Expect) {
        let said = match load(text) {
            Ok(config) => format!("{} nodes", config.current.routes.targets().len()),
            Err(err) => format!("{err:#}").lines().last().unwrap_or_default().to_owned(),
        };
        expect.assert_eq(&said);
    }

    #[test]
    fn the_example_is_read() {
        let config =
            Config::load(&args(Path::new("../region-configs/router.toml"))).expect("an example");
        assert!(config.current.routes.targets().len() > 2);
        assert!(config.settings.spool.is_some());
    }

    #[test]
    fn refusals() {
        check("", expect!["either [routes] or routes_file is needed"]);
        check("[routes.pool.main]\nservers = [\"a\", \"b:1\"]", expect!["2 nodes"]);
        for unknown in ["[routess]", "[nodes]\nlanes = 1"] {
            let text = format!("[routes.pool.main]\nservers = [\"a\"]\n{unknown}\n");
            assert!(load(&text).is_err(), "{unknown}");
        }
    }
}
