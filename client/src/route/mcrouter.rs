//! Reads a configuration of mcrouter: JSON with comments, and of its route handles those that [`RoutesFile`] has a kind for. What
//! is not known is refused by its name and place, never left out: a route that does half of what its file says is worse than none.
//!
//! What differs in meaning: deletes go to every route that a read may reach, where mcrouter sends them to the first that
//! answers; a failed delete is answered with its failure, where mcrouter says `NOT_FOUND` and writes it to a log.

use std::collections::BTreeMap;

use schemas::ring::Hashing;
use serde_json::{Map, Value};

use super::{
    ask::{Failure, Op},
    config::{
        ErrorsByClass, FailoverErrors, LimitFile, PoolFile, RouteFile, RoutesFile, Server,
        ServerFile,
    },
};

/// Longest configuration.
const BYTES_MAX: usize = 16 << 20;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum McrouterError {
    /// It is no JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// It says what we do not do, or what makes no sense.
    #[error("{place}: {what}")]
    Refused {
        /// Where, as keys and numbers from the outside in.
        place: String,
        /// What is wrong there.
        what: String,
    },
}

/// Reads it. `default_route` is what mcrouter's `--route-prefix` has: the routing prefix of keys that have none; the first of the
/// file, if there is none.
pub fn read(text: &str, default_route: Option<&str>) -> Result<RoutesFile, McrouterError> {
    if text.len() > BYTES_MAX {
        return Err(refused("configuration", format!("more than {BYTES_MAX} bytes")));
    }
    let mut whole = Keys::of("", serde_json::from_str(&without_comments(text))?)?;
    let mut reader = Reader::default();
    for (name, pool) in whole.take_object("pools")? {
        reader.pool(&format!("pools.{name}"), &name, pool)?;
    }
    reader.handles = match whole.take("named_handles") {
        None => BTreeMap::new(),
        Some(Value::Object(handles)) => handles.into_iter().collect(),
        Some(Value::Array(handles)) => {
            let named = handles.into_iter().enumerate().map(|(at, handle)| {
                let name = handle.get("name").and_then(Value::as_str).map(str::to_owned);
                let place = format!("named_handles.{at}");
                Ok((name.ok_or_else(|| refused(place, "it has no name"))?, handle))
            });
            named.collect::<Result<_, McrouterError>>()?
        }
        Some(_) => return Err(refused("named_handles", "neither an object nor a list")),
    };
    if let Some(route) = whole.take("route") {
        reader.file.start = Some(reader.route("route", route)?);
    }
    for (at, entry) in whole.take_list("routes")?.into_iter().enumerate() {
        let place = format!("routes.{at}");
        let mut entry = Keys::of(&place, entry)?;
        let route = entry.take("route").ok_or_else(|| refused(&place, "it has no route"))?;
        let name = reader.route(&format!("{place}.route"), route)?;
        for alias in entry.take_list("aliases")? {
            let Value::String(alias) = alias else {
                return Err(refused(format!("{place}.aliases"), "not a list of texts"));
            };
            let is_start = default_route.is_none_or(|it| it == alias);
            if is_start && reader.file.start.is_none() {
                reader.file.start = Some(name.clone());
            }
            reader.file.prefix.insert(alias, name.clone());
        }
        entry.finish()?;
    }
    whole.finish()?;
    Ok(reader.file)
}

#[derive(Default)]
struct Reader {
    file: RoutesFile,
    /// Named handles that nobody has named yet.
    handles: BTreeMap<String, Value>,
    /// Named handles and what they are called in the file.
    known: BTreeMap<String, String>,
}

impl Reader {
    fn pool(&mut self, place: &str, name: &str, pool: Value) -> Result<(), McrouterError> {
        let mut keys = Keys::of(place, pool)?;
        let mut servers = Vec::new();
        for server in keys.take_list("servers")? {
            let Value::String(address) = server else {
                return Err(refused(format!("{place}.servers"), "not a list of texts"));
            };
            servers.push(ServerFile::Address(address));
        }
        let mut pool = PoolFile::of(servers);
        for (key, timeout) in [
            ("server_timeout", &mut pool.server_timeout_ms),
            ("connect_timeout", &mut pool.connect_timeout_ms),
        ] {
            if let Some(value) = keys.take(key) {
                let ms = value.as_u64().and_then(|ms| u32::try_from(ms).ok());
                *timeout = ms.ok_or_else(|| keys.wrong(key, "no number of milliseconds"))?;
            }
        }
        keys.only("protocol", "ascii")?;
        keys.only("security_mech", "plain")?;
        keys.finish()?;
        self.file.pool.insert(name.to_owned(), pool);
        Ok(())
    }

    /// A route, in any of its forms; what it is called in the file.
    fn route(&mut self, place: &str, route: Value) -> Result<String, McrouterError> {
        match route {
            Value::String(short) => self.short(place, &short),
            Value::Object(_) => {
                let mut keys = Keys::of(place, route)?;
                let kind = keys.take_text("type")?;
                let kind = kind.ok_or_else(|| refused(place, "it has no type"))?;
                let name = keys.take_text("name")?;
                let made = self.handle(&kind, &mut keys)?;
                keys.finish()?;
                if let Some(name) = name {
                    self.known.insert(name, made.clone());
                }
                Ok(made)
            }
            _ => Err(refused(place, "neither a text nor an object")),
        }
    }

    /// `"PoolRoute|A"`, `"NullRoute"`, or the name of a handle.
    fn short(&mut self, place: &str, short: &str) -> Result<String, McrouterError> {
        if let Some(known) = self.known.get(short) {
            return Ok(known.clone());
        }
        if let Some(handle) = self.handles.remove(short) {
            let made = self.route(&format!("named_handles.{short}"), handle)?;
            self.known.insert(short.to_owned(), made.clone());
            return Ok(made);
        }
        let (kind, rest) = short.split_once('|').unwrap_or((short, ""));
        let key = match kind {
            "PoolRoute" => "pool",
            "ErrorRoute" => "response",
            _ => "children",
        };
        let mut map = Map::new();
        if !rest.is_empty() {
            map.insert(key.to_owned(), Value::from(rest));
        }
        let mut keys = Keys { place: place.to_owned(), map };
        let made = self.handle(kind, &mut keys)?;
        keys.finish()?;
        Ok(made)
    }

    fn handle(&mut self, kind: &str, keys: &mut Keys) -> Result<String, McrouterError> {
        let route = match kind {
            "PoolRoute" => return self.pool_route(keys),
            "HashRoute" => return self.hash_route(keys),
            "AllSyncRoute" => RouteFile::AllSync { children: self.children(keys)? },
            "AllFastestRoute" => RouteFile::AllFastest { children: self.children(keys)? },
            "AllMajorityRoute" => RouteFile::AllMajority { children: self.children(keys)? },
            "MissFailoverRoute" => RouteFile::MissFailover { children: self.children(keys)? },
            "RandomRoute" => RouteFile::Random { children: self.children(keys)? },
            "NullRoute" => RouteFile::Null {},
            "ErrorRoute" => {
                let message = keys.take_text("response")?.filter(|text| !text.is_empty());
                RouteFile::Error { message }
            }
            "PrefixSelectorRoute" => {
                let mut prefixes = BTreeMap::new();
                for (prefix, route) in keys.take_object("policies")? {
                    let place = format!("{}.policies.{prefix}", keys.place);
                    prefixes.insert(prefix, self.route(&place, route)?);
                }
                RouteFile::Prefix { prefixes, otherwise: self.child(keys, "wildcard")? }
            }
            "OperationSelectorRoute" => {
                let mut operations = BTreeMap::new();
                for (name, route) in keys.take_object("operation_policies")? {
                    let place = format!("{}.operation_policies.{name}", keys.place);
                    let op = Op::ALL.into_iter().find(|op| op.to_string() == name);
                    let op = op.ok_or_else(|| refused(&place, "this command is not known"))?;
                    operations.insert(op, self.route(&place, route)?);
                }
                let otherwise = self.child(keys, "default_policy")?;
                RouteFile::Operation { operations, otherwise }
            }
            "FailoverRoute" => {
                // What they switch on is always on.
                keys.only_true("enable_lease_pairing")?;
                let errors = keys.take_errors()?;
                RouteFile::Failover {
                    children: self.children(keys)?,
                    errors,
                    limit: keys.take_limit()?,
                }
            }
            "FailoverWithExptimeRoute" => self.gutter(keys)?,
            "WarmUpRoute" => {
                keys.only_true("enable_metaget")?;
                RouteFile::WarmUp {
                    cold: self.child(keys, "cold")?,
                    warm: self.child(keys, "warm")?,
                    exptime_s: keys.take_seconds("exptime")?,
                }
            }
            kind => return Err(keys.wrong("type", format!("route {kind:?} is not known"))),
        };
        Ok(self.add(kind, route))
    }

    fn gutter(&mut self, keys: &mut Keys) -> Result<RouteFile, McrouterError> {
        let normal = self.child(keys, "normal")?;
        let mut stand_ins = self.list(keys, "failover")?;
        let gutter = match stand_ins.pop() {
            Some(only) if stand_ins.is_empty() => only,
            Some(last) => {
                stand_ins.push(last);
                let errors = FailoverErrors::default();
                let all = RouteFile::Failover { children: stand_ins, errors, limit: None };
                self.add("failover", all)
            }
            None => return Err(keys.wrong("failover", "there is none")),
        };
        let exptime_s = keys.take_seconds("failover_exptime")?.unwrap_or(60);
        let (errors, limit) = (keys.take_errors()?, keys.take_limit()?);
        Ok(RouteFile::Gutter { normal, gutter, exptime_s, errors, limit })
    }

    fn pool_route(&mut self, keys: &mut Keys) -> Result<String, McrouterError> {
        keys.only_true("asynclog")?;
        let pool = match keys.take("pool") {
            Some(Value::String(name)) => name,
            Some(mut pool @ Value::Object(_)) => {
                let map = pool.as_object_mut().and_then(|map| map.remove("name"));
                let name = map.as_ref().and_then(Value::as_str).map(str::to_owned);
                let name = name.ok_or_else(|| keys.wrong("pool", "it has no name"))?;
                self.pool(&format!("{}.pool", keys.place), &name, pool)?;
                name
            }
            _ => return Err(keys.wrong("pool", "neither a name nor a pool")),
        };
        let hash = match keys.take("hash") {
            None => Hash::default(),
            Some(Value::String(name)) => Hash::named(&keys.at("hash"), &name)?,
            Some(hash) => {
                let mut hash = Keys::of(&keys.at("hash"), hash)?;
                let found = hash.take_hash()?;
                hash.finish()?;
                found
            }
        };
        self.hashed_pool(keys, &pool, hash)
    }

    fn hash_route(&mut self, keys: &mut Keys) -> Result<String, McrouterError> {
        let Hash { hashing, salt, weights } = keys.take_hash()?;
        let pool = keys.map.get("children").and_then(Value::as_str);
        if let Some(pool) = pool.and_then(|it| it.strip_prefix("Pool|")).map(str::to_owned) {
            keys.take("children");
            return self.hashed_pool(keys, &pool, Hash { hashing, salt, weights });
        }
        let children = self.children(keys)?;
        Ok(self.add("HashRoute", RouteFile::Hash { children, hashing, salt, weights }))
    }

    /// The pool, or one like it with another hash.
    fn hashed_pool(
        &mut self,
        keys: &Keys,
        name: &str,
        hash: Hash,
    ) -> Result<String, McrouterError> {
        let pool = self.file.pool.get(name);
        let mut pool = pool.ok_or_else(|| keys.wrong("pool", format!("no pool {name:?}")))?.clone();
        if hash == Hash::default() {
            return Ok(name.to_owned());
        }
        if hash.hashing == Hashing::WeightedCh3 {
            if hash.weights.len() != pool.servers.len() {
                let (weights, servers) = (hash.weights.len(), pool.servers.len());
                let what = format!("{weights} weights for {servers} servers");
                return Err(keys.wrong("weights", what));
            }
            for (server, weight) in pool.servers.iter_mut().zip(hash.weights) {
                let address = server.address().to_owned();
                *server = Server { address, weight: Some(weight), kind: None }.into();
            }
        }
        (pool.hashing, pool.salt) = (hash.hashing, hash.salt);
        let name = self.free_name(name);
        self.file.pool.insert(name.clone(), pool);
        Ok(name)
    }

    fn child(&mut self, keys: &mut Keys, key: &str) -> Result<String, McrouterError> {
        let route = keys.take(key).ok_or_else(|| keys.wrong(key, "there is none"))?;
        self.route(&keys.at(key), route)
    }

    fn children(&mut self, keys: &mut Keys) -> Result<Vec<String>, McrouterError> {
        self.list(keys, "children")
    }

    /// A list of routes, one route, or `"Pool|A"`, which is each node of a pool for itself.
    fn list(&mut self, keys: &mut Keys, key: &str) -> Result<Vec<String>, McrouterError> {
        let place = keys.at(key);
        match keys.take(key) {
            Some(Value::Array(list)) => {
                let numbered = list.into_iter().enumerate();
                numbered.map(|(at, it)| self.route(&format!("{place}.{at}"), it)).collect()
            }
            Some(Value::String(text)) if text.starts_with("Pool|") => {
                let name = text.strip_prefix("Pool|").unwrap_or_default();
                let pool = self.file.pool.get(name);
                let pool =
                    pool.ok_or_else(|| refused(&place, format!("no pool {name:?}")))?.clone();
                let mut names = Vec::new();
                for server in &pool.servers {
                    let alone = PoolFile { servers: vec![server.clone()], ..pool.clone() };
                    let name = self.free_name(server.address());
                    self.file.pool.insert(name.clone(), alone);
                    names.push(name);
                }
                Ok(names)
            }
            Some(one) => Ok(vec![self.route(&place, one)?]),
            None => Err(refused(place, "there is none")),
        }
    }

    fn add(&mut self, name: &str, route: RouteFile) -> String {
        let name = self.free_name(name);
        self.file.route.insert(name.clone(), route);
        name
    }

    /// A name that neither a pool nor a route has.
    fn free_name(&self, name: &str) -> String {
        let taken =
            |name: &str| self.file.pool.contains_key(name) || self.file.route.contains_key(name);
        let names = (2_u32..).map(|number| format!("{name} {number}"));
        let free = std::iter::once(name.to_owned()).chain(names).find(|name| !taken(name));
        free.unwrap_or_default()
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Hash {
    hashing: Hashing,
    salt: String,
    /// In millionths.
    weights: Vec<u32>,
}

impl Default for Hash {
    fn default() -> Hash {
        Hash { hashing: Hashing::Ch3, salt: String::new(), weights: Vec::new() }
    }
}

impl Hash {
    fn named(place: &str, name: &str) -> Result<Hash, McrouterError> {
        let hashing = match name {
            "Ch3" => Hashing::Ch3,
            "WeightedCh3" => Hashing::WeightedCh3,
            "Crc32" => Hashing::Crc32,
            name => return Err(refused(place, format!("hash {name:?} is not known"))),
        };
        Ok(Hash { hashing, ..Hash::default() })
    }
}

/// The keys of an object; each is taken once, and none may be left.
struct Keys {
    place: String,
    map: Map<String, Value>,
}

impl Keys {
    fn of(place: &str, value: Value) -> Result<Keys, McrouterError> {
        match value {
            Value::Object(map) => Ok(Keys { place: place.to_owned(), map }),
            _ => Err(refused(place, "not an object")),
        }
    }

    fn at(&self, key: &str) -> String {
        if self.place.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place) }
    }

    fn wrong(&self, key: &str, what: impl Into<String>) -> McrouterError {
        refused(self.at(key), what)
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.map.remove(key)
    }

    fn take_text(&mut self, key: &str) -> Result<Option<String>, McrouterError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "not a text")),
        }
    }

    fn take_object(&mut self, key: &str) -> Result<Map<String, Value>, McrouterError> {
        match self.take(key) {
            None => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map),
            Some(_) => Err(self.wrong(key, "not an object")),
        }
    }

    fn take_list(&mut self, key: &str) -> Result<Vec<Value>, McrouterError> {
        match self.take(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(self.wrong(key, "not a list")),
        }
    }

    fn take_seconds(&mut self, key: &str) -> Result<Option<u32>, McrouterError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let seconds = value.as_u64().and_then(|it| u32::try_from(it).ok());
        seconds.map(Some).ok_or_else(|| self.wrong(key, "no number of seconds"))
    }

    /// A key that may be there if it says what is so anyway.
    fn only(&mut self, key: &str, value: &str) -> Result<(), McrouterError> {
        match self.take_text(key)? {
            Some(other) if other != value => Err(self.wrong(key, format!("only {value:?}"))),
            _ => Ok(()),
        }
    }

    fn only_true(&mut self, key: &str) -> Result<(), McrouterError> {
        match self.take(key) {
            None | Some(Value::Bool(true)) => Ok(()),
            Some(_) => Err(self.wrong(key, "only true")),
        }
    }

    fn take_hash(&mut self) -> Result<Hash, McrouterError> {
        let name = self.take_text("hash_func")?;
        let hash = Hash::named(&self.at("hash_func"), name.as_deref().unwrap_or("Ch3"))?;
        let salt = self.take_text("salt")?.unwrap_or_default();
        let mut weights = Vec::new();
        for weight in self.take_list("weights")? {
            let weight = weight.as_f64().and_then(millionths);
            let what = "not numbers from 0 to 1 with at most six digits behind the point";
            weights.push(weight.ok_or_else(|| self.wrong("weights", what))?);
        }
        Ok(Hash { salt, weights, ..hash })
    }

    fn take_errors(&mut self) -> Result<FailoverErrors, McrouterError> {
        let place = self.at("failover_errors");
        match self.take("failover_errors") {
            None => Ok(FailoverErrors::default()),
            Some(Value::Array(list)) => Ok(FailoverErrors::Same(failures(&place, &list)?)),
            Some(value) => {
                let mut keys = Keys::of(&place, value)?;
                let mut list = |key: &str| match keys.take(key) {
                    None => Ok(None),
                    Some(Value::Array(list)) => {
                        failures(&format!("{place}.{key}"), &list).map(Some)
                    }
                    Some(_) => Err(refused(format!("{place}.{key}"), "not a list")),
                };
                let (reads, updates) = (list("gets")?, list("updates")?);
                // Deletes go to all routes anyway.
                list("deletes")?;
                keys.finish()?;
                Ok(FailoverErrors::ByClass(ErrorsByClass { reads, updates }))
            }
        }
    }

    fn take_limit(&mut self) -> Result<Option<LimitFile>, McrouterError> {
        let Some(value) = self.take("failover_limit") else { return Ok(None) };
        let mut keys = Keys::of(&self.at("failover_limit"), value)?;
        let rate = keys.take("rate").and_then(|it| it.as_f64());
        let rate = rate.ok_or_else(|| keys.wrong("rate", "not a number"))?;
        let burst = match keys.take("burst") {
            None => None,
            Some(burst) => Some(burst.as_f64().ok_or_else(|| keys.wrong("burst", "not a number"))?),
        };
        keys.finish()?;
        Ok(Some(LimitFile { rate, burst }))
    }

    fn finish(self) -> Result<(), McrouterError> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(key) => Err(self.wrong(key, "this key is not known")),
        }
    }
}

fn failures(place: &str, list: &[Value]) -> Result<Vec<Failure>, McrouterError> {
    let mut out = Vec::new();
    for value in list {
        out.push(match value.as_str().unwrap_or_default() {
            "busy" => Failure::Busy,
            "try_again" => Failure::TryAgain,
            "shutdown" => Failure::Shutdown,
            "remote_error" => Failure::RemoteError,
            "local_error" => Failure::LocalError,
            "tko" => Failure::Tko,
            "connect_error" => Failure::ConnectError,
            "connect_timeout" => Failure::ConnectTimeout,
            "timeout" | "deadline_exceeded" => Failure::Timeout,
            _ => return Err(refused(place, format!("error {value} is not known"))),
        });
    }
    Ok(out)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000000")]
fn millionths(weight: f64) -> Option<u32> {
    let whole = (weight * 1_000_000.0).round();
    let is_exact = (0.0..=1.0).contains(&weight) && (weight - whole / 1_000_000.0).abs() < 1e-12;
    is_exact.then_some(whole as u32)
}

/// Blanks for `/* */` and `//`, outside of texts; line ends stay, so that errors say the right line.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    let mut is_text = false;
    while let Some(character) = rest.next() {
        match (character, rest.peek()) {
            ('\\', Some(_)) if is_text => {
                out.push(character);
                out.extend(rest.next());
            }
            ('"', _) => {
                is_text = !is_text;
                out.push(character);
            }
            ('/', Some('/')) if !is_text => while rest.next_if(|&it| it != '\n').is_some() {},
            ('/', Some('*')) if !is_text => {
                rest.next();
                let mut last = ' ';
                for character in rest.by_ref() {
                    if (last, character) == ('*', '/') {
                        break;
                    }
                    if character == '\n' {
                        out.push(character);
                    }
                    last = character;
                }
                out.push(' ');
            }
            _ => out.push(character),
        }
    }
    out
}

fn refused(place: impl Into<String>, what: impl Into<String>) -> McrouterError {
    let place: String = place.into();
    let place = if place.is_empty() { "configuration".to_owned() } else { place };
    McrouterError::Refused { place, what: what.into() }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::{super::*, *};

    const POOLS: &str =
        r#""pools": { "A": { "servers": ["a:1", "b:1"] }, "B": { "servers": ["c:1"] } }"#;

    /// Keys that only the tables name are made of one letter, so that they are few.
    fn told(text: &str, asks: &[(Op, &str)]) -> String {
        let file = match read(text, None) {
            Ok(file) => file,
            Err(err) => return err.to_string(),
        };
        match Routes::new(&file) {
            Ok(routes) => {
                let told = asks
                    .iter()
                    .map(|(op, key)| routes.explain(&Ask { op: *op, key: key.as_bytes() }));
                told.collect()
            }
            Err(err) => format!("made, but: {err}"),
        }
    }

    #[track_caller]
    fn check(route: &str, expect: Expect) {
        let text = format!("{{ {POOLS}, \"route\": {route} }}");
        expect.assert_eq(&told(&text, &[(Op::Get, "k"), (Op::Delete, "k")]));
    }

    #[test]
    fn comments_and_prefixes() {
        let text = r#"{
            // two pools
            "pools": { /* "X": */ "A": { "servers": ["a:1"], "server_timeout": 50 }, "B//": { "servers": ["b:1"] } },
            "routes": [
                { "aliases": ["/west/x/", "/west/y/"], "route": "PoolRoute|A" },
                { "aliases": ["/east/x/"], "route": { "type": "PoolRoute", "pool": "B//", "hash": "Crc32" } }
            ]
        }"#;
        let asks = [(Op::Get, "k"), (Op::Get, "/east/x/k"), (Op::Delete, "/*/*/k")];
        expect![[r"
            get k
              A: pool, ch3
                a:1
            get /east/x/k
              sent as k
              B// 2: pool, crc32
                b:1
            delete /*/*/k
              sent as k to all; the worst answers
                B// 2: pool, crc32
                  b:1
                A: pool, ch3
                  a:1
        "]]
        .assert_eq(&told(text, &asks));
        let timeout = Routes::new(&read(text, None).unwrap()).unwrap();
        assert_eq!(timeout.targets()[0].server_timeout.as_millis(), 50);
        let east = read(text, Some("/east/x/")).unwrap();
        assert_eq!(east.start.as_deref(), Some("B// 2"));
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn every_handle() {
        check(
            r#""PoolRoute|A""#,
            expect![[r"
            get k
              A: pool, ch3
                a:1
            delete k
              A: pool, ch3
                a:1
        "]],
        );
        check(
            r#"{ "type": "PoolRoute", "pool": "A", "hash": { "hash_func": "WeightedCh3", "weights": [0.5, 1.0], "salt": "s" }, "asynclog": true }"#,
            expect![[r"
                get k
                  A 2: pool, weighted-ch3
                    b:1
                delete k
                  A 2: pool, weighted-ch3
                    b:1
            "]],
        );
        check(
            r#""HashRoute|Pool|A""#,
            expect![[r"
            get k
              A: pool, ch3
                a:1
            delete k
              A: pool, ch3
                a:1
        "]],
        );
        check(
            r#"{ "type": "HashRoute", "children": ["PoolRoute|A", "PoolRoute|B"], "hash_func": "Crc32" }"#,
            expect![[r"
                get k
                  HashRoute: by hash
                    B: pool, ch3
                      c:1
                delete k
                  HashRoute: by hash
                    B: pool, ch3
                      c:1
            "]],
        );
        check(
            r#"{ "type": "PrefixSelectorRoute", "policies": { "k": "PoolRoute|B" }, "wildcard": "PoolRoute|A" }"#,
            expect![[r"
                get k
                  PrefixSelectorRoute: by prefix: k
                    B: pool, ch3
                      c:1
                delete k
                  PrefixSelectorRoute: by prefix: k
                    B: pool, ch3
                      c:1
            "]],
        );
        check(
            r#"{ "type": "OperationSelectorRoute", "operation_policies": { "delete": "AllSyncRoute|Pool|A" }, "default_policy": "PoolRoute|A" }"#,
            expect![[r"
                get k
                  OperationSelectorRoute: by operation
                    A: pool, ch3
                      a:1
                delete k
                  OperationSelectorRoute: by operation
                    AllSyncRoute: all
                      (the worst answer counts)
                      a:1: pool, ch3
                        a:1
                      b:1: pool, ch3
                        b:1
            "]],
        );
        check(
            r#""AllFastestRoute|Pool|A""#,
            expect![[r"
            get k
              AllFastestRoute: all
                (the first that is no failure answers)
                a:1: pool, ch3
                  a:1
                b:1: pool, ch3
                  b:1
            delete k
              AllFastestRoute: all
                (the first that is no failure answers)
                a:1: pool, ch3
                  a:1
                b:1: pool, ch3
                  b:1
        "]],
        );
        check(
            r#"{ "type": "AllMajorityRoute", "children": ["PoolRoute|A", "PoolRoute|B"] }"#,
            expect![[r"
                get k
                  AllMajorityRoute: all
                    (what most answer counts)
                    A: pool, ch3
                      a:1
                    B: pool, ch3
                      c:1
                delete k
                  AllMajorityRoute: all
                    (what most answer counts)
                    A: pool, ch3
                      a:1
                    B: pool, ch3
                      c:1
            "]],
        );
        check(
            r#"{ "type": "FailoverRoute", "children": ["PoolRoute|A", "PoolRoute|B"], "failover_errors": { "gets": ["tko"], "updates": [], "deletes": [] }, "failover_limit": { "rate": 10, "burst": 20.5 } }"#,
            expect![[r"
                get k
                  FailoverRoute: the next one on failure
                    A: pool, ch3
                      a:1
                    B: pool, ch3
                      c:1
                delete k
                  FailoverRoute: the next one on failure
                    (all are asked, number 1 answers)
                    A: pool, ch3
                      a:1
                    B: pool, ch3
                      c:1
            "]],
        );
        check(
            r#"{ "type": "FailoverWithExptimeRoute", "normal": "PoolRoute|A", "failover": "PoolRoute|B", "failover_exptime": 10 }"#,
            expect![[r"
                get k
                  FailoverWithExptimeRoute: the next one on failure, for 10 s at most
                    A: pool, ch3
                      a:1
                    B: pool, ch3
                      c:1
                delete k
                  FailoverWithExptimeRoute: the next one on failure, for 10 s at most
                    (all are asked, number 1 answers)
                    A: pool, ch3
                      a:1
                    B: pool, ch3
                      c:1
            "]],
        );
        check(
            r#"{ "type": "MissFailoverRoute", "children": ["PoolRoute|A", "PoolRoute|B"] }"#,
            expect![[r"
                get k
                  MissFailoverRoute: the next one on a miss or failure
                    A: pool, ch3
                      a:1
                    B: pool, ch3
                      c:1
                delete k
                  MissFailoverRoute: the next one on a miss or failure
                    (all are asked, number 1 answers)
                    A: pool, ch3
                      a:1
                    B: pool, ch3
                      c:1
            "]],
        );
        check(
            r#"{ "type": "WarmUpRoute", "cold": "PoolRoute|A", "warm": "PoolRoute|B", "exptime": 5, "enable_metaget": true }"#,
            expect![[r"
                get k
                  WarmUpRoute: warm-up
                    A: pool, ch3
                      a:1
                    B: pool, ch3
                      c:1
                delete k
                  WarmUpRoute: warm-up
                    A: pool, ch3
                      a:1
            "]],
        );
        check(
            r#"{ "type": "RandomRoute", "children": ["PoolRoute|A", "NullRoute"] }"#,
            expect![[r"
                get k
                  RandomRoute: any of these
                    A: pool, ch3
                      a:1
                    NullRoute: nobody: a miss
                delete k
                  RandomRoute: any of these
                    A: pool, ch3
                      a:1
                    NullRoute: nobody: a miss
            "]],
        );
        check(
            r#""ErrorRoute|not now""#,
            expect![[r"
            get k
              ErrorRoute: nobody: SERVER_ERROR not now
            delete k
              ErrorRoute: nobody: SERVER_ERROR not now
        "]],
        );
        check(
            r#"{ "type": "ErrorRoute" }"#,
            expect![[r"
            get k
              ErrorRoute: nobody: SERVER_ERROR error route
            delete k
              ErrorRoute: nobody: SERVER_ERROR error route
        "]],
        );
    }

    #[test]
    fn named_handles() {
        let text = format!(
            r#"{{ {POOLS}, "named_handles": [{{ "type": "FailoverRoute", "name": "f", "children": ["PoolRoute|A", "PoolRoute|B"] }}],
                "route": {{ "type": "PrefixSelectorRoute", "policies": {{ "k": "f", "l": "f" }}, "wildcard": "f" }} }}"#
        );
        expect![[r"
            get k
              PrefixSelectorRoute: by prefix: k
                FailoverRoute: the next one on failure
                  A: pool, ch3
                    a:1
                  B: pool, ch3
                    c:1
        "]]
        .assert_eq(&told(&text, &[(Op::Get, "k")]));
    }

    #[test]
    fn refusals_say_what_and_where() {
        let all = [
            r#""ShadowRoute|A""#,
            r#"{ "type": "FailoverRoute", "children": ["PoolRoute|A"], "failover_policy": {} }"#,
            r#"{ "type": "PoolRoute", "pool": "A", "shadows": [] }"#,
            r#"{ "type": "PoolRoute", "pool": "A", "hash": "Rendezvous" }"#,
            r#"{ "type": "PoolRoute", "pool": "A", "hash": { "hash_func": "WeightedCh3", "weights": [1] } }"#,
            r#"{ "type": "AllSyncRoute", "children": ["PoolRoute|A", { "type": "PoolRoute", "pool": "C" }] }"#,
            r#"{ "type": "OperationSelectorRoute", "operation_policies": { "metaget": "PoolRoute|A" } }"#,
            r#"{ "type": "FailoverRoute", "children": "PoolRoute|A", "failover_errors": ["any"] }"#,
            r#"{ "type": "WarmUpRoute", "cold": "PoolRoute|A" }"#,
            r#"{ "children": [] }"#,
            "7",
        ];
        let said = all.map(|route| told(&format!("{{ {POOLS}, \"route\": {route} }}"), &[]));
        expect![[r#"
            route.type: route "ShadowRoute" is not known
            route.failover_policy: this key is not known
            route.shadows: this key is not known
            route.hash: hash "Rendezvous" is not known
            route.weights: 1 weights for 2 servers
            route.children.1.pool: no pool "C"
            route.operation_policies.metaget: this command is not known
            route.failover_errors: error "any" is not known
            route.warm: there is none
            route: it has no type
            route: neither a text nor an object"#]]
        .assert_eq(&said.join("\n"));
        let others = [
            r#"{ "pools": { "A": { "servers": ["a:1"], "qos": 1 } }, "route": "NullRoute" }"#,
            r#"{ "pools": { "A": { "servers": ["a:1"], "protocol": "caret" } }, "route": "NullRoute" }"#,
            r#"{ "macros": {}, "route": "NullRoute" }"#,
            r#"{ "routes": [{ "aliases": ["west"], "route": "NullRoute" }] }"#,
            "{",
        ];
        let said = others.map(|text| told(text, &[]));
        expect![[r#"
            pools.A.qos: this key is not known
            pools.A.protocol: only "ascii"
            macros: this key is not known
            made, but: prefix "west": must be /region/cluster/
            EOF while parsing an object at line 1 column 1"#]]
        .assert_eq(&said.join("\n"));
    }
}
