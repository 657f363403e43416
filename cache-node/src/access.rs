//! [`Users`]: who may do what. Without any, everybody may do everything.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use protocol::server::{Admin, Command, GetVerb, Meta, StoreVerb, Value};

/// Answer to a command that its sender may not give.
pub const DENIED: &[u8] = b"CLIENT_ERROR access denied\r\n";
const UNAUTHENTICATED: &[u8] = b"CLIENT_ERROR unauthenticated\r\n";
const FAILURE: &[u8] = b"CLIENT_ERROR authentication failure\r\n";
const MALFORMED: &[u8] = b"CLIENT_ERROR bad authentication token format\r\n";

/// Kinds of access; a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    pub const NONE: Rights = Rights(0);
    pub const READ: Rights = Rights(1);
    /// Store, change and delete.
    pub const WRITE: Rights = Rights(2);
    /// Everything that is not about one key: flush, dump, limits.
    pub const ADMIN: Rights = Rights(4);
    pub const ALL: Rights = Rights(7);

    pub fn has(self, needed: Rights) -> bool {
        self.0 & needed.0 == needed.0
    }

    #[must_use]
    pub fn with(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }
}

/// Rights for the keys that begin with a prefix; the empty prefix is every key's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub prefix: Box<[u8]>,
    pub rights: Rights,
}

/// Somebody who can log in.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    pub name: Box<[u8]>,
    pub password: Box<[u8]>,
    pub grants: Vec<Grant>,
}

/// Without the password.
impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = String::from_utf8_lossy(&self.name);
        f.debug_struct("User").field("name", &name).field("grants", &self.grants).finish()
    }
}

/// Everybody who can log in. Clones are the same list.
#[derive(Clone, Debug, Default)]
pub struct Users(Arc<RwLock<Vec<User>>>);

impl Users {
    pub fn new(users: Vec<User>) -> Users {
        Users(Arc::new(RwLock::new(users)))
    }

    /// Others may log in from now on. Whoever has logged in stays who he is.
    pub fn replace(&self, newer: &Users) {
        let newer = newer.read().clone();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = newer;
    }

    /// Whether nobody has to log in.
    pub fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    /// The user, by what follows the fake `set` of a login: `name password`.
    pub fn login(&self, value: &[u8]) -> Login {
        let mut words = value.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
        let (Some(name), Some(password)) = (words.next(), words.next()) else {
            return Login::Malformed;
        };
        let mut found = Login::Refused;
        for user in self.read().iter() {
            let matches = same(&user.name, name) & same(&user.password, password);
            if matches {
                found = Login::Welcome(user.clone());
            }
        }
        found
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<User>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    Welcome(User),
    Refused,
    Malformed,
}

/// Whom a command logs in, if it does: a `set` with `name password` as its value, whatever the key.
pub fn login(users: &Users, command: &Command<'_>, out: &mut Vec<u8>) -> Option<User> {
    let Command::Store(store) = command else {
        out.extend_from_slice(UNAUTHENTICATED);
        return None;
    };
    let (StoreVerb::Set, Value::Bytes(value)) = (store.verb, store.value) else {
        out.extend_from_slice(UNAUTHENTICATED);
        return None;
    };
    match users.login(value) {
        Login::Welcome(user) => {
            out.extend_from_slice(b"STORED\r\n");
            Some(user)
        }
        Login::Refused => {
            out.extend_from_slice(FAILURE);
            None
        }
        Login::Malformed => {
            out.extend_from_slice(MALFORMED);
            None
        }
    }
}

/// Compares in a time that depends on the lengths only.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

impl User {
    /// Whether the user may give this command.
    pub fn may(&self, command: &Command<'_>) -> bool {
        match command {
            Command::Get { verb, keys } => {
                let needed = match verb {
                    GetVerb::Get | GetVerb::Gets => Rights::READ,
                    GetVerb::Gat(_) | GetVerb::Gats(_) => Rights::READ.with(Rights::WRITE),
                };
                keys.clone().all(|key| self.has(key, needed))
            }
            // It can create.
            Command::LeaseGet { keys } => {
                keys.clone().all(|key| self.has(key, Rights::READ.with(Rights::WRITE)))
            }
            Command::Store(store) => self.has(store.key, Rights::WRITE),
            Command::Delete { key, .. }
            | Command::Touch { key, .. }
            | Command::Arithmetic { key, .. } => self.has(key, Rights::WRITE),
            Command::MetaGet(meta) => self.has(&meta.key, reading(meta)),
            Command::MetaStore { meta, .. } | Command::MetaDelete(meta) => {
                self.has(&meta.key, Rights::WRITE)
            }
            // It shows the number.
            Command::MetaArithmetic(meta) => self.has(&meta.key, Rights::READ.with(Rights::WRITE)),
            Command::MetaDebug { key } => self.has(key, Rights::READ),
            Command::MetaNoop | Command::Quit | Command::Version | Command::Refused { .. } => true,
            Command::Admin(Admin::Stats, words) => {
                let form = words.clone().next();
                let plain = [None, Some(&b"settings"[..]), Some(b"items"), Some(b"slabs")];
                plain.contains(&form) || self.is_admin()
            }
            Command::Admin(..) => self.is_admin(),
        }
    }

    /// Whether the user has these rights to a key.
    pub fn has(&self, key: &[u8], needed: Rights) -> bool {
        let grants = self.grants.iter().filter(|grant| key.starts_with(&grant.prefix));
        grants.fold(Rights::NONE, |all, grant| all.with(grant.rights)).has(needed)
    }

    fn is_admin(&self) -> bool {
        self.grants.iter().any(|grant| grant.rights.has(Rights::ADMIN))
    }
}

/// `mg` can create and touch.
fn reading(meta: &Meta<'_>) -> Rights {
    if meta.flags.vivify.is_some() || meta.flags.exptime.is_some() {
        Rights::READ.with(Rights::WRITE)
    } else {
        Rights::READ
    }
}

#[cfg(test)]
mod tests {
    use protocol::server::{Limits, Parser, Step, Versions};

    use super::*;

    fn user() -> User {
        let grant = |prefix: &[u8], rights| Grant { prefix: prefix.into(), rights };
        User {
            name: (*b"ann").into(),
            password: (*b"secret").into(),
            grants: vec![
                grant(b"", Rights::READ),
                grant(b"ann:", Rights::WRITE),
                grant(b"cat:", Rights::READ.with(Rights::WRITE)),
            ],
        }
    }

    fn may(line: &str) -> bool {
        let limits = Limits { value_bytes_max: 10, versions: Versions::Refuse };
        let bytes = format!("{line}\r\n");
        let Step::Command(command, _) = Parser::new(limits).next(bytes.as_bytes()) else {
            panic!("no command: {line}")
        };
        user().may(&command)
    }

    #[test]
    fn rights_are_by_prefix() {
        for line in
            ["get a b", "mg x v", "delete ann:1", "gat 5 ann:1", "ma cat:1", "stats", "mn", "quit"]
        {
            assert!(may(line), "{line}");
        }
        for line in [
            "delete a",
            "gat 5 a",
            "gat 5 ann:1 a",
            "lease-get ann:1 a",
            "mg a N30",
            "mg a T5",
            "ma a",
            "incr a 1",
            "flush_all",
            "stats cachedump 1 1",
            "lru_crawler metadump all",
            "shutdown",
        ] {
            assert!(!may(line), "{line}");
        }
    }

    #[test]
    fn logs_in() {
        let users = Users::new(vec![user()]);
        assert_eq!(users.login(b"ann secret"), Login::Welcome(user()));
        assert_eq!(users.login(b"ann wrong"), Login::Refused);
        assert_eq!(users.login(b"bob secret"), Login::Refused);
        assert_eq!(users.login(b"ann"), Login::Malformed);
        assert!(!format!("{users:?}").contains("secret"));
    }
}
