//! A log read over a relay: what every backend must do, and what may become of connections.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod suite;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use bytes::BytesMut;
use protocol::{
    control::Secret,
    relay::{
        Answer, Question, Raw, ToReader, ToRelay, VERSION, next_of_reader, next_of_relay,
        put_of_relay,
    },
};
use schemas::{
    cursor::{Partition, Place, StreamId},
    record::{self, UnixMicros},
};
use stream::{
    Entry, Read, ReadLimit, Reader, StreamError, Writer,
    embedded::{Embedded, EmbeddedReader, Options},
    relay::{self, RelayMetrics, RelayReader, Settings, Trust},
};
use suite::{Home as _, numbered, read_all};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{sleep, timeout},
};

const OPTIONS: Options = Options {
    partitions: suite::PARTITIONS,
    retention_bytes: 1 << 40,
    retention_age: Duration::from_secs(1 << 30),
    now: suite::now,
};
const LIMIT: ReadLimit = ReadLimit { records_max: 100, bytes_max: 1 << 20 };
/// Far more than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// A file in a folder of its own; every reader of it has a relay of its own.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("s.db")
    }

    fn log(&self) -> EmbeddedReader {
        Embedded::read_only(&self.path()).unwrap()
    }

    /// A relay of it.
    async fn relay(&self, trust: Trust) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = relay::serve(self.log(), listener, trust, RelayMetrics::default());
        Relay { address, task: tokio::spawn(serving) }
    }
}

struct Relay {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// Reads from the first of `addresses` that relays.
async fn reader(
    addresses: &[SocketAddr],
    secret: Option<&[u8]>,
    log: Option<(StreamId, u16)>,
) -> Result<RelayReader, StreamError> {
    let secret = secret.map(|secret| Secret::new(secret).unwrap());
    RelayReader::open(Settings {
        addresses: addresses.iter().map(ToString::to_string).collect(),
        trust: Trust { secret, wrap: None },
        log,
        now: suite::now,
        metrics: RelayMetrics::default(),
    })
    .await
}

impl suite::Home for Folder {
    type Writer = Embedded;
    type Reader = RelayReader;
    type Cursors = Embedded;

    async fn lead(&self) -> Embedded {
        Embedded::open(&self.path(), OPTIONS).unwrap()
    }

    async fn reader(&self) -> RelayReader {
        reader(&[self.relay(Trust::default()).await.address], None, None).await.unwrap()
    }

    async fn cursors(&self, writer: &Embedded) -> Embedded {
        writer.clone()
    }

    async fn desk(&self) -> stream::Desk {
        stream::Desk::of_file(&self.path())
    }

    async fn forget(&self, keep: u64) {
        let connection = rusqlite::Connection::open(self.path()).unwrap();
        let oldest = "DELETE FROM records WHERE partition = 0 AND id NOT IN
                      (SELECT id FROM records WHERE partition = 0 ORDER BY id DESC LIMIT ?1)";
        connection.execute(oldest, [keep.cast_signed()]).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn does_what_every_backend_must() {
    suite::all(async || Folder::new()).await;
}

/// Follows the partition from `place` on until it has read `until`; there may be no gap.
async fn follow(reader: &mut RelayReader, mut place: Place, until: u64) -> (Place, Vec<u64>) {
    let mut found = Vec::new();
    let following = async {
        while found.last() != Some(&until) {
            match reader.read_after(Partition(0), place, LIMIT).await {
                Ok(Read::Entries(entries)) if entries.is_empty() => reader.changed().await,
                Ok(Read::Entries(entries)) => {
                    place = entries[entries.len() - 1].place;
                    found.extend(entries.iter().filter_map(|it| suite::number(&it.record)));
                }
                Ok(Read::Gap { resume }) => panic!("a gap up to {resume}"),
                Err(StreamError::Read { .. }) => sleep(Duration::from_millis(10)).await,
                Err(err) => panic!("{err}"),
            }
        }
    };
    timeout(DEADLINE, following).await.expect("it goes on");
    (place, found)
}

#[tokio::test]
async fn the_next_relay_goes_on_where_the_one_before_stopped() {
    let folder = Folder::new();
    let writer = folder.lead().await;
    let (one, two) = (folder.relay(Trust::default()).await, folder.relay(Trust::default()).await);
    let mut reader = reader(&[one.address, two.address], None, None).await.unwrap();
    let mut place = reader.head(Partition(0)).await.unwrap();
    for (number, task) in [(1, one.task), (3, two.task)] {
        suite::append(&writer, 0, number).await;
        let (at, found) = follow(&mut reader, place, number).await;
        assert_eq!(found, [number]);
        // What is appended meanwhile is there when the next one is.
        task.abort();
        suite::append(&writer, 0, number + 1).await;
        place = at;
        if number == 1 {
            let (at, found) = follow(&mut reader, place, 2).await;
            assert_eq!(found, [2]);
            place = at;
        }
    }
    // Nobody relays: nothing new is known, and what is asked cannot be answered.
    let asked = timeout(DEADLINE, async {
        while reader.head(Partition(0)).await.is_ok() {
            sleep(Duration::from_millis(10)).await;
        }
        reader.read_after(Partition(0), place, LIMIT).await
    });
    assert_eq!(asked.await.unwrap().unwrap(), Read::Entries(Vec::new()), "no gap, no end");
}

#[tokio::test]
async fn only_who_knows_the_secret_reads() {
    let folder = Folder::new();
    let writer = folder.lead().await;
    let secret = b"0123456789abcdef";
    let trust = Trust { secret: Some(Secret::new(secret).unwrap()), wrap: None };
    let address = folder.relay(trust).await.address;
    for wrong in [None, Some(b"0123456789abcdeg".as_slice())] {
        let refused = reader(&[address], wrong, None).await.unwrap_err();
        let StreamError::Read { source } = refused else { panic!("{refused}") };
        assert!(source.to_string().contains("the secret is another one"), "{source}");
    }
    let right = reader(&[address], Some(secret), None).await.unwrap();
    assert_eq!(right.stream_id(), writer.stream_id());
    // Nor does a relay of another log serve whoever knows which one it is.
    let other = (StreamId(writer.stream_id().0 ^ 1), suite::PARTITIONS);
    let misled = reader(&[address], Some(secret), Some(other)).await.unwrap();
    sleep(Duration::from_millis(300)).await;
    assert!(!misled.is_near());
    assert!(misled.head(Partition(0)).await.is_err());
}

/// Takes connections, welcomes, says where partitions begin, and then does as told.
async fn strange(
    log: (StreamId, u16),
    behave: impl AsyncFn(&mut TcpStream, ToRelay) + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut out = BytesMut::new();
            put_of_relay(&ToReader::Challenge { version: VERSION, nonce: [0; 16] }, &mut out);
            put_of_relay(&ToReader::Welcome { stream: log.0, partitions: log.1 }, &mut out);
            for number in 0..log.1 {
                let base = ToReader::Base { partition: Partition(number), at: Place::START };
                put_of_relay(&base, &mut out);
            }
            if socket.write_all(&out).await.is_err() {
                continue;
            }
            let mut input = BytesMut::new();
            loop {
                let next = next_of_reader(&mut input, 1 << 20);
                match next.unwrap() {
                    Some(said) => behave(&mut socket, said).await,
                    None if socket.read_buf(&mut input).await.unwrap_or(0) == 0 => break,
                    None => {}
                }
            }
        }
    });
    address
}

#[tokio::test]
async fn a_relay_that_is_silent_is_left() {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let folder = Folder::new();
            let writer = folder.lead().await;
            let log = (writer.stream_id(), suite::PARTITIONS);
            // It takes everything, and says nothing any more.
            let silent = strange(log, async |_, _| {}).await;
            let good = folder.relay(Trust::default()).await.address;
            let mut reader = reader(&[silent, good], None, None).await.unwrap();
            suite::append(&writer, 0, 7).await;
            // Without asking: that it is silent is noticed nonetheless.
            let (_, found) = follow(&mut reader, Place::START, 7).await;
            assert_eq!(found, [7]);
        })
        .await;
}

#[tokio::test]
async fn what_does_not_join_is_never_skipped() {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let log = (StreamId(9), 1);
            let record = |sequence| {
                let place = Place { term: schemas::cursor::Term(1), sequence };
                let mut payload = Vec::new();
                record::encode(&numbered(sequence), &mut payload);
                let (appended_at, format) = (UnixMicros(1), record::FORMAT_VERSION);
                Raw { place, appended_at, format, payload: payload.into() }
            };
            // It pushes two records between which one is missing, and knows of nothing else.
            let lossy = strange(log, async move |socket, said| {
                let answer = match said {
                    ToRelay::Hello(_) => ToReader::Pushed {
                        partition: Partition(0),
                        records: vec![record(3), record(5)],
                    },
                    ToRelay::Ask { number, question: Question::Read { after, .. } } => {
                        let answer = Answer::Gap { resume: Place { sequence: 4, ..after } };
                        ToReader::Answer { number, answer }
                    }
                    _ => ToReader::Alive,
                };
                let mut out = BytesMut::new();
                put_of_relay(&answer, &mut out);
                // Whoever has left hears nothing.
                drop(socket.write_all(&out).await);
            })
            .await;
            let mut reader = reader(&[lossy], None, None).await.unwrap();
            timeout(DEADLINE, reader.changed()).await.unwrap();
            let at = |sequence| Place { term: schemas::cursor::Term(1), sequence };
            let entry = Entry { place: at(5), appended_at: UnixMicros(1), record: numbered(5) };
            let five = Read::Entries(vec![entry]);
            let pushed = async {
                while reader.read_after(Partition(0), at(4), LIMIT).await.unwrap() != five {
                    sleep(Duration::from_millis(10)).await;
                }
            };
            timeout(DEADLINE, pushed).await.expect("what is behind the hole is there");
            let gap = reader.read_after(Partition(0), at(3), LIMIT).await.unwrap();
            assert_eq!(gap, Read::Gap { resume: at(4) }, "whoever stood before it is told");
        })
        .await;
}

#[tokio::test]
async fn foreign_bytes_and_silent_readers_cost_nobody_anything() {
    let folder = Folder::new();
    let writer = folder.lead().await;
    let address = folder.relay(Trust::default()).await.address;
    for said in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0, 0, 1, 9], &[0, 0, 0, 1, 3], b""] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(said).await.unwrap();
        let mut input = BytesMut::new();
        let closed = timeout(DEADLINE, async {
            while socket.read_buf(&mut input).await.unwrap_or(0) > 0 {}
        });
        closed.await.expect("it closes");
        let challenge = next_of_relay(&mut input).unwrap();
        assert!(matches!(challenge, Some(ToReader::Challenge { .. })), "{challenge:?}");
    }
    suite::append(&writer, 0, 1).await;
    let reader = reader(&[address], None, None).await.unwrap();
    assert_eq!(read_all(&reader, 0, Place::START).await.1, 0);
}
