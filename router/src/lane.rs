//! A lane: one connection to a node, again and again, and the probes of a node that is out of use.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use client::route::{
    Condition, Failure, Kind,
    health::Event,
    returning::{Knows, Returning},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::{Instant, Sleep, sleep_until, timeout},
};

use crate::{
    link::{LinkError, Stream},
    target::{Target, Work},
    wire::cut::{Cutter, Shape},
};

/// Where every task of a worker reads into, one at a time; only what is incomplete is kept for each.
pub(crate) type Scratch = Rc<RefCell<Vec<u8>>>;

/// Most bytes of one read.
const SCRATCH_BYTES: usize = 128 << 10;
/// Reads of one connection before others have their turn.
const READS_MAX: usize = 8;
/// The longest reply to a probe.
const PROBE_BYTES_MAX: usize = 64 << 10;

pub(crate) fn scratch() -> Scratch {
    Rc::new(RefCell::new(vec![0; SCRATCH_BYTES]))
}

/// Why a conversation ends.
enum End {
    /// The node has closed a connection on which nothing was awaited.
    Closed,
    /// The node is out of use.
    Down,
    Broken(String),
}

/// Connects whenever there is something to send, until the task is aborted.
pub(crate) async fn run(target: Rc<Target>, lane: usize, scratch: Scratch) {
    loop {
        poll_fn(|context| match target.waits(lane, context.waker()) {
            Work::None => Poll::Pending,
            Work::Write => Poll::Ready(()),
        })
        .await;
        match timeout(target.connect_timeout, target.link.connect(&target.facts.address)).await {
            Ok(Ok(stream)) => {
                let end = converse(&target, lane, stream, &scratch).await;
                match end {
                    End::Closed => {}
                    End::Down => target.fail(lane, Failure::Timeout),
                    End::Broken(why) => {
                        tracing::debug!(node = &*target.facts.address, why, "a connection broke");
                        target.happened(Event::Disconnected);
                        target.fail(lane, Failure::ConnectError);
                    }
                }
            }
            Ok(Err(err)) => {
                tracing::debug!(node = &*target.facts.address, error = %err, "no connection");
                target.happened(Event::Disconnected);
                target.fail(lane, Failure::ConnectError);
            }
            Err(_) => {
                target.happened(Event::Disconnected);
                target.fail(lane, Failure::ConnectTimeout);
            }
        }
    }
}

async fn converse(target: &Rc<Target>, lane: usize, mut stream: Stream, scratch: &Scratch) -> End {
    let (mut talk, timer) = (Talk::default(), sleep_until(Instant::now()));
    tokio::pin!(timer);
    poll_fn(|context| {
        let turn = talk.turn(target, lane, &mut stream, scratch, context);
        if let Poll::Ready(end) = turn {
            return Poll::Ready(end);
        }
        match wait(target, lane, timer.as_mut(), context) {
            Poll::Ready(end) => Poll::Ready(end),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Watches the time of what is awaited.
fn wait(
    target: &Target,
    lane: usize,
    mut timer: Pin<&mut Sleep>,
    context: &mut Context<'_>,
) -> Poll<End> {
    loop {
        if target.condition() == Condition::Down {
            return Poll::Ready(End::Down);
        }
        let Some(until) = target.until(lane) else { return Poll::Pending };
        if timer.is_elapsed() || timer.deadline() > until {
            timer.as_mut().reset(until);
        }
        ready!(timer.as_mut().poll(context));
        target.expire(lane, Instant::now());
    }
}

/// A conversation's buffers.
#[derive(Default)]
struct Talk {
    writing: Vec<u8>,
    written: usize,
    /// The beginning of a reply.
    partial: Vec<u8>,
    cutter: Cutter,
}

impl Talk {
    fn turn(
        &mut self,
        target: &Target,
        lane: usize,
        stream: &mut Stream,
        scratch: &Scratch,
        context: &mut Context<'_>,
    ) -> Poll<End> {
        // Replies first: they may add to what is written.
        for _ in 0..READS_MAX {
            match self.read(target, lane, stream, scratch, context) {
                Poll::Ready(Ok(Read::Some)) => {}
                Poll::Ready(Ok(Read::Closed))
                    if target.is_idle(lane) && self.writing.is_empty() =>
                {
                    return Poll::Ready(End::Closed);
                }
                Poll::Ready(Ok(Read::Closed)) => {
                    return Poll::Ready(End::Broken("the node has closed it".to_owned()));
                }
                Poll::Ready(Err(err)) => return Poll::Ready(End::Broken(err.to_string())),
                Poll::Pending => return self.write(target, lane, stream, context),
            }
        }
        // There is more; others first.
        context.waker().wake_by_ref();
        self.write(target, lane, stream, context)
    }

    fn read(
        &mut self,
        target: &Target,
        lane: usize,
        stream: &mut Stream,
        scratch: &Scratch,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Read>> {
        let mut scratch = scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
        let filled = buffer.filled();
        if filled.is_empty() {
            return Poll::Ready(Ok(Read::Closed));
        }
        if self.partial.is_empty() {
            let used = take(&mut self.cutter, target, lane, filled)?;
            self.partial.extend_from_slice(filled.get(used..).unwrap_or_default());
        } else {
            self.partial.extend_from_slice(filled);
            if self.partial.len() >= self.cutter.wanted() {
                let used = take(&mut self.cutter, target, lane, &self.partial)?;
                self.partial.drain(..used);
            } else {
                let missing = self.cutter.wanted().saturating_sub(self.partial.len());
                self.partial.reserve(missing);
            }
        }
        if self.partial.is_empty() && self.partial.capacity() > SCRATCH_BYTES {
            self.partial = Vec::new();
        }
        Poll::Ready(Ok(Read::Some))
    }

    fn write(
        &mut self,
        target: &Target,
        lane: usize,
        stream: &mut Stream,
        context: &mut Context<'_>,
    ) -> Poll<End> {
        loop {
            let rest = self.writing.get(self.written..).unwrap_or_default();
            if rest.is_empty() {
                self.written = 0;
                target.take_output(lane, &mut self.writing);
                if self.writing.is_empty() {
                    // TLS keeps some to itself until it is told.
                    let flushed = Pin::new(stream).poll_flush(context);
                    if let Poll::Ready(Err(err)) = flushed {
                        return Poll::Ready(End::Broken(err.to_string()));
                    }
                    target.waits(lane, context.waker());
                    return Poll::Pending;
                }
                continue;
            }
            match ready!(Pin::new(&mut *stream).poll_write(context, rest)) {
                Ok(0) => return Poll::Ready(End::Broken("nothing can be written".to_owned())),
                Ok(bytes) => self.written = self.written.saturating_add(bytes),
                Err(err) => return Poll::Ready(End::Broken(err.to_string())),
            }
        }
    }
}

enum Read {
    Some,
    Closed,
}

/// Hands out the replies that `bytes` holds; how many bytes they had.
fn take(cutter: &mut Cutter, target: &Target, lane: usize, bytes: &[u8]) -> io::Result<usize> {
    let mut used = 0_usize;
    loop {
        let rest = bytes.get(used..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(used);
        }
        let Some(shape) = target.next_shape(lane) else {
            return Err(io::Error::other("the node says what nobody has asked"));
        };
        let Some(cut) = cutter.next(shape, rest).map_err(io::Error::other)? else {
            return Ok(used);
        };
        target.replied(lane, rest.get(..cut.bytes).unwrap_or_default(), cut);
        used = used.saturating_add(cut.bytes);
    }
}

/// Probes the node whenever it is out of use and its time has come.
pub(crate) async fn probe(target: Rc<Target>) {
    let mut returning = Returning::default();
    loop {
        let changed = target.changed.notified();
        let Some(at) = target.probe_at() else {
            changed.await;
            continue;
        };
        sleep_until(at).await;
        if target.condition() != Condition::Down {
            continue;
        }
        target.happened(Event::Probing);
        let asking = is_ready(&target, &mut returning);
        let asked = timeout(target.connect_timeout + target.server_timeout, asking).await;
        if let Ok(Ok(ready)) = asked {
            target.happened(Event::Returned { ready });
        } else {
            returning.unreachable();
            target.happened(Event::ProbeFailed);
        }
    }
}

/// Asks for the version, and a node of ours how far it has caught up.
async fn is_ready(target: &Target, returning: &mut Returning) -> Result<bool, LinkError> {
    let mut stream = target.link.connect(&target.facts.address).await?;
    ask(&mut stream, b"version\r\n", Shape::Line).await?;
    match target.kind {
        Kind::Memcached => Ok(target.facts.owed.load(std::sync::atomic::Ordering::Acquire) == 0),
        Kind::Mcsqueal => {
            let asked = Instant::now();
            let said = ask(&mut stream, b"stats\r\n", Shape::Block).await?;
            Ok(returning.reached(asked, Instant::now(), Knows::parse(&said)))
        }
    }
}

/// One question on a connection of its own.
pub(crate) async fn ask(
    stream: &mut Stream,
    question: &[u8],
    shape: Shape,
) -> Result<Vec<u8>, LinkError> {
    stream.write_all(question).await?;
    stream.flush().await?;
    let (mut reply, mut cutter) = (Vec::new(), Cutter::default());
    loop {
        if stream.read_buf(&mut reply).await? == 0 || reply.len() > PROBE_BYTES_MAX {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        if cutter.next(shape, &reply).map_err(io::Error::other)?.is_some() {
            return Ok(reply);
        }
    }
}
