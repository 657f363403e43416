//! What writers and readers know of epochs, and the versions that they name.

use schemas::{
    gtid::{Dialect, GtidSet},
    version::Version,
};

use super::Check;
use crate::database::{KeyId, Topology, Txn, TxnId};

impl Check {
    /// The version of a transaction; `None` while no epoch of its server is known.
    pub(crate) fn version_of(&self, db: &Topology, server: usize, txn: TxnId) -> Option<Version> {
        self.heard.version_of(&db.txn(txn).gtid(), db.executed(server))
    }

    /// Writers hear of the epochs that began a while ago.
    pub(crate) fn hear(&mut self, now: u64) {
        for (_, start) in self.unheard.extract_if(.., |(at, _)| *at <= now) {
            self.heard.learn(start);
        }
    }

    /// The version that a client gives to a snapshot.
    pub(crate) fn standing(&self, executed: &GtidSet) -> Version {
        self.table.standing(executed, &GtidSet::empty(Dialect::Mysql)).position
    }

    /// A version that a reader remembers for a key.
    pub(crate) fn token(&self, id: KeyId) -> Version {
        self.committed[id].last().map_or(Version::ZERO, |(_, version)| *version)
    }

    pub(crate) fn committed(&mut self, id: KeyId, txn: TxnId, version: Version) {
        self.committed[id].push((txn, version));
    }

    /// Whether a version is, or may be, the name of another transaction, whose number was given out anew: nothing is promised to who
    /// asks for that before he knows the epoch that tells them apart.
    pub(crate) fn is_of_another(
        &self,
        db: &Topology,
        server: usize,
        txn: TxnId,
        version: Version,
    ) -> bool {
        let this = db.txn(txn);
        let unheard = self.table.version_of(&this.gtid(), db.executed(server)) != Some(version);
        let same = |of: &Txn| (of.server, of.number) == (this.server, this.number);
        let own = |at| self.own.get(&at) == Some(&version);
        db.all().any(|(at, of)| at != txn && same(of) && (unheard || own(at)))
    }
}
