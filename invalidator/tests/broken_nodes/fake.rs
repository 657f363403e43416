//! A memcached that misbehaves: the next connections as it was told, all later ones well.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

/// What a connection does wrong, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Says this before it was asked anything, and then works.
    Greeting(&'static [u8]),
    /// Answers a delete with this, and does not delete.
    Instead(&'static [u8]),
    /// Deletes, and says this after its answer.
    Besides(&'static [u8]),
    /// Answers a delete with this, without deleting, and falls silent; the connection stays.
    Stall(&'static [u8]),
    /// Closes before it answers a delete; it may have deleted.
    Close(Executed),
    /// Answers a delete with a value that has no end.
    Endless,
}

/// Whether a request was done before the connection closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Executed {
    Yes,
    No,
}

/// The number of the delete, in its connection, at which a fault shows.
const FAULT_AT: usize = 6;

/// When each key was really deleted.
pub(crate) type Deletes = BTreeMap<String, Vec<Instant>>;

/// A running node. It ends with the runtime of its test.
pub(crate) struct Fake {
    pub(crate) address: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Of the connections to come.
    faults: Mutex<VecDeque<Fault>>,
    deletes: Mutex<Deletes>,
}

impl Fake {
    pub(crate) async fn start(faults: &[Fault]) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let state = Arc::new(State::default());
        lock(&state.faults).extend(faults);
        tokio::spawn(accept(listener, Arc::clone(&state)));
        Fake { address, state }
    }

    pub(crate) fn deletes(&self) -> Deletes {
        lock(&self.state.deletes).clone()
    }

    /// Faults that have not shown yet.
    pub(crate) fn faults_left(&self) -> usize {
        lock(&self.state.faults).len()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A lane has one connection at a time.
async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let fault = lock(&state.faults).pop_front();
        // How a connection ends is the lane's business.
        drop(serve(stream, fault, &state).await);
    }
}

async fn serve(stream: TcpStream, fault: Option<Fault>, state: &State) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    if let Some(Fault::Greeting(bytes)) = fault {
        stream.write_all(bytes).await?;
    }
    let (mut line, mut deletes) = (String::new(), 0);
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["version"] => stream.write_all(b"VERSION 1.6.0\r\n").await?,
            ["delete", key] => {
                deletes += 1;
                if let Some(fault) = fault.filter(|_| deletes == FAULT_AT) {
                    misbehave(&mut stream, fault, key, state).await?;
                } else {
                    delete(key, state);
                    stream.write_all(b"DELETED\r\n").await?;
                }
            }
            _ => panic!("a lane does not ask for {line:?}"),
        }
    }
}

/// An error ends the connection.
async fn misbehave(
    stream: &mut BufReader<TcpStream>,
    fault: Fault,
    key: &str,
    state: &State,
) -> io::Result<()> {
    match fault {
        Fault::Greeting(_) => {
            delete(key, state);
            stream.write_all(b"DELETED\r\n").await
        }
        Fault::Instead(bytes) => stream.write_all(bytes).await,
        Fault::Besides(bytes) => {
            delete(key, state);
            stream.write_all(b"DELETED\r\n").await?;
            stream.write_all(bytes).await
        }
        Fault::Stall(bytes) => {
            stream.write_all(bytes).await?;
            // Until the lane gives us up.
            while stream.read_u8().await.is_ok() {}
            Err(io::ErrorKind::TimedOut.into())
        }
        Fault::Close(executed) => {
            if executed == Executed::Yes {
                delete(key, state);
            }
            Err(io::ErrorKind::ConnectionAborted.into())
        }
        Fault::Endless => {
            stream.write_all(b"VALUE key 0 1000000000\r\n").await?;
            loop {
                stream.write_all(&[b'x'; 1000]).await?;
                sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

fn delete(key: &str, state: &State) {
    lock(&state.deletes).entry(key.to_owned()).or_default().push(Instant::now());
}
