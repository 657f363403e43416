//! A cache node that holds nothing and remembers every key that it was told to delete.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, BufWriter},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::Instant,
};

/// A node on loopback. Dropping it closes all connections.
pub(crate) struct Recorder {
    address: String,
    told: Arc<Mutex<Told>>,
    _tasks: JoinSet<()>,
}

/// What a recorder was told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// To delete.
    pub(crate) keys: BTreeSet<Vec<u8>>,
    /// Lines that say anything else that would change a cache.
    pub(crate) others: Vec<String>,
}

impl Recorder {
    pub(crate) async fn start() -> Recorder {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let told: Arc<Mutex<Told>> = Arc::default();
        let shared = Arc::clone(&told);
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let told = Arc::clone(&shared);
                connections.spawn(async move {
                    // It ends when the client goes, however that looks from here.
                    drop(serve(stream, &told, began).await);
                });
            }
        });
        Recorder { address, told, _tasks: tasks }
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    /// Whether it was told to delete `key`.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).keys.contains(key.as_bytes())
    }

    /// Everything so far.
    pub(crate) fn told(&self) -> Told {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(stream: TcpStream, told: &Mutex<Told>, began: Instant) -> io::Result<()> {
    let mut stream = BufReader::new(BufWriter::new(stream));
    let mut line = Vec::new();
    loop {
        line.clear();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let words: Vec<&[u8]> = line.trim_ascii_end().split(|&byte| byte == b' ').collect();
        let reply = answer(&words, told, began);
        stream.write_all(reply.as_bytes()).await?;
        // What was pipelined is answered in one go.
        if stream.buffer().is_empty() {
            stream.flush().await?;
        }
    }
}

fn answer(words: &[&[u8]], told: &Mutex<Told>, began: Instant) -> String {
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    let quiet = words.contains(&b"noreply".as_slice());
    let reply = match words {
        [b"delete", key, ..] => {
            told.keys.insert(key.to_vec());
            "NOT_FOUND\r\n".to_owned()
        }
        [b"md", key, flags @ ..] => {
            told.keys.insert(key.to_vec());
            let opaque = flags.iter().find(|flag| flag.starts_with(b"O"));
            let opaque = opaque.map(|flag| format!(" {}", String::from_utf8_lossy(flag)));
            format!("NF{}\r\n", opaque.unwrap_or_default())
        }
        [b"mn"] => "MN\r\n".to_owned(),
        [b"version"] => "VERSION 1.6.45\r\n".to_owned(),
        [b"stats", ..] => {
            let uptime = began.elapsed().as_secs();
            format!("STAT pid 1\r\nSTAT uptime {uptime}\r\nSTAT version 1.6.45\r\nEND\r\n")
        }
        [b"get" | b"gets", ..] => "END\r\n".to_owned(),
        _ => {
            let line = words.join(&b' ');
            told.others.push(String::from_utf8_lossy(&line).into_owned());
            "OK\r\n".to_owned()
        }
    };
    if quiet { String::new() } else { reply }
}
