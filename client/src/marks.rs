//! Writing: [`Mark`]s before the write, the version after the commit, and the [`Token`] for the writer.
//!
//! Every writer's mark has a number of its own, so nobody clears another's. A stock memcached has one marker for a key, a
//! key of its own (`r_` and the key); writers only ever set it, and the invalidator deletes it, or its time does.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use schemas::{
    key::{Key, marker_of},
    version::Version,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::{
    client::{Client, random},
    commit::{Commit, Epochs},
    cycle::NodeKind,
    node::Pending,
    settings::seconds,
    token::Token,
    wire::{Answer, Request},
};

/// Most keys of one write.
pub const KEYS_MAX: usize = 1000;
/// Longest list of epochs, in bytes.
const EPOCHS_BYTES_MAX: usize = 1 << 22;
/// Between two questions for epochs.
const EPOCHS_POLL: Duration = Duration::from_millis(50);

/// Keys that are being written. To be given to [`Client::committed`], [`Client::rolled_back`] or [`Client::untold`]; a mark
/// that is dropped stands until its time has passed, and readers of its keys go to the primary so long.
#[derive(Debug)]
#[must_use = "a mark is ended when the transaction is"]
pub struct Mark {
    nonce: u64,
    keys: Vec<Key>,
    missing: usize,
}

/// More keys than can be marked at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{keys} keys are more than the {KEYS_MAX} that can be marked for one write")]
pub struct TooManyKeys {
    keys: usize,
}

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// What its writer must see from now on, here and in other regions. Goes into his cookie, for a minute.
    pub token: Token,
    /// Whether everybody else in the region has been kept from reading the old value since the write.
    pub marked: Marked,
}

/// Whether marks have stood all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marked {
    /// At every node.
    All,
    /// Not at some: others may read the old value there until the invalidation comes. The token is as good.
    NotAll,
}

impl Mark {
    /// How many nodes and keys could not be marked: the node is away, is full of marks, or keeps none.
    pub fn missing(&self) -> usize {
        self.missing
    }
}

impl Client {
    /// Marks keys in every cluster of the region: before the transaction that writes them begins. Never fails: a flow
    /// that must not go on without looks at [`Mark::missing`].
    pub async fn mark(&self, keys: &[Key]) -> Result<Mark, TooManyKeys> {
        if keys.len() > KEYS_MAX {
            return Err(TooManyKeys { keys: keys.len() });
        }
        let nonce = random();
        let ttl_s = seconds(self.0.settings.marker_ttl);
        let missing = self
            .everywhere(keys, |kind, key, marker| match kind {
                NodeKind::Versioned => Some(Request::Mark { key, nonce }),
                NodeKind::Stock => marker.map(|marker| Request::SetMarker { marker, ttl_s }),
            })
            .await;
        Ok(Mark { nonce, keys: keys.to_vec(), missing })
    }

    /// The transaction is committed: names its version at every node, so that what is older is outdated at once. If its
    /// epoch is not announced in time, the marks stand until their time has passed.
    pub async fn committed(&self, mark: Mark, commit: &Commit) -> Written {
        match self.version_of(commit).await {
            Some(version) => {
                let token = Token::AtLeast(version);
                self.name(mark, version, token).await
            }
            None => self.untold(mark).await,
        }
    }

    /// The transaction may be committed, and nobody knows its version: the connection was lost, or the server says nothing.
    /// Marks stand until their time has passed; the writer reads the primary.
    pub async fn untold(&self, mark: Mark) -> Written {
        let deleted = self.everywhere(&mark.keys, |kind, key, _| match kind {
            NodeKind::Versioned => None,
            NodeKind::Stock => Some(Request::Delete { key }),
        });
        deleted.await;
        Written { token: Token::Primary, marked: marked(mark.missing) }
    }

    /// The transaction was rolled back, or has changed nothing: the mark ends.
    pub async fn rolled_back(&self, mark: Mark) {
        let nonce = mark.nonce;
        // At no version: nothing is outdated by it. A marker of a stock memcached may be somebody else's, and stays.
        let ended = self.everywhere(&mark.keys, |kind, key, _| match kind {
            NodeKind::Versioned => Some(Request::Name { key, nonce, version: Version::ZERO }),
            NodeKind::Stock => None,
        });
        ended.await;
    }

    /// The version of a commit; waits for its epoch to be announced, for `epoch_wait` at most.
    pub async fn version_of(&self, commit: &Commit) -> Option<Version> {
        let late = Instant::now() + self.0.settings.epoch_wait;
        loop {
            if let Some(version) = self.0.epochs().version_of(commit) {
                return Some(version);
            }
            if Instant::now() >= late || !self.learn_epochs().await {
                return None;
            }
            if let Some(version) = self.0.epochs().version_of(commit) {
                return Some(version);
            }
            sleep(EPOCHS_POLL).await;
        }
    }

    /// Takes a list of epochs that the application has from elsewhere.
    pub fn set_epochs(&self, epochs: Epochs) {
        *self.0.epochs.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(epochs);
    }

    /// Reads the list of epochs anew; false if there is nobody to ask.
    async fn learn_epochs(&self) -> bool {
        for address in &self.0.settings.epochs {
            let page = timeout(self.0.settings.request_timeout, page(address)).await;
            let page = page.ok().and_then(Result::ok).unwrap_or_default();
            if let Some(Ok(epochs)) = body_of(&page).map(Epochs::parse) {
                self.set_epochs(epochs);
                return true;
            }
        }
        !self.0.settings.epochs.is_empty()
    }

    async fn name(&self, mark: Mark, version: Version, token: Token) -> Written {
        let nonce = mark.nonce;
        let missing = self
            .everywhere(&mark.keys, |kind, key, _| match kind {
                NodeKind::Versioned => Some(Request::Name { key, nonce, version }),
                NodeKind::Stock => Some(Request::Delete { key }),
            })
            .await;
        Written { token, marked: marked(missing.max(mark.missing)) }
    }

    /// Sends a request for each key to its owner in every cluster, all at once; how many were not done.
    async fn everywhere(
        &self,
        keys: &[Key],
        request: impl for<'b> Fn(NodeKind, &'b Key, Option<&'b Key>) -> Option<Request<'b>>,
    ) -> usize {
        let mut missing: usize = 0;
        let mut waiting: Vec<(NodeKind, Pending)> = Vec::new();
        // No adapter holds a borrow over the wait: whoever spawns this needs it to be `Send`.
        for cluster in &self.0.clusters {
            for key in keys {
                let Some(node) = cluster.owner(key) else { continue };
                let Ok(kind) = node.kind().await else {
                    missing = missing.saturating_add(1);
                    continue;
                };
                let marker = marker_of(key);
                match request(kind, key, marker.as_ref()).map(|request| node.send(&[request])) {
                    Some(Ok(pending)) => waiting.push((kind, pending)),
                    Some(Err(_)) => missing = missing.saturating_add(1),
                    None => {}
                }
            }
        }
        for (kind, pending) in waiting {
            let answers = pending.wait().await.unwrap_or_default();
            // A stock memcached says so of a key that is not there.
            let absent = kind == NodeKind::Stock && answers.first() == Some(&Answer::NotFound);
            let done = absent || answers.first() == Some(&Answer::Done);
            missing = missing.saturating_add(usize::from(!done));
        }
        missing
    }
}

fn marked(missing: usize) -> Marked {
    if missing == 0 { Marked::All } else { Marked::NotAll }
}

/// What `GET /epochs` answers, with its head.
async fn page(address: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    // HTTP/1.0: the answer ends with the connection, and comes in one piece.
    let request = format!("GET /epochs HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut page = Vec::new();
    let most = u64::try_from(EPOCHS_BYTES_MAX).unwrap_or(u64::MAX);
    stream.take(most).read_to_end(&mut page).await?;
    Ok(page)
}

/// The body of an answer with status 200.
pub fn body_of(page: &[u8]) -> Option<&[u8]> {
    let rest = page.strip_prefix(b"HTTP/1.")?;
    let status = rest.get(2..5).filter(|status| *status == b"200");
    status?;
    let at = rest.windows(4).position(|window| window == b"\r\n\r\n")?;
    rest.get(at.checked_add(4)?..)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applications spawn their tasks: a writer's whole course can go to another thread.
    #[tokio::test]
    async fn a_writer_can_be_spawned() {
        let nodes = vec![schemas::ring::RingNode { name: "127.0.0.1:1".to_owned(), weight: 1 }];
        let cluster = crate::Cluster { hashing: schemas::ring::Hashing::Ketama, nodes };
        let client = Client::new(crate::Settings::new(vec![cluster])).unwrap();
        let writer = tokio::spawn(async move {
            let key = Key::new(b"a".to_vec()).unwrap();
            let mark = client.mark(&[key]).await.unwrap();
            let missing = mark.missing();
            let gtid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
            let commit = Commit::mysql_newest(gtid, &format!("{gtid}:1-5")).unwrap();
            (missing, client.committed(mark, &commit).await.token)
        });
        let (missing, token) = writer.await.unwrap();
        assert_eq!((missing, token), (1, Token::Primary));
    }

    #[test]
    fn the_body_is_behind_the_head() {
        assert_eq!(body_of(b"HTTP/1.0 200 OK\r\na: b\r\n\r\n[]"), Some(&b"[]"[..]));
        for wrong in ["", "HTTP/1.1 503 No\r\n\r\n[]", "HTTP/1.1 200 OK\r\n", "HTTP/1."] {
            assert_eq!(body_of(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
