//! [`serve()`]: pushes a log to readers elsewhere, and answers what they ask.
//!
//! Each connection has three parts: one listens, one pushes, one writes. What waits to be written is bounded by [`QUEUE_MAX`] frames;
//! then nothing more is read for it. So a slow reader costs a relay some memory, and others nothing.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use protocol::relay::{
    Answer, FRAME_BYTES_MAX, HELLO_BYTES_MAX, Hello, Question, Raw, ToReader, ToRelay, VERSION,
    next_of_reader, put_of_relay,
};
use ring::rand::{SecureRandom, SystemRandom};
use schemas::{
    cursor::{Partition, Place},
    record::{EpochStart, Record, UnixMicros},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    QUESTIONS_MAX, RelayMetrics, SILENCE_MAX, Socket, Trust,
    pipe::{given_up, say, senseless},
};
use crate::{Entry, Read, ReadLimit, Reader, StreamError, raw::encoded};

/// Most readers at a time.
const CONNECTIONS_MAX: usize = 64;
/// Frames that wait to be written, of one connection.
const QUEUE_MAX: usize = 8;
/// What one frame pushes.
const PUSH: ReadLimit = ReadLimit { records_max: 256, bytes_max: 256 << 10 };
/// Most of what one frame answers. Its last record may come on top.
const ANSWER: ReadLimit = ReadLimit { records_max: 4096, bytes_max: FRAME_BYTES_MAX / 8 };
/// A reader has shown who it is by then.
const HELLO_DEADLINE: Duration = Duration::from_secs(5);
/// Before a log that could not be read is read again.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// What every connection needs.
#[derive(Clone)]
struct Relay<R> {
    reader: R,
    trust: Trust,
    metrics: RelayMetrics,
}

/// Serves readers that connect to `listener`, for as long as it is polled.
pub async fn serve<R: Reader + Clone>(
    reader: R,
    listener: TcpListener,
    trust: Trust,
    metrics: RelayMetrics,
) {
    let relay = Relay { reader, trust, metrics };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(err) => {
                tracing::warn!(error = %err, "a reader of the stream could not be accepted");
                sleep(RETRY_DELAY).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!(%peer, "too many readers of the stream");
            continue;
        };
        let relay = relay.clone();
        connections.spawn(async move {
            match relay.attend(socket, peer).await {
                Ok(()) => tracing::info!(%peer, "a reader of the stream has left"),
                Err(err) => tracing::warn!(%peer, error = %err, "a reader of the stream is gone"),
            }
            drop(place);
        });
    }
}

impl<R: Reader + Clone> Relay<R> {
    async fn attend(self, socket: TcpStream, peer: SocketAddr) -> io::Result<()> {
        let late = Instant::now() + HELLO_DEADLINE;
        let address = peer.to_string();
        let mut socket = timeout_at(late, self.trust.wrap(socket, &address)).await??;
        let (hello, input) = timeout_at(late, self.greet(&mut socket)).await??;
        tracing::info!(%peer, "reads the stream from here");
        self.metrics.readers.inc();
        let attended = self.attend_known(socket, input, hello).await;
        self.metrics.readers.dec();
        attended
    }

    /// Finds out who connects. Whoever may not read is told why.
    async fn greet(&self, socket: &mut Box<dyn Socket>) -> io::Result<(Hello, BytesMut)> {
        let mut nonce = [0; 16];
        SystemRandom::new().fill(&mut nonce).map_err(|_| given_up("there is no randomness"))?;
        let mut out = BytesMut::new();
        put_of_relay(&ToReader::Challenge { version: VERSION, nonce }, &mut out);
        socket.write_all(&out).await?;
        socket.flush().await?;
        let mut input = BytesMut::new();
        let hello = loop {
            match next_of_reader(&mut input, HELLO_BYTES_MAX).map_err(senseless)? {
                Some(ToRelay::Hello(hello)) => break hello,
                Some(_) => return Err(given_up("it did not say who it is")),
                None if socket.read_buf(&mut input).await? == 0 => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                None => {}
            }
        };
        let proven =
            self.trust.secret.as_ref().is_none_or(|secret| {
                hello.proof.is_some_and(|proof| secret.is_proven(&nonce, &proof))
            });
        let ours = self.reader.stream_id();
        let why = if hello.version != VERSION {
            Some(format!("version {} is not spoken here, {VERSION} is", hello.version))
        } else if !proven {
            Some("the secret is another one here".to_owned())
        } else if hello.stream.is_some_and(|stream| stream != ours) {
            Some(format!("this is stream {ours}"))
        } else {
            None
        };
        let Some(why) = why else { return Ok((hello, input)) };
        out.clear();
        put_of_relay(&ToReader::Refused(why.clone()), &mut out);
        socket.write_all(&out).await?;
        socket.shutdown().await?;
        Err(given_up(&why))
    }

    async fn attend_known(
        &self,
        socket: Box<dyn Socket>,
        input: BytesMut,
        hello: Hello,
    ) -> io::Result<()> {
        let (read, write) = tokio::io::split(socket);
        let (queue, frames) = mpsc::channel(QUEUE_MAX);
        let out = Out(queue);
        let mut alive = BytesMut::new();
        put_of_relay(&ToReader::Alive, &mut alive);
        let (stream, partitions) = (self.reader.stream_id(), self.reader.partitions());
        out.say(&ToReader::Welcome { stream, partitions }).await?;
        tokio::select! {
            heard = self.listen(read, input, &out) => heard,
            pushed = self.push(&hello.have, &out) => pushed,
            said = say(write, frames, &alive) => said,
        }
    }

    /// Answers what is asked. Ends well when the reader leaves.
    async fn listen(
        &self,
        mut socket: impl AsyncRead + Unpin,
        mut input: BytesMut,
        out: &Out,
    ) -> io::Result<()> {
        let mut questions = JoinSet::new();
        let mut late = Instant::now() + SILENCE_MAX;
        loop {
            while let Some(said) = next_of_reader(&mut input, HELLO_BYTES_MAX).map_err(senseless)? {
                match said {
                    ToRelay::Ask { number, question } => {
                        if questions.len() >= QUESTIONS_MAX {
                            questions.join_next().await;
                        }
                        let (reader, out) = (self.reader.clone(), out.clone());
                        let metrics = self.metrics.clone();
                        questions.spawn(async move {
                            let answer = answer(&reader, question).await;
                            metrics.answered.inc();
                            // If the connection is gone, nobody wants to know.
                            drop(out.say(&ToReader::Answer { number, answer }).await);
                        });
                    }
                    ToRelay::Alive => {}
                    ToRelay::Hello(_) => return Err(given_up("it said twice who it is")),
                }
            }
            tokio::select! {
                read = timeout_at(late, socket.read_buf(&mut input)) => match read {
                    Ok(Ok(0)) => return Ok(()),
                    Ok(read) => {
                        read?;
                        late = Instant::now() + SILENCE_MAX;
                    }
                    Err(_) => return Err(given_up("it is silent")),
                },
                Some(_) = questions.join_next() => {}
            }
        }
    }

    /// Says what is new, from where the reader stands, or from the head.
    async fn push(&self, have: &[Place], out: &Out) -> io::Result<()> {
        let mut reader = self.reader.clone();
        let mut stands = Vec::new();
        for number in 0..reader.partitions() {
            let (partition, have) = (Partition(number), have.get(usize::from(number)).copied());
            let at = match have.filter(|have| *have > Place::START) {
                Some(have) => have,
                None => head(&reader, partition).await?,
            };
            out.say(&ToReader::Base { partition, at }).await?;
            stands.push((partition, at));
        }
        loop {
            let mut more = false;
            for (partition, at) in &mut stands {
                more |= self.push_on(&reader, *partition, at, out).await?;
            }
            if !more {
                reader.changed().await;
            }
        }
    }

    /// One read. Returns whether there may be more.
    async fn push_on(
        &self,
        reader: &R,
        partition: Partition,
        at: &mut Place,
        out: &Out,
    ) -> io::Result<bool> {
        match reader.read_after(partition, *at, PUSH).await {
            Ok(Read::Entries(entries)) => {
                let Some(last) = entries.last() else { return Ok(false) };
                *at = last.place;
                let records: Vec<Raw> = entries.iter().map(encoded).collect();
                let count = u64::try_from(records.len()).unwrap_or(u64::MAX);
                out.say(&ToReader::Pushed { partition, records }).await?;
                self.metrics.pushed.inc_by(count);
                Ok(true)
            }
            Ok(Read::Gap { resume }) => {
                *at = resume;
                out.say(&ToReader::Base { partition, at: resume }).await?;
                Ok(true)
            }
            Err(StreamError::Read { source }) => {
                tracing::debug!(error = source, "the stream cannot be read for others");
                sleep(RETRY_DELAY).await;
                Ok(true)
            }
            Err(err) => Err(io::Error::other(err)),
        }
    }
}

/// Where frames go.
#[derive(Clone)]
struct Out(mpsc::Sender<BytesMut>);

impl Out {
    async fn say(&self, message: &ToReader) -> io::Result<()> {
        let mut frame = BytesMut::new();
        put_of_relay(message, &mut frame);
        self.0.send(frame).await.map_err(|_| given_up("nobody writes any more"))
    }
}

/// The head, as soon as the log says where it is.
async fn head<R: Reader>(reader: &R, partition: Partition) -> io::Result<Place> {
    loop {
        match reader.head(partition).await {
            Ok(head) => return Ok(head),
            Err(StreamError::Read { .. }) => sleep(RETRY_DELAY).await,
            Err(err) => return Err(io::Error::other(err)),
        }
    }
}

/// No more than what goes into a frame.
fn limit_of(records_max: u32, bytes_max: u32) -> ReadLimit {
    let number = |it: u32| usize::try_from(it).unwrap_or(usize::MAX);
    ReadLimit {
        records_max: number(records_max).min(ANSWER.records_max),
        bytes_max: number(bytes_max).min(ANSWER.bytes_max),
    }
}

async fn answer<R: Reader>(reader: &R, question: Question) -> Answer {
    let known = |partition: Partition| {
        let there = partition.0 < reader.partitions();
        let what = format!("there is no partition {partition}");
        there.then_some(partition).ok_or(StreamError::Damaged { what })
    };
    let answered = async {
        Ok(match question {
            Question::Read { partition, after, records_max, bytes_max } => {
                let limit = limit_of(records_max, bytes_max);
                match reader.read_after(known(partition)?, after, limit).await? {
                    Read::Entries(entries) => {
                        Answer::Records(entries.iter().map(encoded).collect())
                    }
                    Read::Gap { resume } => Answer::Gap { resume },
                }
            }
            Question::Head { partition } => Answer::Place(reader.head(known(partition)?).await?),
            Question::Seek { partition, at } => {
                Answer::Place(reader.seek(known(partition)?, at).await?)
            }
            Question::Epochs => {
                Answer::Epochs(reader.epochs().await?.into_iter().map(announced).collect())
            }
        })
    };
    match timeout(super::link::ANSWER_DEADLINE, answered).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(StreamError::Read { source })) => Answer::Failed(source.to_string()),
        Ok(Err(err)) => Answer::Damaged(err.to_string()),
        Err(_) => Answer::Failed("the relay's log does not answer".to_owned()),
    }
}

/// An epoch of the table, as the record that announced it.
fn announced(start: EpochStart) -> Raw {
    let (place, appended_at) = (Place::START, UnixMicros(0));
    encoded(&Entry { place, appended_at, record: Record::Epoch(start) })
}
