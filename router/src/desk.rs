//! [`Desk`]: what one client has asked and has not been told yet, in the order of his commands.
//!
//! The client's task puts commands in, lanes bring what nodes say, and the task takes out what can be sent: only ever the replies at the
//! front. A reply for the command at the front goes into the client's buffer at once. What a client has asked is carried through
//! even if he leaves.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    task::Waker,
};

use client::route::{Ask, Direct, Errand, Op, Outcome};
use protocol::server::{Command, Limits, Parser, Step, Versions};

use crate::{
    many::Many,
    speak,
    spool::Kept,
    table::{Hub, Table},
    target::Arrival,
    trip::{Place, Trip},
    wire::answer::{self, Silence},
};

/// Commands of one client that wait for their replies.
pub(crate) const SLOTS_MAX: usize = 1024;
/// A buffer that has grown beyond this is given back when it is empty.
const KEPT_BYTES_MAX: usize = 64 << 10;
/// Room for commands that an idle client keeps.
const KEPT_SLOTS_MAX: usize = 4;

/// What a reply is thought to have until there was one.
const FIRST_REPLY_BYTES: usize = 64 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) number: usize,
    pub(crate) hub: Rc<Hub>,
    state: RefCell<State>,
    /// The client is gone: whatever he would be told is dropped.
    pub(crate) left: Cell<bool>,
}

#[derive(Debug, Default)]
struct State {
    out: Vec<u8>,
    slots: VecDeque<Slot>,
    /// The number of the slot at the front.
    first: u64,
    /// Replies that wait for one before them, in bytes.
    held_bytes: usize,
    /// What a reply to this client has, about: as much as the longest of the last ones.
    reply_bytes: Option<usize>,
    /// Trips whose reply was given, and which await more answers.
    late: Vec<(u64, Box<Trip>)>,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Slot {
    said: Vec<u8>,
    silence: Silence,
    work: Work,
}

#[derive(Debug, Default)]
pub(crate) enum Work {
    #[default]
    Done,
    /// One node was asked, in the usual way.
    Direct(Single),
    Trip(Box<Trip>),
    Many(Box<Many>),
    /// A request with a token goes to the node that gave it, and to no other.
    Bound {
        raw: Vec<u8>,
        strip: u16,
    },
    /// Something else will say it.
    Elsewhere,
}

/// A command on its way to one node.
#[derive(Debug)]
pub(crate) struct Single {
    pub(crate) table: Rc<Table>,
    pub(crate) direct: Direct,
    pub(crate) op: Op,
    pub(crate) dice: u64,
    pub(crate) raw: Vec<u8>,
}

impl Desk {
    pub(crate) fn new(number: usize, hub: Rc<Hub>) -> Rc<Desk> {
        Rc::new(Desk { number, hub, state: RefCell::default(), left: Cell::new(false) })
    }

    /// Puts a command behind all others; returns its number.
    pub(crate) fn put(&self, silence: Silence, work: Work) -> u64 {
        let mut state = self.state.borrow_mut();
        state.slots.push_back(Slot { said: Vec::new(), silence, work });
        let behind = u64::try_from(state.slots.len()).unwrap_or(u64::MAX);
        state.first.wrapping_add(behind).wrapping_sub(1)
    }

    /// A reply that is known at once.
    pub(crate) fn say(&self, reply: &[u8]) {
        let mut state = self.state.borrow_mut();
        if state.slots.is_empty() {
            state.out.extend_from_slice(reply);
        } else {
            state.held_bytes = state.held_bytes.saturating_add(reply.len());
            let said = reply.to_vec();
            state.slots.push_back(Slot { said, silence: Silence::None, work: Work::Done });
        }
    }

    /// The reply to a command that something else has done.
    pub(crate) fn finish(&self, slot: u64, reply: &[u8]) {
        let mut state = self.state.borrow_mut();
        if let Some(at) = state.place(slot)
            && let Some(slot) = state.slots.get_mut(at)
        {
            slot.said.extend_from_slice(reply);
            slot.work = Work::Done;
            state.flush();
        }
    }

    /// What a node has said, or that it has not.
    pub(crate) fn arrived(self: &Rc<Desk>, slot: u64, part: u64, arrival: Arrival<'_>) {
        let mut state = self.state.borrow_mut();
        if let Arrival::Reply(reply, _) = arrival {
            let before = state.reply_bytes.unwrap_or_default();
            state.reply_bytes = Some(reply.len().max(before.saturating_sub(before >> 4)));
        }
        let Some(at) = state.place(slot) else {
            return state.late(self, slot, part, arrival);
        };
        let State { out, slots, held_bytes, .. } = &mut *state;
        let Some(entry) = slots.get_mut(at) else { return };
        if let Work::Direct(single) = &entry.work
            && let Arrival::Reply(reply, cut) = arrival
        {
            let outcome = speak::outcome_of(single.op, reply, cut);
            if single.direct.ends_with(outcome) && !is_ours(single.op, reply) {
                if !entry.silence.hides(cut.said) {
                    let into = if at == 0 {
                        self.hub.spare.lend(out);
                        out
                    } else {
                        &mut entry.said
                    };
                    let before = into.len();
                    say(single, reply, into);
                    if at > 0 {
                        *held_bytes = held_bytes.saturating_add(into.len().saturating_sub(before));
                    }
                }
                if let Work::Direct(single) = std::mem::take(&mut entry.work) {
                    self.hub.spare.give(single.raw);
                }
                return state.flush();
            }
        }
        let work = std::mem::take(&mut entry.work);
        let place = Place { desk: self, slot };
        let silence = entry.silence;
        let mut said = std::mem::take(&mut entry.said);
        let before = said.len();
        let work = match work {
            Work::Direct(single) => {
                place.hub().counters.errands.add(1);
                Box::new(Trip::resume(single, arrival, &place)).settled(silence, &mut said)
            }
            Work::Trip(mut trip) => {
                trip.arrived(part, arrival, &place);
                trip.settled(silence, &mut said)
            }
            Work::Many(mut many) => {
                many.arrived(part, arrival, &place, &mut said);
                many.settled(&mut said)
            }
            Work::Bound { raw, strip } => {
                bound(&raw, strip, arrival, silence, &mut said);
                (Work::Done, None)
            }
            other => (other, None),
        };
        state.settle(at, slot, (said, before), work);
    }

    /// A change that a node has missed was kept for it, or not.
    pub(crate) fn kept(self: &Rc<Desk>, slot: u64, kept: Kept) {
        let counters = &self.hub.counters;
        match kept {
            Kept::Durably => counters.kept.add(1),
            Kept::Not => counters.not_kept.add(1),
        }
        let mut state = self.state.borrow_mut();
        let Some(at) = state.place(slot) else { return state.late_kept(slot, kept) };
        let Some(entry) = state.slots.get_mut(at) else { return };
        let silence = entry.silence;
        let mut said = std::mem::take(&mut entry.said);
        let before = said.len();
        let work = match std::mem::take(&mut entry.work) {
            Work::Trip(mut trip) => {
                trip.kept(kept);
                trip.settled(silence, &mut said)
            }
            other => (other, None),
        };
        state.settle(at, slot, (said, before), work);
    }

    /// Begins a trip that had no direct way.
    pub(crate) fn begin(self: &Rc<Desk>, silence: Silence, begin: impl FnOnce(&Place<'_>) -> Trip) {
        let slot = self.put(silence, Work::Elsewhere);
        let place = Place { desk: self, slot };
        let mut said = Vec::new();
        let work = Box::new(begin(&place)).settled(silence, &mut said);
        let mut state = self.state.borrow_mut();
        if let Some(at) = state.place(slot) {
            state.settle(at, slot, (said, 0), work);
        }
    }

    /// Begins a read of many keys.
    pub(crate) fn begin_many(self: &Rc<Desk>, mut many: Many) {
        let slot = self.put(Silence::None, Work::Elsewhere);
        let place = Place { desk: self, slot };
        let mut said = Vec::new();
        many.go_on(&place, &mut said);
        let work = Box::new(many).settled(&mut said);
        let mut state = self.state.borrow_mut();
        if let Some(at) = state.place(slot) {
            state.settle(at, slot, (said, 0), work);
        }
    }

    /// Whether more commands are taken: there are not too many, and their replies, with those that are still to come, are not too
    /// long.
    pub(crate) fn has_room(&self, bytes_max: usize) -> bool {
        let state = self.state.borrow();
        let one = state.reply_bytes.unwrap_or(FIRST_REPLY_BYTES);
        let to_come = state.slots.len().saturating_mul(one);
        state.slots.len() < SLOTS_MAX
            && state.out.len().saturating_add(state.held_bytes).saturating_add(to_come) < bytes_max
    }

    /// Whether everything was answered.
    pub(crate) fn is_done(&self) -> bool {
        let state = self.state.borrow();
        state.slots.is_empty() && state.out.is_empty()
    }

    /// What can be sent, in place of `written`, which is empty.
    pub(crate) fn take_output(&self, written: &mut Vec<u8>) {
        written.clear();
        if written.capacity() > KEPT_BYTES_MAX {
            *written = Vec::new();
        }
        let mut state = self.state.borrow_mut();
        if !state.out.is_empty() {
            std::mem::swap(&mut state.out, written);
        }
    }

    /// Gives back what an idle client does not need.
    pub(crate) fn rest(&self) {
        let mut state = self.state.borrow_mut();
        if state.slots.is_empty() && state.slots.capacity() > KEPT_SLOTS_MAX {
            state.slots = VecDeque::new();
        }
        if state.out.is_empty() && state.out.capacity() > 0 {
            self.hub.spare.give(std::mem::take(&mut state.out));
        }
    }

    /// Wakes the client's task.
    pub(crate) fn wake(&self) {
        if let Some(waker) = &self.state.borrow().waker {
            waker.wake_by_ref();
        }
    }

    /// Remembers who sends.
    pub(crate) fn wakes(&self, waker: &Waker) {
        let mut state = self.state.borrow_mut();
        if state.waker.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
    }
}

impl State {
    fn place(&self, slot: u64) -> Option<usize> {
        let at = usize::try_from(slot.checked_sub(self.first)?).ok()?;
        (at < self.slots.len()).then_some(at)
    }

    /// Puts back what is left to do for a command.
    fn settle(
        &mut self,
        at: usize,
        slot: u64,
        (said, before): (Vec<u8>, usize),
        (work, late): (Work, Option<Box<Trip>>),
    ) {
        self.late.extend(late.map(|trip| (slot, trip)));
        self.held_bytes = self.held_bytes.saturating_add(said.len().saturating_sub(before));
        if let Some(entry) = self.slots.get_mut(at) {
            entry.said = said;
            entry.work = work;
        }
        self.flush();
    }

    /// An answer to a trip whose reply was given.
    fn late(&mut self, desk: &Rc<Desk>, slot: u64, part: u64, arrival: Arrival<'_>) {
        let Some(at) = self.late.iter().position(|(of, _)| *of == slot) else { return };
        let (_, mut trip) = self.late.swap_remove(at);
        trip.arrived(part, arrival, &Place { desk, slot });
        if !trip.is_over() {
            self.late.push((slot, trip));
        }
    }

    fn late_kept(&mut self, slot: u64, kept: Kept) {
        if let Some((_, trip)) = self.late.iter_mut().find(|(of, _)| *of == slot) {
            trip.kept(kept);
        }
        self.late.retain(|(_, trip)| !trip.is_over());
    }

    /// Moves replies from the front into the buffer.
    fn flush(&mut self) {
        while let Some(Slot { work: Work::Done, said, .. }) = self.slots.front() {
            self.held_bytes = self.held_bytes.saturating_sub(said.len());
            self.out.extend_from_slice(said);
            self.slots.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

/// Appends the reply to a command that went to one node.
fn say(single: &Single, reply: &[u8], out: &mut Vec<u8>) {
    if single.direct.strip == 0 {
        out.extend_from_slice(reply);
        return;
    }
    with_command(&single.raw, |command| answer::renamed(reply, sent_key(command, 0), out));
}

/// Appends the reply to a request with a token.
fn bound(raw: &[u8], strip: u16, arrival: Arrival<'_>, silence: Silence, out: &mut Vec<u8>) {
    match arrival {
        Arrival::Reply(_, cut) if silence.hides(cut.said) => {}
        Arrival::Reply(reply, _) if strip == 0 => out.extend_from_slice(reply),
        Arrival::Reply(reply, _) => {
            with_command(raw, |command| answer::renamed(reply, sent_key(command, 0), out));
        }
        Arrival::Failed(_) if silence == Silence::All => {}
        Arrival::Failed(failure) => with_command(raw, |command| {
            speak::local(command, Outcome::Failed(failure), out);
        }),
    }
}

/// Whether a token in the reply would be taken for one of ours: those, too, must be exchanged.
fn is_ours(op: Op, reply: &[u8]) -> bool {
    const MARK: u64 = 0x7ace_b00c;
    op == Op::LeaseGet && speak::token(reply).is_some_and(|(_, token)| token >> 32 == MARK)
}

/// Reads a command again that was read before.
pub(crate) fn with_command(raw: &[u8], act: impl FnOnce(&Command<'_>)) {
    let limits = Limits { value_bytes_max: usize::MAX >> 1, versions: Versions::Accept };
    if let Step::Command(command, _) = Parser::new(limits).next(raw) {
        act(&command);
    }
}

/// The key that decides about a command's way.
pub(crate) fn key_of<'c>(command: &'c Command<'_>, at: usize) -> &'c [u8] {
    match command {
        Command::Get { keys, .. } | Command::LeaseGet { keys } => {
            keys.clone().nth(at).unwrap_or_default()
        }
        Command::Store(store) => store.key,
        Command::Delete { key, .. }
        | Command::Touch { key, .. }
        | Command::Arithmetic { key, .. } => key,
        Command::MetaGet(meta)
        | Command::MetaDelete(meta)
        | Command::MetaArithmetic(meta)
        | Command::MetaStore { meta, .. } => &meta.key,
        Command::MetaDebug { key } => key,
        _ => b"",
    }
}

/// The key as the client wrote it.
pub(crate) fn sent_key<'c>(command: &'c Command<'_>, at: usize) -> &'c [u8] {
    match command {
        Command::MetaGet(meta)
        | Command::MetaDelete(meta)
        | Command::MetaArithmetic(meta)
        | Command::MetaStore { meta, .. } => meta.sent_key,
        command => key_of(command, at),
    }
}

/// Begins the errand that follows a direct request.
pub(crate) fn resume(
    single: &Single,
    key: &[u8],
    outcome: Outcome,
) -> (Errand, client::route::Step) {
    let ask = Ask { op: single.op, key };
    Errand::resume(
        &single.table.routes,
        &ask,
        &*single.table,
        single.dice,
        (single.direct, outcome),
    )
}
