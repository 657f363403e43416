//! One client: takes commands off what he sends, and sends him the replies in their order. A client who does not take his replies is not
//! read from.

use std::{
    cell::Cell,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use cache_node::access::{DENIED, User, Users};
use protocol::server::{Command, Limits, Parser, Step, Versions};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{desk::Desk, submit, table::Hub};

/// Reads of one client before others have their turn.
const READS_MAX: usize = 4;
/// The longest login.
const LOGIN_BYTES_MAX: usize = 1024;
/// What is kept of a buffer that is empty.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// What a client shares with others.
#[derive(Clone, Debug)]
pub(crate) struct Around {
    pub(crate) users: Users,
    pub(crate) idle_max: Option<Duration>,
    /// The router drains: whoever is between two commands leaves.
    pub(crate) draining: CancellationToken,
}

/// What follows a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Go,
    Close,
}

/// Serves until the client leaves, or is told to.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    desk: Rc<Desk>,
    around: &Around,
) -> io::Result<()> {
    let mut session = Session::new(Rc::clone(&desk), around);
    let mut idle = around.idle_max.map(|idle_max| Box::pin(sleep(idle_max)));
    let served =
        poll_fn(|context| session.turn(&mut stream, idle.as_mut().map(Pin::as_mut), context)).await;
    desk.left.set(true);
    served
}

struct Session<'a> {
    desk: Rc<Desk>,
    around: &'a Around,
    parser: Parser,
    who: Who,
    /// What was read and not taken: the beginning of a command, or commands for which there is no room.
    partial: Vec<u8>,
    /// There are commands in there.
    stalled: bool,
    writing: Vec<u8>,
    written: usize,
    state: Life,
    last: Cell<Option<Instant>>,
}

/// What came of trying to read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    Some,
    /// There is nothing; the task is woken when there is.
    None,
    /// There are enough commands and replies.
    NoRoom,
}

enum Who {
    Anybody,
    Nobody,
    User(User),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Open,
    Draining,
    /// Nothing is read any more; what was asked is answered.
    Closing,
}

impl<'a> Session<'a> {
    fn new(desk: Rc<Desk>, around: &'a Around) -> Session<'a> {
        let open = around.users.is_empty();
        let limits = if open {
            limits(&desk.hub)
        } else {
            Limits { value_bytes_max: LOGIN_BYTES_MAX, versions: Versions::Refuse }
        };
        Session {
            desk,
            around,
            parser: Parser::new(limits),
            who: if open { Who::Anybody } else { Who::Nobody },
            partial: Vec::new(),
            stalled: false,
            writing: Vec::new(),
            written: 0,
            state: Life::Open,
            last: Cell::new(None),
        }
    }

    fn turn<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        idle: Option<Pin<&mut Sleep>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.desk.wakes(context.waker());
        if self.state == Life::Open && self.desk.hub.draining.get() {
            self.state = Life::Draining;
        }
        let mut reads = 0;
        loop {
            let read = self.read(stream, context)?;
            reads += usize::from(read == Read::Some);
            let progress = self.write(stream, context)?;
            let between = self.partial.is_empty() && self.desk.is_done();
            if self.written == self.writing.len() && self.desk.is_done() {
                let leaves = match self.state {
                    Life::Open => false,
                    Life::Draining => between,
                    Life::Closing => true,
                };
                if leaves {
                    return Pin::new(stream).poll_shutdown(context);
                }
            }
            if reads >= READS_MAX {
                // There may be more: after the others.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if read == Read::None || read == Read::NoRoom && !progress {
                self.rest();
                return self.idle(idle, context);
            }
        }
    }

    fn read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> io::Result<Read> {
        let bytes_max = self.desk.hub.current.borrow().client_bytes_max;
        if self.state == Life::Closing
            || !self.desk.has_room(bytes_max)
            || self.written < self.writing.len()
        {
            return Ok(Read::NoRoom);
        }
        if self.stalled {
            let partial = std::mem::take(&mut self.partial);
            let used = self.take(&partial, bytes_max);
            self.keep(partial, used);
            return Ok(Read::Some);
        }
        let hub = Rc::clone(&self.desk.hub);
        let mut scratch = hub.scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        match Pin::new(stream).poll_read(context, &mut buffer) {
            Poll::Pending => return Ok(Read::None),
            Poll::Ready(read) => read?,
        }
        let filled = buffer.filled();
        if filled.is_empty() {
            // Replies that are on their way go to nobody.
            self.state = Life::Closing;
            return Ok(Read::Some);
        }
        self.last.set(None);
        hub.counters.bytes_read.add(filled.len().try_into().unwrap_or(u64::MAX));
        if self.partial.is_empty() {
            let used = self.take(filled, bytes_max);
            self.partial.extend_from_slice(filled.get(used..).unwrap_or_default());
        } else {
            let mut partial = std::mem::take(&mut self.partial);
            partial.extend_from_slice(filled);
            let used = self.take(&partial, bytes_max);
            self.keep(partial, used);
        }
        Ok(Read::Some)
    }

    fn keep(&mut self, mut partial: Vec<u8>, used: usize) {
        partial.drain(..used);
        let missing = self.parser.wanted().saturating_sub(partial.len());
        if partial.is_empty() && partial.capacity() > KEPT_BYTES_MAX {
            partial = Vec::new();
        } else {
            partial.reserve(missing);
        }
        self.partial = partial;
    }

    /// Takes commands off the front; how many bytes they had.
    fn take(&mut self, bytes: &[u8], bytes_max: usize) -> usize {
        let (mut used, now) = (0_usize, Instant::now());
        self.stalled = false;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            if rest.is_empty() {
                return used;
            }
            if !self.desk.has_room(bytes_max) {
                self.stalled = true;
                return used;
            }
            match self.parser.next(rest) {
                Step::More => return used,
                Step::Close => {
                    self.state = Life::Closing;
                    return bytes.len();
                }
                Step::Skip(skipped) => used = used.saturating_add(skipped),
                Step::Command(command, length) => {
                    let raw = rest.get(..length).unwrap_or_default();
                    used = used.saturating_add(length);
                    if self.command(&command, raw, now) == Next::Close {
                        self.state = Life::Closing;
                        return bytes.len();
                    }
                }
            }
        }
    }

    fn command(&mut self, command: &Command<'_>, raw: &[u8], now: Instant) -> Next {
        match &self.who {
            Who::Nobody => {
                let mut said = Vec::new();
                let user = cache_node::access::login(&self.around.users, command, &mut said);
                self.desk.say(&said);
                if let Some(user) = user {
                    self.who = Who::User(user);
                    self.parser.limit(limits(&self.desk.hub));
                }
                Next::Go
            }
            Who::User(user) if !user.may(command) => {
                self.desk.say(DENIED);
                Next::Go
            }
            Who::User(_) | Who::Anybody => submit::command(&self.desk, command, raw, now),
        }
    }

    /// Whether something was written.
    fn write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> io::Result<bool> {
        let mut progress = false;
        loop {
            let rest = self.writing.get(self.written..).unwrap_or_default();
            if rest.is_empty() {
                self.written = 0;
                self.desk.take_output(&mut self.writing);
                if self.writing.is_empty() {
                    if let Poll::Ready(flushed) = Pin::new(stream).poll_flush(context) {
                        flushed?;
                    }
                    return Ok(progress);
                }
                continue;
            }
            match Pin::new(&mut *stream).poll_write(context, rest) {
                Poll::Pending => return Ok(progress),
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(bytes)) => {
                    let count = u64::try_from(bytes).unwrap_or(u64::MAX);
                    self.desk.hub.counters.bytes_written.add(count);
                    self.written = self.written.saturating_add(bytes);
                    self.last.set(None);
                    progress = true;
                }
                Poll::Ready(Err(err)) => return Err(err),
            }
        }
    }

    /// A client who is idle has no buffers.
    fn rest(&mut self) {
        if self.writing.is_empty() && self.writing.capacity() > 0 && self.desk.is_done() {
            self.desk.hub.spare.give(std::mem::take(&mut self.writing));
            self.desk.rest();
        }
        if self.partial.is_empty() && self.partial.capacity() > 0 {
            self.partial = Vec::new();
        }
    }

    /// Drops whoever neither sends nor takes anything for too long.
    fn idle(
        &self,
        idle: Option<Pin<&mut Sleep>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let (Some(mut idle), Some(idle_max)) = (idle, self.around.idle_max) else {
            return Poll::Pending;
        };
        loop {
            if self.last.get().is_none() {
                self.last.set(Some(Instant::now()));
            }
            ready!(idle.as_mut().poll(context));
            let since = self.last.get().unwrap_or_else(Instant::now);
            if since.elapsed() >= idle_max {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            idle.as_mut().reset(since + idle_max);
        }
    }
}

fn limits(hub: &Hub) -> Limits {
    let value_bytes_max = hub.current.borrow().value_bytes_max;
    Limits { value_bytes_max, versions: Versions::Accept }
}
