//! [`Trip`]: an errand with what nodes have said on it, for one key.

use std::{rc::Rc, sync::PoisonError};

use client::route::{
    self, Ask, Change, Errand, Form, Kind, Op, Outcome, Reply, Ticket, leases::Lease,
};
use protocol::server::Command;

use crate::{
    desk::{self, Desk, Single, Work, key_of, sent_key, with_command},
    speak,
    spool::Kept,
    table::{Hub, Table},
    target::{Arrival, From},
    wire::{
        answer::{self, Silence},
        cut::{Cut, Said, Shape},
        request::{self, Lifetime},
    },
};

/// Which command of which client.
pub(crate) struct Place<'d> {
    pub(crate) desk: &'d Rc<Desk>,
    pub(crate) slot: u64,
}

impl Place<'_> {
    pub(crate) fn hub(&self) -> &Rc<Hub> {
        &self.desk.hub
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Trip {
    table: Rc<Table>,
    errand: Errand,
    op: Op,
    raw: Rc<[u8]>,
    /// Which of the command's keys.
    key_at: usize,
    /// What is added to the number of a sending.
    part_first: u64,
    sendings: Vec<Sending>,
    /// The answer to the direct request, whose ticket nobody has told.
    first: Option<(Vec<u8>, Cut)>,
    first_change: Option<(route::TargetId, Change)>,
    /// Changes that are being written down.
    keeping: usize,
    missed: Fate,
    reply: Option<Reply>,
    told: bool,
}

#[derive(Debug)]
struct Sending {
    ticket: Ticket,
    target: route::TargetId,
    change: Change,
    answer: Option<(Vec<u8>, Cut)>,
}

/// What became of a change that a node has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// None was missed.
    None,
    Kept,
    /// It hears of it otherwise, or not at all.
    NotKept,
}

impl Trip {
    /// Begins where there is no direct way.
    pub(crate) fn begin(
        table: &Rc<Table>,
        (op, raw, key_at): (Op, Rc<[u8]>, usize),
        part_first: u64,
        place: &Place<'_>,
    ) -> Trip {
        let mut begun = None;
        with_command(&raw, |command| {
            let ask = Ask { op, key: key_of(command, key_at) };
            begun = Some(Errand::begin(&table.routes, &ask, &**table, fastrand::u64(..)));
        });
        let (errand, step) = begun.expect("the command was read before");
        let mut trip = Trip {
            table: Rc::clone(table),
            errand,
            op,
            raw,
            key_at,
            part_first,
            sendings: Vec::new(),
            first: None,
            first_change: None,
            keeping: 0,
            missed: Fate::None,
            reply: None,
            told: false,
        };
        trip.take(step, place);
        trip
    }

    /// Goes on where the direct request has not ended it.
    pub(crate) fn resume(single: Single, arrival: Arrival<'_>, place: &Place<'_>) -> Trip {
        let raw: Rc<[u8]> = Rc::from(&*single.raw);
        Trip::resume_key(single, (raw, 0), arrival, 0, place)
    }

    /// Likewise for one of several keys.
    pub(crate) fn resume_key(
        single: Single,
        (raw, key_at): (Rc<[u8]>, usize),
        arrival: Arrival<'_>,
        part_first: u64,
        place: &Place<'_>,
    ) -> Trip {
        let (outcome, first) = taken(single.op, arrival);
        let mut resumed = None;
        with_command(&raw, |command| {
            resumed = Some(desk::resume(&single, key_of(command, key_at), outcome));
        });
        let (errand, step) = resumed.expect("the command was read before");
        let strip = single.direct.strip;
        let change = Change { strip, form: Form::AsAsked, ttl_s_max: None };
        let mut trip = Trip {
            table: single.table,
            errand,
            op: single.op,
            raw,
            key_at,
            part_first,
            sendings: Vec::new(),
            first,
            first_change: Some((single.direct.target, change)),
            keeping: 0,
            missed: Fate::None,
            reply: None,
            told: false,
        };
        trip.take(step, place);
        trip
    }

    /// What a node has said, or that it has not.
    pub(crate) fn arrived(&mut self, part: u64, arrival: Arrival<'_>, place: &Place<'_>) {
        let at = usize::try_from(part.wrapping_sub(self.part_first)).unwrap_or(usize::MAX);
        let Some(sending) = self.sendings.get_mut(at) else { return };
        let op = match sending.change.form {
            Form::AsAsked => self.op,
            Form::Look => Op::Get,
            Form::AddOf(_) => Op::Add,
            Form::LeaseSetOf { .. } => Op::LeaseSet,
        };
        let (outcome, answer) = taken(op, arrival);
        sending.answer = answer;
        let ticket = sending.ticket;
        let raw = Rc::clone(&self.raw);
        let mut step = None;
        with_command(&raw, |command| {
            let ask = Ask { op: self.op, key: key_of(command, self.key_at) };
            step = Some(self.errand.answered(&ask, &*self.table, ticket, outcome));
        });
        if let Some(step) = step {
            self.take(step, place);
        }
    }

    /// A change that was missed has been written down, or not.
    pub(crate) fn kept(&mut self, kept: Kept) {
        self.keeping = self.keeping.saturating_sub(1);
        if kept == Kept::Not {
            self.missed = Fate::NotKept;
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.errand.is_over() && self.keeping == 0
    }

    /// Whether the reply can be given now; once.
    pub(crate) fn can_tell(&self) -> bool {
        self.reply.is_some() && self.keeping == 0 && !self.told
    }

    /// Does what the errand says.
    fn take(&mut self, step: route::Step, place: &Place<'_>) {
        for missed in step.missed {
            self.keep(missed, place);
        }
        let now = tokio::time::Instant::now();
        for send in step.sends {
            let Some(target) = self.table.targets.get(send.target.index()).cloned() else {
                continue;
            };
            let part = u64::try_from(self.sendings.len()).unwrap_or(u64::MAX);
            let part = part.wrapping_add(self.part_first);
            let (ticket, change) = (send.ticket, send.change);
            self.sendings.push(Sending { ticket, target: send.target, change, answer: None });
            let from = From { desk: Rc::clone(place.desk), slot: place.slot, part };
            let raw = Rc::clone(&self.raw);
            let lifetime = lifetime(place.hub(), change);
            target.send(from, now, |out| {
                let mut shape = None;
                with_command(&raw, |command| shape = self.encode(command, change, lifetime, out));
                shape.unwrap_or_else(|| {
                    // Nothing to say still has to be answered, or replies were out of step.
                    out.extend_from_slice(b"version\r\n");
                    Shape::Line
                })
            });
        }
        if self.reply.is_none() {
            self.reply = step.reply;
        }
    }

    /// Keeps a change for a node that has missed it.
    fn keep(&mut self, missed: route::Missed, place: &Place<'_>) {
        let Some(target) = self.table.targets.get(missed.target.index()) else { return };
        let spool = place.hub().spool.as_ref().filter(|_| target.kind == Kind::Memcached);
        let Some(spool) = spool else {
            self.missed = Fate::NotKept;
            return;
        };
        self.keeping = self.keeping.saturating_add(1);
        self.missed = self.missed.max(Fate::Kept);
        let (facts, desk, slot) = (&target.facts, Rc::clone(place.desk), place.slot);
        with_command(&self.raw, |command| {
            let key = key_of(command, self.key_at).get(usize::from(missed.strip)..);
            let written = spool.keep(facts, key.unwrap_or_default());
            tokio::task::spawn_local(async move {
                desk.kept(slot, written.await.unwrap_or(Kept::Not));
            });
        });
    }

    fn encode(
        &self,
        command: &Command<'_>,
        change: Change,
        lifetime: Lifetime,
        out: &mut Vec<u8>,
    ) -> Option<Shape> {
        let key = key_of(command, self.key_at).get(usize::from(change.strip)..)?;
        match change.form {
            Form::AsAsked => request::encode(command, key, lifetime, out),
            Form::Look => {
                request::look(key, speak::LOOK, out);
                Some(Shape::Meta)
            }
            Form::AddOf(value) => {
                let found = speak::looked(self.answer(value)?)?;
                let left = i32::try_from(found.left_s.unwrap_or(0)).unwrap_or(0);
                request::add(key, found.flags, lifetime.of(left), found.data, out);
                Some(Shape::Line)
            }
            Form::LeaseSetOf { value, token } => {
                let found = speak::looked(self.answer(value)?)?;
                let (_, token) = speak::token(self.answer(token)?)?;
                let left = lifetime.of(i32::try_from(found.left_s.unwrap_or(0)).unwrap_or(0));
                let is_meta = matches!(command, Command::MetaGet(_));
                let lease = request::Fill { flags: found.flags, exptime: left, token };
                if is_meta {
                    request::meta_lease_set(key, lease, found.data, out);
                    return Some(Shape::Meta);
                }
                request::lease_set(key, lease, found.data, out);
                Some(Shape::Line)
            }
        }
    }

    fn answer(&self, ticket: Ticket) -> Option<&[u8]> {
        let sent = self.sendings.iter().find(|sending| sending.ticket == ticket);
        let answer = match sent {
            Some(sending) => sending.answer.as_ref(),
            None => self.first.as_ref(),
        };
        answer.map(|(bytes, _)| &**bytes)
    }

    /// Appends the reply, if it is time.
    pub(crate) fn tell(&mut self, silence: Silence, out: &mut Vec<u8>) {
        self.told = true;
        let raw = Rc::clone(&self.raw);
        with_command(&raw, |command| self.tell_of(command, silence, out));
    }

    fn tell_of(&self, command: &Command<'_>, silence: Silence, out: &mut Vec<u8>) {
        if silence == Silence::All {
            return;
        }
        if self.op == Op::Delete && self.missed != Fate::None {
            out.extend_from_slice(match self.missed {
                Fate::NotKept => NOT_KEPT,
                Fate::None | Fate::Kept => KEPT,
            });
            return;
        }
        match &self.reply {
            Some(Reply::Of { ticket, place }) => {
                let sent = self.sendings.iter().find(|sending| sending.ticket == *ticket);
                let (answer, to) = match sent {
                    Some(it) => (it.answer.as_ref(), Some((it.target, it.change))),
                    None => (self.first.as_ref(), self.first_change),
                };
                let (Some((answer, cut)), Some((target, change))) = (answer, to) else {
                    speak::local(command, Outcome::Failed(route::Failure::Timeout), out);
                    return;
                };
                if !silence.hides(cut.said) {
                    self.quote(command, (answer, cut.said), (target, change, *place), out);
                }
            }
            Some(Reply::Local(outcome)) => {
                let before = out.len();
                let said = speak::local(command, *outcome, out);
                if silence.hides(said) {
                    out.truncate(before);
                }
            }
            Some(Reply::Error(text)) => {
                for part in [b"SERVER_ERROR ", text.as_bytes(), b"\r\n"] {
                    out.extend_from_slice(part);
                }
            }
            None => {}
        }
    }

    /// A node's answer, in the words and with the tokens that the client can use.
    fn quote(
        &self,
        command: &Command<'_>,
        (answer, said): (&[u8], Said),
        (target, change, place): (route::TargetId, Change, route::Place),
        out: &mut Vec<u8>,
    ) {
        let key = sent_key(command, self.key_at);
        if change.form == Form::Look {
            match speak::looked(answer) {
                Some(found) if said == Said::Hit => speak::phrase(command, found, key, out),
                _ => {
                    speak::local(command, Outcome::NotFound, out);
                }
            }
            return;
        }
        let token = speak::token(answer).filter(|_| self.op.gives_token());
        let exchanged = token.map(|(at, token)| {
            let lease = Lease { target, token, change };
            let mut leases = self.table.leases.lock().unwrap_or_else(PoisonError::into_inner);
            let ours = leases.give(tokio::time::Instant::now(), lease, place);
            let mut other = answer.get(..at.start).unwrap_or_default().to_vec();
            request::put_number(&mut other, ours);
            other.extend_from_slice(answer.get(at.end..).unwrap_or_default());
            other
        });
        let answer = exchanged.as_deref().unwrap_or(answer);
        if change.strip == 0 {
            out.extend_from_slice(answer);
        } else {
            answer::renamed(answer, key, out);
        }
    }

    /// Appends the reply, if it is time; what is left to do then.
    pub(crate) fn settled(
        mut self: Box<Trip>,
        silence: Silence,
        said: &mut Vec<u8>,
    ) -> (Work, Option<Box<Trip>>) {
        if !self.can_tell() {
            return (Work::Trip(self), None);
        }
        self.tell(silence, said);
        let over = self.is_over();
        (Work::Done, (!over).then_some(self))
    }
}

/// What the client of a delete is told: the truth.
const KEPT: &[u8] = b"SERVER_ERROR delete kept for a node that is away, not done yet\r\n";
const NOT_KEPT: &[u8] = b"SERVER_ERROR delete not done: a node is away\r\n";

fn taken(op: Op, arrival: Arrival<'_>) -> (Outcome, Option<(Vec<u8>, Cut)>) {
    match arrival {
        Arrival::Reply(reply, cut) => {
            (speak::outcome_of(op, reply, cut), Some((reply.to_vec(), cut)))
        }
        Arrival::Failed(failure) => (Outcome::Failed(failure), None),
    }
}

fn lifetime(hub: &Hub, change: Change) -> Lifetime {
    match change.ttl_s_max {
        None => Lifetime::Sent,
        Some(seconds) => Lifetime::AtMost { seconds, now_unix_s: hub.unix_s.get() },
    }
}
