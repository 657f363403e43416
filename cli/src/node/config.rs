//! What a node runs with: from its file, then its flags. Holding a [`Config`] means that it is valid.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use cache_node::{
    access::{Grant, Rights, User, Users},
    node::{Allowed, Placeholders, Settings},
    server::{Address, Options, TlsSettings, Transport, UnixSocket},
    store::Eviction,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    args::NodeArgs,
    control::{Control, RawControl, RawVersions},
    snapshot::{RawSnapshot, Snapshots},
    warm::{RawWarm, WarmUp},
};

const PORT: u16 = 11_211;
const MEMORY_MEGABYTES: usize = 64;
const MEMORY_MEGABYTES_MIN: usize = 1;
const ITEM_BYTES: usize = 1 << 20;
const ITEM_BYTES_MIN: usize = 1 << 10;
const ITEM_BYTES_MAX: usize = 1 << 30;
const THREADS: usize = 4;
const THREADS_MAX: usize = 1024;
const CONNECTIONS: usize = 1024;
const CONNECTIONS_MAX: usize = 1 << 20;
const BACKLOG: u32 = 1024;
const UNIX_MODE: u32 = 0o700;
const DRAIN: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) node: Settings,
    pub(crate) server: Options,
    pub(crate) http: Option<SocketAddr>,
    /// The port of the invalidators; `None` for a plain memcached.
    pub(crate) control: Option<Control>,
    /// What it takes along when it restarts.
    pub(crate) snapshots: Snapshots,
    /// The cluster from which it becomes warm.
    pub(crate) warm: Option<WarmUp>,
    /// Prefixes are counted from the start.
    pub(crate) detailed: bool,
}

/// A cache node.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "mcsqueal node")]
struct RawConfig {
    /// Addresses, with or without a port (11211). With `tls`, a leading `notls:` makes one plain.
    listen: Option<Vec<String>>,
    /// A socket in the file system as well.
    unix_socket: Option<RawUnix>,
    /// REST API, metrics, health: `ip:port`.
    http: Option<SocketAddr>,
    /// Memory for entries, in MiB.
    memory_megabytes: Option<usize>,
    /// The largest entry in bytes, header included.
    item_bytes_max: Option<usize>,
    /// Threads that serve clients.
    threads: Option<NonZeroUsize>,
    /// Most clients at a time.
    connections_max: Option<NonZeroUsize>,
    /// Whoever neither sends nor takes anything for so long is dropped; 0: nobody is.
    idle_seconds_max: Option<u64>,
    /// How long clients may take to finish when the node stops, in milliseconds.
    drain_ms: Option<u64>,
    /// What goes when it is full.
    #[serde(default)]
    evict: RawEvict,
    /// TLS on every address that does not say `notls:`.
    tls: Option<RawTls>,
    /// The port of the invalidators: with it, this node knows versions, and stores and serves nothing stale.
    control: Option<RawControl>,
    /// What a node with a control port lives by.
    versions: Option<RawVersions>,
    /// What the node takes along when it restarts.
    snapshot: Option<RawSnapshot>,
    /// Where a cold node becomes warm from.
    warm: Option<RawWarm>,
    /// Where there are users, everybody has to log in.
    #[serde(default, rename = "user")]
    users: Vec<RawUser>,
}

/// What goes when a node is full.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Evict")]
enum RawEvict {
    /// What is not used again.
    #[default]
    #[serde(rename = "s3fifo")]
    S3Fifo,
    /// What has not been used for longest.
    Lru,
    /// Nothing: the store is refused.
    Never,
}

/// A socket in the file system.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Unix")]
pub(crate) struct RawUnix {
    /// The socket; made at the start.
    path: PathBuf,
    /// Who may connect, in octal: `"0770"`.
    mode: Option<String>,
}

/// Certificates, in PEM. Paths are relative to this file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Tls")]
pub(crate) struct RawTls {
    /// The node's certificate, and those between it and its authority.
    certificate_chain: PathBuf,
    /// Its private key.
    key: PathBuf,
    /// With it, whoever connects must show a certificate that one of these has signed.
    client_authorities: Option<PathBuf>,
}

impl RawTls {
    /// Paths are relative to the file's folder.
    pub(super) fn settings(&self, folder: &Path) -> TlsSettings {
        TlsSettings {
            certificate_chain: folder.join(&self.certificate_chain),
            key: folder.join(&self.key),
            client_authorities: self.client_authorities.as_ref().map(|path| folder.join(path)),
        }
    }
}

/// Somebody who may log in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "User")]
pub(crate) struct RawUser {
    /// Without spaces.
    name: String,
    /// The file whose first line is the password.
    password_file: PathBuf,
    /// What they may do.
    #[serde(default)]
    grants: Vec<RawGrant>,
}

/// Rights to the keys of a prefix.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Grant")]
struct RawGrant {
    /// Keys that begin so; all if left out.
    #[serde(default)]
    prefix: String,
    /// What may be done with them.
    rights: Vec<RawRight>,
}

/// What may be done with keys.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Right")]
enum RawRight {
    /// Read them.
    Read,
    /// Store, change and delete them.
    Write,
    /// Flush, dump and set limits.
    Admin,
}

/// What a node's file may have, for editors.
pub(crate) fn json_schema() -> schemars::Schema {
    schemars::schema_for!(RawConfig)
}

/// What `-o` can say that matters here.
#[derive(Debug, Default)]
struct Extended {
    idle: Option<u64>,
    chain: Option<PathBuf>,
    key: Option<PathBuf>,
    authorities: Option<PathBuf>,
}

impl Config {
    /// Nothing but an address.
    pub(crate) fn at(address: &str) -> Result<Config> {
        let args = NodeArgs { listen: vec![address.to_owned()], ..NodeArgs::default() };
        resolve(&args, RawConfig::default(), Path::new(""))
    }

    /// Reads the file, if there is one, and the flags.
    pub(crate) fn load(args: &NodeArgs) -> Result<Config> {
        let raw = match &args.config {
            None => RawConfig::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("read {}", path.display()))?;
                toml::from_str(&text).with_context(|| format!("parse {}", path.display()))?
            }
        };
        let folder = args.config.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        resolve(args, raw, folder)
    }
}

fn resolve(args: &NodeArgs, raw: RawConfig, folder: &Path) -> Result<Config> {
    refuse_what_is_missing(args)?;
    let node = settings(args, &raw)?;
    let connections = args.connections.or(raw.connections_max.map(NonZeroUsize::get));
    let server = Reached {
        listen: raw.listen.as_deref(),
        unix: raw.unix_socket.as_ref(),
        tls: raw.tls.as_ref(),
        users: &raw.users,
        connections_max: connections,
        idle_seconds_max: raw.idle_seconds_max,
        drain_ms: raw.drain_ms,
    };
    let server = server.options(args, folder)?;
    let http = args.http.or(raw.http);
    let control = Control::resolve(args, raw.control.as_ref(), raw.versions.as_ref(), folder)?;
    let snapshots = Snapshots::resolve(args, raw.snapshot.as_ref(), &server.tcp, folder)?;
    let detailed = args.prefix_delimiter.is_some();
    let warm = raw.warm.as_ref().map(|warm| warm.resolve(folder, control.as_ref())).transpose()?;
    Ok(Config { node, server, http, control, snapshots, warm, detailed })
}

/// How clients reach a server, as its file says; the flags win.
pub(crate) struct Reached<'r> {
    pub(crate) listen: Option<&'r [String]>,
    pub(crate) unix: Option<&'r RawUnix>,
    pub(crate) tls: Option<&'r RawTls>,
    pub(crate) users: &'r [RawUser],
    pub(crate) connections_max: Option<usize>,
    pub(crate) idle_seconds_max: Option<u64>,
    pub(crate) drain_ms: Option<u64>,
}

impl Reached<'_> {
    pub(crate) fn options(&self, args: &NodeArgs, folder: &Path) -> Result<Options> {
        let extended = extended(&args.extended)?;
        let tls = tls(args, &extended, self.tls, folder)?;
        let unix = unix(args, self.unix, folder)?;
        let transport = if tls.is_some() { Transport::Tls } else { Transport::Plain };
        let tcp = addresses(args, self.listen, transport, unix.as_ref())?;
        ensure!(!(tcp.is_empty() && unix.is_none()), "there is nothing to listen on");
        let idle = extended.idle.or(self.idle_seconds_max).filter(|seconds| *seconds > 0);
        let users = users(args, self.users, folder)?;
        let connections_max = self.connections_max.unwrap_or(CONNECTIONS);
        within("-c, connections", connections_max, 1, CONNECTIONS_MAX)?;
        Ok(Options {
            tcp,
            unix,
            tls,
            connections_max,
            backlog: args.backlog.unwrap_or(BACKLOG),
            idle_max: idle.map(Duration::from_secs),
            drain: self.drain_ms.map_or(DRAIN, Duration::from_millis),
            users,
        })
    }
}

fn settings(args: &NodeArgs, raw: &RawConfig) -> Result<Settings> {
    let megabytes = args.memory.or(raw.memory_megabytes).unwrap_or(MEMORY_MEGABYTES);
    within("-m, megabytes", megabytes, MEMORY_MEGABYTES_MIN, usize::MAX >> 20)?;
    let item = args.item_size.as_deref().map(size).transpose()?.or(raw.item_bytes_max);
    let item_bytes_max = item.unwrap_or(ITEM_BYTES);
    within("-I, bytes of an entry", item_bytes_max, ITEM_BYTES_MIN, ITEM_BYTES_MAX)?;
    let workers = args.threads.or(raw.threads.map(NonZeroUsize::get)).unwrap_or(THREADS);
    within("-t, threads", workers, 1, THREADS_MAX)?;
    let mut allowed = Allowed::FLUSH_ALL.with(Allowed::DUMP);
    for (given, right) in [(args.no_flush_all, Allowed::FLUSH_ALL), (args.no_dump, Allowed::DUMP)] {
        allowed = if given { allowed.without(right) } else { allowed };
    }
    for (given, right) in
        [(args.shutdown, Allowed::SHUTDOWN), (args.debug_time, Allowed::DEBUG_TIME)]
    {
        allowed = if given { allowed.with(right) } else { allowed };
    }
    let delimiter = u8::try_from(args.prefix_delimiter.unwrap_or(':'));
    let eviction = match raw.evict {
        _ if args.never_evict => Eviction::Never,
        RawEvict::S3Fifo => Eviction::S3Fifo,
        RawEvict::Lru => Eviction::Lru,
        RawEvict::Never => Eviction::Never,
    };
    Ok(Settings {
        memory_bytes_max: megabytes << 20,
        item_bytes_max,
        eviction,
        workers,
        placeholders: if args.show_placeholders {
            Placeholders::Shown
        } else {
            Placeholders::Hidden
        },
        prefix_delimiter: delimiter.context("-D takes one ASCII character")?,
        allowed,
    })
}

fn within(what: &str, value: usize, least: usize, most: usize) -> Result<()> {
    ensure!((least..=most).contains(&value), "{what}: {value} is not between {least} and {most}");
    Ok(())
}

fn refuse_what_is_missing(args: &NodeArgs) -> Result<()> {
    let ignored = &args.without_effect;
    ensure!(ignored.udp_port.unwrap_or(0) == 0, "-U: UDP is not served; only 0 is taken");
    let protocol = ignored.protocol.as_deref().unwrap_or("auto");
    let known = ["auto", "auto-negotiate", "ascii"].contains(&protocol);
    ensure!(known, "-B: {protocol:?} is not spoken; auto and ascii are taken");
    Ok(())
}

/// Bytes; k and m multiply.
fn size(text: &str) -> Result<usize> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    let number: usize = digits.parse().with_context(|| format!("-I: {text:?} is no size"))?;
    number.checked_mul(unit).with_context(|| format!("-I: {text:?} is too much"))
}

fn addresses(
    args: &NodeArgs,
    file: Option<&[String]>,
    transport: Transport,
    unix: Option<&UnixSocket>,
) -> Result<Vec<Address>> {
    let port = args.port.unwrap_or(PORT);
    let named = if args.listen.is_empty() { file.unwrap_or_default() } else { &args.listen };
    if named.is_empty() {
        // As with memcached, a Unix socket stands alone unless a port is named.
        let alone = unix.is_some() && args.port.unwrap_or(0) == 0;
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
        return Ok(if alone { Vec::new() } else { vec![Address { socket: any, transport }] });
    }
    named.iter().map(|name| address(name, port, transport)).collect()
}

/// `127.0.0.1`, `127.0.0.1:11211`, `[::1]:11211`, `localhost`; `notls:` before it means what it says.
fn address(name: &str, port: u16, transport: Transport) -> Result<Address> {
    let (name, transport) = match name.strip_prefix("notls:") {
        Some(rest) => (rest, Transport::Plain),
        None => (name, transport),
    };
    let bare = if name == "localhost" { "127.0.0.1" } else { name };
    let socket = match bare.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, port),
        Err(_) => bare
            .replace("localhost:", "127.0.0.1:")
            .parse()
            .with_context(|| format!("-l: {name:?} is no address with or without a port"))?,
    };
    Ok(Address { socket, transport })
}

fn unix(args: &NodeArgs, file: Option<&RawUnix>, folder: &Path) -> Result<Option<UnixSocket>> {
    let in_file = file.map(|unix| folder.join(&unix.path));
    let Some(path) = args.unix_socket.clone().or(in_file) else { return Ok(None) };
    let mode = args.unix_mode.as_deref().or(file.and_then(|unix| unix.mode.as_deref()));
    let mode = match mode {
        None => UNIX_MODE,
        Some(text) => u32::from_str_radix(text, 8)
            .with_context(|| format!("-a: {text:?} is no octal number"))?,
    };
    Ok(Some(UnixSocket { path, mode }))
}

fn tls(
    args: &NodeArgs,
    extended: &Extended,
    file: Option<&RawTls>,
    folder: &Path,
) -> Result<Option<TlsSettings>> {
    if let (Some(chain), Some(key)) = (&extended.chain, &extended.key) {
        ensure!(args.tls, "-o ssl_chain_cert has no effect without -Z");
        let client_authorities = extended.authorities.clone();
        let (certificate_chain, key) = (chain.clone(), key.clone());
        return Ok(Some(TlsSettings { certificate_chain, key, client_authorities }));
    }
    match file {
        Some(tls) => Ok(Some(tls.settings(folder))),
        None if args.tls => bail!("-Z needs -o ssl_chain_cert=FILE,ssl_key=FILE"),
        None => Ok(None),
    }
}

/// Options of memcached's that tune what is built differently here.
const WITHOUT_EFFECT: &[&str] = &[
    "maxconns_fast",
    "no_maxconns_fast",
    "hashpower",
    "tail_repair_time",
    "hash_algorithm",
    "no_lru_crawler",
    "lru_crawler",
    "lru_crawler_sleep",
    "lru_crawler_tocrawl",
    "no_lru_maintainer",
    "lru_maintainer",
    "hot_lru_pct",
    "warm_lru_pct",
    "hot_max_factor",
    "warm_max_factor",
    "temporary_ttl",
    "modern",
    "no_modern",
    "slab_reassign",
    "no_slab_reassign",
    "slab_automove",
    "slab_automove_ratio",
    "slab_automove_window",
    "slab_automove_freeratio",
    "slab_chunk_max",
    "slab_sizes",
    "track_sizes",
    "no_inline_ascii_resp",
    "watcher_logbuf_size",
    "worker_logbuf_size",
    "read_buf_mem_limit",
    "resp_obj_mem_limit",
    "no_hashexpand",
    "ssl_verify_mode",
    "ssl_session_cache",
    "ssl_min_version",
    "ssl_wbuf_size",
];

fn extended(options: &[String]) -> Result<Extended> {
    let mut out = Extended::default();
    for option in options.iter().filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "idle_timeout" => {
                let seconds = value.parse();
                out.idle = Some(seconds.with_context(|| format!("-o {option}: no number"))?);
            }
            "ssl_chain_cert" => out.chain = Some(value.into()),
            "ssl_key" => out.key = Some(value.into()),
            "ssl_ca_cert" => out.authorities = Some(value.into()),
            _ if WITHOUT_EFFECT.contains(&name) => {}
            _ => bail!("-o: there is no option {name:?}"),
        }
    }
    Ok(out)
}

fn users(args: &NodeArgs, named: &[RawUser], folder: &Path) -> Result<Users> {
    let mut out = Vec::new();
    if let Some(path) = &args.auth_file {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("-Y: read {}", path.display()))?;
        for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
            let (name, password) = line.split_once(':').with_context(|| {
                format!("-Y: {}: a line is not `name:password`", path.display())
            })?;
            out.push(user(name, password, vec![everything()])?);
        }
        ensure!(!out.is_empty(), "-Y: {} names nobody", path.display());
    }
    for raw in named {
        let path = folder.join(&raw.password_file);
        let password = std::fs::read_to_string(&path)
            .with_context(|| format!("password of {}: read {}", raw.name, path.display()))?;
        let grants = raw.grants.iter().map(grant).collect();
        out.push(user(&raw.name, password.trim_end(), grants)?);
    }
    Ok(Users::new(out))
}

fn everything() -> Grant {
    Grant { prefix: Box::default(), rights: Rights::ALL }
}

fn user(name: &str, password: &str, grants: Vec<Grant>) -> Result<User> {
    ensure!(!name.is_empty() && !name.contains(' '), "user {name:?}: a name has no spaces");
    ensure!(
        !password.is_empty() && !password.contains(' '),
        "user {name}: a password has no spaces"
    );
    Ok(User { name: name.as_bytes().into(), password: password.as_bytes().into(), grants })
}

fn grant(raw: &RawGrant) -> Grant {
    let rights = raw.rights.iter().map(|right| match right {
        RawRight::Read => Rights::READ,
        RawRight::Write => Rights::WRITE,
        RawRight::Admin => Rights::ADMIN,
    });
    let rights = rights.fold(Rights::NONE, Rights::with);
    Grant { prefix: raw.prefix.as_bytes().into(), rights }
}

#[cfg(test)]
mod tests {
    use cache_node::rules::Lossy;
    use clap::Parser;
    use expect_test::{Expect, expect};

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        node: NodeArgs,
    }

    fn load(line: &str) -> Result<Config> {
        let words = std::iter::once("node").chain(line.split_whitespace());
        Config::load(&Line::try_parse_from(words)?.node)
    }

    fn check(line: &str, expect: Expect) {
        let shown = match load(line) {
            Ok(Config { node, server, .. }) => format!(
                "{:?} {:?} unix {:?} memory {} item {} workers {} connections {} {:?} idle {:?}",
                node.eviction,
                server.tcp.iter().map(|it| it.socket.to_string()).collect::<Vec<_>>(),
                server.unix.map(|it| (it.path, format!("{:o}", it.mode))),
                node.memory_bytes_max >> 20,
                node.item_bytes_max,
                node.workers,
                server.connections_max,
                node.allowed,
                server.idle_max,
            ),
            Err(err) => format!("{err:#}"),
        };
        expect.assert_eq(&shown);
    }

    #[test]
    fn flags_mean_what_they_mean_to_memcached() {
        check(
            "",
            expect![[
                r#"S3Fifo ["0.0.0.0:11211"] unix None memory 64 item 1048576 workers 4 connections 1024 Allowed(5) idle None"#
            ]],
        );
        check(
            "-d -m 1024 -p 11222 -u memcache -l 127.0.0.1,::1 -c 4096 -t 8 -I 4m -M -F -R 20 -C -U 0 -vv -P /run/x.pid -o modern,idle_timeout=60",
            expect![[
                r#"Never ["127.0.0.1:11222", "[::1]:11222"] unix None memory 1024 item 4194304 workers 8 connections 4096 Allowed(4) idle Some(60s)"#
            ]],
        );
        check(
            "-s /run/x.sock -a 0770",
            expect![[
                r#"S3Fifo [] unix Some(("/run/x.sock", "770")) memory 64 item 1048576 workers 4 connections 1024 Allowed(5) idle None"#
            ]],
        );
        check(
            "-l 127.0.0.1:5 -A",
            expect![[
                r#"S3Fifo ["127.0.0.1:5"] unix None memory 64 item 1048576 workers 4 connections 1024 Allowed(7) idle None"#
            ]],
        );
    }

    #[test]
    fn refuses() {
        check("-U 11211", expect!["-U: UDP is not served; only 0 is taken"]);
        check("-B binary", expect![[r#"-B: "binary" is not spoken; auto and ascii are taken"#]]);
        check("-m 0", expect!["-m, megabytes: 0 is not between 1 and 17592186044415"]);
        check("-I 2g", expect![[r#"-I: "2g" is no size: invalid digit found in string"#]]);
        check(
            "-I 2000m",
            expect!["-I, bytes of an entry: 2097152000 is not between 1024 and 1073741824"],
        );
        check("-o what=ever", expect![[r#"-o: there is no option "what""#]]);
        check("--take-over", expect!["--take-over needs --handover, or snapshot.handover"]);
        check("--control-secret-file x", expect!["--control-secret-file needs --control"]);
        check(
            "--control 0.0.0.0:11911",
            expect![[
                "--control 0.0.0.0:11911 is not a loopback address: whoever reaches it can delete everything; give --control-secret-file, or control.tls with client_authorities"
            ]],
        );
        check("-Z", expect!["-Z needs -o ssl_chain_cert=FILE,ssl_key=FILE"]);
        check(
            "-l nowhere",
            expect![[
                r#"-l: "nowhere" is no address with or without a port: invalid socket address syntax"#
            ]],
        );
    }

    #[test]
    fn the_example_is_read() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../region-configs/node.toml");
        let config = load(&format!("--config {}", path.display())).expect("the example file");
        assert_eq!(config.server.connections_max, 4096);
        assert!(!config.server.users.is_empty());
        let control = config.control.expect("a control port");
        assert_eq!(control.rules.tombstones_max, 1_000_000);
        assert!(
            config
                .snapshots
                .file
                .is_some_and(|file| file.ends_with("region-configs/node.snapshot"))
        );
        assert!(config.snapshots.handover.is_some());
    }

    #[test]
    fn the_file_of_the_composed_nodes_is_read() {
        let text = include_str!("../../../region-configs/shop-node.toml");
        // Its secret is where the container has it.
        let text = text.replace("secret_file", "#secret_file").replace("0.0.0.0", "127.0.0.1");
        let raw = toml::from_str::<RawConfig>(&text).expect("a file");
        let config = resolve(&NodeArgs::default(), raw, Path::new("")).expect("a configuration");
        assert!(config.control.expect("a control port").rules.markers_max > 0);
    }

    #[test]
    fn marks_are_kept_where_somebody_says_for_how_long() {
        let check = |versions: &str, expect: Expect| {
            let text = format!("[control]\nlisten = \"127.0.0.1:1\"\n[versions]\n{versions}");
            let raw = toml::from_str::<RawConfig>(&text).expect("a file");
            let resolved = resolve(&NodeArgs::default(), raw, Path::new(""));
            let shown = resolved.map(|config| {
                let rules = config.control.expect("a control port").rules;
                format!("{} marks, {:?}", rules.markers_max, rules.marker_ttl_max)
            });
            expect.assert_eq(&shown.unwrap_or_else(|err| format!("{err:#}")));
        };
        check("", expect!["0 marks, 0ns"]);
        check("marker_ttl_ms_max = 30000", expect!["100000 marks, 30s"]);
        check("marker_ttl_ms_max = 30000\nmarkers_max = 5", expect!["5 marks, 30s"]);
        check(
            "markers_max = 5",
            expect!["versions.markers_max has no effect without marker_ttl_ms_max"],
        );
        check(
            "marker_ttl_ms_max = 30000\nmarkers_max = 0",
            expect!["versions.markers_max: not between 1 and 100000000"],
        );
    }

    #[test]
    fn a_lossy_promotion_cuts_unless_somebody_wants_less() {
        for (versions, expected) in
            [("", Lossy::Cut), ("lossy = \"cut\"", Lossy::Cut), ("lossy = \"flush\"", Lossy::Flush)]
        {
            let text = format!("[control]\nlisten = \"127.0.0.1:1\"\n[versions]\n{versions}");
            let raw = toml::from_str::<RawConfig>(&text).expect("a file");
            let config = resolve(&NodeArgs::default(), raw, Path::new("")).expect("it is valid");
            assert_eq!(config.control.expect("a control port").rules.lossy, expected, "{versions}");
        }
        let inside = Control::at(([127, 0, 0, 1], 0).into(), Duration::from_secs(1), None);
        assert_eq!(inside.rules.lossy, Lossy::Cut);
        let wrong = toml::from_str::<RawConfig>("[versions]\nlossy = \"all\"").expect_err("none");
        assert!(wrong.to_string().contains("expected `cut` or `flush`"), "{wrong}");
    }

    #[test]
    fn typos_are_refused() {
        for (text, field) in [
            ("memory_megabyte = 3", "memory_megabyte"),
            ("[control]\nlisten_on = \"127.0.0.1:1\"", "listen_on"),
            ("[versions]\nlease = 3", "lease"),
        ] {
            let err = toml::from_str::<RawConfig>(text).expect_err("a typo");
            assert!(err.to_string().contains(&format!("unknown field `{field}`")), "{err}");
        }
    }
}
