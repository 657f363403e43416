//! One connection: reads, executes everything that the read brought, answers with one write.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::{
    clock::Clock,
    session::{Session, Todo},
};
use crate::warm::Warm;

/// How a server tells its connections that it drains: whoever is between two commands leaves.
#[derive(Clone, Debug, Default)]
pub(super) struct Drain {
    begun: Arc<AtomicBool>,
    told: CancellationToken,
}

impl Drain {
    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.told.cancel();
    }
}

/// A connection that listens whether the server drains. It is asked before every read that has to wait, so it takes the lock of those
/// who are told only once: from then on it is woken, and looks.
struct Listener<'d> {
    drain: &'d Drain,
    told: Pin<Box<WaitForCancellationFuture<'d>>>,
    waits: bool,
}

impl<'d> Listener<'d> {
    fn new(drain: &'d Drain) -> Listener<'d> {
        Listener { drain, told: Box::pin(drain.told.cancelled()), waits: false }
    }

    /// Ready as soon as the server drains. All calls must come from one task.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !std::mem::replace(&mut self.waits, true) {
            return self.told.as_mut().poll(context);
        }
        if self.drain.begun.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// What a connection shares with its worker.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    pub(super) clock: Clock,
    pub(super) drain: Drain,
    /// Somebody told the server to stop.
    pub(super) stop: CancellationToken,
    /// Whoever neither sends nor takes anything for so long is dropped.
    pub(super) idle_max: Option<Duration>,
    /// Where copies of what is missing may come from.
    pub(super) warm: Option<Arc<Warm>>,
}

/// Serves until the client leaves, or is told to.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    mut session: Session,
    around: Surroundings,
    last: Arc<AtomicU64>,
) -> io::Result<()> {
    let mut drain = Listener::new(&around.drain);
    loop {
        if !session.input.is_empty() || session.has_more() {
            warm_up(&session, &around).await;
            let (now, seed) = around.clock.read();
            last.store(now.unix, Ordering::Relaxed);
            let todo = session.execute(now, seed);
            if !session.output.is_empty() {
                within(around.idle_max, stream.write_all(&session.output)).await?;
                session.sent();
            }
            match todo {
                Todo::Send => continue,
                Todo::Read => {}
                Todo::Close => return stream.shutdown().await,
                Todo::Shutdown => {
                    around.stop.cancel();
                    return stream.shutdown().await;
                }
            }
        }
        let between = session.input.is_empty();
        let read = tokio::select! {
            biased;
            read = within(around.idle_max, read(&mut stream, &mut session)) => read?,
            () = poll_fn(|context| drain.poll(context)), if between => return stream.shutdown().await,
        };
        if read == 0 {
            return Ok(());
        }
        session.read(read);
    }
}

/// Reads what there is. While there is nothing, the session has no buffer for it.
async fn read<S: AsyncRead + Unpin>(stream: &mut S, session: &mut Session) -> io::Result<usize> {
    poll_fn(|context| {
        session.make_room();
        let read = pin!(stream.read_buf(&mut session.input)).poll(context);
        if read.is_pending() {
            session.rest();
        }
        read
    })
    .await
}

/// While the node is cold, copies of what is about to be missed are asked for first.
async fn warm_up(session: &Session, around: &Surroundings) {
    let Some(warm) = around.warm.as_ref().filter(|warm| warm.helps()) else { return };
    let missing = session.missing(around.clock.read().0);
    if !missing.is_empty() {
        warm.fetch(missing).await;
    }
}

/// Waits no longer than a client may be idle.
async fn within<T>(
    idle_max: Option<Duration>,
    io: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match idle_max {
        None => io.await,
        Some(idle_max) => timeout(idle_max, io).await.map_err(|_| io::ErrorKind::TimedOut)?,
    }
}
