//! The flags of `mcsqueal node`: memcached's own, so that it starts from existing unit files.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use crate::args::LogFormat;

/// A cache node: speaks memcached's text and meta protocol.
///
/// Takes memcached's flags, or a file; a flag wins over the file.
#[derive(Debug, Clone, Default, Args)]
#[allow(clippy::struct_excessive_bools, reason = "a flag is a bool")]
#[command(after_help = "\
Examples:
  mcsqueal node -m 1024 -l 127.0.0.1 -p 11211 -c 4096
  mcsqueal node --config region-configs/node.toml
  mcsqueal node -s /run/mcsqueal.sock -a 0770
  mcsqueal node -p 11211 --control 127.0.0.1:11911    # with versions: an invalidator connects there
  curl -s http://127.0.0.1:9612/cache/greeting        # with --http 127.0.0.1:9612
  mcsqueal node --config node.toml -e /var/lib/mcsqueal/node.snapshot           # stop and start keeps what is stored
  mcsqueal node --config node.toml --handover /run/mcsqueal.take --take-over    # again, to upgrade the one that runs

Exit status: 0 stopped by a signal, 1 failed, 64 bad flags or configuration.")]
pub(crate) struct NodeArgs {
    /// Node file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// TCP port; 0 for any free one with --ready-file, for none with -s
    #[arg(short = 'p', long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Addresses to listen on, each with its own port if it has one; repeatable, or separated by commas
    #[arg(short = 'l', long = "listen", value_name = "ADDRESS", value_delimiter = ',')]
    pub(crate) listen: Vec<String>,
    /// Unix socket to listen on; then there is no TCP unless -p or -l says so
    #[arg(short = 's', long = "unix-socket", value_name = "FILE")]
    pub(crate) unix_socket: Option<PathBuf>,
    /// Permissions of the Unix socket, in octal
    #[arg(short = 'a', long = "unix-mask", value_name = "MODE")]
    pub(crate) unix_mode: Option<String>,
    /// Memory for entries, in megabytes
    #[arg(short = 'm', long = "memory-limit", value_name = "MEGABYTES")]
    pub(crate) memory: Option<usize>,
    /// Largest entry: bytes, or with k or m
    #[arg(short = 'I', long = "max-item-size", value_name = "SIZE")]
    pub(crate) item_size: Option<String>,
    /// Threads that serve connections
    #[arg(short = 't', long, value_name = "COUNT")]
    pub(crate) threads: Option<usize>,
    /// Most connections
    #[arg(short = 'c', long = "conn-limit", value_name = "COUNT")]
    pub(crate) connections: Option<usize>,
    /// Most connections that wait to be accepted
    #[arg(short = 'b', long = "listen-backlog", value_name = "COUNT")]
    pub(crate) backlog: Option<u32>,
    /// Answer with an error when memory is full, instead of evicting
    #[arg(short = 'M', long = "disable-evictions")]
    pub(crate) never_evict: bool,
    /// Refuse flush_all
    #[arg(short = 'F', long = "disable-flush-all")]
    pub(crate) no_flush_all: bool,
    /// Refuse dumps of keys, and of counts by prefix
    #[arg(short = 'X', long = "disable-dumping")]
    pub(crate) no_dump: bool,
    /// Allow the shutdown command
    #[arg(short = 'A', long = "enable-shutdown")]
    pub(crate) shutdown: bool,
    /// Count by key prefix, which ends with this character
    #[arg(short = 'D', long, value_name = "CHARACTER")]
    pub(crate) prefix_delimiter: Option<char>,
    /// File with a `name:password` per line; everybody has to log in then
    #[arg(short = 'Y', long, value_name = "FILE")]
    pub(crate) auth_file: Option<PathBuf>,
    /// Speak TLS; needs -o ssl_chain_cert and ssl_key
    #[arg(short = 'Z', long = "enable-ssl")]
    pub(crate) tls: bool,
    /// Further options of memcached's, as `name` or `name=value`
    #[arg(short = 'o', long = "extended", value_name = "OPTION", value_delimiter = ',')]
    pub(crate) extended: Vec<String>,
    /// User to become, when started by root
    #[arg(short = 'u', long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Go on in the background once every socket is bound; without -v, nothing is logged from then on
    #[arg(short = 'd', long)]
    pub(crate) daemon: bool,
    /// Write the process id here
    #[arg(short = 'P', long, value_name = "FILE")]
    pub(crate) pidfile: Option<PathBuf>,
    /// Log more; twice: even more
    #[arg(short = 'v', long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Address of the HTTP side port: REST, metrics, health
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) http: Option<SocketAddr>,
    /// Address of the control port, where invalidators connect; with it, nothing stale is stored or served
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) control: Option<SocketAddr>,
    /// File with the secret that invalidators must know; needed where the control port is no loopback address
    #[arg(long, value_name = "FILE")]
    pub(crate) control_secret_file: Option<PathBuf>,
    /// Keep what it has in this file when it stops, and start with it; as memcached's -e, but on any disk
    #[arg(short = 'e', long = "snapshot", alias = "memory-file", value_name = "FILE")]
    pub(crate) snapshot: Option<PathBuf>,
    /// Socket at which a newer process of this node takes over, with the sockets and what is stored
    #[arg(long, value_name = "FILE")]
    pub(crate) handover: Option<PathBuf>,
    /// Take over from the process that listens on the handover socket, if there is one; it ends then
    #[arg(long)]
    pub(crate) take_over: bool,
    /// Let plain reads see the places of values that somebody is fetching, as memcached does
    #[arg(long)]
    pub(crate) show_placeholders: bool,
    /// Allow `debugtime`, which moves the clock: for tests
    #[arg(long, hide = true)]
    pub(crate) debug_time: bool,
    /// Say which memcached this stands in for
    #[arg(short = 'V', long)]
    pub(crate) version: bool,
    /// Write `tcp=ADDRESS`, `http=ADDRESS` and `control=ADDRESS` here, a line each, once everything is bound
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// How log lines look, on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    #[command(flatten)]
    pub(crate) without_effect: WithoutEffect,
}

/// Flags that tune what is built differently here. They are taken, so that unit files need not change.
#[derive(Debug, Clone, Default, Args)]
#[allow(clippy::struct_excessive_bools, reason = "a flag is a bool")]
#[command(next_help_heading = "Taken from memcached, and without effect")]
pub(crate) struct WithoutEffect {
    /// Requests per event: everything that one read brought is answered at once
    #[arg(short = 'R', long = "max-reqs-per-event", value_name = "COUNT")]
    pub(crate) requests_per_event: Option<u32>,
    /// Do without CAS
    #[arg(short = 'C', long = "disable-cas")]
    pub(crate) no_cas: bool,
    /// UDP port; anything but 0 is refused
    #[arg(short = 'U', long = "udp-port", value_name = "PORT")]
    pub(crate) udp_port: Option<u16>,
    /// Protocol: auto or ascii; binary is refused
    #[arg(short = 'B', long = "protocol", value_name = "NAME")]
    pub(crate) protocol: Option<String>,
    /// Growth of chunks
    #[arg(short = 'f', long = "slab-growth-factor", value_name = "FACTOR")]
    pub(crate) growth_factor: Option<f64>,
    /// Smallest chunk
    #[arg(short = 'n', long = "slab-min-size", value_name = "BYTES")]
    pub(crate) chunk_size: Option<usize>,
    /// Large memory pages
    #[arg(short = 'L', long = "enable-largepages")]
    pub(crate) large_pages: bool,
    /// Lock memory
    #[arg(short = 'k', long = "lock-memory")]
    pub(crate) lock_memory: bool,
    /// Largest core file
    #[arg(short = 'r', long = "enable-coredumps")]
    pub(crate) core_dumps: bool,
}
