//! How late single gets are answered that are sent at a fixed rate, whether or not those before were answered.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::load::{self, CONNECTIONS, Round, THREADS};

/// What was sent and not answered yet.
struct Waiting {
    connection: usize,
    /// When it should have been sent.
    due: Instant,
    missing_bytes: usize,
}

/// Milliseconds from when a request is due until it is answered: the 99th percentile. The connections are spread over `addresses`.
pub(super) fn p99_ms(addresses: &[String], per_second: f64, length: Duration) -> Result<f64> {
    let step = Duration::from_secs_f64(THREADS as f64 / per_second);
    let clients: Vec<_> = (0..THREADS)
        .map(|number| {
            let addresses = addresses.to_vec();
            thread::spawn(move || client(&addresses, number, step, length))
        })
        .collect();
    let mut times = Histogram::<u64>::new(3).context("a histogram")?;
    for client in clients {
        let more = client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        times.add(more).context("add up times")?;
    }
    Ok(times.value_at_quantile(0.99) as f64 / 1e6)
}

/// Nanoseconds.
fn client(
    addresses: &[String],
    number: usize,
    step: Duration,
    length: Duration,
) -> Result<Histogram<u64>> {
    let mut streams = Vec::new();
    for at in 0..CONNECTIONS {
        let stream = load::connect(&addresses[at % addresses.len()])?;
        stream.set_nonblocking(true).context("connect to a server")?;
        streams.push(stream);
    }
    let rounds = load::rounds(load::Shape::Get, number as u64);
    let mut rounds = rounds.iter().cycle();
    let mut times = Histogram::<u64>::new(3).context("a histogram")?;
    let (mut free, mut waiting) = ((0..CONNECTIONS).collect::<VecDeque<_>>(), VecDeque::new());
    let begin = Instant::now();
    let mut due = begin;
    while begin.elapsed() < length {
        let is_due = Instant::now() >= due;
        // Without a free one it is sent late, and its time counts from when it was due.
        if let Some(connection) = is_due.then(|| free.pop_front()).flatten() {
            let Round { request, answer_bytes } = rounds.next().context("there are requests")?;
            streams[connection].write_all(request).context("send")?;
            waiting.push_back(Waiting { connection, due, missing_bytes: *answer_bytes });
            due += step;
        }
        answered(&mut streams, &mut waiting, &mut free, &mut times)?;
    }
    Ok(times)
}

/// Takes what has come.
fn answered(
    streams: &mut [TcpStream],
    waiting: &mut VecDeque<Waiting>,
    free: &mut VecDeque<usize>,
    times: &mut Histogram<u64>,
) -> Result<()> {
    let mut part = [0; 16 << 10];
    for at in (0..waiting.len()).rev() {
        let it = &mut waiting[at];
        let most = it.missing_bytes.min(part.len());
        match streams[it.connection].read(&mut part[..most]) {
            Ok(read) => {
                ensure!(read > 0, "a server hung up");
                it.missing_bytes -= read;
            }
            Err(err) if err.kind() == ErrorKind::WouldBlock => {}
            Err(err) => return Err(err).context("read an answer"),
        }
        if it.missing_bytes == 0 {
            times.record(it.due.elapsed().as_nanos() as u64).context("note a time")?;
            free.push_back(it.connection);
            waiting.remove(at);
        }
    }
    Ok(())
}
