//! [`Table`]: routes with the nodes that one worker talks to, and [`Hub`]: everything that a worker's tasks share.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::{Rc, Weak},
    sync::{Arc, Mutex},
};

use client::route::{
    self, Condition, Failure, LimitId, Nodes, Routes, TargetId,
    config::RetriesFile,
    health::{Bucket, Retries},
    leases::Leases,
};
use tokio::time::Instant;

use crate::{
    desk::Desk,
    lane::{self, Scratch},
    link::Link,
    settings::Current,
    shared::{AllFacts, Counters},
    spare::Spare,
    spool::Spool,
    target::Target,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) routes: Arc<Routes>,
    pub(crate) targets: Vec<Rc<Target>>,
    /// Each worker has its share of the tokens.
    limits: Vec<RefCell<Bucket>>,
    retries: RefCell<Retries>,
    counters: Arc<Counters>,
    /// Tokens of nodes that stood in. A client may come back on another connection, which another worker has.
    pub(crate) leases: Arc<Mutex<Leases>>,
}

impl Nodes for Table {
    fn condition(&self, target: TargetId) -> Condition {
        self.targets.get(target.index()).map_or(Condition::Down, |target| target.condition())
    }

    fn take(&self, limit: LimitId) -> bool {
        let bucket = self.limits.get(limit.index());
        bucket.is_none_or(|bucket| bucket.borrow_mut().take(Instant::now()))
    }

    fn retry(&self) -> bool {
        let has = self.retries.borrow_mut().take(self.counters.keys.get());
        if has { &self.counters.retries } else { &self.counters.retries_refused }.add(1);
        has
    }
}

/// What is the same for every client of a worker.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) table: RefCell<Rc<Table>>,
    pub(crate) current: RefCell<Arc<Current>>,
    pub(crate) spool: Option<Arc<Spool>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) all_counters: Arc<Vec<Arc<Counters>>>,
    pub(crate) facts: Arc<AllFacts>,
    pub(crate) scratch: Scratch,
    pub(crate) spare: Spare,
    /// Clients that are between two commands leave.
    pub(crate) draining: Cell<bool>,
    desks: RefCell<HashMap<usize, Weak<Desk>>>,
    pub(crate) started: Instant,
    pub(crate) unix_s: Cell<u64>,
    pub(crate) workers: usize,
    tasks: RefCell<HashMap<Rc<str>, Live>>,
}

/// A node's tasks; they end with it.
#[derive(Debug)]
struct Live {
    target: Rc<Target>,
    made_of: (route::Target, usize),
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
        // Those who wait for its answers have a hub, which has this: nobody would ever let go.
        self.target.forget();
    }
}

/// What a hub begins with.
pub(crate) struct Parts {
    pub(crate) spool: Option<Arc<Spool>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) all_counters: Arc<Vec<Arc<Counters>>>,
    pub(crate) facts: Arc<AllFacts>,
    pub(crate) started: Instant,
    pub(crate) workers: usize,
}

impl Hub {
    pub(crate) fn new(current: Arc<Current>, parts: Parts) -> Rc<Hub> {
        let routes = Arc::clone(&current.routes);
        let leases = Arc::clone(&current.leases);
        let table = Table {
            routes,
            targets: Vec::new(),
            limits: Vec::new(),
            retries: RefCell::new(Retries::new(0.0, 0.0, 0)),
            counters: Arc::clone(&parts.counters),
            leases,
        };
        let hub = Rc::new(Hub {
            table: RefCell::new(Rc::new(table)),
            current: RefCell::new(Arc::clone(&current)),
            spool: parts.spool,
            counters: parts.counters,
            all_counters: parts.all_counters,
            facts: parts.facts,
            scratch: lane::scratch(),
            spare: Spare::default(),
            draining: Cell::new(false),
            desks: RefCell::default(),
            started: parts.started,
            unix_s: Cell::new(0),
            workers: parts.workers,
            tasks: RefCell::default(),
        });
        hub.take_up(current);
        hub
    }

    /// A client's place at the router.
    pub(crate) fn seat(self: &Rc<Hub>, number: usize) -> Rc<Desk> {
        let desk = Desk::new(number, Rc::clone(self));
        self.desks.borrow_mut().insert(number, Rc::downgrade(&desk));
        desk
    }

    /// The client is gone.
    pub(crate) fn unseat(&self, number: usize) {
        self.desks.borrow_mut().remove(&number);
    }

    /// Lets every client go that is between two commands.
    pub(crate) fn drain(&self) {
        self.draining.set(true);
        for desk in self.desks.borrow().values().filter_map(Weak::upgrade) {
            desk.wake();
        }
    }

    /// Routes by another configuration from now on. What was begun goes on as it was; nodes that stay keep their connections.
    pub(crate) fn take_up(&self, current: Arc<Current>) {
        let mut tasks = self.tasks.borrow_mut();
        let mut next = HashMap::new();
        let link = Rc::new(current.link.clone());
        let mut targets = Vec::new();
        for target in current.routes.targets() {
            let name: Rc<str> = format!("{target:?}").into();
            let made_of = (target.clone(), current.link_number);
            let live = tasks.remove(&name).filter(|live| live.made_of == made_of);
            let live = live.unwrap_or_else(|| self.begin(target, &link, made_of));
            targets.push(Rc::clone(&live.target));
            next.insert(name, live);
        }
        // The others finish what they have.
        for (_, mut live) in tasks.drain() {
            let handles = std::mem::take(&mut live.tasks);
            tokio::task::spawn_local(async move {
                tokio::time::sleep(live.target.server_timeout * 2).await;
                handles.iter().for_each(tokio::task::JoinHandle::abort);
                (0..live.target.lanes()).for_each(|lane| {
                    live.target.fail(lane, Failure::ConnectError);
                });
            });
        }
        *tasks = next;
        let share = f64::from(u32::try_from(self.workers).unwrap_or(1).max(1));
        let limits = current.routes.limits().iter().map(|limit| {
            let rate = limit.rate / share;
            let burst = (limit.burst.unwrap_or(limit.rate) / share).max(1.0);
            RefCell::new(Bucket::new(rate, burst, Instant::now()))
        });
        let RetriesFile { share: of_all, burst } = current.routes.retries();
        // A worker with less than one would never send any.
        let burst = (burst / share).max(burst.min(1.0));
        let retries = Retries::new(of_all, burst, self.counters.keys.get());
        let table = Table {
            routes: Arc::clone(&current.routes),
            targets,
            limits: limits.collect(),
            retries: RefCell::new(retries),
            counters: Arc::clone(&self.counters),
            leases: Arc::clone(&current.leases),
        };
        *self.table.borrow_mut() = Rc::new(table);
        *self.current.borrow_mut() = current;
    }

    /// Nobody is served any more. What nodes have not answered counts as missed, and is kept.
    pub(crate) fn end(&self) {
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        for Live { target, .. } in tasks.values() {
            (0..target.lanes()).for_each(|lane| target.fail(lane, Failure::ConnectError));
        }
    }

    fn begin(
        &self,
        target: &route::Target,
        link: &Rc<Link>,
        made_of: (route::Target, usize),
    ) -> Live {
        let facts = self.facts.of(&target.address);
        let target = Rc::new(Target::new(target, Rc::clone(link), facts));
        let mut tasks = vec![tokio::task::spawn_local(lane::probe(Rc::clone(&target)))];
        for lane in 0..target.lanes() {
            let running = lane::run(Rc::clone(&target), lane, Rc::clone(&self.scratch));
            tasks.push(tokio::task::spawn_local(running));
        }
        Live { target, made_of, tasks }
    }
}
