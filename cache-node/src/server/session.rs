//! [`Session`]: one connection without its socket: bytes in, bytes out. Bounded on both sides.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use protocol::server::{Limits, Parser, Step, Versions};
use schemas::key::Key;

use super::spare;
use crate::{
    access::{self, DENIED, User, Users},
    commands::{After, Dump, REPLY_BYTES_MAX, Turn, guess},
    node::Node,
    now::Now,
    warm::FETCH_MAX,
};

/// How much is read at once, at first; a connection that always has more gets more.
const READ_BYTES_MIN: usize = 2 << 10;
const READ_BYTES_MAX: usize = 64 << 10;
/// The longest login.
const LOGIN_BYTES_MAX: usize = 1024;

/// What the connection must do now. Whatever there is to send comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Todo {
    /// Send, and come back without reading.
    Send,
    /// Read more.
    Read,
    Close,
    /// Stop the server.
    Shutdown,
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    node: Arc<Node>,
    worker: usize,
    users: Users,
    user: Who,
    parser: Parser,
    /// Of the command at the front of the input: keys that were answered.
    keys_done: usize,
    dump: Option<Dump>,
    read_bytes: usize,
    pub input: BytesMut,
    pub output: Vec<u8>,
}

#[derive(Debug)]
enum Who {
    /// Nobody has to log in.
    Anybody,
    Nobody,
    User(User),
}

impl Session {
    /// A new connection; whoever needs to log in has not.
    pub fn new(node: Arc<Node>, worker: usize, users: Users) -> Session {
        let limits = if users.is_empty() { limits(&node) } else { login_limits() };
        Session {
            user: if users.is_empty() { Who::Anybody } else { Who::Nobody },
            node,
            worker,
            users,
            parser: Parser::new(limits),
            keys_done: 0,
            dump: None,
            read_bytes: READ_BYTES_MIN,
            input: BytesMut::new(),
            output: Vec::new(),
        }
    }

    /// Whether there is something to do before the next read.
    pub fn has_more(&self) -> bool {
        self.dump.is_some()
    }

    /// Makes room for the next read.
    pub fn make_room(&mut self) {
        let missing = self.parser.wanted().saturating_sub(self.input.len());
        if self.input.is_empty() {
            self.rest();
            self.input = spare::take_input();
        }
        self.input.reserve(missing.max(self.read_bytes));
    }

    /// Nothing can be read now: a buffer that is empty is left to others.
    pub fn rest(&mut self) {
        if self.input.is_empty() {
            spare::keep_input(std::mem::take(&mut self.input));
        }
    }

    /// So many bytes were read.
    pub fn read(&mut self, bytes: usize) {
        if bytes >= self.read_bytes {
            self.read_bytes = self.read_bytes.saturating_mul(4).min(READ_BYTES_MAX);
        }
        self.node.counters(self.worker).bytes_read.add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// The output was sent.
    pub fn sent(&mut self) {
        let bytes = u64::try_from(self.output.len()).unwrap_or(u64::MAX);
        self.node.counters(self.worker).bytes_written.add(bytes);
        self.output.clear();
        spare::keep_output(std::mem::take(&mut self.output));
    }

    /// Keys that the input seems to look up, and that have no entry here. A guess, and nothing depends on it.
    pub fn missing(&self, now: Now) -> Vec<Key> {
        let mut keys = Vec::new();
        if !matches!(self.user, Who::Nobody) {
            guess(&self.input, FETCH_MAX, |_, key| {
                if !self.node.holds(key, now) {
                    keys.extend(Key::new(key.to_vec()));
                }
            });
        }
        keys
    }

    /// Executes what the input holds, until there is too much to send or not enough to go on. `seed` is any number, and not the
    /// same each time.
    pub fn execute(&mut self, now: Now, seed: u64) -> Todo {
        let node = &*self.node;
        let mut turn = Turn::new(node, self.worker, now, seed);
        if self.output.is_empty() {
            self.output = spare::take_output();
        }
        let (mut used, mut foreseen) = (0, 0);
        let todo = loop {
            if self.output.len() >= REPLY_BYTES_MAX {
                break Todo::Send;
            }
            if let Some(dump) = self.dump.take() {
                self.dump = turn.dump(dump, &mut self.output);
                continue;
            }
            let rest = self.input.get(used..).unwrap_or_default();
            if used >= foreseen {
                foreseen = used.saturating_add(turn.foresee(rest));
            }
            let (command, bytes) = match self.parser.next(rest) {
                Step::More => break Todo::Read,
                Step::Close => break Todo::Close,
                Step::Skip(bytes) => {
                    used = used.saturating_add(bytes);
                    continue;
                }
                Step::Command(command, bytes) => (command, bytes),
            };
            let after = match &self.user {
                Who::Nobody => {
                    if let Some(user) = access::login(&self.users, &command, &mut self.output) {
                        self.user = Who::User(user);
                        self.parser.limit(limits(node));
                    }
                    After::Next
                }
                Who::User(user) if !user.may(&command) => {
                    self.output.extend_from_slice(DENIED);
                    After::Next
                }
                Who::User(_) | Who::Anybody => turn.run(&command, self.keys_done, &mut self.output),
            };
            self.keys_done = 0;
            match after {
                After::Next => {}
                After::Keys(done) => {
                    self.keys_done = done;
                    break Todo::Send;
                }
                After::Dump(dump) => self.dump = Some(dump),
                After::Close => break Todo::Close,
                After::Shutdown => break Todo::Shutdown,
            }
            used = used.saturating_add(bytes);
        };
        drop(turn);
        self.input.advance(used);
        if self.output.is_empty() {
            spare::keep_output(std::mem::take(&mut self.output));
        }
        todo
    }
}

fn limits(node: &Node) -> Limits {
    let versions = if node.has_source() { Versions::Accept } else { Versions::Refuse };
    Limits { value_bytes_max: node.settings().item_bytes_max, versions }
}

fn login_limits() -> Limits {
    Limits { value_bytes_max: LOGIN_BYTES_MAX, versions: Versions::Refuse }
}

#[cfg(test)]
mod tests;
