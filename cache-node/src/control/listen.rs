//! [`ControlServer`]: the control port's sockets. Everything runs on the runtime that calls [`ControlServer::run`], apart from
//! the threads of the data port.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use schemas::record::UnixMicros;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    Control, nonce,
    session::{Next, Session},
    sweep, wall,
};
use crate::{
    now::Now,
    server::{Clock, ServerError, Sockets, Tls, TlsSettings},
    server_facts::Port,
};

/// Most connections: one for each invalidator, and a few that were replaced.
const CONNECTIONS_MAX: usize = 64;
/// A connection has shown who it is by then.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);
/// A lane speaks many times a second; one that is silent for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Read at once.
const READ_BYTES: usize = 64 << 10;
/// The two clocks are read within this, or again.
const CLOSE: Duration = Duration::from_millis(10);
const CLOSE_TRIES: u32 = 5;

/// How the control port is reached.
#[derive(Clone, Debug)]
pub struct Options {
    pub listen: SocketAddr,
    pub tls: Option<TlsSettings>,
}

/// See the module.
#[derive(Debug)]
pub struct ControlServer {
    control: Arc<Control>,
    clock: Clock,
    listener: TcpListener,
    tls: Option<Tls>,
}

impl ControlServer {
    /// Binds the socket. `clock` is the one by which the node serves.
    pub async fn bind(
        control: Arc<Control>,
        clock: Clock,
        options: &Options,
    ) -> Result<ControlServer, ServerError> {
        ControlServer::bind_with(control, clock, options, &mut Sockets::default()).await
    }

    /// Likewise, but takes the socket if it is open already.
    pub async fn bind_with(
        control: Arc<Control>,
        clock: Clock,
        options: &Options,
        open: &mut Sockets,
    ) -> Result<ControlServer, ServerError> {
        let tls = options.tls.as_ref().map(Tls::load).transpose()?;
        let listener = match open.take(options.listen) {
            Some(open) => TcpListener::from_std(open),
            None => TcpListener::bind(options.listen).await,
        };
        let listener = listener.map_err(|source| ServerError::Listen {
            address: options.listen.to_string(),
            source,
        })?;
        if let Some(tls) = &tls {
            control.node.server().shows(Port::Control, tls.clone());
        }
        Ok(ControlServer { control, clock, listener, tls })
    }

    /// Adds a handle of the socket: it stays open when this server ends.
    pub fn keep_socket(&self, kept: &mut Sockets) -> io::Result<()> {
        kept.keep(&self.listener)
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        connections.spawn(sweep::run(Arc::clone(&self.control), self.clock.clone()));
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = self.listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(err) => {
                    tracing::warn!(error = %err, "a control connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                tracing::warn!(%peer, "too many control connections");
                continue;
            };
            let (control, clock) = (Arc::clone(&self.control), self.clock.clone());
            let tls = self.tls.clone();
            connections.spawn(async move {
                if let Err(err) = attend(stream, tls, control, clock).await {
                    tracing::debug!(%peer, error = %err, "a control connection broke");
                }
                drop(place);
            });
        }
    }
}

async fn attend(
    stream: TcpStream,
    tls: Option<Tls>,
    control: Arc<Control>,
    clock: Clock,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let late = Instant::now().checked_add(HELLO_DEADLINE).ok_or(io::ErrorKind::TimedOut)?;
    match tls {
        None => serve(stream, late, control, clock).await,
        Some(tls) => {
            let stream = timeout_at(late, tls.acceptor().accept(stream)).await??;
            serve(stream, late, control, clock).await
        }
    }
}

/// Whoever has not said a good `hello` by `late` is dropped.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    late: Instant,
    control: Arc<Control>,
    clock: Clock,
) -> io::Result<()> {
    let nonce = nonce().map_err(io::Error::other)?;
    let mut session = Session::new(Arc::clone(&control), nonce);
    let mut next = Next::Read;
    loop {
        if !session.output.is_empty() {
            timeout(SILENCE_MAX, stream.write_all(&session.output)).await??;
            timeout(SILENCE_MAX, stream.flush()).await??;
            session.output.clear();
        }
        match next {
            Next::Close => return stream.shutdown().await,
            Next::Rest => {
                tokio::time::sleep(control.giving.rest(clock.read().0.moment)).await;
                next = attend_to(&mut session, &control, &clock);
                continue;
            }
            Next::Read => {}
        }
        session.input.reserve(READ_BYTES);
        let read = async {
            if session.is_greeted() {
                timeout(SILENCE_MAX, stream.read_buf(&mut session.input)).await
            } else {
                timeout_at(late, stream.read_buf(&mut session.input)).await
            }
        };
        if read.await?? == 0 {
            return Ok(());
        }
        next = attend_to(&mut session, &control, &clock);
        tokio::task::yield_now().await;
    }
}

/// Does what was read. What is done for another node is counted.
fn attend_to(session: &mut Session, control: &Control, clock: &Clock) -> Next {
    let (now, wall) = closely(|| clock.read().0, wall);
    let next = session.execute(now, wall);
    if session.is_peer() {
        let done = clock.read().0.moment;
        let (took, bytes) = (done.since(now.moment), session.output.len());
        control.giving.spend(&control.node, done, took, bytes);
    }
    next
}

/// Both clocks, read one right after the other. Who was put to sleep in between would find that the wall clock has jumped: by as much as
/// he slept, and from then on.
fn closely(now: impl Fn() -> Now, wall: impl Fn() -> UnixMicros) -> (Now, UnixMicros) {
    let mut read = (now(), wall());
    for _ in 1..CLOSE_TRIES {
        if now().moment.since(read.0.moment) <= CLOSE {
            break;
        }
        read = (now(), wall());
    }
    read
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use schemas::moment::Moment;

    use super::*;

    #[test]
    fn clocks_are_read_again_by_who_slept_in_between() {
        for (sleeps_ms, expected) in [
            (vec![0, 0], (1000, 1000)),
            (vec![900, 0, 0], (1900, 1900)),
            (vec![5, 0], (1000, 1005)),
            (vec![20, 30, 0, 0], (1050, 1050)),
            // Never close: the last one, where the wall clock is the later one.
            (vec![20; 9], (1080, 1100)),
        ] {
            let (time, sleeps) = (Cell::new(1000), Cell::new(0));
            let now =
                || Now { moment: Moment::after_start(Duration::from_millis(time.get())), unix: 0 };
            // Whoever reads the wall clock has slept before.
            let wall = || {
                time.set(time.get() + sleeps_ms[sleeps.get()]);
                sleeps.set(sleeps.get() + 1);
                UnixMicros(time.get())
            };
            let (now, wall) = closely(now, wall);
            let at = |millis| Moment::after_start(Duration::from_millis(millis));
            assert_eq!((now.moment, wall.0), (at(expected.0), expected.1), "{sleeps_ms:?}");
        }
    }
}
