//! [`Sockets`]: listening sockets that go from a server to the one after it, in this process or another, so that nobody who connects in
//! between is refused.

use std::{
    io,
    net::SocketAddr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
};

/// Open sockets, by where they listen.
#[derive(Debug, Default)]
pub struct Sockets {
    tcp: Vec<(SocketAddr, std::net::TcpListener)>,
    unix: Vec<(PathBuf, UnixListener)>,
}

impl Sockets {
    /// A socket that listens on an address.
    pub fn add_tcp(&mut self, socket: OwnedFd) -> io::Result<()> {
        let listener = std::net::TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        self.tcp.push((listener.local_addr()?, listener));
        Ok(())
    }

    /// A socket in the file system.
    pub fn add_unix(&mut self, path: PathBuf, socket: OwnedFd) -> io::Result<()> {
        let listener = UnixListener::from(socket);
        listener.set_nonblocking(true)?;
        self.unix.push((path, listener));
        Ok(())
    }

    /// Another handle of a socket that listens on an address.
    pub fn keep(&mut self, listener: &impl AsFd) -> io::Result<()> {
        self.add_tcp(listener.as_fd().try_clone_to_owned()?)
    }

    /// Likewise of a socket in the file system.
    pub fn keep_unix(&mut self, path: &Path, listener: &impl AsFd) -> io::Result<()> {
        self.add_unix(path.to_owned(), listener.as_fd().try_clone_to_owned()?)
    }

    /// The socket that listens there, if there is one.
    pub fn take(&mut self, address: SocketAddr) -> Option<std::net::TcpListener> {
        let at = self.tcp.iter().position(|(of, _)| *of == address)?;
        Some(self.tcp.swap_remove(at).1)
    }

    pub(super) fn take_unix(&mut self, path: &Path) -> Option<UnixListener> {
        let at = self.unix.iter().position(|(of, _)| of == path)?;
        Some(self.unix.swap_remove(at).1)
    }

    /// All of them, to be handed on.
    pub fn tcp(&self) -> impl Iterator<Item = &std::net::TcpListener> {
        self.tcp.iter().map(|(_, listener)| listener)
    }

    /// Likewise.
    pub fn unix(&self) -> impl Iterator<Item = (&Path, &UnixListener)> {
        self.unix.iter().map(|(path, listener)| (path.as_path(), listener))
    }
}
