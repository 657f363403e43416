//! The reader's side of a connection: made, kept, and made again.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::BytesMut;
use protocol::relay::{
    Answer, Hello, Question, Raw, ToReader, ToRelay, VERSION, next_of_relay, put_of_reader,
};
use schemas::cursor::{Partition, Place, StreamId};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    QUESTIONS_MAX, SILENCE_MAX, Settings, Socket,
    pipe::{given_up, say, senseless},
};
use crate::window::{Pushed, Window};

/// Bytes of records that the windows of all partitions hold.
const WINDOWS_BYTES_MAX: usize = 32 << 20;
/// Until a relay has said that it relays.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// How long a relay may take to answer.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Waits after no relay has answered: doubled from the first to the last.
const ROUND_DELAY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A question, and who wants to know.
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) tell: oneshot::Sender<Answer>,
}

/// The newest records of all partitions.
#[derive(Debug)]
pub(super) struct Heads {
    /// One for each partition, as soon as a relay has said where it begins; each lock guards one, and is held for copying only.
    windows: Vec<Mutex<Option<Window>>>,
    bytes_max: usize,
    pub(super) appended: watch::Sender<u64>,
}

/// What the link is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Since then.
    Away(Instant),
    /// Something was pushed then, or it was connected.
    Near(Instant),
}

/// See the module.
pub(super) struct Link {
    pub(super) settings: Settings,
    pub(super) log: (StreamId, u16),
    pub(super) heads: Arc<Heads>,
    pub(super) asked: mpsc::Receiver<Asked>,
    pub(super) state: watch::Sender<State>,
}

/// A relay that has welcomed us.
pub(super) struct Connection {
    socket: Box<dyn Socket>,
    input: BytesMut,
    pub(super) log: (StreamId, u16),
}

impl Heads {
    pub(super) fn new(partitions: u16, appended: watch::Sender<u64>) -> Heads {
        let windows = (0..partitions).map(|_| Mutex::new(None)).collect();
        Heads { windows, bytes_max: WINDOWS_BYTES_MAX / usize::from(partitions.max(1)), appended }
    }

    /// Looks at a partition's window; `None` if there is none (yet).
    pub(super) fn with<T>(
        &self,
        partition: Partition,
        look: impl FnOnce(&mut Window) -> T,
    ) -> Option<T> {
        let window = self.windows.get(usize::from(partition.0))?;
        window.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(look)
    }

    /// The newest record of each partition.
    fn have(&self) -> Vec<Place> {
        let partitions = (0..).zip(&self.windows).map(|(number, _)| Partition(number));
        partitions.map(|it| self.with(it, |window| window.last()).unwrap_or(Place::START)).collect()
    }

    /// What comes next comes behind `at`.
    fn begin(&self, partition: Partition, at: Place) {
        if self.with(partition, |window| window.last()) == Some(at) {
            return;
        }
        if let Some(window) = self.windows.get(usize::from(partition.0)) {
            *window.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(Window::new(at, self.bytes_max));
        }
        self.tell();
    }

    fn tell(&self) {
        self.appended.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Link {
    /// Goes on from one relay to the next, for as long as it is polled. `first` is made already.
    pub(super) async fn run(mut self, first: Option<Connection>) {
        let mut made = first;
        let (mut delay, mut at) = (ROUND_DELAY.0, 0_usize);
        loop {
            let connection = match made.take() {
                Some(connection) => Ok(connection),
                None => self.connect(at).await,
            };
            match connection {
                Ok(connection) => {
                    delay = ROUND_DELAY.0;
                    self.settings.metrics.connections.inc();
                    let err = self.keep(connection).await;
                    tracing::warn!(relay = self.address(at), error = %err, "the relay is gone");
                }
                Err(err) => {
                    tracing::debug!(relay = self.address(at), error = %err, "no relay");
                }
            }
            at = at.wrapping_add(1);
            if at % self.settings.addresses.len().max(1) == 0 {
                sleep(delay).await;
                delay = (delay * 2).min(ROUND_DELAY.1);
            }
        }
    }

    fn address(&self, at: usize) -> &str {
        let number = at % self.settings.addresses.len().max(1);
        self.settings.addresses.get(number).map_or("", String::as_str)
    }

    async fn connect(&self, at: usize) -> io::Result<Connection> {
        let connecting =
            connect(&self.settings, self.address(at), Some(self.log), self.heads.have());
        timeout(CONNECT_DEADLINE, connecting).await?
    }

    /// Until it breaks, and why.
    async fn keep(&mut self, connection: Connection) -> io::Error {
        self.settings.metrics.connected.set(1);
        self.state.send_replace(State::Near(Instant::now()));
        let Connection { socket, input, .. } = connection;
        let (read, write) = tokio::io::split(socket);
        let (queue, frames) = mpsc::channel(QUESTIONS_MAX);
        let mut alive = BytesMut::new();
        put_of_reader(&ToRelay::Alive, &mut alive);
        let ended = tokio::select! {
            heard = self.listen(read, input, queue) => heard,
            said = say(write, frames, &alive) => said,
        };
        self.settings.metrics.connected.set(0);
        self.state.send_replace(State::Away(Instant::now()));
        ended.err().unwrap_or_else(|| given_up("it is over"))
    }

    async fn listen(
        &mut self,
        mut socket: impl tokio::io::AsyncRead + Unpin,
        mut input: BytesMut,
        queue: mpsc::Sender<BytesMut>,
    ) -> io::Result<()> {
        // Dropped with the connection: whoever waits learns that there will be no answer.
        let mut waiting: HashMap<u64, oneshot::Sender<Answer>> = HashMap::new();
        let mut numbers = 0_u64..;
        let mut late = Instant::now() + SILENCE_MAX;
        loop {
            while let Some(said) = next_of_relay(&mut input).map_err(senseless)? {
                if let Some((number, answer)) = self.hear(said)?
                    && let Some(tell) = waiting.remove(&number)
                {
                    // Whoever asked may not want to know any more.
                    drop(tell.send(answer));
                }
            }
            tokio::select! {
                read = timeout_at(late, socket.read_buf(&mut input)) => match read {
                    Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(read) => {
                        read?;
                        late = Instant::now() + SILENCE_MAX;
                    }
                    Err(_) => return Err(given_up("it is silent")),
                },
                Some(Asked { question, tell }) = self.asked.recv(), if waiting.len() < QUESTIONS_MAX => {
                    let Some(number) = numbers.next() else { continue };
                    let mut frame = BytesMut::new();
                    put_of_reader(&ToRelay::Ask { number, question }, &mut frame);
                    self.settings.metrics.asked.inc();
                    // If there is no room, it is not asked, and whoever wants to know learns that.
                    if queue.try_send(frame).is_ok() {
                        waiting.insert(number, tell);
                    }
                }
            }
            waiting.retain(|_, tell| !tell.is_closed());
        }
    }

    /// Takes what was pushed; returns an answer.
    fn hear(&self, said: ToReader) -> io::Result<Option<(u64, Answer)>> {
        match said {
            ToReader::Base { partition, at } => self.heads.begin(partition, at),
            ToReader::Pushed { partition, records } => self.take(partition, records)?,
            ToReader::Answer { number, answer } => return Ok(Some((number, answer))),
            ToReader::Alive => {}
            ToReader::Refused(why) => return Err(given_up(&why)),
            ToReader::Challenge { .. } | ToReader::Welcome { .. } => {
                return Err(given_up("it said twice who it is"));
            }
        }
        Ok(None)
    }

    fn take(&self, partition: Partition, records: Vec<Raw>) -> io::Result<()> {
        let metrics = &self.settings.metrics;
        let now = (self.settings.now)().0;
        for raw in records {
            let (place, appended_at) = (raw.place, raw.appended_at.0);
            let pushed = self.heads.with(partition, |window| window.push(raw));
            let Some(pushed) = pushed else {
                return Err(given_up("it did not say where a partition begins"));
            };
            metrics.received.inc();
            metrics
                .delay
                .observe(Duration::from_micros(now.saturating_sub(appended_at)).as_secs_f64());
            if pushed == Pushed::Hole {
                metrics.holes.inc();
                tracing::error!(%partition, %place, "records are missing in what the relay pushes");
            }
        }
        self.state.send_replace(State::Near(Instant::now()));
        self.heads.tell();
        Ok(())
    }
}

/// Connects, shows who we are, and hears which log it is.
pub(super) async fn connect(
    settings: &Settings,
    address: &str,
    log: Option<(StreamId, u16)>,
    have: Vec<Place>,
) -> io::Result<Connection> {
    let socket = TcpStream::connect(address).await?;
    let mut socket = settings.trust.wrap(socket, address).await?;
    let mut input = BytesMut::new();
    let ToReader::Challenge { version, nonce } = read(&mut socket, &mut input).await? else {
        return Err(given_up("it is no relay"));
    };
    if version != VERSION {
        return Err(given_up(&format!("it speaks version {version}, and we {VERSION}")));
    }
    let proof = settings.trust.secret.as_ref().map(|secret| secret.prove(&nonce));
    let stream = log.map(|(stream, _)| stream);
    let mut out = BytesMut::new();
    put_of_reader(&ToRelay::Hello(Hello { version: VERSION, proof, stream, have }), &mut out);
    socket.write_all(&out).await?;
    socket.flush().await?;
    match read(&mut socket, &mut input).await? {
        ToReader::Welcome { stream, partitions } => {
            let found = (stream, partitions);
            if log.is_some_and(|log| log != found) {
                return Err(given_up(&format!("it relays {stream}, of {partitions} partitions")));
            }
            Ok(Connection { socket, input, log: found })
        }
        ToReader::Refused(why) => Err(given_up(&why)),
        _ => Err(given_up("it did not welcome us")),
    }
}

async fn read(socket: &mut Box<dyn Socket>, input: &mut BytesMut) -> io::Result<ToReader> {
    loop {
        if let Some(said) = next_of_relay(input).map_err(senseless)? {
            return Ok(said);
        }
        if socket.read_buf(input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The first relay that answers; else why the last one did not.
pub(super) async fn first(settings: &Settings) -> io::Result<Connection> {
    let mut why = given_up("no relay is named");
    for address in &settings.addresses {
        let connecting = connect(settings, address, settings.log, Vec::new());
        match timeout(CONNECT_DEADLINE, connecting).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(err)) => why = io::Error::new(err.kind(), format!("{address}: {err}")),
            Err(_) => why = given_up(&format!("{address}: no answer")),
        }
    }
    Err(why)
}
