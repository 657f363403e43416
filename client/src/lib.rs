//! Reads and writes through cache nodes without serving what is stale.
//!
//! A look-aside cache is easily filled with what is not true any more: by a reader who was slow, by a replica that lags, by a
//! transaction that saw its own changes and then rolled back. Nodes of mcsqueal refuse such fills, if their clients tell them
//! enough. This library is such a client. The pages `docs/client.md` and `docs/which-transaction-may-fill.md` say why each
//! step is there.
//!
//! # Reading
//!
//! [`Client::get`] asks the node of a key. If the value is not there, one reader gets the right to fill it, a lease; the
//! others wait for him. His function is told where to read, and what it finds is stored with the lease.
//!
//! ```
//! use client::{Client, Database, Fetched, Isolation, Place, Read, Reading, Token};
//! use schemas::key::Key;
//! # struct Pools;
//! # impl Pools { async fn name_of(&self, _: Database, _: u32) -> Result<Option<String>, std::io::Error> { Ok(None) } }
//!
//! async fn name_of(client: &Client, pools: &Pools, id: u32, token: Option<Token>) -> Result<Option<String>, std::io::Error> {
//!     let key = Key::new(format!("user:{id}")).expect("a number makes a key");
//!     // One statement in autocommit mode: what it reads is committed, and newer than the lease.
//!     let session = Reading::Autocommit(Isolation::RepeatableRead);
//!     let read = Read::new(session).with_token(token);
//!     let got = client.get(&key, read, |place: Place| async move {
//!         let name = pools.name_of(place.database, id).await?;
//!         // That there is none is cached, too.
//!         Ok::<_, std::io::Error>(name.map_or_else(Fetched::absent, Fetched::found))
//!     });
//!     let value = got.await?.value;
//!     Ok(value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
//! }
//! ```
//!
//! [`Reading`] is how a fill is refused that could be wrong: a session that is unfit gets no lease, its value is its own, and
//! [`Stored::Unfit`] says why. Who finds that out while he reads says so with [`Fetched::read_in`].
//!
//! # Writing
//!
//! A writer marks the keys before his transaction, and names its version after the commit. In between and until the replicas
//! have it, readers of these keys in the region go to the primary. The [`Token`] that he gets is for his user: a read
//! with it sees the write, in any region.
//!
//! ```
//! use client::{Client, Commit, Token};
//! use schemas::key::Key;
//! # struct Session;
//! # impl Session { async fn rename(&mut self) -> Result<(), std::io::Error> { Ok(()) } async fn last_gtid(&mut self) -> (String, String) { Default::default() } }
//!
//! async fn rename(client: &Client, session: &mut Session, key: Key) -> Token {
//!     let Ok(mark) = client.mark(&[key]).await else { return Token::Primary };
//!     if session.rename().await.is_err() {
//!         // It may be committed all the same: the mark stands until its time has passed.
//!         return client.untold(mark).await.token;
//!     }
//!     // On MariaDB: SELECT @@last_gtid, @@global.gtid_binlog_pos.
//!     let (gtid, executed) = session.last_gtid().await;
//!     match Commit::mariadb(&gtid, &executed) {
//!         Ok(commit) => client.committed(mark, &commit).await.token,
//!         Err(_) => client.untold(mark).await.token,
//!     }
//! }
//! ```
//!
//! # What it is not
//!
//! No object mapper, no pool of databases, no cache inside the process. It never retries a write. Connections to nodes are
//! plain TCP.
//!
//! # Modules
//!
//! [`cycle`] and [`reading`] are the decisions, without I/O and clock; [`wire`] and [`token`] the forms on the wire;
//! [`client`] and [`marks`] carry it out; [`commit`] turns what a database says of a transaction into a version; `mysql`, behind
//! the feature `mysql`, asks a connection of `mysql_async`.

pub mod client;
pub mod commit;
pub mod cycle;
pub mod marks;
#[cfg(feature = "mysql")]
pub mod mysql;
mod node;
pub mod reading;
pub mod route;
pub mod settings;
pub mod token;
pub mod wire;

pub use self::{
    client::{Client, ClientError, Fetched, Got, Origin, Read, Stored},
    commit::{Commit, CommitError, Epochs, EpochsError},
    cycle::{Database, OldValues, Patience, Place},
    marks::{Mark, Marked, TooManyKeys, Written},
    node::{Node, NodeError, Pending},
    reading::{Isolation, Reading, Snapshot, Unfit, Writes},
    settings::{Cluster, NoCluster, Settings},
    token::{NoToken, Token},
    wire::Age,
};
