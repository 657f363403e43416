//! Readers and writers: applications that use the caches in every way that the rules know.

use cache_node::rules::{
    Ask, Fill, Leased, Named, Nonce, OnStale, Reader, Served, Stale, Subject, Token,
};
use schemas::{cure::Cure, version::Version};

use crate::{
    binlog::key_name,
    check::Shown,
    database::{KeyId, TxnId, Value, Writes},
    node::{Entry, key},
    world::{Climate, Event, MS, Weather, World},
};

/// A value that is being read, to be stored at a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op {
    pub node: usize,
    pub key: KeyId,
    pub how: How,
    pub server: usize,
    /// Which node, in which of its lives, told the reader to fill.
    pub told_by: (usize, u64),
    /// What was read, and when.
    pub value: Value,
    pub opened: u64,
}

/// How a reader fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Lease(Token),
    Plain,
    /// Knows the version of its snapshot.
    Version(Version),
    /// From the entry of another node.
    Copy {
        peer: usize,
        version: Version,
    },
    /// Reads at the primary, and stores nothing.
    Nothing,
}

/// A write on its way.
#[derive(Clone, Debug)]
pub(crate) struct Writing {
    pub writer: usize,
    pub server: usize,
    pub keys: Vec<KeyId>,
    pub txn: TxnId,
    /// The keys are marked under this nonce, since then.
    pub marked: Option<(Nonce, u64)>,
}

// === Reading ===

impl World {
    pub(crate) fn reader(&mut self, reader: usize) {
        let pause = self.delay(6, 40);
        self.after(pause, Event::Reader { reader });
        // Low keys are read most.
        let id = self.rng.usize(..self.size.keys).min(self.rng.usize(..self.size.keys));
        let node = self.rng.usize(..self.size.nodes);
        if !self.nodes[node].up {
            return;
        }
        let kind = if self.weather == Weather::Calm { 0 } else { self.rng.u8(..13) };
        match kind {
            0..=4 => self.read_with_lease(node, id, Reader::Anywhere),
            5..=7 => self.read_with_lease(node, id, Reader::CanReadPrimary),
            8 | 9 => self.read_and_set(node, id),
            10 => self.read_with_version(node, id),
            11 => self.derive(node, id),
            _ => self.read_from_peer(node, id),
        }
    }

    /// What a reader gets at a node; everything that is served is checked.
    fn get(&mut self, node: usize, id: KeyId, ask: Ask) -> Option<(Value, Served)> {
        let entry = self.entry(node, id)?;
        let name = key_name(id);
        let now = self.moment();
        let served =
            self.nodes[node].rules.serve(now, &Subject::new(name.as_bytes()), &entry.mark, ask);
        let at = self.now;
        self.recognise_read(node, &entry, served, ask);
        if served == Served::Miss {
            self.check_refusal(node, id, &entry, ask);
            return None;
        }
        self.check_age(node, id, &entry, served);
        self.note(|| {
            format!(
                "node {node} serves {name} = {:?} filled at {} ({served:?})",
                entry.value, entry.mark.filled
            )
        });
        let shown = Shown { node, key: id, value: entry.value, served, ask };
        self.check.served(at, &self.db, &self.nodes[node].rules, shown);
        Some((entry.value, served))
    }

    fn read_with_lease(&mut self, node: usize, id: KeyId, reader: Reader) {
        let ask = self.ask(id);
        let refuses = self.nodes[node].settings.on_stale == OnStale::Miss;
        let counted = ask.at_least == Version::ZERO && ask.stale == Stale::Refuse && !refuses;
        let served = self.get(node, id, ask);
        if counted {
            let present = self.db.read(self.db.primary, id);
            self.stats.reads += 1;
            self.stats.hits_oracle += u64::from(self.check.oracle_hits(node, id, present));
            self.stats.hits +=
                u64::from(matches!(served, Some((_, Served::Hit | Served::Degraded))));
        }
        if served.is_some() {
            return;
        }
        let name = key_name(id);
        let (now, token) = (self.moment(), Token(self.rng.u64(..)));
        let leased =
            self.nodes[node].rules.lease(now, &Subject::new(name.as_bytes()), reader, token);
        let (server, how) = match leased {
            Leased::Fill(token) => {
                self.check.sent_anywhere(self.now, &self.db, node, id);
                self.leased.insert((node, id), self.nodes[node].rules.position());
                (self.any_instance(), How::Lease(token))
            }
            Leased::FillFromPrimary(token) => {
                self.leased.insert((node, id), self.nodes[node].rules.primary_position());
                (self.what_seems_primary(), How::Lease(token))
            }
            Leased::ReadPrimary => (self.what_seems_primary(), How::Nothing),
            Leased::Read => {
                self.check.sent_anywhere(self.now, &self.db, node, id);
                (self.any_instance(), How::Nothing)
            }
            Leased::Wait => {
                let filled = self.leased.get(&(node, id)).copied().unwrap_or_default();
                self.check.waits(self.now, node, id, filled);
                return;
            }
        };
        self.note(|| {
            format!("reader of {name} at node {node}: {leased:?}, reads server {server:?}")
        });
        let Some(server) = server else { return };
        self.open_later(node, id, how, server);
    }

    fn read_and_set(&mut self, node: usize, id: KeyId) {
        if self.get(node, id, Ask::default()).is_none()
            && let Some(server) = self.any_instance()
        {
            self.open_later(node, id, How::Plain, server);
        }
    }

    fn read_with_version(&mut self, node: usize, id: KeyId) {
        if self.get(node, id, Ask::default()).is_none()
            && let Some(server) = self.any_instance()
        {
            self.open_later(node, id, How::Version(Version::ZERO), server);
        }
    }

    /// Appends nothing to a value: what is derived from an entry is as old as the entry.
    fn derive(&mut self, node: usize, id: KeyId) {
        if let Some((value, _)) = self.get(node, id, Ask::default())
            && let Some(entry) = self.entry(node, id)
        {
            let _stored = self.store(node, id, value, Fill::Derived(entry.mark.filled));
        }
    }

    /// A token that the node meets, for an entry that it would serve without, must be enough.
    fn check_refusal(&mut self, node: usize, id: KeyId, entry: &Entry, ask: Ask) {
        let (now, name) = (self.moment(), key_name(id));
        let subject = Subject::new(name.as_bytes());
        let rules = &self.nodes[node].rules;
        let partition = schemas::cursor::partition_of(&key(id), self.size.partitions);
        let asked = Ask { at_least: Version::ZERO, ..ask };
        // One of an older epoch may have a version of a newer one by now.
        if rules.applied(partition) >= ask.at_least
            && ask.at_least.epoch() == rules.newest_epoch()
            && rules.serve(now, &subject, &entry.mark, asked) != Served::Miss
        {
            let asked = ask.at_least;
            self.check.fail(
                self.now,
                format!("node {node} refuses {name} to a token for {asked}, which it has applied"),
            );
        }
    }

    /// While it is not fresh, a node serves what is young, if it was told so.
    fn check_age(&mut self, node: usize, id: KeyId, entry: &Entry, served: Served) {
        let settings = &self.nodes[node].settings;
        let longest = u64::try_from(settings.degraded_ttl.as_micros()).unwrap_or(u64::MAX);
        let age = self.now - entry.stored;
        if served == Served::Degraded && settings.on_stale == OnStale::Ttl && age > longest {
            let name = key_name(id);
            self.check.fail(
                self.now,
                format!("node {node} is not fresh and serves {name}, which is {} ms old", age / MS),
            );
        }
    }

    /// Takes the entry of another node, as a cold cluster does.
    fn read_from_peer(&mut self, node: usize, id: KeyId) {
        let peer = (node + 1) % self.size.nodes;
        if self.entry(node, id).is_some() || !self.nodes[peer].up {
            return;
        }
        let (Some(entry), now) = (self.entry(peer, id), self.moment()) else { return };
        let name = key_name(id);
        let subject = Subject::new(name.as_bytes());
        let Some(version) = self.nodes[peer].rules.copy_version(now, &subject, &entry.mark) else {
            return;
        };
        let how = How::Copy { peer, version };
        let told_by = (node, self.nodes[node].life);
        let (server, value, opened) = (0, entry.value, self.now);
        let op = Op { node, key: id, how, server, told_by, value, opened };
        self.note(|| {
            format!("node {node} copies {name} = {:?} at {version} from node {peer}", entry.value)
        });
        let arrives = self.delay(1, 300);
        self.after(arrives, Event::Fill { op });
    }

    fn ask(&mut self, id: KeyId) -> Ask {
        if self.weather == Weather::Calm {
            return Ask::default();
        }
        let stale = if self.one_in(8) { Stale::Allow } else { Stale::Refuse };
        let at_least = if self.one_in(5) { self.check.token(id) } else { Version::ZERO };
        Ask { at_least, stale }
    }

    fn any_instance(&mut self) -> Option<usize> {
        let readable =
            |server: &usize| self.db.instances[*server].readable && self.db.instances[*server].up;
        let servers: Vec<usize> = (0..self.size.servers).filter(readable).collect();
        (!servers.is_empty()).then(|| servers[self.rng.usize(..servers.len())])
    }

    /// The primary, or a former one that a reader has not heard is none any more.
    fn what_seems_primary(&mut self) -> Option<usize> {
        let former = self
            .operator
            .former
            .iter()
            .copied()
            .filter(|server| self.db.instances[*server].readable);
        let mut servers: Vec<usize> = former.collect();
        servers.push(self.db.primary);
        let server = servers[self.rng.usize(..servers.len())];
        self.db.instances[server].up.then_some(server)
    }

    fn open_later(&mut self, node: usize, key: KeyId, how: How, server: usize) {
        let told_by = (node, self.nodes[node].life);
        // Now and then a value goes to another node than the one that asked for it.
        let astray = self.weather != Weather::Calm && self.one_in(50);
        let node = if astray { (node + 1) % self.size.nodes } else { node };
        let op = Op { node, key, how, server, told_by, value: None, opened: 0 };
        let slow = self.weather != Weather::Calm && self.often(8);
        let opens = if slow { self.delay(20, 400) } else { self.delay(1, 20) };
        self.after(opens, Event::Open { op });
    }

    /// The reader opens its snapshot and reads.
    pub(crate) fn open(&mut self, mut op: Op) {
        if !self.db.instances[op.server].up || !self.db.instances[op.server].readable {
            return;
        }
        op.value = self.db.read(op.server, op.key);
        op.opened = self.now;
        if let How::Version(version) = &mut op.how {
            *version = self.check.standing(self.db.executed(op.server));
        }
        let slow = self.weather != Weather::Calm && self.one_in(6);
        let longest = if matches!(op.how, How::Version(_)) { 6_000 } else { 3_500 };
        let arrives = if slow { self.rng.u64(10..longest) * MS } else { self.delay(1, 15) };
        // A client of plain sets gives up in time; all others may be as slow as they like.
        let arrives = if op.how == How::Plain { arrives.min(1_950 * MS) } else { arrives };
        let (server, value, name) = (op.server, op.value, key_name(op.key));
        self.note(|| {
            format!("reader of {name} for node {} reads {value:?} at server {server}", op.node)
        });
        self.after(arrives, Event::Fill { op });
    }

    /// What was read arrives at the node.
    pub(crate) fn fill(&mut self, op: Op) {
        let Op { node, key: id, how, value, .. } = op;
        if !self.nodes[node].up {
            return;
        }
        let fill = match how {
            How::Lease(token) => Fill::Lease(token),
            How::Plain => Fill::Plain,
            How::Version(version) => Fill::Version(version),
            How::Copy { version, peer } if !Cure::CopyAppliedWithValue.works() => {
                let partition = schemas::cursor::partition_of(&key(id), self.size.partitions);
                Fill::Copy(version.max(self.nodes[peer].rules.applied(partition)))
            }
            How::Copy { version, .. } => Fill::Copy(version),
            How::Nothing => return,
        };
        let stored = self.store(node, id, value, fill);
        self.recognise_fill(&op, stored);
    }
}

// === Writing ===

impl World {
    pub(crate) fn writer(&mut self, writer: usize) {
        if !self.is_chaos() {
            return;
        }
        let pause =
            if self.climate == Climate::Storm { self.delay(40, 300) } else { self.delay(200, 600) };
        self.after(pause, Event::Writer { writer });
        let server = self.db.primary;
        let quiet = self.now < self.operator.quiet_until;
        if !self.db.instances[server].up || !self.db.instances[server].writable || quiet {
            return;
        }
        let count = if self.one_in(4) { 3 } else { 1 };
        let mut keys: Vec<KeyId> = (0..count).map(|_| self.rng.usize(..self.size.keys)).collect();
        keys.sort_unstable();
        keys.dedup();
        let marked =
            if self.weather != Weather::Calm && self.often(3) { self.mark(&keys) } else { None };
        if self.weather != Weather::Calm && self.often(10) {
            self.note(|| format!("writer {writer} rolls back {keys:?}"));
            return;
        }
        let truncate = self.weather != Weather::Calm && self.one_in(40);
        let writes = if truncate { Writes::Truncate } else { Writes::Rows(keys.clone()) };
        self.note(|| {
            format!("writer {writer} flushes {writes:?} at server {server}, marked {marked:?}")
        });
        let txn = self.db.flush(server, writes);
        let visible = if self.operator.slow == Some(server) {
            self.rng.u64(300..2_500) * MS
        } else if self.weather != Weather::Calm && self.one_in(8) {
            self.delay(50, 400)
        } else {
            self.delay(1, 6)
        };
        self.after(visible, Event::Visible { server, txn });
        if !truncate {
            let writing = Writing { writer, server, keys, txn, marked };
            let heard = self.delay(1, 20);
            self.after(visible + heard, Event::Committed { writing });
        }
    }

    /// Marks the keys at every node; `None` if one cannot be reached: the writer then relies on a token.
    fn mark(&mut self, keys: &[KeyId]) -> Option<(Nonce, u64)> {
        let nonce = Nonce(self.rng.u64(..));
        let now = self.moment();
        for node in 0..self.size.nodes {
            if !self.nodes[node].up {
                self.stats.race("r55");
                return None;
            }
            for id in keys {
                let name = key_name(*id);
                self.nodes[node].rules.mark(now, &Subject::new(name.as_bytes()), nonce).ok()?;
            }
        }
        for node in 0..self.size.nodes {
            for id in keys {
                if self.check.marked(node, *id, nonce, self.now) {
                    self.stats.race("r53");
                }
            }
        }
        Some((nonce, self.now))
    }

    /// The writer's commit returned: it names the version of its write, and remembers it as a token.
    pub(crate) fn committed(&mut self, writing: Writing) {
        let Writing { writer, server, ref keys, txn, marked } = writing;
        if !self.db.instances[server].up {
            return;
        }
        if !self.db.instances[server].visible.contains(&txn) {
            self.after(3 * MS, Event::Committed { writing });
            return;
        }
        self.check.hear(self.now);
        let Some(version) = self.check.version_of(&self.db, server, txn) else {
            // Nobody knows the epoch yet, so nobody can name the version.
            self.after(20 * MS, Event::Committed { writing });
            return;
        };
        self.note(|| format!("writer {writer} committed {txn:?} at {version}"));
        let is_of_another = self.check.is_of_another(&self.db, server, txn, version);
        for id in keys.iter().filter(|_| !is_of_another) {
            self.check.committed(*id, txn, version);
        }
        let Some((nonce, _)) = marked else { return };
        let now = self.moment();
        for node in 0..self.size.nodes {
            if !self.nodes[node].up {
                continue;
            }
            for id in keys {
                let state = &mut self.nodes[node];
                let named = state.rules.name_mark(now, &key(*id), nonce, version, &mut state.shelf);
                self.stats.race(if named == Named::InTime { "r54" } else { "r52" });
                let in_time = (named == Named::InTime && !is_of_another).then_some(txn);
                self.check.named(self.now, node, *id, nonce, in_time);
            }
        }
        self.note(|| format!("writer {writer} names {version} for {keys:?}"));
    }
}
