//! [`Session`]: one connection of the control port without its socket: bytes in, bytes out. Bounded by the codec.

use std::sync::{Arc, atomic::Ordering};

use bytes::BytesMut;
use protocol::control::{
    Answer, Finding, Greeting, Item,
    wire::{
        Decoder, Hello, Introduction, Malformed, NodeState, Nonce, Peer, Proof, ToLane, ToNode,
        encode_answer,
    },
};
use schemas::{cursor::Partition, record::UnixMicros};

use super::{Control, Counts, OldRing};
use crate::{
    node::Judged,
    now::Now,
    rules::{Batch, RingRefused, Rules},
};

/// What the connection must do now, once the output was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Read,
    /// A walk had its turn: rest, if it must, and come back without reading.
    Rest,
    Close,
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    control: Arc<Control>,
    nonce: Nonce,
    /// `None` before a good `hello` or `peer`.
    generation: Option<u64>,
    role: Role,
    /// What it said last of our clock.
    clocks: Option<Finding>,
    decoder: Decoder,
    pub input: BytesMut,
    pub output: BytesMut,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Lane,
    /// A node that wants copies.
    Peer,
}

/// Why a connection is closed.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("say hello first")]
    NoHello,
    #[error("the secret is not ours")]
    Secret,
    #[error("this node holds no cursors of that stream")]
    OtherStream,
    #[error("a node may ask for copies, and for nothing else")]
    OnlyCopies,
    #[error("only a node that said so may ask for copies")]
    NotAPeer,
    #[error("begin anew")]
    Outdated,
    #[error(transparent)]
    OldRing(#[from] OldRing),
    #[error(transparent)]
    Ring(#[from] RingRefused),
}

impl Session {
    /// A new connection; the output holds what the node says first. `nonce` is random.
    pub fn new(control: Arc<Control>, nonce: Nonce) -> Session {
        Counts::up(&control.counts.connections, 1);
        let mut output = BytesMut::new();
        encode_answer(&ToLane::Challenge(nonce), &mut output);
        let (decoder, input) = (Decoder::default(), BytesMut::new());
        let (generation, clocks) = (None, None);
        let role = Role::Lane;
        Session { control, nonce, generation, role, clocks, decoder, input, output }
    }

    /// Whether the lane has shown who it is.
    pub fn is_greeted(&self) -> bool {
        self.generation.is_some()
    }

    /// Whether what it does is work for another node.
    pub fn is_peer(&self) -> bool {
        self.role == Role::Peer
    }

    /// Does what the input says, as far as it goes.
    pub fn execute(&mut self, now: Now, wall: UnixMicros) -> Next {
        loop {
            let done = match self.decoder.next(&mut self.input) {
                Ok(None) => return Next::Read,
                Ok(Some(walk @ ToNode::Walk { .. })) => match self.take(now, wall, walk) {
                    Ok(()) => return Next::Rest,
                    Err(refusal) => Err(refusal),
                },
                Ok(Some(message)) => self.take(now, wall, message),
                Err(malformed) => Err(malformed.into()),
            };
            if let Err(refusal) = done {
                Counts::up(&self.control.counts.refused, 1);
                tracing::warn!(error = %refusal, "a control connection is closed");
                encode_answer(&ToLane::Refused(refusal.to_string()), &mut self.output);
                return Next::Close;
            }
        }
    }

    fn take(&mut self, now: Now, wall: UnixMicros, message: ToNode) -> Result<(), Refusal> {
        if let ToNode::Hello(hello) = &message {
            return self.hello(now, hello);
        }
        if let ToNode::Peer(peer) = &message {
            return self.peer(now, peer);
        }
        let Some(generation) = self.generation else { return Err(Refusal::NoHello) };
        let control = Arc::clone(&self.control);
        if self.role == Role::Peer {
            return self.give(now, generation, message);
        }
        if let ToNode::Quarantine = message {
            control.quarantine();
            return Err(Refusal::Outdated);
        }
        // Held, so that nobody attaches another stream in between.
        let mut attached = control.attached();
        if attached.generation != generation {
            return Err(Refusal::Outdated);
        }
        let Some(mut rules) = control.node.rules() else { return Err(Refusal::Outdated) };
        match message {
            ToNode::Hello(_) | ToNode::Peer(_) | ToNode::Quarantine => {}
            ToNode::Copies(_) | ToNode::Walk { .. } => return Err(Refusal::NotAPeer),
            ToNode::Rings(rings) => {
                rules.rings(attached.ring, &rings)?;
                control.sweep.notify_one();
            }
            ToNode::Heads(heads) => rules.hello(now.moment, &heads),
            ToNode::Begin { partition, at } => rules.begin(partition, at),
            ToNode::Epoch(news) => rules.epoch(&news),
            ToNode::Push(push) => rules.push(now.moment, &push),
            ToNode::Clocks(finding) => {
                let before = self.clocks.replace(finding);
                if let Some(together) = attached.clocks.change(before, Some(finding)) {
                    rules.clocks(together);
                }
            }
            ToNode::Apply(batch) => {
                let answer = self.apply(now, wall, &batch, &mut rules);
                encode_answer(&answer, &mut self.output);
            }
            ToNode::Statistics => self.statistics(now, &rules),
        }
        Ok(())
    }

    fn hello(&mut self, now: Now, hello: &Hello) -> Result<(), Refusal> {
        let control = Arc::clone(&self.control);
        self.prove(hello.proof)?;
        self.role = Role::Lane;
        self.generation = Some(control.attach(now, hello)?);
        let (ring, incarnation) = (control.attached().ring, control.incarnation);
        let Some(rules) = control.node.rules() else { return Err(Refusal::Outdated) };
        let cursors = (0..hello.partitions).map(|at| rules.cursor(Partition(at))).collect();
        let greeting = Greeting { cursors, age_floor: rules.age_floor() };
        let state = state(now, &rules);
        let introduction = Introduction { incarnation, state, ring, greeting };
        encode_answer(&ToLane::Greeting(introduction), &mut self.output);
        Ok(())
    }

    fn prove(&self, proof: Option<Proof>) -> Result<(), Refusal> {
        let Some(secret) = &self.control.secret else { return Ok(()) };
        let proven = proof.is_some_and(|proof| secret.is_proven(&self.nonce, &proof));
        if proven { Ok(()) } else { Err(Refusal::Secret) }
    }

    /// Another node wants copies. Versions of another stream would mean nothing to it.
    fn peer(&mut self, now: Now, peer: &Peer) -> Result<(), Refusal> {
        self.prove(peer.proof)?;
        let control = Arc::clone(&self.control);
        let attached = control.attached();
        if attached.stream != Some((peer.stream, peer.partitions)) {
            return Err(Refusal::OtherStream);
        }
        (self.role, self.generation) = (Role::Peer, Some(attached.generation));
        control.giving.greet(&control.node, now, &mut self.output);
        Ok(())
    }

    fn give(&mut self, now: Now, generation: u64, message: ToNode) -> Result<(), Refusal> {
        let control = Arc::clone(&self.control);
        // Held, so that nobody attaches another stream in between.
        let attached = control.attached();
        if attached.generation != generation {
            return Err(Refusal::Outdated);
        }
        let (giving, node) = (&control.giving, &control.node);
        match message {
            ToNode::Copies(keys) => giving.copies(node, now, &keys, &mut self.output),
            ToNode::Walk { walk, looks } => giving.walk(node, now, (walk, looks), &mut self.output),
            _ => return Err(Refusal::OnlyCopies),
        }
        Ok(())
    }

    fn apply(&mut self, now: Now, wall: UnixMicros, batch: &Batch, rules: &mut Rules) -> ToLane {
        let mut entries = Judged { node: &self.control.node, now };
        let cursor = rules.apply(now.moment, wall, batch, &mut entries);
        let counts = &self.control.counts;
        let deletes = batch.items.iter().filter(|item| matches!(item, Item::Delete { .. }));
        Counts::up(&counts.deletes, deletes.count());
        Counts::up(&counts.batches, 1);
        Counts::up(&counts.rewinds, usize::from(cursor.is_err()));
        let (age_floor, steps) = (rules.age_floor(), rules.clock_steps());
        let answer = Answer { cursor, age_floor, wall, steps };
        ToLane::Answer { partition: batch.partition, answer }
    }

    fn statistics(&mut self, now: Now, rules: &Rules) {
        let counts = &self.control.counts;
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        for (name, value) in [
            ("fresh", u64::from(rules.is_fresh(now.moment))),
            ("quarantined", u64::from(rules.is_quarantined())),
            ("epoch", u64::from(rules.newest_epoch())),
            ("position", rules.position().bits()),
            ("primary_position", rules.primary_position().bits()),
            ("applied", rules.applied_everywhere().unwrap_or_default().bits()),
            ("fill_floor", rules.fill_floor().bits()),
            ("age_floor", rules.age_floor().bits()),
            ("tombstones", count(rules.tombstones())),
            ("marks", count(rules.marks())),
            ("ring", rules.ring().unwrap_or_default()),
            ("sweeping", u64::from(rules.sweeping().is_some())),
            ("swept", counts.swept.load(Ordering::Relaxed)),
            ("connections", counts.connections.load(Ordering::Relaxed)),
            ("batches", counts.batches.load(Ordering::Relaxed)),
            ("deletes", counts.deletes.load(Ordering::Relaxed)),
            ("rewinds", counts.rewinds.load(Ordering::Relaxed)),
            ("refused", counts.refused.load(Ordering::Relaxed)),
        ] {
            let statistic = ToLane::Statistic { name: name.to_owned(), value };
            encode_answer(&statistic, &mut self.output);
        }
        encode_answer(&ToLane::End, &mut self.output);
    }
}

/// What it has said of our clock goes with it; others may have said otherwise.
impl Drop for Session {
    fn drop(&mut self) {
        let mut attached = self.control.attached();
        if self.role == Role::Lane
            && self.clocks.is_some()
            && self.generation == Some(attached.generation)
            && let Some(together) = attached.clocks.change(self.clocks, None)
            && let Some(mut rules) = self.control.node.rules()
        {
            rules.clocks(together);
        }
    }
}

fn state(now: Now, rules: &Rules) -> NodeState {
    if rules.is_quarantined() {
        NodeState::Quarantined
    } else if rules.is_fresh(now.moment) {
        NodeState::Fresh
    } else {
        NodeState::Degraded
    }
}
