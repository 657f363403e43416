//! What is the same for every kind of source: the walk and the reads that miss go on when a connection breaks.

use std::{error::Error, io, sync::Arc, time::Duration};

use bytes::BytesMut;
use protocol::control::wire::Copy;
use schemas::key::Key;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{
    Ask, Socket, SourceKind, Warm,
    plan::{Answer, Next},
};
use crate::copies::add;

/// A source that says nothing for so long is given up.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Before a source that broke is tried again, for those who wait.
const RECONNECT: Duration = Duration::from_millis(500);
/// A connection that nobody needs says something at least so often.
const SILENCE_MAX: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 64 << 10;

/// A walk through everything that a source has.
pub(super) trait Walk: Default + Send {
    type Error: Error + Send + 'static;

    /// Looks at so many more entries, and connects first where it is not connected; no entries: says how the source is.
    fn go_on(
        &mut self,
        warm: &Warm,
        number: usize,
        looks: u32,
    ) -> impl Future<Output = Result<Answer, Self::Error>> + Send;

    /// After an error: whatever was connected is of no use any more.
    fn broke(&mut self);
}

/// Whom those ask who miss a key.
pub(super) trait Giver: Sized + Send {
    type Error: Error + Send + 'static;
    const KIND: SourceKind;

    fn open(warm: &Warm, number: usize) -> impl Future<Output = Result<Self, Self::Error>> + Send;

    /// Copies of those keys that are there.
    fn copies(
        &mut self,
        keys: Vec<Key>,
    ) -> impl Future<Output = Result<Vec<Copy>, Self::Error>> + Send;

    /// Says that the connection is still wanted.
    fn stay(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Walks as the plan allows, until it is over.
pub(super) async fn walk<W: Walk>(warm: Arc<Warm>, number: usize) {
    let (mut walk, mut failing) = (W::default(), false);
    loop {
        let now = warm.clock.read().0.moment;
        let next = warm.plan().next(now, number);
        let looks = match next {
            Next::Over => return,
            Next::Wait(wait) => {
                sleep(wait).await;
                continue;
            }
            Next::Walk(looks) => looks,
        };
        let answered = walk.go_on(&warm, number, looks).await;
        let now = warm.clock.read().0.moment;
        match answered {
            Ok(answer) => {
                failing = false;
                warm.plan().answered(now, number, &answer);
            }
            Err(err) => {
                walk.broke();
                warm.plan().failed(now, number);
                if !failing {
                    say_failed(&warm, number, &err);
                }
                failing = true;
            }
        }
    }
}

/// Asks for what reads miss, a batch at a time, until nobody can ask any more.
pub(super) async fn answer_misses<G: Giver>(warm: Arc<Warm>, number: usize) {
    let Some(mut waiting) = warm.waiting(number) else { return };
    loop {
        match G::open(&warm, number).await {
            Ok(mut giver) => {
                warm.is_up(number);
                let broke = serve(&warm, &mut giver, &mut waiting).await;
                warm.is_down(number);
                let Err(err) = broke else { return };
                tracing::debug!(error = %err, "a source for misses broke");
            }
            Err(err) => tracing::debug!(error = %err, "a source for misses is not there"),
        }
        // Whoever waits goes on without.
        while waiting.try_recv().is_ok() {}
        sleep(RECONNECT).await;
    }
}

async fn serve<G: Giver>(
    warm: &Warm,
    giver: &mut G,
    waiting: &mut mpsc::Receiver<Ask>,
) -> Result<(), G::Error> {
    loop {
        let first = match timeout(SILENCE_MAX, waiting.recv()).await {
            Ok(Some(first)) => first,
            Ok(None) => return Ok(()),
            Err(_) => {
                giver.stay().await?;
                continue;
            }
        };
        let asks = warm.gather(first, waiting);
        if !asks.is_empty() {
            let copies = giver.copies(asks.keys().cloned().collect()).await?;
            add(&warm.node.copies().kept_by_miss, warm.keep(&copies, G::KIND).kept);
        }
        drop(asks);
    }
}

fn say_failed(warm: &Warm, number: usize, err: &dyn Error) {
    let source = warm.settings.sources.get(number).map(|source| &*source.address);
    let cause = err.source().map(ToString::to_string);
    tracing::warn!(source, error = %err, cause, "nothing comes from a node of the warm cluster");
}

/// A connection: everything on it has a deadline.
pub(super) struct Line {
    socket: Box<dyn Socket>,
    /// What has come and was not taken yet.
    pub(super) input: BytesMut,
}

impl Line {
    pub(super) async fn open(warm: &Warm, number: usize) -> io::Result<Line> {
        let source = warm.settings.sources.get(number).ok_or(io::ErrorKind::NotFound)?;
        let socket = in_time((warm.connect)(source)).await?;
        Ok(Line { socket, input: BytesMut::new() })
    }

    pub(super) async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        in_time(self.socket.write_all(bytes)).await?;
        in_time(self.socket.flush()).await
    }

    /// Waits for more.
    pub(super) async fn fill(&mut self) -> io::Result<()> {
        self.input.reserve(READ_BYTES);
        let read = in_time(self.socket.read_buf(&mut self.input)).await?;
        if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(ANSWER_DEADLINE, work).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
