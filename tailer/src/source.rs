//! The source's sockets: connecting, what goes wrong, and the dump. All of `mysql_async` that tailing needs is here; the
//! dump itself has a connection of its own, in [`crate::wire`].

use std::time::Duration;

use binlog::{
    dump::{Cutter, Piece, Uncut},
    frame::FrameError,
};
use mysql_async::{Conn, GnoInterval, Opts, OptsBuilder, Row, Sid, SslOpts, prelude::Queryable};
use mysql_common::packets::{ComBinlogDumpGtid, ComRegisterSlave};
use schemas::{
    gtid::{Dialect, GtidSet, MysqlGtidSet},
    record::FilePosition,
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use crate::{
    settings::{Settings, Tls},
    wire::{Buffers, Wire},
};

/// Connecting and each question take at most this long.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// How long the server waits for us while the stream is slow, before it gives us up.
const SERVER_PATIENCE_S: u32 = 600;
/// Chunks that wait, each of about a socket's buffer.
const CHUNKS_MAX: usize = 16;
/// Of a machine's name, which the protocol counts in one byte.
const MACHINE_CHARS_MAX: usize = 60;
/// Offset of a file's first event.
const FILE_START: u32 = 4;

/// What went wrong with the source, by what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The connection failed. Try again.
    #[error("talk to the source")]
    Lost(#[source] mysql_async::Error),
    /// Nothing came, not even a heartbeat. Try again.
    #[error("the source said nothing for {} ms", .0.as_millis())]
    Silent(Duration),
    /// The server ended the stream. Try again.
    #[error("the source ended the binlog stream")]
    Ended,
    /// Bytes changed on the way, or on the source's disk. Try again: the event is read anew.
    #[error("binlog event at {position}")]
    Damaged {
        position: u32,
        #[source]
        source: FrameError,
    },
    /// The library gave up on an event. Try again.
    #[error("the binlog stream broke: {0}")]
    Broken(String),
    /// An answer that makes no sense.
    #[error("{0}")]
    Answer(String),
    /// The server refuses us (account, grants). Only an operator can help; try again now and then.
    #[error("the source refuses us")]
    Refused(#[source] mysql_async::Error),
    /// Another reader uses our `server_id`. Two would push each other out for ever, so wait long.
    #[error("another replica or tailer uses our server_id: {0}")]
    Rival(String),
    /// The server takes no writes: it may be a copy that lacks what was published. Wait until it does.
    #[error("the source is read-only; name the server that takes writes")]
    ReadOnly,
    /// The source no longer has what we have not read yet. Raise a floor over everything, and go on from where it is.
    #[error("the source no longer has the binlog that we need: {0}")]
    Gone(String),
}

/// What to do about a [`SourceError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// Connect again, soon.
    Retry,
    /// Connect again, after the longest wait.
    RetryLater,
    /// Connect again, and give up what is gone.
    Skip,
}

impl SourceError {
    pub(crate) fn recovery(&self) -> Recovery {
        match self {
            SourceError::Gone(_) => Recovery::Skip,
            SourceError::Rival(_) | SourceError::Refused(_) => Recovery::RetryLater,
            // Of a read-only server: somebody may be about to promote it.
            SourceError::ReadOnly
            | SourceError::Lost(_)
            | SourceError::Silent(_)
            | SourceError::Ended
            | SourceError::Damaged { .. }
            | SourceError::Broken(_)
            | SourceError::Answer(_) => Recovery::Retry,
        }
    }
}

/// "Fatal error reading the binlog": many causes, told apart by their texts only.
const READING_BINLOG: u16 = 1236;
/// MariaDB's for two readers with one `server_id`; MySQL says [`READING_BINLOG`].
const SAME_SERVER_ID: u16 = 4052;
/// Wrong account or password, no such database, missing grants.
const REFUSALS: [u16; 6] = [1044, 1045, 1142, 1227, 1698, 3118];
/// Of MySQL and MariaDB, for a purged binlog and for a server that went back in time.
const GONE_TEXTS: [&str; 7] = [
    "purged",
    "more GTIDs than the",
    "could not find gtid state requested",
    "not in the master's binlog",
    "could not find first log file",
    "start replication from position",
    "position > file size",
];

impl From<mysql_async::Error> for SourceError {
    fn from(error: mysql_async::Error) -> SourceError {
        use mysql_async::{DriverError, Error};
        let server = match &error {
            Error::Server(server) => server,
            // For an account that is not there, servers ask for a method at random.
            Error::Driver(DriverError::UnknownAuthPlugin { .. }) => {
                return SourceError::Refused(error);
            }
            _ => return SourceError::Lost(error),
        };
        let text = server.message.to_ascii_lowercase();
        let says = |what: &&str| text.contains(&what.to_ascii_lowercase());
        match server.code {
            READING_BINLOG | SAME_SERVER_ID
                if says(&"same server_uuid") || says(&"same server_id") =>
            {
                SourceError::Rival(server.message.clone())
            }
            READING_BINLOG if GONE_TEXTS.iter().any(says) => {
                SourceError::Gone(server.message.clone())
            }
            code if REFUSALS.contains(&code) => SourceError::Refused(error),
            _ => SourceError::Lost(error),
        }
    }
}

/// Connects and authenticates.
pub(crate) async fn connect(settings: &Settings) -> Result<Conn, SourceError> {
    let connecting = timeout(ANSWER_DEADLINE, Conn::new(opts(settings))).await;
    Ok(connecting.map_err(|_| SourceError::Silent(ANSWER_DEADLINE))??)
}

pub(crate) fn opts(settings: &Settings) -> Opts {
    let tls = match &settings.tls {
        Tls::Off => None,
        Tls::Required { ca_file: None } => Some(SslOpts::default()),
        Tls::Required { ca_file: Some(file) } => {
            let roots = vec![file.clone().into()];
            Some(SslOpts::default().with_root_certs(roots).with_disable_built_in_roots(true))
        }
    };
    OptsBuilder::default()
        .ip_or_hostname(settings.address.host.clone())
        .tcp_port(settings.address.port)
        .user(Some(settings.user.clone()))
        .pass(Some(settings.password.0.clone()).filter(|password| !password.is_empty()))
        .ssl_opts(tls)
        .prefer_socket(false)
        .tcp_nodelay(true)
        .stmt_cache_size(0)
        .into()
}

/// Where a dump begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Resume<'a> {
    /// After a set of transactions.
    Executed(&'a GtidSet),
    /// At an offset of a file.
    Position(&'a FilePosition),
}

/// Connects for a dump, and asks for it.
pub(crate) async fn dump(
    settings: &Settings,
    dialect: Dialect,
    from: Resume<'_>,
) -> Result<Reader, SourceError> {
    let starting = async {
        let mut wire = Wire::connect(settings, ANSWER_DEADLINE).await?;
        wire.run(&session(settings, dialect, from)).await?;
        let name = machine();
        let register = ComRegisterSlave::new(settings.server_id);
        wire.command(&register.with_hostname(name.as_bytes())).await?;
        match from {
            Resume::Executed(GtidSet::Mysql(set)) => {
                let request =
                    ComBinlogDumpGtid::new(settings.server_id).with_pos(FILE_START.into());
                wire.ask(&request.with_sids(sids(set)?)).await?;
            }
            // MariaDB goes by the session variable, and looks at neither file nor offset.
            Resume::Executed(GtidSet::MariaDb(_)) => {
                wire.ask_bytes(&dump_command(settings, dialect, "", FILE_START)).await?;
            }
            Resume::Position(at) => {
                // A dump cannot start beyond 4 GiB. From the start of the file, changes come twice, and none is lost.
                let offset = u32::try_from(at.offset).unwrap_or(FILE_START).max(FILE_START);
                wire.ask_bytes(&dump_command(settings, dialect, &at.file, offset)).await?;
            }
        }
        Ok::<_, SourceError>(wire)
    };
    let wire = timeout(ANSWER_DEADLINE, starting)
        .await
        .map_err(|_| SourceError::Silent(ANSWER_DEADLINE))??;
    let (chunks, received) = mpsc::channel(CHUNKS_MAX);
    let deadline = settings.read_deadline();
    let task = tokio::spawn(async move {
        let last = read(wire, deadline, &chunks).await;
        // If nobody listens any more, nobody wants to know why it ended.
        drop(chunks.send(Err(last)).await);
    });
    Ok(Reader { received, task })
}

/// How this machine is called, so that a server can say who reads its binlog; empty if nobody knows.
fn machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().chars().take(MACHINE_CHARS_MAX).collect()
}

/// Who reads the binlog under our `server_id`, in the server's words: one place each.
pub(crate) async fn rivals(settings: &Settings) -> Result<Vec<String>, SourceError> {
    let asking = async {
        let mut conn = Conn::new(opts(settings)).await?;
        // The first is MySQL's since 8.0.22, the second MariaDB's.
        let rows: Vec<Row> = match conn.query("SHOW REPLICAS").await {
            Ok(rows) => rows,
            Err(_) => conn.query("SHOW SLAVE HOSTS").await?,
        };
        drop(conn.disconnect().await); // The answer is here.
        Ok::<_, SourceError>(rows)
    };
    let rows = timeout(ANSWER_DEADLINE, asking)
        .await
        .map_err(|_| SourceError::Silent(ANSWER_DEADLINE))??;
    let is_rival = |row: &&Row| {
        row.get::<u32, _>("Server_Id") == Some(settings.server_id)
            || row.get::<u32, _>("Server_id") == Some(settings.server_id)
    };
    let place = |row: &Row| match row.get::<String, _>("Host") {
        Some(host) if !host.is_empty() => host,
        _ => "a reader that does not say its name".to_owned(),
    };
    Ok(rows.iter().filter(is_rival).map(place).collect())
}

/// COM_BINLOG_DUMP.
fn dump_command(settings: &Settings, dialect: Dialect, file: &str, offset: u32) -> Vec<u8> {
    const COMMAND: u8 = 0x12;
    // MariaDB: with the statements that made the rows.
    let flags: u16 = if dialect == Dialect::MariaDb { 2 } else { 0 };
    let mut command = vec![COMMAND];
    command.extend_from_slice(&offset.to_le_bytes());
    command.extend_from_slice(&flags.to_le_bytes());
    command.extend_from_slice(&settings.server_id.to_le_bytes());
    command.extend_from_slice(file.as_bytes());
    command
}

/// What a dump goes by.
fn session(settings: &Settings, dialect: Dialect, from: Resume<'_>) -> String {
    let heartbeat_ns = settings.heartbeat.as_nanos();
    let common = format!(
        "SET @master_heartbeat_period={heartbeat_ns}, @source_heartbeat_period={heartbeat_ns}, \
         @master_binlog_checksum='CRC32', @source_binlog_checksum='CRC32', \
         @@session.net_write_timeout={SERVER_PATIENCE_S}"
    );
    // 4: we understand GTID events; otherwise the server rewrites them, and fails on XA.
    let capability = "@mariadb_slave_capability=4";
    match (dialect, from) {
        (Dialect::Mysql, _) => common,
        // The set's text has digits, dashes and commas only. Strict: a server that does not have the very transactions
        // says so, instead of going on behind their numbers.
        (Dialect::MariaDb, Resume::Executed(executed)) => {
            format!(
                "{common}, {capability}, @slave_connect_state='{executed}', @slave_gtid_strict_mode=1"
            )
        }
        (Dialect::MariaDb, Resume::Position(_)) => format!("{common}, {capability}"),
    }
}

fn sids(set: &MysqlGtidSet) -> Result<Vec<Sid<'static>>, SourceError> {
    let sid =
        |(uuid, tag, ranges): (schemas::gtid::Uuid, &str, &[std::ops::RangeInclusive<u64>])| {
            let interval = |range: &std::ops::RangeInclusive<u64>| {
                GnoInterval::new(*range.start(), range.end().saturating_add(1))
            };
            let sid = Sid::new(uuid.0).with_intervals(ranges.iter().map(interval).collect());
            if tag.is_empty() {
                return Ok(sid);
            }
            let tag = tag
                .to_owned()
                .try_into()
                .map_err(|err| SourceError::Answer(format!("tag {tag}: {err}")))?;
            Ok(sid.with_tag(tag))
        };
    set.iter().map(sid).collect()
}

/// Events as they come.
#[derive(Debug)]
pub(crate) struct Reader {
    received: mpsc::Receiver<Result<Vec<Piece>, SourceError>>,
    task: JoinHandle<()>,
}

impl Reader {
    /// The next events, at least one.
    pub(crate) async fn next(&mut self) -> Result<Vec<Piece>, SourceError> {
        match self.received.recv().await {
            Some(chunk) => chunk,
            None => Err(SourceError::Broken("the task that reads it has ended".to_owned())),
        }
    }

    /// Whether more are here already.
    pub(crate) fn has_more(&self) -> bool {
        !self.received.is_empty()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Hands on events until something is wrong; backs up while nobody takes them. The deadline is for the socket alone,
/// not for whoever takes the events.
async fn read(
    mut wire: Wire,
    deadline: Duration,
    chunks: &mpsc::Sender<Result<Vec<Piece>, SourceError>>,
) -> SourceError {
    let (mut cutter, mut buffers) = (Cutter::default(), Buffers::new(CHUNKS_MAX));
    loop {
        let buffer = buffers.with_room();
        match timeout(deadline, wire.fill(buffer)).await {
            Ok(Ok(0)) => return SourceError::Ended,
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return error,
            Err(_) => return SourceError::Silent(deadline),
        }
        let mut chunk = Vec::new();
        let failure = loop {
            match cutter.next(buffer) {
                Ok(Some(piece)) => chunk.push(piece),
                Ok(None) => break None,
                Err(uncut) => break Some(uncut),
            }
        };
        if !chunk.is_empty() && chunks.send(Ok(chunk)).await.is_err() {
            return SourceError::Ended;
        }
        match failure {
            None => {}
            Some(Uncut::End) => return SourceError::Ended,
            Some(Uncut::Error(packet)) => return wire.error(&packet),
            Some(Uncut::Strange(what)) => return SourceError::Broken(what.to_owned()),
            Some(Uncut::Frame { position, error }) => {
                return SourceError::Damaged { position, source: error };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart() {
        let server = |code, message: &str| {
            let error = mysql_async::ServerError {
                code,
                message: message.to_owned(),
                state: String::new(),
            };
            SourceError::from(mysql_async::Error::Server(error)).recovery()
        };
        let purged = "Cannot replicate because the source purged required binary logs. Replicate the missing transactions";
        assert_eq!(server(1236, purged), Recovery::Skip);
        let back = "Replica has more GTIDs than the source has, using the source's SERVER_UUID.";
        assert_eq!(server(1236, back), Recovery::Skip);
        let mariadb = "Could not find GTID state requested by slave in any binlog files. Probably the slave state is too old";
        assert_eq!(server(1236, mariadb), Recovery::Skip);
        let unknown = "Error: connecting slave requested to start from GTID 0-1-99, which is not in the master's binlog";
        assert_eq!(server(1236, unknown), Recovery::Skip);
        let rival = "A replica with the same server_uuid/server_id as this replica has connected to the source;";
        assert_eq!(server(1236, rival), Recovery::RetryLater);
        assert_eq!(
            server(4052, "A slave with the same server_id is already connected"),
            Recovery::RetryLater
        );
        assert_eq!(server(1236, "bogus data in log event"), Recovery::Retry);
        assert_eq!(server(1045, "Access denied for user"), Recovery::RetryLater);
        assert_eq!(server(1053, "Server shutdown in progress"), Recovery::Retry);
    }

    #[test]
    fn the_dump_starts_after_every_interval_and_tag() {
        let text = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7:blue:1-2";
        let set = MysqlGtidSet::parse(text).unwrap();
        let sids = sids(&set).unwrap();
        let shown: Vec<String> = sids
            .iter()
            .map(|sid| {
                let tag = sid.tag().map(ToString::to_string).unwrap_or_default();
                let ranges: Vec<_> =
                    sid.intervals().iter().map(|range| range.start()..range.end()).collect();
                format!("{tag} {ranges:?}")
            })
            .collect();
        assert_eq!(shown, [" [1..6, 7..8]", "blue [1..3]"]);
    }
}
