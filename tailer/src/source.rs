//! The source's socket: connecting, and the stream of binlog events. All of `mysql_async` that tailing needs is here.
//!
//! The library connects, authenticates, encrypts and asks for the dump; its decoding is not used. What it gets wrong is
//! mended here: it has no read deadline, does not check checksums, and panics on truncated events (so it runs in a task
//! of its own). It also unpacks compressed transactions, in memory; those copies are passed over, because
//! [`binlog::assemble::Assembler`] unpacks them itself and notices when it cannot.

use std::time::Duration;

use binlog::frame::{self, FrameError, Header};
use futures_util::{FutureExt, StreamExt};
use mysql_async::{
    BinlogStream, BinlogStreamRequest, Conn, GnoInterval, Opts, OptsBuilder, Sid, SslOpts,
    binlog::{BinlogChecksumAlg, events::Event},
    prelude::Queryable,
};
use schemas::{
    gtid::{Dialect, GtidSet, MysqlGtidSet},
    record::FilePosition,
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use crate::settings::{Settings, Tls};

/// Largest packet that is taken; the protocol's own limit. With less, one large row would end the stream for ever.
const PACKET_BYTES_MAX: usize = 1 << 30;
/// Connecting and each question take at most this long.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// How long the server waits for us while the stream is slow, before it gives us up.
const SERVER_PATIENCE_S: u32 = 600;
/// Events that are handed on together.
const CHUNK_EVENTS_MAX: usize = 512;
/// Likewise, in bytes.
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Chunks that wait.
const CHUNKS_MAX: usize = 4;

const ROTATE: u8 = 4;
const FORMAT_DESCRIPTION: u8 = 15;
const TRANSACTION_PAYLOAD: u8 = 40;

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
            SourceError::Lost(_)
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

fn opts(settings: &Settings) -> Opts {
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
        .max_allowed_packet(Some(PACKET_BYTES_MAX))
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

/// Turns the connection into a stream of events.
pub(crate) async fn dump(
    mut conn: Conn,
    settings: &Settings,
    dialect: Dialect,
    from: Resume<'_>,
) -> Result<Reader, SourceError> {
    let starting = async {
        conn.query_drop(session(settings, dialect, from)).await?;
        let request = BinlogStreamRequest::new(settings.server_id);
        let request = match from {
            Resume::Executed(GtidSet::Mysql(set)) => request.with_gtid().with_gtid_set(sids(set)?),
            // MariaDB goes by the session variable, and looks at neither file nor offset.
            Resume::Executed(GtidSet::MariaDb(_)) => request.with_pos(4),
            Resume::Position(at) => {
                // A dump cannot start beyond 4 GiB. From the start of the file, changes come twice, and none is lost.
                let offset = if at.offset > u64::from(u32::MAX) { 4 } else { at.offset.max(4) };
                request.with_filename(at.file.as_bytes()).with_pos(offset)
            }
        };
        Ok::<_, SourceError>(conn.get_binlog_stream(request).await?)
    };
    let stream = timeout(ANSWER_DEADLINE, starting)
        .await
        .map_err(|_| SourceError::Silent(ANSWER_DEADLINE))??;
    let (chunks, received) = mpsc::channel(CHUNKS_MAX);
    let deadline = settings.read_deadline();
    let task = tokio::spawn(async move {
        let last = read(stream, deadline, &chunks).await;
        // If nobody listens any more, nobody wants to know why it ended.
        drop(chunks.send(Err(last)).await);
    });
    Ok(Reader { received, task })
}

/// Everything that the library does not set by itself.
fn session(settings: &Settings, dialect: Dialect, from: Resume<'_>) -> String {
    let heartbeat_ns = settings.heartbeat.as_nanos();
    let common = format!(
        "SET @master_heartbeat_period={heartbeat_ns}, @source_heartbeat_period={heartbeat_ns}, \
         @@session.net_write_timeout={SERVER_PATIENCE_S}"
    );
    // 4: we understand GTID events; otherwise the server rewrites them, and fails on XA.
    let capability = "@mariadb_slave_capability=4";
    match (dialect, from) {
        (Dialect::Mysql, _) => common,
        // The set's text has digits, dashes and commas only.
        (Dialect::MariaDb, Resume::Executed(executed)) => {
            format!(
                "{common}, {capability}, @slave_connect_state='{executed}', @slave_gtid_strict_mode=0"
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
    received: mpsc::Receiver<Result<Vec<RawEvent>, SourceError>>,
    task: JoinHandle<()>,
}

impl Reader {
    /// The next events, at least one.
    pub(crate) async fn next(&mut self) -> Result<Vec<RawEvent>, SourceError> {
        match self.received.recv().await {
            Some(chunk) => chunk,
            None => Err(SourceError::Broken("the library cannot read an event".to_owned())),
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

/// Hands on events until something is wrong; backs up while nobody takes them.
async fn read(
    mut stream: BinlogStream,
    deadline: Duration,
    chunks: &mpsc::Sender<Result<Vec<RawEvent>, SourceError>>,
) -> SourceError {
    let mut sieve = Sieve { in_payload: false };
    loop {
        let (mut chunk, mut bytes) = (Vec::new(), 0_usize);
        let mut failure = None;
        let mut next = match timeout(deadline, stream.next()).await {
            Ok(next) => Some(next),
            Err(_) => return SourceError::Silent(deadline),
        };
        while let Some(event) = next.take() {
            match event.map_or(Err(SourceError::Ended), |event| sieve.take(event?)) {
                Ok(event) => {
                    bytes = bytes
                        .saturating_add(event.as_ref().map_or(0, |event| event.event.data().len()));
                    chunk.extend(event);
                }
                Err(error) => failure = Some(error),
            }
            if failure.is_none() && chunk.len() < CHUNK_EVENTS_MAX && bytes < CHUNK_BYTES_MAX {
                next = stream.next().now_or_never();
            }
        }
        if !chunk.is_empty() && chunks.send(Ok(chunk)).await.is_err() {
            return SourceError::Ended;
        }
        if let Some(failure) = failure {
            return failure;
        }
    }
}

/// An event that is whole.
#[derive(Debug)]
pub(crate) struct RawEvent {
    header: Header,
    event: Event,
    /// In place of the event's data, of which the library took away something.
    body: Option<Vec<u8>>,
}

impl RawEvent {
    /// For the assembler.
    pub(crate) fn as_event(&self) -> frame::Event<'_> {
        let body = self.body.as_deref().unwrap_or(self.event.data());
        frame::Event { header: self.header, body }
    }
}

/// Checks events, and passes over the library's own.
struct Sieve {
    /// The last real event was a compressed transaction: copies of what is in it may follow.
    in_payload: bool,
}

impl Sieve {
    fn take(&mut self, event: Event) -> Result<Option<RawEvent>, SourceError> {
        let from = event.header();
        let header = Header {
            timestamp_s: from.timestamp(),
            kind: from.event_type_raw(),
            server_id: from.server_id(),
            event_bytes: from.event_size(),
            end_position: from.log_pos(),
            flags: from.flags_raw(),
        };
        // Inside of a payload, events have no position; of those on the wire, only a server's artificial ones have none.
        if self.in_payload
            && header.end_position == 0
            && !matches!(header.kind, ROTATE | FORMAT_DESCRIPTION)
        {
            return Ok(None);
        }
        self.in_payload = header.kind == TRANSACTION_PAYLOAD;
        let mut body = None;
        if header.kind == FORMAT_DESCRIPTION
            && let Ok(Some(algorithm)) = event.footer().get_checksum_alg()
        {
            let mut whole = event.data().to_vec();
            whole.push(match algorithm {
                BinlogChecksumAlg::BINLOG_CHECKSUM_ALG_OFF => 0,
                BinlogChecksumAlg::BINLOG_CHECKSUM_ALG_CRC32 => 1,
            });
            body = Some(whole);
        }
        if let Some(checksum) = event.checksum() {
            frame::verify(&header, body.as_deref().unwrap_or(event.data()), checksum)
                .map_err(|source| SourceError::Damaged { position: header.end_position, source })?;
        }
        Ok(Some(RawEvent { header, event, body }))
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
