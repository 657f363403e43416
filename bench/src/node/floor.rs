//! [`Floor`]: a server that reads what a client sends, writes as many bytes as the answer of a cache has, and does nothing else. What it
//! does for its processor time, no cache that is reached through the same sockets can do more.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::{Context, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::load::{self, Target};

/// With this argument the program is the server.
pub(super) const ARGUMENT: &str = "floor";
/// The longest answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A process of its own, so that its processor time can be told from that of the clients. It ends with this value.
#[derive(Debug)]
pub(super) struct Floor {
    child: Child,
    address: String,
}

impl Floor {
    /// Starts it with so many threads.
    pub(super) fn start(threads: &str) -> Result<Floor> {
        let program = std::env::current_exe().context("find this program")?;
        let mut command = Command::new(program);
        command.args([ARGUMENT, threads]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("start a server that does nothing")?;
        let mut address = String::new();
        let out = child.stdout.take().context("it has no output")?;
        BufReader::new(out).read_line(&mut address).context("read where it listens")?;
        Ok(Floor { child, address: address.trim().to_owned() })
    }

    pub(super) fn target(&self) -> Target {
        Target { address: self.address.clone(), pid: self.child.id() }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // It ends when its input does; this waits for it.
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}

/// The server. Says where it listens, and serves until its input ends.
#[expect(clippy::print_stdout, reason = "this is how it says where it listens")]
pub(super) fn serve(threads: usize) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").context("listen")?;
    println!("{}", listener.local_addr().context("listen")?);
    let workers: Vec<Arc<Worker>> = (0..threads).map(|_| Worker::start()).collect::<Result<_>>()?;
    thread::spawn(move || {
        for (at, client) in listener.incoming().enumerate() {
            let taken = client.context("accept").and_then(|it| workers[at % threads].take(it));
            taken.expect("a client is accepted");
        }
    });
    std::io::stdin().read_to_end(&mut Vec::new()).context("wait for the end")?;
    Ok(())
}

/// A thread with its clients.
#[derive(Debug)]
struct Worker {
    ready: Epoll,
    clients: Mutex<Vec<Arc<TcpStream>>>,
}

impl Worker {
    fn start() -> Result<Arc<Worker>> {
        let ready = Epoll::new(EpollCreateFlags::empty()).context("make an epoll")?;
        let worker = Arc::new(Worker { ready, clients: Mutex::default() });
        let running = Arc::clone(&worker);
        thread::spawn(move || running.run().expect("clients are served"));
        Ok(worker)
    }

    fn take(&self, client: TcpStream) -> Result<()> {
        client.set_nodelay(true).context("set up a client")?;
        client.set_nonblocking(true).context("set up a client")?;
        let client = Arc::new(client);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.push(Arc::clone(&client));
        let event = EpollEvent::new(EpollFlags::EPOLLIN, clients.len() as u64 - 1);
        self.ready.add(&*client, event).context("watch a client")
    }

    fn run(&self) -> Result<()> {
        let answer = vec![b'v'; ANSWER_BYTES_MAX];
        let (mut events, mut request) = ([EpollEvent::empty(); 64], vec![0; 1 << 16]);
        loop {
            let count = self.ready.wait(&mut events, EpollTimeout::NONE).context("wait")?;
            for event in &events[..count] {
                let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
                let client = Arc::clone(&clients[event.data() as usize]);
                drop(clients);
                match (&*client).read(&mut request) {
                    Ok(4..) => answer_with(&client, &answer[..load::floor_bytes(&request)]),
                    _ => self.ready.delete(&*client).context("let go of a client")?,
                }
            }
        }
    }
}

/// A client that has left is found out when it is read from.
fn answer_with(mut client: &TcpStream, answer: &[u8]) {
    let mut sent = 0;
    while sent < answer.len() {
        match client.write(&answer[sent..]) {
            Ok(bytes) => sent += bytes,
            Err(err) if err.kind() == ErrorKind::WouldBlock => thread::yield_now(),
            Err(_) => return,
        }
    }
}
