//! The program under test: `mcsqueal run`, with a region file that fits the servers at hand.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use crate::{http, lab};

use super::{
    Account, Database, Servers,
    child::{Child, Launch, Patience, Signal},
};

/// The variable that names the program.
const BINARY_ENV: &str = "MCSQUEAL_BIN";
const PASSWORD_ENV: &str = "MCSQUEAL_SOURCE_PASSWORD";
const PATIENCE: Patience = Patience { deadline: Duration::from_secs(60), poll: POLL };
/// How long connecting to everything may take.
const SETTLED_DEADLINE: Duration = Duration::from_secs(10);
const STOP_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// What a region file says; see `region-configs/shop.toml`.
#[derive(Clone, Debug)]
pub struct Region {
    /// Its name: processes with the same one share the stream.
    pub name: String,
    /// The database, `host:port`.
    pub source: String,
    /// Those that may take its place.
    pub standbys: Vec<String>,
    /// Who reads its binlog.
    pub account: Account,
    /// The other databases that caches are filled from.
    pub replicas: Vec<String>,
    /// Hold-off mode, and for how long; else versions are compared.
    pub hold_off: Option<Duration>,
    /// Cache nodes, `host:port`, hashed by ketama.
    pub nodes: Vec<String>,
    /// Their control ports, in the same order; empty for stock memcached.
    pub controls: Vec<String>,
    /// More lines of the cluster's section.
    pub cluster: String,
    /// All clusters, where there are several: in place of the one above.
    pub groups: Vec<Group>,
    /// Longest time between a reader's SELECT and its `set`.
    pub fill_age_max: Duration,
    /// The text of the rules file.
    pub rules: String,
    /// The log between tailer and invalidator.
    pub stream: StreamPlace,
    /// Lines of `[stream.relay]`.
    pub relay: String,
}

/// One of several clusters of a region.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub name: String,
    /// 0: the file does not say.
    pub ring_version: u64,
    /// The cluster from which its cold nodes become warm.
    pub warm_from: Option<String>,
    /// Addresses and control ports.
    pub nodes: Vec<(String, Option<String>)>,
}

/// Where the stream is.
#[derive(Clone, Debug, Default)]
pub enum StreamPlace {
    /// In a file of the program's own.
    #[default]
    Embedded,
    /// On a Kafka of one broker.
    Kafka { brokers: String, topic: String },
}

impl StreamPlace {
    /// How many partitions it has.
    pub fn partitions(&self) -> u16 {
        match self {
            StreamPlace::Embedded => 1,
            StreamPlace::Kafka { .. } => 4,
        }
    }

    fn to_toml(&self) -> String {
        match self {
            StreamPlace::Embedded => "[stream]\nembedded = { path = \"stream.db\" }".to_owned(),
            StreamPlace::Kafka { brokers, topic } => format!(
                "[stream.kafka]\nbrokers = \"{brokers}\"\ntopic = \"{topic}\"\npartitions = {}\nreplication = 1\nshare_timeout_ms = 2000",
                self.partitions()
            ),
        }
    }
}

/// How the program is run.
#[derive(Clone, Debug)]
pub struct McsquealOptions {
    /// `run`, or another daemon with the same options.
    pub command: &'static str,
    /// As for `--log`.
    pub log: String,
    /// More flags of `mcsqueal run`.
    pub flags: Vec<String>,
}

impl Default for McsquealOptions {
    fn default() -> McsquealOptions {
        McsquealOptions { command: "run", log: "info".to_owned(), flags: Vec::new() }
    }
}

/// A running (or killed) `mcsqueal run`.
#[derive(Debug)]
pub struct Mcsqueal {
    launch: Launch,
    ready_file: PathBuf,
    child: Option<Child>,
    http: Option<String>,
    _directory: TempDir,
}

impl Region {
    /// The shop's: its tables in `database`, its keys on `nodes`, and the rules that the repository ships.
    pub async fn shop(
        database: &Database,
        nodes: Vec<String>,
        fill_age_max: Duration,
    ) -> Result<Region> {
        Ok(Region {
            name: "demo".to_owned(),
            source: database.address(),
            account: database.create_account().await?,
            standbys: Vec::new(),
            replicas: Vec::new(),
            hold_off: None,
            nodes,
            controls: Vec::new(),
            cluster: String::new(),
            groups: Vec::new(),
            fill_age_max,
            rules: shop_rules()?,
            stream: StreamPlace::Embedded,
            relay: String::new(),
        })
    }

    /// The region file's text. Paths are relative to its folder.
    pub fn to_toml(&self) -> String {
        let sources = std::iter::once(&self.source).chain(&self.standbys);
        let sources: Vec<String> = sources.map(|address| format!("\"{address}\"")).collect();
        let sources = match &sources[..] {
            [one] => one.clone(),
            all => format!("[{}]", all.join(", ")),
        };
        let hold_off = self.hold_off.map(|length| format!("hold_off_ms = {}", length.as_millis()));
        format!(
            r#"name = "{name}"
rules = "shop.rules.toml"

[source]
name = "shop"
address = {sources}
user = "{user}"
password_env = "{PASSWORD_ENV}"
server_id = 4217
tls = "off"
replicas = {replicas:?}
{hold_off}

{stream}

[stream.relay]
{relay}

{clusters}
[http]
listen = "127.0.0.1:0"
"#,
            name = self.name,
            replicas = self.replicas,
            hold_off = hold_off.unwrap_or_default(),
            stream = self.stream.to_toml(),
            relay = self.relay,
            user = self.account.user,
            clusters = self.clusters_to_toml(),
        )
    }

    fn clusters_to_toml(&self) -> String {
        if self.groups.is_empty() {
            let nodes = self.nodes.iter().enumerate();
            let nodes = nodes.map(|(at, node)| (node.clone(), self.controls.get(at).cloned()));
            let main =
                Group { name: "main".to_owned(), nodes: nodes.collect(), ..Group::default() };
            return main.to_toml(self.fill_age_max, &self.cluster);
        }
        self.groups.iter().map(|group| group.to_toml(self.fill_age_max, "")).collect()
    }

    /// Writes the region file and its rules into `directory`; returns the region file's path.
    pub fn write(&self, directory: &Path) -> Result<PathBuf> {
        let path = directory.join("region.toml");
        fs::write(&path, self.to_toml()).context("write the region file")?;
        fs::write(directory.join("shop.rules.toml"), &self.rules)
            .context("write the rules file")?;
        Ok(path)
    }

    /// What must be in the environment of a program that reads the file.
    pub fn env(&self) -> Vec<(String, String)> {
        vec![(PASSWORD_ENV.to_owned(), self.account.password.clone())]
    }
}

impl Group {
    /// A section of the region file; `more` are lines of it.
    fn to_toml(&self, fill_age_max: Duration, more: &str) -> String {
        let mut nodes = String::new();
        for (node, control) in &self.nodes {
            let control = control.as_ref().map(|control| format!(", control = \"{control}\""));
            let control = control.unwrap_or_default();
            writeln!(nodes, "  {{ address = \"{node}\"{control} }},")
                .expect("writing to text cannot fail");
        }
        let ring_version = match self.ring_version {
            0 => String::new(),
            number => format!("ring_version = {number}\n"),
        };
        let warm_from = self.warm_from.as_ref().map(|from| format!("warm_from = \"{from}\"\n"));
        let warm_from = warm_from.unwrap_or_default();
        let age = fill_age_max.as_millis();
        format!(
            "[[cluster]]\nname = \"{}\"\nhashing = \"ketama\"\n{ring_version}{warm_from}fill_age_ms_max = {age}\n\
             {more}\nnodes = [\n{nodes}]\n",
            self.name
        )
    }
}

impl Servers {
    /// Starts `mcsqueal run` and waits until it is ready.
    pub async fn mcsqueal(&self, region: &Region, options: &McsquealOptions) -> Result<Mcsqueal> {
        let directory = self.new_directory("mcsqueal")?;
        let config = region.write(directory.path())?;
        let ready_file = directory.path().join("ready");
        let mut argv = vec![mcsqueal_binary()?.into_os_string(), options.command.into()];
        argv.extend(["--config".into(), config.into_os_string()]);
        argv.extend(["--ready-file".into(), ready_file.clone().into_os_string()]);
        argv.extend(["--log-format", "json", "--log", &options.log].map(Into::into));
        argv.extend(options.flags.iter().map(Into::into));
        let launch = Launch {
            name: "mcsqueal run".to_owned(),
            argv,
            env: region.env(),
            directory: directory.path().to_owned(),
            log: directory.path().join("log"),
            input: None,
            pids: self.pids.clone(),
        };
        let mut mcsqueal =
            Mcsqueal { launch, ready_file, child: None, http: None, _directory: directory };
        mcsqueal.restart().await?;
        mcsqueal.settled().await;
        Ok(mcsqueal)
    }
}

impl Mcsqueal {
    /// Where it answers `/metrics` and `/health`: `host:port`. Another one after each restart.
    pub fn http(&self) -> Option<&str> {
        self.http.as_deref()
    }

    /// What `/health` says, if it answers.
    pub async fn health(&self) -> Option<serde_json::Value> {
        let (_, page) = http::get(self.http()?, "/health").await.ok()?;
        serde_json::from_str(&page).ok()
    }

    /// The sum of a metric over all labels that have `label`; 0 if it does not answer.
    pub async fn metric(&self, name: &str, label: &str) -> f64 {
        match self.http() {
            Some(address) => sum_of(address, name, label).await,
            None => 0.0,
        }
    }

    /// Its log file; one JSON object per line.
    pub fn log(&self) -> &Path {
        &self.launch.log
    }

    /// The folder of its region file and its stream.
    pub fn directory(&self) -> &Path {
        &self.launch.directory
    }

    /// Runs a command of the same binary on its region file.
    pub async fn tool(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(mcsqueal_binary()?);
        command.args(arguments).arg("--config").arg(self.directory().join("region.toml"));
        lab::output(command.envs(self.launch.env.iter().cloned())).await
    }

    /// Starts it (again), with the same stream.
    pub async fn restart(&mut self) -> Result<()> {
        self.start()?;
        self.ready().await
    }

    /// Starts it (again), and does not wait until it is ready.
    pub fn start(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("{} is running", self.launch.name);
        }
        if self.ready_file.exists() {
            fs::remove_file(&self.ready_file).context("remove the ready file")?;
        }
        self.http = None;
        self.child = Some(Child::start(&self.launch)?);
        Ok(())
    }

    /// Waits until everything is bound.
    pub async fn ready(&mut self) -> Result<()> {
        let child = self.child.as_mut().context("mcsqueal is not running")?;
        let ready_file = &self.ready_file;
        let probe = async || http_of(ready_file).context("there is no ready file").map(drop);
        child.until_ready(PATIENCE, probe).await?;
        self.http = http_of(ready_file);
        Ok(())
    }

    /// Waits until everything is connected. The first start begins at the source's present position, so what
    /// is changed before that is not its business. Where something is down on purpose, this waits in vain.
    async fn settled(&self) {
        let late = Instant::now() + SETTLED_DEADLINE;
        let Some(http) = &self.http else { return };
        while Instant::now() < late {
            if matches!(http::get(http, "/health").await, Ok((200, _))) {
                return;
            }
            sleep(POLL).await;
        }
    }

    /// Fails if it has ended by itself.
    pub fn alive(&mut self) -> Result<()> {
        let child = self.child.as_mut().context("mcsqueal is not running")?;
        match child.ended()? {
            None => Ok(()),
            Some(status) => bail!("mcsqueal run ended with {status}\n{}", child.log_tail()),
        }
    }

    /// Stops it, and starts it with another region file.
    pub async fn restart_with(&mut self, region: &Region) -> Result<()> {
        self.stop().await?;
        region.write(self.directory())?;
        self.restart().await
    }

    /// `kill -9`; its stream stays.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.take().map_or(Ok(()), |mut child| child.kill9())
    }

    /// Freezes it: connections stay open, nothing is answered, nothing is forgotten.
    pub fn freeze(&self) -> Result<()> {
        self.child.as_ref().map_or(Ok(()), |child| child.signal(Signal::Stop))
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.child.as_ref().map_or(Ok(()), |child| child.signal(Signal::Continue))
    }

    /// SIGHUP.
    pub fn hangup(&self) -> Result<()> {
        self.child.as_ref().map_or(Ok(()), |child| child.signal(Signal::Hangup))
    }

    /// Stops it as an operator would.
    pub async fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.signal(Signal::Terminate)?;
        let status = child.wait(STOP_DEADLINE).await?;
        if !status.success() {
            bail!("mcsqueal run ended with {status} after SIGTERM\n{}", child.log_tail());
        }
        Ok(())
    }
}

/// The program: named by the environment, else beside our own, else one folder up (tests are in `deps`).
pub fn mcsqueal_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(BINARY_ENV) {
        return Ok(path.into());
    }
    let own = std::env::current_exe().context("find our own program")?;
    let beside = own.ancestors().skip(1).take(2).map(|folder| folder.join("mcsqueal"));
    let found = beside.into_iter().find(|path| path.is_file());
    found.with_context(|| {
        format!("no mcsqueal beside {}: build it, or set {BINARY_ENV}", own.display())
    })
}

/// The rules that the repository ships for the shop.
pub fn shop_rules() -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../region-configs/shop.rules.toml");
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// The sum of a metric over all labels that have `label`; 0 if nobody answers.
pub(super) async fn sum_of(address: &str, name: &str, label: &str) -> f64 {
    let Ok((_, page)) = http::get(address, "/metrics").await else { return 0.0 };
    let of = |sample: &http::Sample<'_>| sample.name == name && sample.labels.contains(label);
    http::samples(&page).filter(of).map(|sample| sample.value).sum()
}

/// The address in a complete ready file.
pub(super) fn http_of(ready_file: &Path) -> Option<String> {
    let text = fs::read_to_string(ready_file).ok()?;
    let complete = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    complete.filter_map(|line| line.trim().strip_prefix("http=")).map(str::to_owned).next()
}
