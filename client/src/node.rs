//! [`Node`]: connections to one cache node. Requests are pipelined; every time and every queue is bounded.
//!
//! A request that is not answered in time closes its connection, so that nothing of it is executed much later: what was
//! sent behind it fails, too.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};

use crate::{
    cycle::NodeKind,
    settings::Settings,
    wire::{self, Answer, Request},
};

/// Jobs that wait for a connection, or for their answers.
const JOBS_MAX: usize = 1024;

/// Why a node has not answered.
#[derive(Clone, Debug, thiserror::Error)]
#[error("node {address}: {reason}")]
pub struct NodeError {
    address: Arc<str>,
    reason: Reason,
}

#[derive(Clone, Debug, thiserror::Error)]
enum Reason {
    #[error("no answer in time")]
    TooSlow,
    #[error("cannot be reached")]
    Away,
    #[error("too many requests wait for it")]
    Full,
}

/// One node. Its connections end when it is dropped.
#[derive(Debug)]
pub struct Node {
    address: Arc<str>,
    lanes: Vec<mpsc::Sender<Job>>,
    next: AtomicUsize,
    kind: Arc<AtomicU8>,
    request_timeout: Duration,
}

/// Requests that are answered together, and who waits for that.
struct Job {
    bytes: BytesMut,
    answers: usize,
    until: Instant,
    reply: oneshot::Sender<Vec<Answer>>,
}

/// Answers that are on their way.
#[derive(Debug)]
pub struct Pending {
    until: Instant,
    received: oneshot::Receiver<Vec<Answer>>,
    address: Arc<str>,
}

const UNKNOWN: u8 = 0;
const VERSIONED: u8 = 1;
const STOCK: u8 = 2;

impl Node {
    /// Connects when it is first asked. To be called within a runtime.
    pub fn new(address: &str, settings: &Settings) -> Node {
        let kind = Arc::new(AtomicU8::new(UNKNOWN));
        let address: Arc<str> = address.into();
        let lane = |_| {
            let (sender, jobs) = mpsc::channel(JOBS_MAX);
            let lane = Lane {
                address: Arc::clone(&address),
                jobs,
                kind: Arc::clone(&kind),
                timeout: settings.request_timeout,
                retry_after: settings.retry_after,
            };
            tokio::spawn(lane.run());
            sender
        };
        let lanes = (0..settings.connections_per_node.max(1)).map(lane).collect();
        let next = AtomicUsize::new(0);
        Node { address, lanes, next, kind, request_timeout: settings.request_timeout }
    }

    /// What it is; asked anew after each connection.
    pub async fn kind(&self) -> Result<NodeKind, NodeError> {
        match self.kind.load(Ordering::Acquire) {
            VERSIONED => return Ok(NodeKind::Versioned),
            STOCK => return Ok(NodeKind::Stock),
            _ => {}
        }
        let refused = matches!(self.ask(&Request::Probe).await?, Answer::Refused(_));
        let (kind, code) =
            if refused { (NodeKind::Stock, STOCK) } else { (NodeKind::Versioned, VERSIONED) };
        self.kind.store(code, Ordering::Release);
        Ok(kind)
    }

    /// One request and its answer.
    pub async fn ask(&self, request: &Request<'_>) -> Result<Answer, NodeError> {
        let answers = self.send(std::slice::from_ref(request))?.wait().await?;
        answers.into_iter().next().ok_or_else(|| self.error(Reason::Away))
    }

    /// Sends requests together. Nothing is lost if the answers are not waited for.
    pub fn send(&self, requests: &[Request<'_>]) -> Result<Pending, NodeError> {
        let mut bytes = BytesMut::new();
        for request in requests {
            request.encode(&mut bytes);
        }
        let until = Instant::now() + self.request_timeout;
        let (reply, received) = oneshot::channel();
        let job = Job { bytes, answers: requests.len(), until, reply };
        let at = self.next.fetch_add(1, Ordering::Relaxed).checked_rem(self.lanes.len());
        let lane = at.and_then(|at| self.lanes.get(at)).ok_or_else(|| self.error(Reason::Away))?;
        lane.try_send(job).map_err(|_| self.error(Reason::Full))?;
        Ok(Pending { until, received, address: Arc::clone(&self.address) })
    }

    fn error(&self, reason: Reason) -> NodeError {
        NodeError { address: Arc::clone(&self.address), reason }
    }
}

impl Pending {
    /// The answers, in the order of the requests.
    pub async fn wait(self) -> Result<Vec<Answer>, NodeError> {
        let Pending { until, received, address } = self;
        match tokio::time::timeout_at(until, received).await {
            Ok(Ok(answers)) => Ok(answers),
            Ok(Err(_)) => Err(NodeError { address, reason: Reason::Away }),
            Err(_) => Err(NodeError { address, reason: Reason::TooSlow }),
        }
    }
}

/// One connection, again and again.
struct Lane {
    address: Arc<str>,
    jobs: mpsc::Receiver<Job>,
    kind: Arc<AtomicU8>,
    timeout: Duration,
    retry_after: Duration,
}

/// A job that was sent.
struct Sent {
    missing: usize,
    answers: Vec<Answer>,
    until: Instant,
    reply: oneshot::Sender<Vec<Answer>>,
}

impl Lane {
    /// Until nobody can send jobs any more. A job that is dropped tells its sender so.
    async fn run(mut self) {
        while let Some(job) = self.jobs.recv().await {
            self.kind.store(UNKNOWN, Ordering::Release);
            let connected = timeout(self.timeout, TcpStream::connect(&*self.address)).await;
            if let Ok(Ok(stream)) = connected
                && stream.set_nodelay(true).is_ok()
            {
                self.converse(stream, job).await;
            } else {
                drop(job);
                let again = Instant::now() + self.retry_after;
                while let Ok(Some(job)) = tokio::time::timeout_at(again, self.jobs.recv()).await {
                    drop(job);
                }
            }
        }
    }

    /// Until the connection is of no use any more.
    async fn converse(&mut self, stream: TcpStream, first: Job) {
        let (mut read, mut write) = stream.into_split();
        let (mut out, mut received) = (BytesMut::new(), BytesMut::new());
        let mut sent = VecDeque::new();
        let mut open = true;
        push(first, &mut out, &mut sent);
        loop {
            if !open && sent.is_empty() {
                return;
            }
            // While nothing is awaited, nothing can be late.
            let late = sent.front().map_or_else(|| Instant::now() + self.timeout, |it| it.until);
            tokio::select! {
                job = self.jobs.recv(), if open && sent.len() < JOBS_MAX => match job {
                    Some(job) => push(job, &mut out, &mut sent),
                    None => open = false,
                },
                written = write.write_buf(&mut out), if !out.is_empty() => {
                    if !matches!(written, Ok(1..)) {
                        return;
                    }
                }
                got = read.read_buf(&mut received) => {
                    if !matches!(got, Ok(1..)) || take(&mut received, &mut sent).is_none() {
                        return;
                    }
                }
                () = sleep_until(late), if !sent.is_empty() => return,
            }
        }
    }
}

fn push(job: Job, out: &mut BytesMut, sent: &mut VecDeque<Sent>) {
    let Job { bytes, answers, until, reply } = job;
    out.unsplit(bytes);
    sent.push_back(Sent { missing: answers, answers: Vec::with_capacity(answers), until, reply });
}

/// Hands out what has come; `None` if it is not what was asked for.
fn take(received: &mut BytesMut, sent: &mut VecDeque<Sent>) -> Option<()> {
    while let Some(answer) = wire::decode(received).ok()? {
        let front = sent.front_mut()?;
        front.answers.push(answer);
        front.missing = front.missing.saturating_sub(1);
        if front.missing == 0 {
            let Sent { answers, reply, .. } = sent.pop_front()?;
            drop(reply.send(answers)); // Whoever has given up needs it no more.
        }
    }
    Some(())
}
