//! The writing half of a connection, on either side.

use std::io;

use bytes::BytesMut;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};

use super::ALIVE_INTERVAL;

/// Writes frames as they come, and `alive` while none does. Ends when nobody has anything to say any more.
pub(super) async fn say(
    mut socket: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<BytesMut>,
    alive: &[u8],
) -> io::Result<()> {
    loop {
        match timeout(ALIVE_INTERVAL, frames.recv()).await {
            Ok(Some(frame)) => socket.write_all(&frame).await?,
            Ok(None) => return Ok(()),
            Err(_) => socket.write_all(alive).await?,
        }
        // What has come meanwhile goes with it.
        while let Ok(frame) = frames.try_recv() {
            socket.write_all(&frame).await?;
        }
        socket.flush().await?;
    }
}

/// The other side speaks another language.
pub(super) fn senseless(err: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, err)
}

/// Why a connection is given up.
pub(super) fn given_up(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, why)
}
