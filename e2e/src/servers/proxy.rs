//! [`Proxy`]: a TCP proxy in this process, whose weather a test makes: between an invalidator and a node, say.

use std::{io, net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until},
};

/// Many come at once. Where a queue is full, the kernel drops the end of a handshake, and who waits for a server's greeting
/// waits for ever.
const BACKLOG: u32 = 4096;
const READ_BYTES: usize = 64 << 10;
/// Reads that are on their way in one direction; then nothing more is read.
const ON_THEIR_WAY_MAX: usize = 256;

/// What happens to what passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weather {
    /// Nothing.
    #[default]
    Calm,
    /// It takes so long, in each direction.
    Slow(Duration),
    /// It waits, and comes when the weather is better: late, and all at once.
    Stalled(Way),
    /// It is lost, while both ends believe that they are connected; afterwards they are cut off.
    HalfOpen,
    /// Connections are closed, and new ones too.
    Cut,
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From who has connected.
    There,
    /// To who has connected.
    Back,
    Both,
}

impl Weather {
    fn stalls(self, way: Way) -> bool {
        matches!(self, Weather::Stalled(stalled) if stalled == way || stalled == Way::Both)
    }

    fn delay(self) -> Duration {
        if let Weather::Slow(delay) = self { delay } else { Duration::ZERO }
    }
}

/// See the module. It ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    weather: watch::Sender<Weather>,
    target: watch::Sender<String>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// In front of `target`, a `host:port`; in calm weather. To be called within a tokio runtime.
    pub fn start(target: String) -> Result<Proxy> {
        let listener = listen().context("listen")?;
        let address = listener.local_addr().context("listen")?.to_string();
        let (weather, felt) = watch::channel(Weather::Calm);
        let (target, aimed) = watch::channel(target);
        let task = tokio::spawn(accept(listener, aimed, felt));
        Ok(Proxy { address, weather, target, task })
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        let port = self.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        port.expect("an address of a socket ends with its port")
    }

    /// From now on it is in front of another `target`; connections to the former one are closed.
    pub fn lead_to(&self, target: String) {
        self.target.send_replace(target);
    }

    /// From now on, for connections that are there and those that come.
    pub fn make(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

fn listen() -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    socket.listen(BACKLOG)
}

async fn accept(
    listener: TcpListener,
    target: watch::Receiver<String>,
    weather: watch::Receiver<Weather>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let (target, weather) = (target.clone(), weather.clone());
                // A connection that breaks is what proxies are for.
                connections.spawn(async move { carry(client, target, weather).await.ok() });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, until one of its ends or the weather closes it.
async fn carry(
    mut client: TcpStream,
    mut target: watch::Receiver<String>,
    mut weather: watch::Receiver<Weather>,
) -> io::Result<()> {
    let now = *weather.borrow();
    if now == Weather::Cut {
        return Ok(());
    }
    let mut server = None;
    if now != Weather::HalfOpen {
        let address = target.borrow_and_update().clone();
        let mut connected = TcpStream::connect(address).await?;
        for socket in [&client, &connected] {
            socket.set_nodelay(true)?;
        }
        let (client_read, client_write) = client.split();
        let (server_read, server_write) = connected.split();
        let (there, back) = (weather.clone(), weather.clone());
        let storm = weather.wait_for(|now| matches!(now, Weather::Cut | Weather::HalfOpen));
        tokio::select! {
            biased;
            now = storm => {
                if now.is_ok_and(|now| *now == Weather::Cut) {
                    return Ok(());
                }
            }
            _ = target.changed() => return Ok(()),
            ended = pump(client_read, server_write, Way::There, there) => return ended,
            ended = pump(server_read, client_write, Way::Back, back) => return ended,
        }
        server = Some(connected);
    }
    drop(weather.wait_for(|now| *now != Weather::HalfOpen).await);
    drop((client, server));
    Ok(())
}

/// One direction; what was read is written in order, each part when its time has come.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    way: Way,
    weather: watch::Receiver<Weather>,
) -> io::Result<()> {
    let (send, mut parts) = mpsc::channel::<(Instant, Bytes)>(ON_THEIR_WAY_MAX);
    let mut felt = weather.clone();
    let read = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(READ_BYTES);
            if from.read_buf(&mut buffer).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            let due = Instant::now() + weather.borrow().delay();
            if send.send((due, buffer.split().freeze())).await.is_err() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
    };
    let write = async {
        while let Some((due, part)) = parts.recv().await {
            sleep_until(due).await;
            drop(felt.wait_for(|now| !now.stalls(way)).await);
            to.write_all(&part).await?;
        }
        Ok(())
    };
    tokio::try_join!(read, write).map(|((), ())| ())
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const SHORT: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(10);

    /// A server that says what it is told, a proxy, and a client.
    async fn stage() -> (Proxy, TcpStream) {
        let echo = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("listen");
        let target = echo.local_addr().expect("an address").to_string();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = echo.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = socket.split();
                    tokio::io::copy(&mut read, &mut write).await.ok()
                });
            }
        });
        let proxy = Proxy::start(target).expect("a proxy");
        let client = TcpStream::connect(proxy.address()).await.expect("connect");
        (proxy, client)
    }

    async fn hear(client: &mut TcpStream, expected: &[u8]) {
        let mut heard = vec![0; expected.len()];
        timeout(LONG, client.read_exact(&mut heard)).await.expect("in time").expect("an echo");
        assert_eq!(heard, expected);
    }

    async fn hears_nothing(client: &mut TcpStream) {
        let mut heard = [0; 1];
        let read = timeout(SHORT, client.read(&mut heard)).await;
        assert!(read.is_err(), "something came: {read:?}");
    }

    async fn is_closed(client: &mut TcpStream) {
        let mut heard = [0; 1];
        let read = timeout(LONG, client.read(&mut heard)).await.expect("in time");
        assert_eq!(read.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn what_waits_comes_later_and_in_order() {
        let (proxy, mut client) = stage().await;
        client.write_all(b"a").await.expect("send");
        hear(&mut client, b"a").await;
        for way in [Way::There, Way::Back, Way::Both] {
            proxy.make(Weather::Stalled(way));
            client.write_all(b"b").await.expect("send");
            hears_nothing(&mut client).await;
            client.write_all(b"c").await.expect("send");
            proxy.make(Weather::Calm);
            hear(&mut client, b"bc").await;
        }
        proxy.make(Weather::Slow(SHORT));
        let begin = Instant::now();
        client.write_all(b"d").await.expect("send");
        hear(&mut client, b"d").await;
        assert!(begin.elapsed() >= 2 * SHORT, "{:?}", begin.elapsed());
    }

    #[tokio::test]
    async fn what_is_lost_does_not_come() {
        let (proxy, mut client) = stage().await;
        client.write_all(b"a").await.expect("send");
        hear(&mut client, b"a").await;
        proxy.make(Weather::HalfOpen);
        let mut late = TcpStream::connect(proxy.address()).await.expect("connect");
        for socket in [&mut client, &mut late] {
            socket.write_all(b"b").await.expect("send");
            hears_nothing(socket).await;
        }
        proxy.make(Weather::Calm);
        for socket in [&mut client, &mut late] {
            is_closed(socket).await;
        }
        proxy.make(Weather::Cut);
        let mut refused = TcpStream::connect(proxy.address()).await.expect("connect");
        is_closed(&mut refused).await;
        proxy.make(Weather::Calm);
        let mut again = TcpStream::connect(proxy.address()).await.expect("connect");
        again.write_all(b"c").await.expect("send");
        hear(&mut again, b"c").await;
    }

    #[tokio::test]
    async fn another_target_closes_what_led_to_the_first() {
        let (proxy, mut client) = stage().await;
        let (other, _) = stage().await;
        client.write_all(b"a").await.expect("send");
        hear(&mut client, b"a").await;
        proxy.lead_to(other.address());
        is_closed(&mut client).await;
        let mut again = TcpStream::connect(proxy.address()).await.expect("connect");
        again.write_all(b"b").await.expect("send");
        hear(&mut again, b"b").await;
    }
}
