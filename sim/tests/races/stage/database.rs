//! Stage directions for the database.

use invalidator::poller::Role;
use schemas::{epochs::EpochTable, version::Version};
use sim::database::{KeyId, TxnId, Value, Writes};

use super::{Stage, instance};

impl Stage {
    /// A transaction is in the primary's binlog; its readers do not see it yet.
    pub(crate) fn flush(&mut self, key: KeyId) -> TxnId {
        self.db.flush(self.db.primary, Writes::Rows(vec![key]))
    }

    /// Readers of the server see it.
    pub(crate) fn visible(&mut self, server: usize, txn: TxnId) {
        if !self.db.instances[server].log.contains(&txn) {
            self.db.instances[server].log.push(txn);
        }
        assert!(self.db.commit(self.now, server, txn), "an older write of the key is not visible");
    }

    /// Readers of the primary see a change of the key; replicas lag.
    pub(crate) fn commit(&mut self, key: KeyId) -> TxnId {
        let txn = self.flush(key);
        self.visible(self.db.primary, txn);
        txn
    }

    /// It is not committed after all, and its number is used again.
    pub(crate) fn roll_back(&mut self, txn: TxnId) {
        let primary = self.db.primary;
        self.db.instances[primary].log.retain(|of| *of != txn);
    }

    /// One transaction changes all of these keys.
    pub(crate) fn commit_all(&mut self, keys: impl IntoIterator<Item = KeyId>) -> TxnId {
        let txn = self.db.flush(self.db.primary, Writes::Rows(keys.into_iter().collect()));
        self.visible(self.db.primary, txn);
        txn
    }

    /// All rows are gone, and nobody says which.
    pub(crate) fn truncate(&mut self) {
        let txn = self.db.flush(self.db.primary, Writes::Truncate);
        self.visible(self.db.primary, txn);
    }

    /// The server receives and applies everything that the one it follows has.
    pub(crate) fn replicate(&mut self, server: usize) {
        if let Some(from) = self.db.instances[server].follows {
            for txn in self.db.instances[from].log.clone() {
                self.visible(server, txn);
            }
        }
        for txn in self.db.instances[server].log.clone() {
            self.visible(server, txn);
        }
    }

    /// What a reader finds.
    pub(crate) fn read(&self, server: usize, key: KeyId) -> Value {
        self.db.read(server, key)
    }

    /// The server becomes the primary. Readers may still take the old one for it, until it is fenced.
    pub(crate) fn promote(&mut self, server: usize) {
        self.replicate_own(server);
        self.db.promote(self.now, server);
        for other in 0..self.plan.servers {
            let follows = self.db.instances[other].follows;
            if follows.is_some() && !self.db.diverged(other) {
                self.db.instances[other].follows = Some(server);
            }
        }
        self.poller.add(self.moment(), instance(server), Role::Primary);
    }

    fn replicate_own(&mut self, server: usize) {
        for txn in self.db.instances[server].log.clone() {
            self.visible(server, txn);
        }
    }

    /// The old primary is gone, another server takes its post, and the tailer connects to that.
    pub(crate) fn fail_over(&mut self, from: usize, to: usize) {
        self.promote(to);
        self.fence(from);
        self.repoint();
    }

    /// The server has the binlog of the one it follows, and shows none of it yet.
    pub(crate) fn receive(&mut self, server: usize) {
        let from = self.db.instances[server].follows.expect("a replica");
        self.db.instances[server].log = self.db.instances[from].log.clone();
    }

    /// What the server has received and does not show is gone with its disk.
    pub(crate) fn forget_received(&mut self, server: usize) {
        let instance = &mut self.db.instances[server];
        instance.log.retain(|txn| instance.visible.contains(txn));
    }

    /// Somebody writes on a replica.
    pub(crate) fn errant(&mut self, server: usize, key: KeyId) {
        let txn = self.db.flush(server, Writes::Rows(vec![key]));
        self.visible(server, txn);
    }

    /// No reader reads from the server any more.
    pub(crate) fn fence(&mut self, server: usize) {
        self.db.instances[server].follows = None;
        self.poller.remove(instance(server));
    }

    /// The server is polled, and readers may read from it.
    pub(crate) fn joins(&mut self, server: usize) {
        self.poller.add(self.moment(), instance(server), Role::Replica);
    }

    /// The version of a transaction, as a client names it.
    pub(crate) fn version(&mut self, txn: TxnId) -> Version {
        self.learn_epochs();
        let executed = self.db.executed(self.db.primary);
        self.epochs.version_of(&self.db.txn(txn).gtid(), executed).expect("its epoch is known")
    }

    /// The epochs that a client knows by now.
    pub(crate) fn knows(&mut self) -> EpochTable {
        self.learn_epochs();
        self.epochs.clone()
    }

    /// Where a server stands, as a client names its snapshot.
    pub(crate) fn snapshot_version(&mut self, server: usize) -> Version {
        self.learn_epochs();
        let has = self.db.executed(server);
        self.epochs.standing(has, self.db.executed(self.db.primary)).position
    }

    fn learn_epochs(&mut self) {
        for start in &self.log.epochs {
            self.epochs.learn(start.clone());
        }
    }
}
