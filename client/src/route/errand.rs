//! [`Errand`]: the way of one request through the routes, as a state machine without I/O.
//!
//! The caller sends what each [`Step`] lists, and says what came of it with [`Errand::answered`], until [`Errand::is_over`].
//! Exactly one step of an errand has the reply. It may come before all is answered: of what comes later, only the changes
//! that were missed matter.
//!
//! Rules that hold for every route:
//! - A change that a node did not get, or of which nobody knows whether it did, is listed in [`Step::missed`]; only then does
//!   the errand go on. It is for the caller to keep it before he gives the reply.
//! - A delete goes to every node that a later read may reach, and its reply waits for all of them.
//! - A request with a token of one node goes to no other.

use std::sync::Arc;

use schemas::cure::Cure;

use super::{
    Condition, LimitId, NodeId, Nodes, TargetId,
    ask::{Ask, Class, Failure, Op, Outcome},
    judge::{Answer, decide},
    tree::{Direct, Entrance, GoOn, Judge, Plan, Routes, Series, may_ask},
};

/// Names one sending of an errand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u16);

/// What is to be done next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// Requests to send, in any order.
    pub sends: Vec<Send>,
    /// Nodes that have not got a change.
    pub missed: Vec<Missed>,
    /// The reply to the client, once in an errand.
    pub reply: Option<Reply>,
}

/// A request to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Send {
    /// What its answer is told under.
    pub ticket: Ticket,
    /// The node.
    pub target: TargetId,
    /// How it differs from what the client asked.
    pub change: Change,
}

/// How a request differs from what the client asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// How many bytes of routing prefix are taken off the key.
    pub strip: u16,
    /// In place of the client's command.
    pub form: Form,
    /// What it stores lives for so many seconds at most, also where the client wants it for ever.
    pub ttl_s_max: Option<u32>,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The client's command.
    AsAsked,
    /// A plain read of value, flags and the time that is left, without any lease, token or touch. If it is the reply, it is
    /// said in the words that the client expects.
    Look,
    /// An `add` of the value that the answer to this ticket had, with the flags and the time left there.
    AddOf(Ticket),
    /// The set of a lease: value, flags and time from one answer, the token from another.
    LeaseSetOf {
        /// Whose answer has the value.
        value: Ticket,
        /// Whose answer has the token.
        token: Ticket,
    },
}

/// A change that a node has not got, or perhaps not: until it has, the node may hold a value that is not true any more. To be
/// kept as a delete of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The node.
    pub target: TargetId,
    /// How many bytes of routing prefix are taken off the key.
    pub strip: u16,
}

/// What the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The answer that this sending got.
    Of {
        /// Which one.
        ticket: Ticket,
        /// Where a token in it is worth something.
        place: Place,
    },
    /// Nobody was asked, or nobody answered: `NotFound` (of a read: a miss), `NotStored` or `Failed`.
    Local(Outcome),
    /// `SERVER_ERROR` and this.
    Error(Arc<str>),
}

/// Whether a later request for the same key, with a token from this answer, finds the node that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It does.
    Home,
    /// It would go to another one, because this one stood in, or was one of several: see [`Leases`](super::leases::Leases).
    Away,
}

/// The way of one request.
#[derive(Debug)]
pub struct Errand {
    routes: Arc<Routes>,
    dice: u64,
    strip: u16,
    frames: Vec<Frame>,
    /// Sendings without an answer.
    waiting: usize,
    replied: bool,
    /// What this call has brought up so far.
    step: Step,
}

/// A part of the way: a node that was asked, or a route that waits for what its children make of it.
#[derive(Debug)]
struct Frame {
    up: Up,
    call: Call,
    work: Work,
}

/// Who is told how a part ended.
#[derive(Clone, Copy, Debug)]
enum Up {
    Client,
    Frame { at: usize, child: usize },
    Nobody,
}

/// What a part of the tree is asked for.
#[derive(Clone, Copy, Debug)]
struct Call {
    op: Op,
    form: Form,
    ttl_s_max: Option<u32>,
    place: Place,
}

#[derive(Debug)]
enum Work {
    /// `open`: not answered yet.
    Send {
        target: TargetId,
        open: bool,
    },
    /// `nothing`: the first answer of a child that had nothing.
    Series {
        node: NodeId,
        nothing: Option<Answer>,
    },
    /// `open`: not decided yet.
    All {
        judge: Judge,
        answers: Vec<Option<Answer>>,
        open: bool,
    },
    WarmUp {
        warm: NodeId,
        ttl_s_max: Option<u32>,
        stage: Stage,
    },
}

#[derive(Clone, Debug)]
enum Stage {
    Cold,
    Warm {
        cold: Answer,
    },
    /// The value is being added to the cold node, which is asked again then.
    Adding {
        cold: Answer,
        target: TargetId,
        call: Call,
    },
    Again,
}

/// What stays the same during one call of an errand.
struct World<'a, N> {
    routes: &'a Routes,
    key: &'a [u8],
    nodes: &'a N,
}

impl Errand {
    /// Begins. `dice`: any number, for routes that choose at random.
    pub fn begin(
        routes: &Arc<Routes>,
        ask: &Ask<'_>,
        nodes: &impl Nodes,
        dice: u64,
    ) -> (Errand, Step) {
        let entrance = routes.entrance(ask.key);
        let strip = match &entrance {
            Entrance::One { strip, .. } | Entrance::Several { strip, .. } => *strip,
            Entrance::Unknown => 0,
        };
        let routes = Arc::clone(routes);
        let mut errand = Errand {
            routes,
            dice,
            strip,
            frames: Vec::new(),
            waiting: 0,
            replied: false,
            step: Step::default(),
        };
        let call = Call { op: ask.op, form: Form::AsAsked, ttl_s_max: None, place: Place::Home };
        let step = errand.with_world(ask, nodes, |errand, world| match entrance {
            Entrance::One { node, .. } => errand.spawn(world, node, call, Up::Client),
            Entrance::Several { nodes, .. } => {
                let is_delete = ask.op.class() == Class::Delete;
                let judge = if is_delete { Judge::Worst } else { Judge::Nth(0) };
                errand.spawn_all(world, &nodes, judge, call, Up::Client);
            }
            Entrance::Unknown => {
                errand.reply(Reply::Error(Arc::from("no such routing prefix")));
            }
        });
        (errand, step)
    }

    /// Goes on where a direct request ended like this. `dice` is what [`Routes::direct`] had.
    pub fn resume(
        routes: &Arc<Routes>,
        ask: &Ask<'_>,
        nodes: &impl Nodes,
        dice: u64,
        direct: (Direct, Outcome),
    ) -> (Errand, Step) {
        let (Direct { target, .. }, outcome) = direct;
        let (mut errand, first) = Errand::begin(routes, ask, &Asked { nodes, target }, dice);
        let sent = first.sends.first().map(|send| send.ticket);
        let step = match sent {
            Some(ticket) => errand.answered(ask, nodes, ticket, outcome),
            None => first,
        };
        (errand, step)
    }

    /// What came of a sending. Only the first answer to each counts.
    pub fn answered(
        &mut self,
        ask: &Ask<'_>,
        nodes: &impl Nodes,
        ticket: Ticket,
        outcome: Outcome,
    ) -> Step {
        self.with_world(ask, nodes, |errand, world| {
            let Some(frame) = errand.frames.get_mut(usize::from(ticket.0)) else { return };
            let Work::Send { target, open } = &mut frame.work else { return };
            if !std::mem::take(open) {
                return;
            }
            let (target, call, up) = (*target, frame.call, frame.up);
            errand.waiting -= 1;
            errand.note_missed(target, call.op, outcome);
            let reply = Reply::Of { ticket, place: call.place };
            errand.ended(world, up, Answer { outcome, reply });
        })
    }

    /// Whether the reply was given and no sending is without an answer.
    pub fn is_over(&self) -> bool {
        self.replied && self.waiting == 0
    }

    fn with_world<N: Nodes>(
        &mut self,
        ask: &Ask<'_>,
        nodes: &N,
        act: impl FnOnce(&mut Errand, &World<'_, N>),
    ) -> Step {
        let routes = Arc::clone(&self.routes);
        let key = ask.key.get(usize::from(self.strip)..).unwrap_or_default();
        act(self, &World { routes: &routes, key, nodes });
        std::mem::take(&mut self.step)
    }

    /// Asks a part of the tree.
    fn spawn<N: Nodes>(&mut self, world: &World<'_, N>, mut node: NodeId, mut call: Call, up: Up) {
        let reply = loop {
            match world.routes.plan(node, call.op, world.key, self.dice) {
                Plan::To(next) => node = next,
                Plan::ToAny(next) => (node, call.place) = (next, Place::Away),
                Plan::Target(target) => return self.send(world, target, call, up),
                Plan::Series(series) => {
                    let at = self.push(up, call, Work::Series { node, nothing: None });
                    let Some(&first) = series.children.first() else { return };
                    return self.spawn(world, first, call, Up::Frame { at, child: 0 });
                }
                Plan::All { children, judge } => {
                    return self.spawn_all(world, children, judge, call, up);
                }
                Plan::WarmUp { cold, warm, ttl_s_max } => {
                    let work = Work::WarmUp { warm, ttl_s_max, stage: Stage::Cold };
                    let at = self.push(up, call, work);
                    return self.spawn(world, cold, call, Up::Frame { at, child: 0 });
                }
                Plan::Nothing => break Reply::Local(nothing(call.op)),
                Plan::Error(message) => break Reply::Error(Arc::clone(message)),
            }
        };
        let outcome = match &reply {
            Reply::Local(outcome) => *outcome,
            _ => Outcome::Failed(Failure::LocalError),
        };
        self.ended(world, up, Answer { outcome, reply });
    }

    fn spawn_all<N: Nodes>(
        &mut self,
        world: &World<'_, N>,
        children: &[NodeId],
        judge: Judge,
        mut call: Call,
        up: Up,
    ) {
        let at = self.push(
            up,
            call,
            Work::All { judge, answers: vec![None; children.len()], open: true },
        );
        call.place = Place::Away;
        for (child, &node) in children.iter().enumerate() {
            self.spawn(world, node, call, Up::Frame { at, child });
        }
    }

    /// Asks one node, or finds that it may not be asked.
    fn send<N: Nodes>(&mut self, world: &World<'_, N>, target: TargetId, call: Call, up: Up) {
        if may_ask(world.nodes.condition(target), call.op) {
            let at = self.push(up, call, Work::Send { target, open: true });
            let ticket = Ticket(u16::try_from(at).expect("the tree bounds what one request sends"));
            let change = Change { strip: self.strip, form: call.form, ttl_s_max: call.ttl_s_max };
            self.waiting += 1;
            self.step.sends.push(Send { ticket, target, change });
        } else {
            let outcome = Outcome::Failed(Failure::Tko);
            self.note_missed(target, call.op, outcome);
            self.ended(world, up, Answer { outcome, reply: Reply::Local(outcome) });
        }
    }

    /// Tells whoever asked how a part ended.
    fn ended<N: Nodes>(&mut self, world: &World<'_, N>, up: Up, answer: Answer) {
        let (at, child) = match up {
            Up::Frame { at, child } => (at, child),
            Up::Client => return self.reply(answer.reply),
            Up::Nobody => return,
        };
        let Some(Frame { up, call, work }) = self.frames.get_mut(at) else { return };
        let (up, call) = (*up, *call);
        match work {
            Work::Send { .. } => {}
            Work::All { judge, answers, open } => {
                if let Some(slot) = answers.get_mut(child) {
                    *slot = Some(answer);
                }
                if *open && let Some(answer) = decide(*judge, call.op, answers) {
                    *open = false;
                    self.ended(world, up, answer);
                }
            }
            Work::Series { node, nothing } => {
                let Plan::Series(series) = world.routes.plan(*node, call.op, world.key, self.dice)
                else {
                    return;
                };
                if answer.outcome == Outcome::NotFound && nothing.is_none() {
                    *nothing = Some(answer.clone());
                }
                let next = series.children.get(child + 1);
                if let Some(&next) = next.filter(|_| goes_on(series, call.op, &answer, world.nodes))
                {
                    let cap = series.ttl_s_max.filter(|_| Cure::GutterCapsTime.works());
                    let call =
                        Call { ttl_s_max: least(call.ttl_s_max, cap), place: Place::Away, ..call };
                    let up = Up::Frame { at, child: child + 1 };
                    return self.spawn(world, next, call, up);
                }
                let answer = match answer.outcome {
                    Outcome::NotFound | Outcome::Failed(_) => nothing.take().unwrap_or(answer),
                    _ => answer,
                };
                self.ended(world, up, answer);
            }
            Work::WarmUp { .. } => self.warm_up(world, at, answer),
        }
    }

    /// The answer of one of the nodes that a warm-up asks, one after the other.
    fn warm_up<N: Nodes>(&mut self, world: &World<'_, N>, at: usize, answer: Answer) {
        let Some(Frame { up, work: Work::WarmUp { warm, stage, .. }, .. }) =
            self.frames.get_mut(at)
        else {
            return;
        };
        let (up, warm) = (*up, *warm);
        match (std::mem::replace(stage, Stage::Again), answer.outcome) {
            (Stage::Cold, Outcome::Failed(failure)) if !may_retry(failure, world.nodes) => {
                self.ended(world, up, answer);
            }
            (Stage::Cold, Outcome::NotFound | Outcome::Failed(_)) => {
                *stage = Stage::Warm { cold: answer };
                let place = Place::Away;
                let look = Call { op: Op::Get, form: Form::Look, ttl_s_max: None, place };
                self.spawn(world, warm, look, Up::Frame { at, child: 1 });
            }
            (Stage::Warm { cold }, Outcome::Hit) => {
                match (cold.outcome, &cold.reply, &answer.reply) {
                    (
                        Outcome::NotFound,
                        &Reply::Of { ticket: token, .. },
                        &Reply::Of { ticket: value, .. },
                    ) => self.copy(world, at, (cold, token), (answer, value)),
                    _ => self.ended(world, up, answer),
                }
            }
            (Stage::Warm { cold }, _) | (Stage::Adding { cold, .. }, Outcome::Failed(_)) => {
                self.ended(world, up, cold);
            }
            (Stage::Adding { target, call, .. }, _) => {
                self.send(world, target, call, Up::Frame { at, child: 3 });
            }
            (Stage::Cold | Stage::Again, _) => self.ended(world, up, answer),
        }
    }

    /// Copies a value from the warm node to the cold one. A client that wants a token must have one of the cold node, and so
    /// waits for the copy; others have the value already.
    fn copy<N: Nodes>(
        &mut self,
        world: &World<'_, N>,
        at: usize,
        (cold, token): (Answer, Ticket),
        (answer, value): (Answer, Ticket),
    ) {
        let asked = self.frames.get(usize::from(token.0)).map(|frame| (&frame.work, frame.call));
        let Some((&Work::Send { target, .. }, asked)) = asked else { return };
        let Some(Frame { up, call, work: Work::WarmUp { stage, ttl_s_max, .. } }) =
            self.frames.get_mut(at)
        else {
            return;
        };
        let (up, ttl_s_max) = (*up, least(asked.ttl_s_max, *ttl_s_max));
        let (op, form) = match call.op {
            Op::LeaseGet => (Op::LeaseSet, Form::LeaseSetOf { value, token }),
            _ => (Op::Add, Form::AddOf(value)),
        };
        let copy = Call { op, form, ttl_s_max, place: asked.place };
        if matches!(call.op, Op::Get | Op::LeaseGet) {
            self.send(world, target, copy, Up::Nobody);
            self.ended(world, up, answer);
        } else {
            *stage = Stage::Adding { cold, target, call: asked };
            self.send(world, target, copy, Up::Frame { at, child: 2 });
        }
    }

    fn reply(&mut self, reply: Reply) {
        if !std::mem::replace(&mut self.replied, true) {
            self.step.reply = Some(reply);
        }
    }

    fn note_missed(&mut self, target: TargetId, op: Op, outcome: Outcome) {
        let failed = matches!(outcome, Outcome::Failed(_)) && Cure::FailedChangeIsMissed.works();
        if op.changes() && failed {
            self.step.missed.push(Missed { target, strip: self.strip });
        }
    }

    fn push(&mut self, up: Up, call: Call, work: Work) -> usize {
        self.frames.push(Frame { up, call, work });
        self.frames.len() - 1
    }
}

/// Whether a route that asks one child after the other asks the next.
fn goes_on(series: &Series, op: Op, answer: &Answer, nodes: &impl Nodes) -> bool {
    let Outcome::Failed(failure) = answer.outcome else {
        return series.on == GoOn::Misses && answer.outcome == Outcome::NotFound;
    };
    let counts = match series.on {
        GoOn::Failures { reads, updates } => {
            (if op.class() == Class::Read { reads } else { updates }).has(failure)
        }
        GoOn::Misses => true,
    };
    counts && may_retry(failure, nodes) && series.limit.is_none_or(|limit| nodes.take(limit))
}

/// A node that is silent has the request, and perhaps works on it: to ask another one is work for both.
fn may_retry(failure: Failure, nodes: &impl Nodes) -> bool {
    failure != Failure::Timeout || nodes.retry()
}

fn least(one: Option<u32>, other: Option<u32>) -> Option<u32> {
    one.into_iter().chain(other).min()
}

/// What is said for nobody.
fn nothing(op: Op) -> Outcome {
    match op {
        Op::Set | Op::Add | Op::Replace | Op::Append | Op::Prepend | Op::LeaseSet => {
            Outcome::NotStored
        }
        _ => Outcome::NotFound,
    }
}

/// The present, in which one node was asked already.
struct Asked<'a, N> {
    nodes: &'a N,
    target: TargetId,
}

impl<N: Nodes> Nodes for Asked<'_, N> {
    fn condition(&self, target: TargetId) -> Condition {
        if target == self.target { Condition::Ready } else { self.nodes.condition(target) }
    }

    fn take(&self, limit: LimitId) -> bool {
        self.nodes.take(limit)
    }

    fn retry(&self) -> bool {
        self.nodes.retry()
    }
}
