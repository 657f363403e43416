//! [`Wire`]: a connection that sends bytes and reads everything that comes back for them.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) struct Wire {
    stream: TcpStream,
    asked: u64,
}

impl Wire {
    pub(crate) async fn connect(address: &str) -> Result<Wire> {
        let stream = TcpStream::connect(address).await.context("connect")?;
        stream.set_nodelay(true).context("connect")?;
        Ok(Wire { stream, asked: 0 })
    }

    /// Sends bytes that are whole commands, and returns what is answered.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<Vec<u8>> {
        self.asked += 1;
        // A miss that repeats its opaque ends every answer.
        let end = format!("EN Oend{}\r\n", self.asked);
        let marker = format!("mg end-of-answer Oend{}\r\n", self.asked);
        self.ask_with(request, &marker, &end).await
    }

    /// As [`Wire::ask`], with a marker that asks for no key.
    pub(crate) async fn ask_with_noop(&mut self, request: &[u8]) -> Result<Vec<u8>> {
        self.ask_with(request, "mn\r\n", "MN\r\n").await
    }

    async fn ask_with(&mut self, request: &[u8], marker: &str, end: &str) -> Result<Vec<u8>> {
        self.send(&[request, marker.as_bytes()].concat()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(end.as_bytes()) {
            let read = timeout(DEADLINE, self.stream.read_buf(&mut answer)).await;
            match read {
                Ok(Ok(0)) => bail!("closed after {}", String::from_utf8_lossy(&answer)),
                Ok(read) => read.context("read")?,
                Err(_) => bail!("no end after {}", String::from_utf8_lossy(&answer)),
            };
        }
        answer.truncate(answer.len() - end.len());
        Ok(answer)
    }

    /// Sends bytes, and returns as many as are expected back: for whoever may not ask for the marker.
    pub(crate) async fn answer(&mut self, request: &[u8], bytes: usize) -> String {
        self.send(request).await.expect("it is sent");
        let mut answer = vec![0; bytes];
        let read = timeout(DEADLINE, self.stream.read_exact(&mut answer)).await;
        read.expect("an answer in time").expect("an answer");
        String::from_utf8(answer).expect("text")
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        timeout(DEADLINE, self.stream.write_all(bytes)).await.context("write")?.context("write")
    }

    /// Breaks the connection off: the other side is told so, and what was on its way is lost.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().expect("an open socket");
    }

    /// Everything until the other side closes.
    pub(crate) async fn rest(&mut self) -> Result<Vec<u8>> {
        let mut rest = Vec::new();
        timeout(DEADLINE, self.stream.read_to_end(&mut rest))
            .await
            .context("read")?
            .context("read")?;
        Ok(rest)
    }
}
