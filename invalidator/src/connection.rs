//! One connection to a memcached node: pipelined requests, answers in order.
//!
//! Plain answers do not say which request they belong to. So each batch is followed by a `version`, and its answers
//! count only once the version stands exactly behind them: a line too many or too few is noticed before any answer
//! near it is believed.

use std::{collections::VecDeque, io, time::Duration};

use protocol::{
    control::wire::Malformed,
    reply::{self, DecodeError, LINE_BYTES_MAX, Reply},
    request::Request,
};
use tokio::time::timeout;

use crate::{
    lane,
    settings::{ANSWER_DEADLINE, RECEIVE_BYTES_MAX},
    socket::Socket,
};

const _: () = assert!(LINE_BYTES_MAX <= RECEIVE_BYTES_MAX);

/// Why a connection ended. What was not answered on it is sent again on the next.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error("connect")]
    Connect(#[source] io::Error),
    #[error("the node does not answer within {0:?}")]
    Deadline(Duration),
    #[error("the node closed the connection")]
    Closed,
    #[error("talk to the node")]
    Io(#[from] io::Error),
    #[error("understand the node")]
    Decode(#[from] DecodeError),
    #[error("understand the node")]
    Malformed(#[from] Malformed),
    #[error("the node sends {RECEIVE_BYTES_MAX} bytes that are no answer")]
    Endless,
    #[error("the node refused: {0}")]
    Refused(String),
    #[error("the node answered {answer} to {request}")]
    OutOfStep { request: &'static str, answer: String },
}

/// A request on its way, by the answers that it can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Delete,
    Flush,
    Version,
}

/// What came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Whole answers, counted or not: a sign of life.
    pub(crate) replies: usize,
    /// Requests of the lane that are done, beyond doubt.
    pub(crate) done: usize,
}

/// A connection that has shown that memcached is at its other end.
pub(crate) struct Connection {
    socket: Socket,
    expected: VecDeque<Expected>,
    /// Answers since the last version; they count when the next one is there.
    unproven: usize,
}

impl Connection {
    /// Connects to `host:port`, whose name is looked up anew each time, and asks for the version.
    pub(crate) async fn open(address: &str) -> Result<Connection, ConnectionError> {
        let socket = Socket::open(address, None).await?;
        let mut connection = Connection { socket, expected: VecDeque::new(), unproven: 0 };
        connection.queue(&Request::Version);
        let greeting = async {
            while connection.is_waiting() {
                connection.turn().await?;
                connection.hear()?;
            }
            Ok(())
        };
        let greeted = timeout(ANSWER_DEADLINE, greeting).await;
        greeted.unwrap_or(Err(ConnectionError::Deadline(ANSWER_DEADLINE)))?;
        Ok(connection)
    }

    /// Adds a batch of a lane's requests to what is to be written.
    pub(crate) fn queue_batch(&mut self, requests: &[lane::Request]) {
        if requests.is_empty() {
            return;
        }
        for request in requests {
            match request {
                lane::Request::Delete(key) => self.queue(&Request::Delete { key }),
                lane::Request::Flush => self.queue(&Request::FlushAll),
            }
        }
        self.queue(&Request::Version);
    }

    fn queue(&mut self, request: &Request<'_>) {
        request.encode(&mut self.socket.output);
        self.expected.push_back(match request {
            Request::Delete { .. } => Expected::Delete,
            Request::FlushAll => Expected::Flush,
            Request::Version | Request::Get { .. } | Request::Set { .. } | Request::Stats => {
                Expected::Version
            }
        });
    }

    /// Whether the node owes an answer.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.expected.is_empty()
    }

    /// See [`Socket::turn`].
    pub(crate) async fn turn(&mut self) -> Result<(), ConnectionError> {
        self.socket.turn().await
    }

    /// Takes the answers out of the bytes that were read. An answer that does not fit ends the connection.
    pub(crate) fn hear(&mut self) -> Result<Heard, ConnectionError> {
        let mut heard = Heard::default();
        while let Some(reply) = reply::decode(&mut self.socket.input)? {
            heard.replies += 1;
            match (self.expected.pop_front(), reply) {
                (Some(Expected::Delete), Reply::Deleted | Reply::NotFound)
                | (Some(Expected::Flush), Reply::Ok) => self.unproven += 1,
                (Some(Expected::Version), Reply::Version(_)) => {
                    heard.done += std::mem::take(&mut self.unproven);
                }
                (Some(_), Reply::Error(text)) => return Err(ConnectionError::Refused(text)),
                (expected, reply) => return Err(out_of_step(expected, &reply)),
            }
        }
        // Only a value can be so long, and nobody asked for one.
        if self.socket.input.len() >= RECEIVE_BYTES_MAX {
            return Err(ConnectionError::Endless);
        }
        Ok(heard)
    }
}

fn out_of_step(expected: Option<Expected>, reply: &Reply) -> ConnectionError {
    let request = match expected {
        Some(Expected::Delete) => "a delete",
        Some(Expected::Flush) => "flush_all",
        Some(Expected::Version) => "version",
        None => "nothing",
    };
    let mut answer = format!("{reply:?}");
    if let Some((end, _)) = answer.char_indices().nth(100) {
        answer.truncate(end);
    }
    ConnectionError::OutOfStep { request, answer }
}
