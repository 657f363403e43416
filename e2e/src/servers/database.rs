//! A private MySQL or MariaDB server.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use mysql_async::{Conn, Opts, OptsBuilder, prelude::Queryable};
use tempfile::TempDir;
use tokio::time::timeout;

use super::{
    Kind, Servers,
    child::{Child, Launch, Patience, Signal},
    port::{free_port, is_taken},
    template,
};

const PATIENCE: Patience =
    Patience { deadline: Duration::from_secs(90), poll: Duration::from_millis(20) };
const STOP_DEADLINE: Duration = Duration::from_secs(60);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How often a first start is tried with another port.
const STARTS_MAX: u32 = 3;
/// The account that mcsqueal uses, and its password.
const ACCOUNT: (&str, &str) = ("mcsqueal", "squeak");

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The disk: survives a power cut. What production runs.
    Disk,
    /// Nothing: fast, for tests that never kill the server.
    Memory,
}

/// Settings of a server.
#[derive(Clone, Debug)]
pub struct DatabaseOptions {
    /// What a commit waits for.
    pub durability: Durability,
    /// Options after ours, so that they win.
    pub more: Vec<String>,
}

impl Default for DatabaseOptions {
    fn default() -> DatabaseOptions {
        DatabaseOptions { durability: Durability::Disk, more: Vec::new() }
    }
}

/// A user name and a password.
#[derive(Clone, Debug)]
pub struct Account {
    /// The user.
    pub user: String,
    /// Its password.
    pub password: String,
}

/// A running (or stopped) server.
#[derive(Debug)]
pub struct Database {
    kind: Kind,
    port: u16,
    launch: Launch,
    child: Option<Child>,
    directory: TempDir,
}

impl Servers {
    /// Starts a server of `kind` with an empty data directory.
    pub async fn database(&self, kind: Kind, options: &DatabaseOptions) -> Result<Database> {
        let program = self.program(kind.name())?;
        let directory = self.new_directory(kind.name())?;
        let data = directory.path().join("data");
        template::fresh_data(kind, program, &data, self.pids.as_deref()).await?;
        std::fs::create_dir(tmp(&data)).context("make a folder for temporary tables")?;
        let mut attempt = 1;
        loop {
            let port = free_port()?;
            let launch = Launch {
                name: format!("{kind} {}", program.version),
                argv: program.command(server_options(kind, options, &data, port)),
                env: Vec::new(),
                directory: directory.path().to_owned(),
                log: directory.path().join("log"),
                input: None,
                pids: self.pids.clone(),
            };
            match launch_until_ready(&launch, port).await {
                Ok(child) => {
                    return Ok(Database { kind, port, launch, child: Some(child), directory });
                }
                // Another process has taken the port in between.
                Err(_) if attempt < STARTS_MAX && is_taken(port) => attempt += 1,
                Err(err) => return Err(err),
            }
        }
    }
}

impl Database {
    /// Its dialect.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The folder of its data and binlog files.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// How to connect as root, who may do everything.
    pub fn root(&self) -> Opts {
        root_at(self.port)
    }

    /// A connection as root.
    pub async fn connect(&self) -> Result<Conn> {
        let connected = timeout(CONNECT_DEADLINE, Conn::new(self.root())).await;
        connected.context("connect to the database in time")?.context("connect to the database")
    }

    /// Runs statements, as root.
    pub async fn run(&self, statements: &[&str]) -> Result<()> {
        let mut conn = self.connect().await?;
        for statement in statements {
            conn.query_drop(*statement).await.with_context(|| format!("run {statement}"))?;
        }
        conn.disconnect().await.context("disconnect")
    }

    /// Makes the account that mcsqueal uses.
    pub async fn create_account(&self) -> Result<Account> {
        let (user, password) = ACCOUNT;
        let create = format!("CREATE USER '{user}'@'%' IDENTIFIED BY '{password}'");
        let grant =
            format!("GRANT REPLICATION SLAVE, REPLICATION CLIENT, SELECT ON *.* TO '{user}'@'%'");
        self.run(&[&create, &grant]).await?;
        Ok(Account { user: user.to_owned(), password: password.to_owned() })
    }

    /// `kill -9`; its data stays.
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

    /// Stops it as an operator would; its data stays.
    pub async fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.signal(Signal::Terminate)?;
        let status = child.wait(STOP_DEADLINE).await?;
        if !status.success() {
            bail!("{} ended with {status}\n{}", self.launch.name, child.log_tail());
        }
        Ok(())
    }

    /// Starts it again, on the same port and data.
    pub async fn restart(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("{} is running", self.launch.name);
        }
        self.child = Some(launch_until_ready(&self.launch, self.port).await?);
        Ok(())
    }
}

/// How to connect as root to whatever is at this port of 127.0.0.1.
pub fn root_at(port: u16) -> Opts {
    let builder = OptsBuilder::default().ip_or_hostname(Ipv4Addr::LOCALHOST.to_string());
    let builder = builder.tcp_port(port).user(Some("root")).tcp_nodelay(true);
    builder.prefer_socket(Some(false)).into()
}

/// A server's temporary tables, beside its data. MariaDB takes away all that it finds when it starts, also those of other servers, which
/// crash of that.
fn tmp(data: &Path) -> PathBuf {
    data.with_file_name("tmp")
}

fn server_options(kind: Kind, options: &DatabaseOptions, data: &Path, port: u16) -> Vec<String> {
    let (sync_binlog, flush) = match options.durability {
        Durability::Disk => (1, 1),
        Durability::Memory => (0, 2),
    };
    let mut all = vec![
        "--user=root".to_owned(),
        format!("--datadir={}", data.display()),
        format!("--tmpdir={}", tmp(data).display()),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--port={port}"),
        "--socket=mysqld.sock".to_owned(), // Relative to the data directory: paths of sockets are short.
        format!("--pid-file={}", data.join("pid").display()),
        "--server-id=1".to_owned(),
        format!("--log-bin={}", data.join("binlog").display()),
        "--binlog-format=ROW".to_owned(),
        "--binlog-row-image=FULL".to_owned(),
        "--binlog-row-metadata=FULL".to_owned(),
        format!("--sync-binlog={sync_binlog}"),
        format!("--innodb-flush-log-at-trx-commit={flush}"),
        "--innodb-buffer-pool-size=64M".to_owned(),
        "--performance-schema=OFF".to_owned(),
        "--character-set-server=utf8mb4".to_owned(),
    ];
    all.extend(dialect_options(kind).iter().map(|&option| option.to_owned()));
    all.extend(options.more.iter().cloned());
    all
}

fn dialect_options(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Mysql => &[
            "--gtid-mode=ON",
            "--enforce-gtid-consistency=ON",
            "--mysqlx=OFF",
            "--secure-file-priv=",
            "--innodb-redo-log-capacity=64M",
        ],
        Kind::Mariadb => &["--gtid-strict-mode=ON", "--innodb-log-file-size=32M"],
    }
}

/// Ready means that it answers a query.
async fn launch_until_ready(launch: &Launch, port: u16) -> Result<Child> {
    let probe = async || timeout(CONNECT_DEADLINE, answers(port)).await.context("ask it")?;
    Child::start_ready(launch, PATIENCE, probe).await
}

async fn answers(port: u16) -> Result<()> {
    let mut conn = Conn::new(root_at(port)).await?;
    conn.query_drop("DO 1").await?;
    Ok(conn.disconnect().await?)
}
