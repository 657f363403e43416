//! The story that stock routers fail: a node goes away with an old value, its delete fails, the gutter gets the new value, the
//! node returns. Told with values in nodes, for a stock memcached, whose missed deletes are kept and told to it.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    super::{
        health::{Event, Health},
        *,
    },
    targets,
};

/// What is cached: the version of the row that it was read from.
type Value = u32;

struct World {
    routes: Arc<Routes>,
    now: Instant,
    health: RefCell<BTreeMap<TargetId, Health>>,
    cached: BTreeMap<TargetId, Value>,
    unreachable: Vec<TargetId>,
    kept: Vec<TargetId>,
    database: Value,
}

impl Nodes for World {
    fn condition(&self, target: TargetId) -> Condition {
        self.health.borrow()[&target].condition()
    }

    fn take(&self, _: LimitId) -> bool {
        true
    }

    fn retry(&self) -> bool {
        true
    }
}

impl World {
    fn new() -> World {
        let text = "[pool.main]\nservers = [\"a:1\"]\ngutter = \"gutter\"\n[pool.gutter]\nservers = [\"g:1\"]\n[route.unused]\nkind = \"null\"\n";
        let routes = Arc::new(Routes::parse(&format!("start = \"main\"\n{text}")).unwrap());
        let health = routes.targets().iter().map(|target| Health::new(target.health));
        let health = RefCell::new(targets(&routes).zip(health).collect());
        World {
            routes,
            now: Instant::now(),
            health,
            cached: BTreeMap::new(),
            unreachable: Vec::new(),
            kept: Vec::new(),
            database: 1,
        }
    }

    fn target(&self, name: &str) -> TargetId {
        targets(&self.routes).find(|&it| super::name(&self.routes, it) == name).expect("a node")
    }

    fn tell(&mut self, target: TargetId, event: Event) {
        self.health.get_mut().get_mut(&target).unwrap().step(self.now, event, 7);
    }

    /// What one node does with a request.
    fn at_node(&mut self, target: TargetId, op: Op) -> Outcome {
        if self.unreachable.contains(&target) {
            return Outcome::Failed(Failure::ConnectError);
        }
        match op {
            Op::Get if self.cached.contains_key(&target) => Outcome::Hit,
            Op::Set => {
                self.cached.insert(target, self.database);
                Outcome::Stored
            }
            Op::Delete if self.cached.remove(&target).is_some() => Outcome::Deleted,
            _ => Outcome::NotFound,
        }
    }

    /// A request; the outcome that the client sees, and the value, if it is a hit.
    fn ask(&mut self, op: Op) -> (Outcome, Option<Value>) {
        let routes = Arc::clone(&self.routes);
        let ask = Ask { op, key: b"k" };
        let (mut errand, mut step) = Errand::begin(&routes, &ask, self, 0);
        let mut answers: BTreeMap<Ticket, (Outcome, Option<Value>)> = BTreeMap::new();
        let mut reply = None;
        let mut waiting: Vec<Send> = Vec::new();
        loop {
            for Missed { target, .. } in std::mem::take(&mut step.missed) {
                self.kept.push(target);
                self.tell(target, Event::FellBehind);
            }
            reply = reply.or(step.reply.take());
            waiting.append(&mut step.sends);
            let Some(send) = waiting.pop() else { break };
            let value = self.cached.get(&send.target).copied();
            let outcome = self.at_node(send.target, op);
            self.tell(send.target, Event::Ended(outcome));
            answers.insert(send.ticket, (outcome, value));
            step = errand.answered(&ask, self, send.ticket, outcome);
        }
        assert!(errand.is_over());
        match reply.expect("a reply") {
            Reply::Of { ticket, .. } => answers[&ticket],
            Reply::Local(outcome) => (outcome, None),
            Reply::Error(text) => panic!("{text}"),
        }
    }

    /// As a reader does: what is not cached is read and stored.
    fn read(&mut self) -> Value {
        if let (Outcome::Hit, value) = self.ask(Op::Get) {
            return value.expect("a hit has a value");
        }
        self.ask(Op::Set);
        self.database
    }
}

#[test]
fn a_node_that_returns_does_not_serve_what_was_deleted_meanwhile() {
    let mut world = World::new();
    let (home, gutter) = (world.target("a"), world.target("g"));

    // 1. The node has the old value.
    assert_eq!(world.read(), 1);
    assert_eq!(world.cached.get(&home), Some(&1));

    // 2. It goes away. 3. The row changes, and the delete fails: nobody says that it was done.
    world.unreachable.push(home);
    world.database = 2;
    let (outcome, _) = world.ask(Op::Delete);
    assert_eq!(outcome, Outcome::Failed(Failure::ConnectError));
    assert_eq!(world.kept, [home]);
    assert_eq!(world.condition(home), Condition::Down);

    // 4. The gutter gets the new value; the node's set is missed, too. 5. It serves it.
    assert_eq!(world.read(), 2);
    assert_eq!(world.cached.get(&gutter), Some(&2));
    assert_eq!(world.read(), 2);

    // 6. The node is back, with the old value. Neither time nor a late answer brings it into use.
    world.unreachable.clear();
    world.now += Duration::from_secs(3600);
    world.tell(home, Event::Ended(Outcome::Hit));
    assert_eq!(world.cached.get(&home), Some(&1));
    assert_eq!(world.read(), 2);

    // A probe finds it, but what was kept is not told to it yet.
    world.tell(home, Event::Probing);
    world.tell(home, Event::Returned { ready: false });
    assert_eq!(world.read(), 2);

    // 7. It is told, and only then asked.
    for target in std::mem::take(&mut world.kept) {
        world.cached.remove(&target);
    }
    world.tell(home, Event::CaughtUp);
    world.tell(home, Event::Returned { ready: true });
    assert_eq!(world.condition(home), Condition::Ready);
    assert_eq!(world.read(), 2);
    assert_eq!(world.cached.get(&home), Some(&2));
}

/// A delete that comes between the last one that was told and the node's return.
#[test]
fn what_is_missed_during_the_return_keeps_the_node_from_being_read() {
    let mut world = World::new();
    let home = world.target("a");
    world.read();
    world.unreachable.push(home);
    world.ask(Op::Delete);
    world.unreachable.clear();
    world.cached.remove(&home);
    world.kept.clear();
    world.tell(home, Event::CaughtUp);
    world.cached.insert(home, 1);
    world.ask(Op::Delete);
    assert_eq!(world.kept, [home]);
    world.tell(home, Event::Returned { ready: true });
    assert_eq!(world.condition(home), Condition::Behind);
    world.database = 2;
    assert_eq!(world.read(), 2);
    // It gets deletes meanwhile.
    assert_eq!(world.ask(Op::Delete).0, Outcome::Deleted);
    world.tell(home, Event::CaughtUp);
    assert_eq!(world.condition(home), Condition::Ready);
}

/// The second flap: the gutter, too, got the delete that came while the node was well.
#[test]
fn the_gutter_does_not_serve_at_a_second_absence_what_it_had_at_the_first() {
    let mut world = World::new();
    let home = world.target("a");
    world.unreachable.push(home);
    assert_eq!(world.read(), 1);
    world.unreachable.clear();
    world.tell(home, Event::CaughtUp);
    world.tell(home, Event::Returned { ready: true });
    world.database = 2;
    world.ask(Op::Delete);
    world.unreachable.push(home);
    assert_eq!(world.read(), 2);
}
