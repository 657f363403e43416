//! How a newer process of a node takes over from the one that runs: listening sockets and a copy of what is stored go through a Unix
//! socket, as descriptors; the copy is in memory that both have.
//!
//! ```text
//! newer                          older
//! "take over 1\n"            ->
//!                            <-  "copy BYTES\n", then for each socket "tcp\n" or "unix PATH\n", then "\n", with the descriptors
//! "loaded\n"                 ->      it stops, if it has not stopped before it copied
//!                            <-  "yours\n": it does not serve any more
//! ```
//!
//! A process that goes away in the middle has changed nothing: the older one goes on, or the newer one has not begun. Only a process
//! of the same user, or of root, is answered.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use cache_node::server::Sockets;
use rustix::{
    cmsg_space,
    fs::{MemfdFlags, memfd_create},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};
use tokio::net::{UnixListener, unix::UCred};

/// What may be sent along with one message.
const DESCRIPTORS_MAX: usize = 200;
/// The list of what is sent.
const LIST_BYTES_MAX: usize = 64 << 10;
const LINE_BYTES_MAX: u64 = 100;
/// The other one copies, or reads, everything that is stored.
const PATIENCE: Duration = Duration::from_secs(900);

const TAKE: &str = "take over 1";
const LOADED: &str = "loaded";
const YOURS: &str = "yours";

/// What the newer process has got.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) memory: File,
    pub(crate) bytes: u64,
    pub(crate) sockets: Sockets,
    older: UnixStream,
}

/// Asks the process that listens there; `None` if there is none.
pub(crate) fn take(path: &Path) -> io::Result<Option<Taken>> {
    let mut older = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(err)
            if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
        {
            return Ok(None);
        }
        Err(err) => return Err(err),
    };
    patiently(&older)?;
    writeln!(older, "{TAKE}")?;
    let (list, descriptors) = receive(&older)?;
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or_else(|| io::Error::other("a descriptor is missing"));
    let (mut memory, mut bytes, mut sockets) = (None, 0, Sockets::default());
    for line in list.lines().take_while(|line| !line.is_empty()) {
        match line.split_once(' ') {
            Some(("copy", count)) => {
                bytes = count.parse().map_err(io::Error::other)?;
                memory = Some(File::from(next()?));
            }
            Some(("unix", path)) => sockets.add_unix(PathBuf::from(path), next()?)?,
            None if line == "tcp" => sockets.add_tcp(next()?)?,
            _ => return Err(io::Error::other(format!("it sends {line:?}"))),
        }
    }
    let memory = memory.ok_or_else(|| io::Error::other("it sends no copy"))?;
    Ok(Some(Taken { memory, bytes, sockets, older }))
}

/// The newer process is ready; returns when the older one does not serve any more.
pub(crate) fn finish(mut older: UnixStream) -> io::Result<()> {
    writeln!(older, "{LOADED}")?;
    expect(&older, YOURS)
}

impl Taken {
    /// What is to be said to the older process; see [`finish`].
    pub(crate) fn split(self) -> (File, u64, Sockets, UnixStream) {
        (self.memory, self.bytes, self.sockets, self.older)
    }
}

/// Listens for a newer process.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        let taken = format!(
            "another process listens on {}: --take-over takes over from it",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::AddrInUse, taken));
    }
    match std::fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Waits for a newer process that asks.
pub(crate) async fn asked(listener: &UnixListener) -> io::Result<UnixStream> {
    let (stream, _) = listener.accept().await?;
    if !may(&stream.peer_cred()?) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "another user asks"));
    }
    let newer = stream.into_std()?;
    newer.set_nonblocking(false)?;
    newer.set_read_timeout(Some(Duration::from_secs(5)))?;
    expect(&newer, TAKE)?;
    patiently(&newer)?;
    Ok(newer)
}

fn may(other: &UCred) -> bool {
    let ours = nix::unistd::geteuid();
    other.uid() == 0 || other.uid() == ours.as_raw()
}

/// Memory that another process can have too.
pub(crate) fn memory() -> io::Result<File> {
    Ok(File::from(memfd_create("mcsqueal-handover", MemfdFlags::CLOEXEC)?))
}

/// Gives a copy and the sockets to the newer process; returns when it has read the copy.
pub(crate) fn give(
    newer: &UnixStream,
    memory: &File,
    bytes: u64,
    sockets: &Sockets,
) -> io::Result<()> {
    let mut list = format!("copy {bytes}\n");
    let mut descriptors = vec![memory.as_fd()];
    for listener in sockets.tcp() {
        list.push_str("tcp\n");
        descriptors.push(listener.as_fd());
    }
    for (path, listener) in sockets.unix() {
        list.push_str(&format!("unix {}\n", path.display()));
        descriptors.push(listener.as_fd());
    }
    list.push('\n');
    send(newer, list.as_bytes(), &descriptors)?;
    expect(newer, LOADED)
}

/// The newer process may serve now.
pub(crate) fn yours(mut newer: UnixStream) -> io::Result<()> {
    writeln!(newer, "{YOURS}")
}

fn patiently(stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

fn expect(stream: &UnixStream, word: &str) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut line)?;
    match line.trim_end() {
        said if said == word => Ok(()),
        "" => Err(io::ErrorKind::UnexpectedEof.into()),
        said => Err(io::Error::other(format!("the other process says {said:?}, not {word:?}"))),
    }
}

fn send(stream: &UnixStream, list: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if descriptors.len() > DESCRIPTORS_MAX || list.len() > LIST_BYTES_MAX {
        return Err(io::Error::other("there are too many sockets to hand over"));
    }
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut along = SendAncillaryBuffer::new(&mut space);
    if !along.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("there are too many sockets to hand over"));
    }
    // They go with the first byte.
    let sent = sendmsg(stream, &[IoSlice::new(list)], &mut along, SendFlags::NOSIGNAL)?;
    let mut stream = stream;
    stream.write_all(list.get(sent..).unwrap_or_default())
}

/// A list that ends with an empty line, and the descriptors that came along.
fn receive(stream: &UnixStream) -> io::Result<(String, Vec<OwnedFd>)> {
    let (mut list, mut descriptors) = (Vec::new(), Vec::new());
    let mut buffer = [0; 4096];
    while !list.ends_with(b"\n\n") {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut along = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = recvmsg(stream, &mut [IoSliceMut::new(&mut buffer)], &mut along, flags)?;
        for message in along.drain() {
            if let RecvAncillaryMessage::ScmRights(came) = message {
                descriptors.extend(came);
            }
        }
        if got.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        list.extend_from_slice(&buffer[..got.bytes]);
        if list.len() > LIST_BYTES_MAX {
            return Err(io::Error::other("the other process sends no list"));
        }
    }
    Ok((String::from_utf8(list).map_err(io::Error::other)?, descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_a_copy_reach_the_newer_process() {
        let (older, newer) = UnixStream::pair().expect("sockets");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut sockets = Sockets::default();
        sockets.keep(&listener).expect("a handle");
        drop(listener);
        let mut copy = memory().expect("memory");
        copy.write_all(b"what is stored").expect("room");
        let gives = std::thread::spawn(move || {
            expect(&older, TAKE).expect("it asks");
            let bytes = copy.metadata().expect("its length").len();
            give(&older, &copy, bytes, &sockets).expect("it takes");
            yours(older)
        });
        let mut asking = newer;
        writeln!(asking, "{TAKE}").expect("it is there");
        let (list, descriptors) = receive(&asking).expect("a list");
        assert_eq!((list.as_str(), descriptors.len()), ("copy 14\ntcp\n\n", 2));
        let mut got = Sockets::default();
        got.add_tcp(descriptors.into_iter().nth(1).expect("a socket")).expect("a listener");
        assert!(got.take(address).is_some());
        finish(asking).expect("it says that it does not serve");
        gives.join().expect("no panic").expect("it has said so");
    }

    #[test]
    fn who_says_something_else_gets_nothing() {
        for said in ["", "take over 2\n", "GET / HTTP/1.1\r\n\r\n"] {
            let (older, mut newer) = UnixStream::pair().expect("sockets");
            newer.write_all(said.as_bytes()).expect("it is there");
            drop(newer);
            assert!(expect(&older, TAKE).is_err(), "{said:?}");
        }
        assert!(take(Path::new("/nonexistent/socket")).expect("that is no error").is_none());
    }
}
