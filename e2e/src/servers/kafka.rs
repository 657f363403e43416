//! A private Kafka: broker and controller in one JVM.

mod access;

use std::{
    ffi::OsString,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

pub use access::Access;

use super::{
    Servers,
    child::{Child, Launch, Patience, Signal},
    port::{free_port, is_taken},
};

/// A JVM on a busy machine takes its time.
const PATIENCE: Patience =
    Patience { deadline: Duration::from_secs(90), poll: Duration::from_millis(50) };
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
const STARTS_MAX: u32 = 3;
/// Any 16 bytes, as base64 writes them.
const CLUSTER: &str = "bWNzcXVlYWwta2Fma2EtMQ";
/// ApiVersions, version 0, correlation 1, no client id: every broker answers it once it serves.
const ARE_YOU_THERE: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];

/// A running (or killed) Kafka.
#[derive(Debug)]
pub struct Kafka {
    ports: Ports,
    launch: Launch,
    /// So many of its arguments are a wrapper's.
    wrapped: usize,
    child: Option<Child>,
    _directory: TempDir,
}

/// A port for clients of another region, and what they are told to come to: a proxy in front of it.
#[derive(Clone, Debug)]
pub struct Far {
    pub port: u16,
    pub advertised: String,
}

/// What it listens on.
#[derive(Clone, Copy, Debug)]
struct Ports {
    clients: u16,
    /// For the broker alone, and for whoever waits until it is there: nobody is asked who he is.
    itself: u16,
    controller: u16,
}

impl Ports {
    fn is_any_taken(self) -> bool {
        [self.clients, self.itself, self.controller].into_iter().any(is_taken)
    }
}

impl Servers {
    /// Starts an empty Kafka that lets everybody in.
    pub async fn kafka(&self) -> Result<Kafka> {
        self.kafka_on(&[], Access::Open, None).await
    }

    /// The same, which also listens at `far`.
    pub async fn kafka_with_far(&self, far: &Far) -> Result<Kafka> {
        self.kafka_on(&[], Access::Open, Some(far)).await
    }

    /// The same, for those who say who they are.
    pub async fn kafka_for(&self, access: Access) -> Result<Kafka> {
        self.kafka_on(&[], access, None).await
    }

    /// The same, on a disk that is full as soon as any file has so many KiB; not less than Kafka's own need.
    pub async fn kafka_with_files_of(&self, kib_max: u32) -> Result<Kafka> {
        // Ignored, so that writes beyond the limit fail with an error, as on a full disk.
        let limit = format!("trap '' XFSZ; ulimit -f {kib_max}; exec \"$0\" \"$@\"");
        let wrapper = ["bash".into(), "-c".into(), limit.into()];
        self.kafka_on(&wrapper, Access::Open, None).await
    }

    /// `wrapper` runs what comes behind it.
    async fn kafka_on(
        &self,
        wrapper: &[OsString],
        access: Access,
        far: Option<&Far>,
    ) -> Result<Kafka> {
        let program = self.program("kafka")?;
        let directory = self.new_directory("kafka")?;
        let file = directory.path().join("server.properties");
        let mut attempt = 1;
        loop {
            let ports =
                Ports { clients: free_port()?, itself: free_port()?, controller: free_port()? };
            access.prepare(&program.argv, directory.path())?;
            let text = server_properties(directory.path(), ports, access, far);
            fs::write(&file, text).context("write server.properties")?;
            format_storage(&program.argv, &file, access)?;
            let mut argv = wrapper.to_vec();
            argv.extend(program.argv.iter().cloned());
            argv.extend(own_files(directory.path()));
            argv.extend(["kafka.Kafka".into(), file.clone().into_os_string()]);
            let launch = Launch {
                name: format!("Kafka {} on port {}", program.version, ports.clients),
                argv,
                env: Vec::new(),
                directory: directory.path().to_owned(),
                log: directory.path().join("log"),
                input: None,
                pids: self.pids.clone(),
            };
            match launch_until_ready(&launch, ports.itself).await {
                Ok(child) => {
                    let child = Some(child);
                    let wrapped = wrapper.len();
                    return Ok(Kafka { ports, launch, wrapped, child, _directory: directory });
                }
                // Another process has taken a port in between.
                Err(_) if attempt < STARTS_MAX && ports.is_any_taken() => attempt += 1,
                Err(err) => return Err(err),
            }
        }
    }
}

impl Kafka {
    /// `host:port`, for `bootstrap.servers`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.clients)
    }

    /// The folder of its topics.
    pub fn data(&self) -> PathBuf {
        self.launch.directory.join("data")
    }

    /// Where a file with the certificate of its authority is, if it has one.
    pub fn ca_file(&self) -> PathBuf {
        self.launch.directory.join(access::CA_FILE)
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::pid)
    }

    /// `kill -9`; what it stored stays.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.take().map_or(Ok(()), |mut child| child.kill9())
    }

    /// Starts it again, with what it had stored, on the same port.
    pub async fn restart(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("{} is running", self.launch.name);
        }
        self.child = Some(launch_until_ready(&self.launch, self.ports.itself).await?);
        Ok(())
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| !matches!(child.ended(), Ok(None)))
    }

    /// Starts it again, where its disk has room.
    pub async fn restart_with_room(&mut self) -> Result<()> {
        self.launch.argv.drain(..self.wrapped);
        self.wrapped = 0;
        self.kill9()?;
        self.restart().await
    }

    /// Freezes it: connections stay open, nothing is answered.
    pub fn freeze(&self) -> Result<()> {
        self.child.as_ref().map_or(Ok(()), |child| child.signal(Signal::Stop))
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.child.as_ref().map_or(Ok(()), |child| child.signal(Signal::Continue))
    }
}

/// One node that is everything; small, and without the waits that suit large groups.
fn server_properties(directory: &Path, ports: Ports, access: Access, far: Option<&Far>) -> String {
    let data = directory.join("data");
    let Ports { clients, itself, controller } = ports;
    let (protocol, more) = (access.protocol(), access.properties(directory));
    let (mut far_listens, mut far_advertised) = (String::new(), String::new());
    if let Some(Far { port, advertised }) = far {
        far_listens = format!(",FAR://127.0.0.1:{port}");
        far_advertised = format!(",FAR://{advertised}");
    }
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=CLIENTS://127.0.0.1:{clients},ITSELF://127.0.0.1:{itself},CONTROLLER://127.0.0.1:{controller}{far_listens}
advertised.listeners=CLIENTS://127.0.0.1:{clients},ITSELF://127.0.0.1:{itself}{far_advertised}
listener.security.protocol.map=CLIENTS:{protocol},FAR:PLAINTEXT,ITSELF:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=ITSELF
controller.listener.names=CONTROLLER
log.dirs={}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
log.retention.check.interval.ms=500
log.initial.task.delay.ms=500
{more}",
        data.display()
    )
}

/// Keeps what a JVM writes on its way in a folder that goes with it: one that is killed removes nothing itself.
fn own_files(directory: &Path) -> [OsString; 2] {
    let mut unpacked = OsString::from("-Djava.io.tmpdir=");
    unpacked.push(directory);
    [unpacked, "-XX:-UsePerfData".into()]
}

/// Makes the data folder; one that is there already stays as it is.
fn format_storage(argv: &[OsString], file: &Path, access: Access) -> Result<()> {
    let (program, args) = argv.split_first().context("an empty argument vector")?;
    let output = Command::new(program)
        .args(args)
        .args(["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", CLUSTER, "-c"])
        .arg(file)
        .args(access.users())
        .stdin(Stdio::null())
        .output()
        .context("run java")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("format Kafka's storage: {}", said.lines().last().unwrap_or_default());
    }
    Ok(())
}

/// Ready means that it answers a request, not only that it listens.
async fn launch_until_ready(launch: &Launch, port: u16) -> Result<Child> {
    let probe = async || timeout(ANSWER_DEADLINE, answers(port)).await.context("ask it")?;
    Child::start_ready(launch, PATIENCE, probe).await
}

async fn answers(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(&ARE_YOU_THERE).await?;
    stream.read_exact(&mut [0; 8]).await?;
    Ok(())
}
