//! [`History`]: whether a server still has the very transactions that were published. Pure.
//!
//! A number does not say which transaction it is. A server that has lost the end of its binlog (a crash without
//! `sync_binlog = 1`, a copy of an older state under the old name) gives the same numbers out again; if no tailer was connected
//! meanwhile, its set looks as if nothing had happened. So the newest published transactions are kept with the times of
//! their commits, and each connection reads the newest of them that the server must have once more. It has to come before
//! the end that the binlog had at the connection, with the same time. Else what was published is not what the server has.
//!
//! What stands before it in the binlog is the same then, because servers lose nothing but ends. Of a server that another one
//! wrote before, the newest of the last [`RECENT`] that it has is compared; if it lost all of these, nothing is.

use std::collections::VecDeque;

use schemas::{
    cure::Cure,
    gtid::{Gtid, GtidSet},
    record::{UnixMicros, Witness},
};

use crate::{epochs::writer, input::Server};

/// Published transactions that are kept.
pub(crate) const RECENT: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Oldest first.
    recent: VecDeque<Witness>,
    check: Option<Check>,
}

/// What must come again on this connection.
#[derive(Debug)]
struct Check {
    published: GtidSet,
    /// `None` once it has come, or if nothing is known of any.
    awaited: Option<Witness>,
    /// What to ask the server for everything but.
    asks: GtidSet,
    server: Server,
    wrote_last: WroteLast,
}

/// Who wrote what was published last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WroteLast {
    /// The server that we are connected to: it has all of it, or has lost it.
    Itself,
    /// Another one: some may be lost, and the epoch says so.
    Another,
}

/// What a transaction is that the server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It was not published.
    New,
    /// It is in the stream already.
    Again,
    /// It shows that the server does not have what was published.
    Instead,
}

impl History {
    /// Goes on where a checkpoint left off.
    pub(crate) fn resume(recent: Vec<Witness>) -> History {
        History { recent: recent.into(), check: None }
    }

    /// For the next checkpoint.
    pub(crate) fn recent(&self) -> Vec<Witness> {
        self.recent.iter().cloned().collect()
    }

    /// A connection was made to `server`. Everything in `published` is in the stream; `executed` is the part of it that
    /// the server shows.
    pub(crate) fn connected(
        &mut self,
        published: GtidSet,
        executed: &GtidSet,
        server: &Server,
        wrote_last: WroteLast,
    ) {
        let shown = |witness: &&Witness| server.executed.contains(&witness.gtid);
        let awaited = match wrote_last {
            WroteLast::Itself => self.recent.back(),
            WroteLast::Another => self.recent.iter().rev().find(shown),
        };
        let mut asks = executed.clone();
        // One that is not shown comes without being asked for, if it is in the binlog.
        let comes = |of: &&Witness| !executed.contains(&of.gtid) || self.take_back(&mut asks, of);
        let awaited = awaited.filter(comes).cloned();
        let lacks = wrote_last == WroteLast::Itself && !executed.contains_all(&published);
        self.check = (awaited.is_some() || lacks).then(|| Check {
            published,
            awaited,
            asks,
            server: server.clone(),
            wrote_last,
        });
    }

    /// What was published is given up, or is not what the server has.
    pub(crate) fn forget(&mut self) -> Option<Server> {
        self.recent.clear();
        self.check.take().map(|check| check.server)
    }

    /// Whether what must come again cannot, because the server has it and not its binlog.
    pub(crate) fn is_purged(&self) -> bool {
        let purged = |check: &Check| {
            let purged = &check.server.purged;
            check.awaited.as_ref().is_some_and(|awaited| purged.contains(&awaited.gtid))
        };
        self.check.as_ref().is_some_and(purged)
    }

    /// Everything was read that the server had when we connected: whether what was published is not all there.
    pub(crate) fn is_incomplete(&mut self) -> bool {
        self.check.take_if(|_| !Cure::PublishedMustCome.works());
        self.check.is_some()
    }

    /// Some of it was lost in a promotion.
    pub(crate) fn keep(&mut self, executed: &GtidSet) {
        self.recent.retain(|witness| executed.contains(&witness.gtid));
    }

    /// Ask the server for everything that is not in here; `None` for what is not executed.
    pub(crate) fn asks(&self) -> Option<&GtidSet> {
        self.check.as_ref().map(|check| &check.asks)
    }

    /// What was published, while it is not known whether the server has it.
    pub(crate) fn in_doubt(&self) -> Option<&GtidSet> {
        self.check.as_ref().map(|check| &check.published)
    }

    /// A transaction begins, which the server with the id `by` wrote.
    pub(crate) fn sent(&self, witness: &Witness, by: u32) -> Sent {
        let Some(check) = &self.check else { return Sent::New };
        if !check.published.contains(&witness.gtid) {
            // What the server wrote itself is behind everything that it had before.
            let passed = by == writer(&check.server.origin) && Cure::PublishedMustCome.works();
            return if passed { Sent::Instead } else { Sent::New };
        }
        let known = self.recent.iter().rev().find(|known| same_number(&known.gtid, &witness.gtid));
        let differs = known.is_some_and(|known| known != witness);
        if differs && Cure::PublishedIsCompared.works() { Sent::Instead } else { Sent::Again }
    }

    /// A transaction is complete; with it, `executed` is.
    pub(crate) fn committed(&mut self, witness: Witness, executed: &GtidSet) {
        if let Some(check) = &mut self.check {
            check.awaited.take_if(|awaited| awaited.gtid == witness.gtid);
            let whole =
                check.wrote_last == WroteLast::Another || executed.contains_all(&check.published);
            if check.awaited.is_none() && whole {
                self.check = None;
            }
        }
        if self.recent.iter().all(|known| known.gtid != witness.gtid) {
            self.recent.push_back(witness);
            if self.recent.len() > RECENT {
                self.recent.pop_front();
            }
        }
    }

    /// Takes `witness` out of what the server is told that we have.
    fn take_back(&self, asks: &mut GtidSet, witness: &Witness) -> bool {
        let before = self.recent.iter().take_while(|other| *other != witness);
        let same_domain = |other: &&Witness| {
            witness.gtid.domain().is_some() && other.gtid.domain() == witness.gtid.domain()
        };
        let previous = before.filter(same_domain).last();
        asks.take_back(&witness.gtid, previous.map(|previous| &previous.gtid))
    }
}

/// Whether a server can have only one of the two.
fn same_number(one: &Gtid, other: &Gtid) -> bool {
    one.number() == other.number()
        && match (one, other) {
            (Gtid::MariaDb { .. }, Gtid::MariaDb { .. }) => one.domain() == other.domain(),
            (Gtid::Mysql { uuid, tag, .. }, Gtid::Mysql { uuid: of, tag: tagged, .. }) => {
                uuid == of && tag == tagged
            }
            _ => false,
        }
}

/// When a transaction was committed, as well as its first event says it. Replicas keep this time.
pub(crate) fn time_of(committed_at: Option<UnixMicros>, timestamp_s: u32) -> UnixMicros {
    const SECOND: u64 = 1_000_000;
    committed_at.unwrap_or(UnixMicros(u64::from(timestamp_s).saturating_mul(SECOND)))
}
