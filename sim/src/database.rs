//! [`Topology`]: a primary and its replicas, as far as a cache can tell: which transactions are in an
//! instance's binlog, which are visible to its readers, and what those read.
//!
//! A commit is *flushed* (the tailer and replicas may have it) before it is *visible* (the engine has
//! committed). A replica receives in order, and makes visible in order or, with parallel workers, with
//! gaps; but never two writes of one key the wrong way round.

use std::{collections::BTreeSet, sync::Arc};

use schemas::{
    cure::Cure,
    gtid::{Dialect, Gtid, GtidSet, Uuid},
};

/// A transaction; they are numbered in the order in which they were flushed, over all instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxnId(pub u32);

/// A key of the simulated world.
pub type KeyId = usize;

/// What a key's row contains: the transaction that wrote it last; `None` before the first.
pub type Value = Option<TxnId>;

/// What a transaction does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writes {
    /// Changes these rows.
    Rows(Vec<KeyId>),
    /// Removes all rows, without saying which.
    Truncate,
}

/// A transaction, and what became of it.
#[derive(Clone, Debug)]
pub struct Txn {
    /// Which one it is, also if another one gets its number.
    pub id: TxnId,
    /// Which server gave the number.
    pub server: usize,
    /// The number of its GTID.
    pub number: u64,
    /// What it does.
    pub writes: Writes,
    /// When readers of the primary could see it first.
    pub visible_at: Option<u64>,
    /// When it was lost: a promotion left it behind, or it was written on a replica.
    pub lost_at: Option<u64>,
}

/// One server.
#[derive(Clone, Debug)]
pub struct Instance {
    /// In binlog order.
    pub log: Vec<TxnId>,
    /// Which of them readers see.
    pub visible: BTreeSet<TxnId>,
    /// Binlog entries before this one are purged.
    pub purged: usize,
    /// Where it replicates from.
    pub follows: Option<usize>,
    /// Whether it can be reached.
    pub up: bool,
    /// Whether applications read from it.
    pub readable: bool,
    /// Whether it takes writes.
    pub writable: bool,
    executed: Arc<GtidSet>,
}

/// All servers, and all transactions that ever were.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Servers by number.
    pub instances: Vec<Instance>,
    /// Which one applications write to.
    pub primary: usize,
    /// Transactions by number.
    pub txns: Vec<Txn>,
    keys: usize,
}

/// The UUID of a server.
pub fn uuid(server: usize) -> Uuid {
    Uuid([u8::try_from(server).unwrap_or(u8::MAX).saturating_add(1); 16])
}

impl Txn {
    /// Whether it changes `key`.
    pub fn writes_key(&self, key: KeyId) -> bool {
        match &self.writes {
            Writes::Rows(keys) => keys.contains(&key),
            Writes::Truncate => true,
        }
    }

    /// Its GTID.
    pub fn gtid(&self) -> Gtid {
        Gtid::Mysql { uuid: uuid(self.server), tag: Arc::from(""), number: self.number }
    }
}

impl Topology {
    /// `servers` of them; the first one is the primary, the others follow it.
    pub fn new(servers: usize, keys: usize) -> Topology {
        let instance = |server| Instance {
            log: Vec::new(),
            visible: BTreeSet::new(),
            purged: 0,
            follows: (server > 0).then_some(0),
            up: true,
            readable: true,
            writable: server == 0,
            executed: Arc::new(GtidSet::empty(Dialect::Mysql)),
        };
        Topology {
            instances: (0..servers).map(instance).collect(),
            primary: 0,
            txns: Vec::new(),
            keys,
        }
    }

    /// The transaction with this number.
    pub fn txn(&self, id: TxnId) -> &Txn {
        &self.txns[id.0 as usize]
    }

    /// A commit on `server` reaches its binlog.
    pub fn flush(&mut self, server: usize, writes: Writes) -> TxnId {
        let log = self.instances[server].log.iter().map(|id| self.txn(*id));
        let own = log.filter(|txn| txn.server == server).map(|txn| txn.number);
        let last = own.max().unwrap_or(0);
        let id = TxnId(u32::try_from(self.txns.len()).expect("few transactions"));
        let number = last + 1;
        self.txns.push(Txn { id, server, number, writes, visible_at: None, lost_at: None });
        self.instances[server].log.push(id);
        id
    }

    /// The engine of `server` commits `id`, unless a write of the same key is not visible yet, or it is gone.
    pub fn commit(&mut self, now: u64, server: usize, id: TxnId) -> bool {
        let at = self.instances[server].log.iter().position(|of| *of == id);
        let Some(at) = at else { return true };
        let waits = self.instances[server].log[..at].iter().any(|before| {
            !self.instances[server].visible.contains(before)
                && (0..self.keys)
                    .any(|key| self.txn(*before).writes_key(key) && self.txn(id).writes_key(key))
        });
        if waits {
            return false;
        }
        let gtid = self.txn(id).gtid();
        let instance = &mut self.instances[server];
        instance.visible.insert(id);
        assert!(
            Arc::make_mut(&mut instance.executed).insert(&gtid),
            "a MySQL transaction in a MySQL set"
        );
        if server == self.primary || self.txn(id).server == server {
            self.txns[id.0 as usize].visible_at.get_or_insert(now);
        }
        true
    }

    /// What `server` says that it has executed: what is visible there.
    pub fn executed(&self, server: usize) -> &GtidSet {
        &self.instances[server].executed
    }

    /// What of that is not in its binlog any more.
    pub fn purged(&self, server: usize) -> GtidSet {
        let instance = &self.instances[server];
        let mut purged = GtidSet::empty(Dialect::Mysql);
        for id in &instance.log[..instance.purged] {
            assert!(purged.insert(&self.txn(*id).gtid()), "a MySQL transaction in a MySQL set");
        }
        purged
    }

    /// What `server` answers to those who ask what its readers see.
    pub fn asked(&self, server: usize) -> Arc<GtidSet> {
        let mut set = Arc::clone(&self.instances[server].executed);
        if !Cure::PositionAsksVisible.works() {
            let set = Arc::make_mut(&mut set);
            for id in &self.instances[server].log {
                assert!(set.insert(&self.txn(*id).gtid()), "a MySQL transaction in a MySQL set");
            }
        }
        set
    }

    /// What a reader at `server` finds now.
    pub fn read(&self, server: usize, key: KeyId) -> Value {
        let instance = &self.instances[server];
        let seen = |id: &&TxnId| instance.visible.contains(*id) && self.txn(**id).writes_key(key);
        instance.log.iter().rev().find(seen).copied()
    }

    /// The value that will be there when everything has settled: the primary's, all of its binlog counted.
    pub fn settled(&self, key: KeyId) -> Value {
        let log = &self.instances[self.primary].log;
        log.iter().rev().find(|id| self.txn(**id).writes_key(key)).copied()
    }

    /// Makes `server` a copy of what `from` had executed when its binlog had `upto` entries.
    pub fn rebuild(&mut self, server: usize, from: usize, upto: usize) {
        let source = &self.instances[from];
        let log: Vec<TxnId> =
            source.log[..upto].iter().filter(|id| source.visible.contains(id)).copied().collect();
        let mut executed = GtidSet::empty(Dialect::Mysql);
        for id in &log {
            assert!(executed.insert(&self.txn(*id).gtid()), "a MySQL transaction in a MySQL set");
        }
        let instance = &mut self.instances[server];
        instance.visible = log.iter().copied().collect();
        (instance.log, instance.executed, instance.purged) = (log, Arc::new(executed), 0);
    }

    /// `server` becomes the primary; what only its predecessor has is lost.
    pub fn promote(&mut self, now: u64, server: usize) {
        let kept: BTreeSet<TxnId> = self.instances[server].log.iter().copied().collect();
        let old = std::mem::replace(&mut self.primary, server);
        for id in self.instances[old].log.clone() {
            if !kept.contains(&id) {
                self.txns[id.0 as usize].lost_at.get_or_insert(now);
            }
        }
        self.instances[old].writable = false;
        self.instances[server].writable = true;
        self.instances[server].follows = None;
    }

    /// Every transaction, in the order in which they were written.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = (TxnId, &Txn)> {
        let id = |at| TxnId(u32::try_from(at).expect("few transactions"));
        self.txns.iter().enumerate().map(move |(at, txn)| (id(at), txn))
    }

    /// Whether `server` has something that the primary does not have.
    pub fn diverged(&self, server: usize) -> bool {
        let primary = &self.instances[self.primary].log;
        self.instances[server].log.iter().any(|id| !primary.contains(id))
    }
}
