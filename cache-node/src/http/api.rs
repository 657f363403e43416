//! The handlers of `/cache`.

use std::collections::BTreeMap;

use axum::{
    Json,
    body::Bytes,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, JsonRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use schemas::key::Key;
use serde::{Deserialize, Serialize};

use super::Side;
use crate::{
    access::{Login, Rights, Users},
    commands::{Put, View},
};

/// Most keys of a batch.
const BATCH_KEYS_MAX: usize = 1000;
/// Longest time to live, in seconds: a hundred years.
const TTL_SECONDS_MAX: u64 = 100 * 365 * 24 * 60 * 60;

/// Why a request is not done.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: String,
}

impl Refusal {
    fn bad(error: impl Into<String>) -> Refusal {
        Refusal { status: StatusCode::BAD_REQUEST, error: error.into() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Json(BTreeMap::from([("error", self.error)]));
        if self.status == StatusCode::UNAUTHORIZED {
            let ask = [("www-authenticate", "Basic realm=\"cache\"")];
            return (self.status, ask, body).into_response();
        }
        (self.status, body).into_response()
    }
}

/// How bytes are written in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Utf8,
    Base64,
}

/// What `GET` answers.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    key: String,
    found: bool,
    #[serde(flatten)]
    entry: Option<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    value: String,
    encoding: Encoding,
    age_seconds: u64,
    /// `null` for ever.
    ttl_remaining: Option<u64>,
}

impl From<View> for Entry {
    fn from(view: View) -> Entry {
        let (age_seconds, ttl_remaining) = (view.age_seconds, view.seconds_left);
        let (value, encoding) = match String::from_utf8(view.value.into()) {
            Ok(text) => (text, Encoding::Utf8),
            Err(bytes) => (STANDARD.encode(bytes.as_bytes()), Encoding::Base64),
        };
        Entry { value, encoding, age_seconds, ttl_remaining }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PutQuery {
    ttl_seconds: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Stored {
    key: String,
    stored: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Deleted {
    key: String,
    existed: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
    #[serde(default)]
    get: Vec<String>,
    #[serde(default)]
    put: Vec<BatchPut>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchPut {
    key: String,
    value: String,
    #[serde(default)]
    encoding: Encoding,
    ttl_seconds: Option<u64>,
}

/// What a batch came to. Puts come before gets.
#[derive(Debug, Default, Serialize)]
pub(super) struct BatchAnswer {
    found: BTreeMap<String, Entry>,
    missing: Vec<String>,
    stored: Vec<String>,
    refused: BTreeMap<String, String>,
}

pub(super) async fn get(
    State(side): State<Side>,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Answer>, Refusal> {
    let name = checked(&key)?;
    permit(&side, &headers, &name, Rights::READ)?;
    let entry = side.turn(|turn| turn.read(name.as_bytes())).map(Entry::from);
    Ok(Json(Answer { key, found: entry.is_some(), entry }))
}

pub(super) async fn put(
    State(side): State<Side>,
    Path(key): Path<String>,
    query: Result<Query<PutQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Stored>, Refusal> {
    let name = checked(&key)?;
    permit(&side, &headers, &name, Rights::WRITE)?;
    let Query(query) = query.map_err(|err| Refusal::bad(err.body_text()))?;
    let ttl = checked_ttl(query.ttl_seconds)?;
    let value = body.map_err(|_| too_large(&side))?;
    let done = side.turn(|turn| turn.put(name.as_bytes(), &value, ttl));
    refuse(&side, done)?;
    Ok(Json(Stored { key, stored: true }))
}

pub(super) async fn delete(
    State(side): State<Side>,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Deleted>, Refusal> {
    let name = checked(&key)?;
    permit(&side, &headers, &name, Rights::WRITE)?;
    let existed = side.turn(|turn| turn.erase(name.as_bytes()));
    Ok(Json(Deleted { key, existed }))
}

pub(super) async fn batch(
    State(side): State<Side>,
    headers: HeaderMap,
    body: Result<Json<Batch>, JsonRejection>,
) -> Result<Json<BatchAnswer>, Refusal> {
    let Json(batch) = body.map_err(|err| Refusal::bad(err.body_text()))?;
    if batch.get.len().saturating_add(batch.put.len()) > BATCH_KEYS_MAX {
        return Err(Refusal::bad(format!("a batch has at most {BATCH_KEYS_MAX} keys")));
    }
    let mut out = BatchAnswer::default();
    for item in batch.put {
        match put_one(&side, &headers, &item) {
            Ok(()) => out.stored.push(item.key),
            Err(refusal) => drop(out.refused.insert(item.key, refusal.error)),
        }
    }
    for key in batch.get {
        let name = checked(&key).and_then(|name| {
            permit(&side, &headers, &name, Rights::READ)?;
            Ok(name)
        });
        match name.map(|name| side.turn(|turn| turn.read(name.as_bytes()))) {
            Ok(Some(view)) => drop(out.found.insert(key, view.into())),
            Ok(None) => out.missing.push(key),
            Err(refusal) => drop(out.refused.insert(key, refusal.error)),
        }
    }
    Ok(Json(out))
}

fn put_one(side: &Side, headers: &HeaderMap, item: &BatchPut) -> Result<(), Refusal> {
    let name = checked(&item.key)?;
    permit(side, headers, &name, Rights::WRITE)?;
    let ttl = checked_ttl(item.ttl_seconds)?;
    let decoded = match item.encoding {
        Encoding::Utf8 => None,
        Encoding::Base64 => {
            let decoded = STANDARD.decode(&item.value);
            Some(decoded.map_err(|err| Refusal::bad(format!("the value is no base64: {err}")))?)
        }
    };
    let value = decoded.as_deref().unwrap_or(item.value.as_bytes());
    refuse(side, side.turn(|turn| turn.put(name.as_bytes(), value, ttl)))
}

fn checked(key: &str) -> Result<Key, Refusal> {
    Key::new(key.as_bytes().to_vec()).map_err(|err| Refusal::bad(err.to_string()))
}

fn checked_ttl(seconds: Option<u64>) -> Result<Option<u64>, Refusal> {
    match seconds {
        Some(0) => Err(Refusal::bad("ttl_seconds must be at least 1")),
        Some(seconds) if seconds > TTL_SECONDS_MAX => {
            Err(Refusal::bad(format!("ttl_seconds must be at most {TTL_SECONDS_MAX}")))
        }
        ttl => Ok(ttl),
    }
}

fn too_large(side: &Side) -> Refusal {
    let most = side.node.settings().item_bytes_max;
    Refusal::bad(format!("an entry has at most {most} bytes, with its key and header"))
}

fn refuse(side: &Side, done: Put) -> Result<(), Refusal> {
    match done {
        Put::Stored => Ok(()),
        Put::TooLarge => Err(too_large(side)),
        Put::NoRoom => Err(Refusal {
            status: StatusCode::SERVICE_UNAVAILABLE,
            error: "memory is full".to_owned(),
        }),
        Put::Refused => Err(Refusal {
            status: StatusCode::CONFLICT,
            error: "the value may be older than what the database has".to_owned(),
        }),
    }
}

/// Whoever has no right to a key is refused; without users everybody has.
fn permit(side: &Side, headers: &HeaderMap, key: &Key, needed: Rights) -> Result<(), Refusal> {
    permit_of(&side.users, headers, key.as_bytes(), needed)
}

/// Why whoever sends these headers may not change how the node runs; `None` if he may.
pub fn not_admin(users: &Users, headers: &HeaderMap) -> Option<Response> {
    let refused = permit_of(users, headers, b"", Rights::ADMIN).err();
    refused.map(IntoResponse::into_response)
}

fn permit_of(
    users: &Users,
    headers: &HeaderMap,
    key: &[u8],
    needed: Rights,
) -> Result<(), Refusal> {
    if users.is_empty() {
        return Ok(());
    }
    let unknown = || Refusal { status: StatusCode::UNAUTHORIZED, error: "log in first".to_owned() };
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let encoded = header.and_then(|value| value.strip_prefix("Basic ")).ok_or_else(unknown)?;
    let pair = STANDARD.decode(encoded).map_err(|_| unknown())?;
    let pair: Vec<u8> = match pair.iter().position(|&byte| byte == b':') {
        Some(at) => {
            let (name, rest) = pair.split_at(at);
            [name, b" ", rest.strip_prefix(b":").unwrap_or(rest)].concat()
        }
        None => return Err(unknown()),
    };
    match users.login(&pair) {
        Login::Welcome(user) if user.has(key, needed) => Ok(()),
        Login::Welcome(_) => {
            Err(Refusal { status: StatusCode::FORBIDDEN, error: "access denied".to_owned() })
        }
        Login::Refused | Login::Malformed => Err(unknown()),
    }
}
