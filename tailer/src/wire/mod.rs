//! The connection that carries a dump: logs in, asks, and reads packets as they are.
//!
//! `mysql_async` hands out a dump only through its decoder, which unpacks compressed transactions whole and panics on
//! truncated events. So the dump has a connection of its own, which is small, because it comes second: the account has
//! logged in through `mysql_async` a moment before, and the server knows its password.
//!
//! ```text
//! packet = length:3 sequence:1 payload          ; little-endian; a length of 2^24 - 1 says that another one follows
//! ```

use std::{path::Path, time::Duration};

use binlog::dump::{ERR, OK, PACKET_FULL, PACKET_HEADER, packet_length};
use bytes::{Buf, BytesMut};
use mysql_async::Error;
use mysql_common::{
    constants::CapabilityFlags, io::ParseBuf, packets::ErrPacket, proto::MySerialize,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{settings::Settings, source::SourceError};

mod buffers;
mod login;
mod tls;

pub(crate) use buffers::Buffers;

/// Longest answer to a question that is no dump.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// What is read from the socket at once: small enough to stay in a core's cache until it is decoded.
const READ_BYTES: usize = 64 << 10;
/// COM_QUERY.
const QUERY: u8 = 3;

/// TCP, or TLS over TCP.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// See the module.
pub(crate) struct Wire {
    socket: Box<dyn Duplex>,
    buffer: BytesMut,
    sequence: u8,
    capabilities: CapabilityFlags,
}

impl Wire {
    /// Connects and logs in.
    pub(crate) async fn connect(
        settings: &Settings,
        deadline: Duration,
    ) -> Result<Wire, SourceError> {
        let connecting = async {
            let address = (settings.address.host.as_str(), settings.address.port);
            let socket = TcpStream::connect(address).await.map_err(lost)?;
            socket.set_nodelay(true).map_err(lost)?;
            login::login(socket, settings).await
        };
        timeout(deadline, connecting).await.map_err(|_| SourceError::Silent(deadline))?
    }

    /// Goes on in TLS.
    async fn encrypted(mut self, host: &str, ca_file: Option<&Path>) -> Result<Wire, SourceError> {
        if !self.buffer.is_empty() {
            return Err(SourceError::Answer("bytes before TLS that nobody asked for".to_owned()));
        }
        self.socket = Box::new(tls::encrypt(self.socket, host, ca_file).await?);
        Ok(self)
    }

    fn new(socket: TcpStream) -> Wire {
        Wire {
            socket: Box::new(socket),
            buffer: BytesMut::new(),
            sequence: 0,
            capabilities: CapabilityFlags::empty(),
        }
    }

    /// Runs a statement that returns no rows.
    pub(crate) async fn run(&mut self, statement: &str) -> Result<(), SourceError> {
        let mut command = vec![QUERY];
        command.extend_from_slice(statement.as_bytes());
        self.ask_bytes(&command).await?;
        self.ok().await
    }

    /// Sends a command that is answered with OK.
    pub(crate) async fn command(&mut self, command: &impl MySerialize) -> Result<(), SourceError> {
        self.ask(command).await?;
        self.ok().await
    }

    /// Sends a command.
    pub(crate) async fn ask(&mut self, command: &impl MySerialize) -> Result<(), SourceError> {
        let mut bytes = Vec::new();
        command.serialize(&mut bytes);
        self.ask_bytes(&bytes).await
    }

    /// Sends a command that is written out.
    pub(crate) async fn ask_bytes(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        self.sequence = 0;
        self.send(bytes).await
    }

    async fn ok(&mut self) -> Result<(), SourceError> {
        let answer = self.receive().await?;
        match answer.first() {
            Some(&OK) => Ok(()),
            _ => Err(SourceError::Answer("an answer that is neither OK nor an error".to_owned())),
        }
    }

    /// Reads whatever has come into `buffer`; 0 bytes: the connection is closed.
    pub(crate) async fn fill(&mut self, buffer: &mut BytesMut) -> Result<usize, SourceError> {
        if !self.buffer.is_empty() {
            // What came with the last answer.
            buffer.extend_from_slice(&self.buffer.split());
            return Ok(buffer.len());
        }
        buffer.reserve(READ_BYTES);
        self.socket.read_buf(buffer).await.map_err(lost)
    }

    async fn send(&mut self, payload: &[u8]) -> Result<(), SourceError> {
        let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() < PACKET_FULL);
        let length =
            length.ok_or_else(|| SourceError::Answer("a question is too long".to_owned()))?;
        let [a, b, c, _] = length.to_le_bytes();
        let mut packet = vec![a, b, c, self.sequence];
        packet.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.write_all(&packet).await.map_err(lost)?;
        self.socket.flush().await.map_err(lost)
    }

    /// The next packet; an error that the server says is one here too.
    async fn receive(&mut self) -> Result<BytesMut, SourceError> {
        loop {
            if let Some(length) = packet_length(&self.buffer) {
                if length > ANSWER_BYTES_MAX {
                    return Err(SourceError::Answer("an answer is too long".to_owned()));
                }
                if self.buffer.len() >= length.saturating_add(PACKET_HEADER) {
                    self.sequence = self.buffer.get(3).copied().unwrap_or_default().wrapping_add(1);
                    self.buffer.advance(PACKET_HEADER);
                    let packet = self.buffer.split_to(length);
                    return match packet.first() {
                        Some(&ERR) => Err(self.error(&packet)),
                        _ => Ok(packet),
                    };
                }
            }
            if self.socket.read_buf(&mut self.buffer).await.map_err(lost)? == 0 {
                return Err(SourceError::Ended);
            }
        }
    }

    /// What an error packet says.
    pub(crate) fn error(&self, packet: &[u8]) -> SourceError {
        match ParseBuf(packet).parse::<ErrPacket<'_>>(self.capabilities) {
            Ok(ErrPacket::Error(error)) => {
                let state = error.sql_state_ref().map(|state| state.as_str().into_owned());
                Error::Server(mysql_async::ServerError {
                    code: error.error_code(),
                    message: error.message_str().into_owned(),
                    state: state.unwrap_or_default(),
                })
                .into()
            }
            _ => SourceError::Answer("an error that cannot be read".to_owned()),
        }
    }
}

fn lost(error: std::io::Error) -> SourceError {
    Error::from(error).into()
}
