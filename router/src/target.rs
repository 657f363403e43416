//! [`Target`]: one node, as one worker sees it: whether it may be asked, and the requests that wait for its answers.
//!
//! What clients ask in one turn of the worker's loop gathers in the lane's buffer and leaves in one write ([`crate::lane`]). A request
//! that is not answered in time is given up; its answer is awaited nonetheless, and dropped, so that replies stay in step. Requests
//! beyond the lane's window wait here: there are never more than clients may have open.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    task::Waker,
    time::Duration,
};

use client::route::{
    self, Condition, Failure, Kind, Outcome,
    health::{Event, Health},
};
use tokio::{sync::Notify, time::Instant};

use crate::{
    desk::Desk,
    link::Link,
    shared::NodeFacts,
    wire::cut::{Cut, Shape},
};

/// A buffer that has grown beyond this is given back when it is empty.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// Who waits for a reply.
#[derive(Clone, Debug)]
pub(crate) struct From {
    pub(crate) desk: Rc<Desk>,
    /// Which of the client's commands.
    pub(crate) slot: u64,
    /// Which sending of that command.
    pub(crate) part: u64,
}

/// What came of a sending.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arrival<'a> {
    Reply(&'a [u8], Cut),
    Failed(Failure),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) facts: Arc<NodeFacts>,
    pub(crate) kind: Kind,
    pub(crate) link: Rc<Link>,
    pub(crate) server_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    health: RefCell<Health>,
    /// Something went wrong since the last answer: whoever is never wrong does not pay for books.
    doubtful: Cell<bool>,
    lanes: Vec<RefCell<Lane>>,
    /// Health has changed.
    pub(crate) changed: Notify,
}

#[derive(Debug, Default)]
struct Lane {
    out: Vec<u8>,
    sent: VecDeque<Sent>,
    held: VecDeque<(Sent, Vec<u8>)>,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Sent {
    shape: Shape,
    until: Instant,
    /// `None`: given up.
    from: Option<From>,
}

impl Target {
    pub(crate) fn new(target: &route::Target, link: Rc<Link>, facts: Arc<NodeFacts>) -> Target {
        let owes = facts.owed.load(Ordering::Acquire) > 0;
        let health = if owes {
            Health::suspect(target.health, Instant::now())
        } else {
            Health::new(target.health)
        };
        if owes {
            facts.down_workers.fetch_add(1, Ordering::Relaxed);
        }
        let lanes = (0..link.lanes.max(1)).map(|_| RefCell::default()).collect();
        Target {
            kind: target.kind,
            facts,
            server_timeout: target.server_timeout,
            connect_timeout: target.connect_timeout,
            link,
            health: RefCell::new(health),
            doubtful: Cell::new(false),
            lanes,
            changed: Notify::new(),
        }
    }

    /// What it may be asked.
    pub(crate) fn condition(&self) -> Condition {
        match self.health.borrow().condition() {
            Condition::Ready if self.facts.owed.load(Ordering::Acquire) > 0 => Condition::Behind,
            condition => condition,
        }
    }

    /// When it wants to be probed.
    pub(crate) fn probe_at(&self) -> Option<Instant> {
        self.health.borrow().probe_at()
    }

    pub(crate) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Takes note of what happened to the node.
    pub(crate) fn happened(&self, event: Event) {
        let mut health = self.health.borrow_mut();
        let before = health.condition();
        health.step(Instant::now(), event, fastrand::u64(..));
        let after = health.condition();
        drop(health);
        if before != after {
            let down = after == Condition::Down;
            let (gauge, address) = (&self.facts.down_workers, &*self.facts.address);
            if down {
                gauge.fetch_add(1, Ordering::Relaxed);
                self.facts.tkos.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(node = address, ?event, "a node is out of use");
            } else {
                gauge.fetch_sub(1, Ordering::Relaxed);
                tracing::info!(node = address, "a node is in use again");
            }
            for lane in &self.lanes {
                wake(&lane.borrow());
            }
        }
        self.changed.notify_waiters();
        self.doubtful.set(after != before || matches!(event, Event::Ended(Outcome::Failed(_))));
    }

    /// Sends a request; `encode` appends its bytes.
    pub(crate) fn send(
        &self,
        from: From,
        now: Instant,
        encode: impl FnOnce(&mut Vec<u8>) -> Shape,
    ) {
        let at = from.desk.number.checked_rem(self.lanes.len()).unwrap_or_default();
        let Some(lane) = self.lanes.get(at) else { return };
        let mut lane = lane.borrow_mut();
        let until = now + self.server_timeout;
        if lane.sent.len() >= self.link.outstanding_max {
            let mut bytes = Vec::new();
            let shape = encode(&mut bytes);
            lane.held.push_back((Sent { shape, until, from: Some(from) }, bytes));
            return;
        }
        let shape = encode(&mut lane.out);
        lane.sent.push_back(Sent { shape, until, from: Some(from) });
        wake(&lane);
    }

    /// Bytes to write, in place of `written`, which is empty.
    pub(crate) fn take_output(&self, lane: usize, written: &mut Vec<u8>) {
        let Some(lane) = self.lanes.get(lane) else { return };
        written.clear();
        if written.capacity() > KEPT_BYTES_MAX {
            *written = Vec::new();
        }
        std::mem::swap(&mut lane.borrow_mut().out, written);
    }

    /// Whether a lane has something to do; remembers who is to be woken.
    pub(crate) fn waits(&self, lane: usize, waker: &Waker) -> Work {
        let Some(lane) = self.lanes.get(lane) else { return Work::None };
        let mut lane = lane.borrow_mut();
        if lane.waker.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            lane.waker = Some(waker.clone());
        }
        if lane.out.is_empty() { Work::None } else { Work::Write }
    }

    /// What the next reply looks like; `None` if none is awaited.
    pub(crate) fn next_shape(&self, lane: usize) -> Option<Shape> {
        self.lanes.get(lane)?.borrow().sent.front().map(|sent| sent.shape)
    }

    /// The next reply has come.
    pub(crate) fn replied(&self, lane: usize, reply: &[u8], cut: Cut) {
        let Some(state) = self.lanes.get(lane) else { return };
        let mut state = state.borrow_mut();
        let sent = state.sent.pop_front();
        if let Some((sent, bytes)) = state.held.pop_front() {
            state.out.extend_from_slice(&bytes);
            state.sent.push_back(sent);
        }
        drop(state);
        if self.doubtful.replace(false) {
            self.happened(Event::Ended(Outcome::Stored));
        }
        if let Some(from) = sent.and_then(|sent| sent.from) {
            from.desk.arrived(from.slot, from.part, Arrival::Reply(reply, cut));
        }
    }

    /// When the first request that waits will have waited too long.
    pub(crate) fn until(&self, lane: usize) -> Option<Instant> {
        let state = self.lanes.get(lane)?.borrow();
        let live = |sent: &Sent| sent.from.is_some().then_some(sent.until);
        state.sent.iter().find_map(live)
    }

    /// Gives up what has waited too long.
    pub(crate) fn expire(&self, lane: usize, now: Instant) {
        let Some(state) = self.lanes.get(lane) else { return };
        let mut state = state.borrow_mut();
        let mut late: Vec<From> = Vec::new();
        for sent in
            state.sent.iter_mut().take_while(|sent| sent.from.is_none() || sent.until <= now)
        {
            late.extend(sent.from.take());
        }
        while state.held.front().is_some_and(|(sent, _)| sent.until <= now) {
            late.extend(state.held.pop_front().and_then(|(sent, _)| sent.from));
        }
        drop(state);
        self.facts.timeouts.fetch_add(late.len().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
        for from in late {
            self.happened(Event::Ended(Outcome::Failed(Failure::Timeout)));
            from.desk.arrived(from.slot, from.part, Arrival::Failed(Failure::Timeout));
        }
    }

    /// Nothing that was asked will be answered.
    pub(crate) fn fail(&self, lane: usize, failure: Failure) {
        let Some(state) = self.lanes.get(lane) else { return };
        let mut state = state.borrow_mut();
        state.out.clear();
        let mut failed: Vec<From> = state.sent.drain(..).filter_map(|sent| sent.from).collect();
        failed.extend(state.held.drain(..).filter_map(|(sent, _)| sent.from));
        drop(state);
        for from in failed {
            from.desk.arrived(from.slot, from.part, Arrival::Failed(failure));
        }
    }

    /// Nobody is told anything any more.
    pub(crate) fn forget(&self) {
        for lane in &self.lanes {
            drop(lane.take());
        }
    }

    /// Whether a lane has nothing to send and awaits nothing.
    pub(crate) fn is_idle(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_none_or(|lane| {
            let lane = lane.borrow();
            lane.out.is_empty() && lane.sent.is_empty()
        })
    }
}

/// A node that is asked no more is not down for anybody.
impl Drop for Target {
    fn drop(&mut self) {
        if self.health.borrow().condition() == Condition::Down {
            self.facts.down_workers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Whether there is something to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    None,
    Write,
}

fn wake(lane: &Lane) {
    if let Some(waker) = &lane.waker {
        waker.wake_by_ref();
    }
}
