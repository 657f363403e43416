//! Stage directions for cache nodes and their clients.

use cache_node::rules::{
    Accepted, Ask, Fill, Leased, MarkersFull, Named, Nonce, Reader, Refused, RingPlace, Rules,
    Served, Snapshot, Subject, Token,
};
use schemas::{
    cure::Cure,
    cursor::{Partition, Place, partition_of},
    ring::{Hashing, Ring, RingNode},
    version::Version,
};
use sim::{
    OnDisk,
    database::{KeyId, Value},
};

use super::{KEYS, Node, Shelf, Stage, key};
use crate::race::{Ending, broken_if};

impl Stage {
    /// A reader asks for the right to fill, and gets it; he can read anywhere in the region.
    pub(crate) fn lease(&mut self, node: usize, id: KeyId) -> Token {
        match self.ask_lease(node, id, Reader::Anywhere) {
            Leased::Fill(token) => token,
            other => panic!("no lease, but {other:?}"),
        }
    }

    /// A reader asks for the right to fill.
    pub(crate) fn ask_lease(&mut self, node: usize, id: KeyId, reader: Reader) -> Leased {
        self.tokens += 1;
        let (now, token, name) = (self.moment(), Token(self.tokens), key(id));
        self.nodes[node].rules.lease(now, &Subject::new(name.as_bytes()), reader, token)
    }

    /// A value arrives at a node, which stores it if the rules say so. Returns its fill version, if they do.
    pub(crate) fn fill(
        &mut self,
        node: usize,
        id: KeyId,
        value: Value,
        fill: Fill,
    ) -> Option<Version> {
        self.offer(node, id, value, fill).ok()
    }

    pub(crate) fn offer(
        &mut self,
        node: usize,
        id: KeyId,
        value: Value,
        fill: Fill,
    ) -> Result<Version, Refused> {
        let (now, name) = (self.moment(), key(id));
        let Node { rules, shelf, .. } = &mut self.nodes[node];
        let Accepted { mark, .. } = rules.accept(now, &Subject::new(name.as_bytes()), fill)?;
        shelf.0.insert(id, (mark, value));
        Ok(mark.filled)
    }

    /// A reader misses, reads the server and fills, without a break.
    pub(crate) fn cache(&mut self, node: usize, id: KeyId, server: usize) {
        let token = self.lease(node, id);
        let value = self.read(server, id);
        self.fill(node, id, value, Fill::Lease(token)).expect("a fresh lease");
    }

    /// The same, if the reader gets a lease at all, and the fill is taken.
    pub(crate) fn cache_by(&mut self, reader: Reader, node: usize, id: KeyId, server: usize) {
        let leased = self.ask_lease(node, id, reader);
        if let Leased::Fill(token) | Leased::FillFromPrimary(token) = leased {
            let value = self.read(server, id);
            self.fill(node, id, value, Fill::Lease(token));
        }
    }

    /// The fill version of an entry.
    pub(crate) fn filled(&self, node: usize, id: KeyId) -> Version {
        self.nodes[node].shelf.0[&id].0.filled
    }

    /// What a reader gets, with and without asking for more.
    pub(crate) fn served(&self, node: usize, id: KeyId, ask: Ask) -> Served {
        let (now, name) = (self.moment(), key(id));
        let Node { rules, shelf, .. } = &self.nodes[node];
        let Some((mark, _)) = shelf.0.get(&id) else { return Served::Miss };
        rules.serve(now, &Subject::new(name.as_bytes()), mark, ask)
    }

    /// The value that a reader gets who takes no old ones.
    pub(crate) fn get(&self, node: usize, id: KeyId) -> Option<Value> {
        let hit = matches!(self.served(node, id, Ask::default()), Served::Hit | Served::Degraded);
        self.nodes[node].shelf.0.get(&id).filter(|_| hit).map(|(_, value)| *value)
    }

    /// A peer is asked for its entry: the value, and the version that a copy has.
    pub(crate) fn copy(&self, peer: usize, id: KeyId) -> Option<(Value, Version)> {
        let (now, name) = (self.moment(), key(id));
        let Node { rules, shelf, .. } = &self.nodes[peer];
        let (mark, value) = shelf.0.get(&id)?;
        Some((*value, rules.copy_version(now, &Subject::new(name.as_bytes()), mark)?))
    }

    /// A writer is about to change the key.
    pub(crate) fn mark(&mut self, node: usize, id: KeyId, nonce: u64) -> Result<(), MarkersFull> {
        let (now, name) = (self.moment(), key(id));
        self.nodes[node].rules.mark(now, &Subject::new(name.as_bytes()), Nonce(nonce))
    }

    /// The writer names what he has committed.
    pub(crate) fn name(&mut self, node: usize, id: KeyId, nonce: u64, version: Version) -> Named {
        let now = self.moment();
        let Node { rules, shelf, .. } = &mut self.nodes[node];
        rules.name_mark(now, &key(id), Nonce(nonce), version, shelf)
    }

    /// Nobody has marked a key before now.
    pub(crate) fn no_marks(&mut self, node: usize) {
        let now = self.moment();
        self.nodes[node].rules.no_marks_lost(now);
    }

    /// A reader gets, without a flag, what has been superseded for longer than nodes promise.
    pub(crate) fn not_late(&self, node: usize, id: KeyId) -> Ending {
        let old = self.get(node, id).is_some_and(|got| got != self.db.settled(id));
        let hit = self.served(node, id, Ask::default()) == Served::Hit;
        broken_if!(old && hit, "a late read")
    }

    /// A peer is asked for its entry: the first half of its answer.
    pub(crate) fn copy_begins(&self, peer: usize, id: KeyId) -> (Value, Version) {
        self.copy(peer, id).expect("the peer serves it")
    }

    /// The second half. A peer that did not take both together would say now what it has applied.
    pub(crate) fn copy_ends(
        &self,
        peer: usize,
        id: KeyId,
        (value, version): (Value, Version),
    ) -> (Value, Version) {
        let late = self.applied(peer, partition_of(&key(id), self.plan.settings.partitions));
        let works = Cure::CopyAppliedWithValue.works();
        (value, if works { version } else { version.max(late) })
    }

    /// The process is gone and starts again with nothing; its lane connects.
    pub(crate) fn restart_empty(&mut self, node: usize) {
        self.start_empty(node);
        self.connect(node);
    }

    /// The same, and no lane has come yet.
    pub(crate) fn start_empty(&mut self, node: usize) {
        self.cut(node);
        self.nodes[node].rules = Rules::new(self.moment(), self.plan.settings.clone());
        self.nodes[node].shelf.0.clear();
    }

    /// The ring of this version gives the node all keys but `others`.
    pub(crate) fn ring(&mut self, node: usize, version: u64, others: Option<KeyId>) {
        let of =
            |count: u16| (0..count).map(|at| RingNode { name: format!("node-{at}"), weight: 1 });
        let nodes: Vec<RingNode> = of(if others.is_some() { 2 } else { 1 }).collect();
        let ring = Ring::new(Hashing::Crc32, &nodes).unwrap();
        let own = others.map_or(0, |id| 1 - u16::try_from(ring.owner(&key(id))).unwrap());
        let place = RingPlace { hashing: Hashing::Crc32, nodes, own };
        self.nodes[node].rules.rings(version, &[place]).unwrap();
        self.nodes[node].others = others;
    }

    /// What has left the node is dropped.
    pub(crate) fn sweep(&mut self, node: usize) {
        let Node { rules, shelf, .. } = &mut self.nodes[node];
        let Some(round) = rules.sweeping() else { return };
        shelf.0.retain(|id, _| rules.is_kept(&Subject::new(key(*id).as_bytes())));
        rules.swept(round);
    }

    /// What a node saves first, and what it saves then.
    pub(crate) fn save(&self, node: usize) -> (Snapshot, Shelf) {
        let disk = OnDisk::write(&self.nodes[node].rules, self.moment());
        (disk.read(self.plan.settings.clone()), self.nodes[node].shelf.clone())
    }

    /// The process starts again with what it saved; no lane has come yet.
    pub(crate) fn restore(&mut self, node: usize, (rules, shelf): (Snapshot, Shelf)) {
        self.cut(node);
        self.nodes[node].rules = Rules::restore(self.moment(), self.plan.settings.clone(), rules);
        self.nodes[node].shelf = shelf;
    }

    /// The first key from `from` on that is in the partition.
    pub(crate) fn key_in(&self, partition: Partition, from: KeyId) -> KeyId {
        let within =
            |id: &KeyId| partition_of(&key(*id), self.plan.settings.partitions) == partition;
        (from..KEYS).find(within).expect("many keys")
    }

    /// Up to where a node has applied everything of a partition.
    pub(crate) fn applied(&self, node: usize, partition: Partition) -> Version {
        self.nodes[node].rules.applied(partition)
    }

    /// The same of all partitions.
    pub(crate) fn applied_everywhere(&self, node: usize) -> Option<Version> {
        self.nodes[node].rules.applied_everywhere()
    }

    /// The cursor of a node in the first partition.
    pub(crate) fn cursor(&self, node: usize) -> Option<Place> {
        self.nodes[node].rules.cursor(Partition(0))
    }
}
