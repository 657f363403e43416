//! Just enough HTTP to read `/metrics` and `/health` of a loopback server.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const DEADLINE: Duration = Duration::from_secs(2);
const BYTES_MAX: u64 = 8 << 20;

/// The status and the body of `GET path` at `address` (`host:port`).
pub async fn get(address: &str, path: &str) -> Result<(u16, String)> {
    let answer = timeout(DEADLINE, exchange(address, path)).await;
    answer.with_context(|| format!("no answer from http://{address}{path} within {DEADLINE:?}"))?
}

async fn exchange(address: &str, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await.context("connect")?;
    // HTTP/1.0: the server closes the connection after the body, and sends no chunks.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.context("send the request")?;
    let mut bytes = Vec::new();
    stream.take(BYTES_MAX).read_to_end(&mut bytes).await.context("read the answer")?;
    let text = String::from_utf8_lossy(&bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { bail!("the answer has no head") };
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.context("the answer has no status")?, body.to_owned()))
}

/// One sample of a Prometheus page.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The metric's name.
    pub name: &'a str,
    /// The labels as written, without braces.
    pub labels: &'a str,
    /// The value.
    pub value: f64,
}

/// The samples of a Prometheus page; what is none is left out.
pub fn samples(page: &str) -> impl Iterator<Item = Sample<'_>> {
    page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (series, value) = match line.rfind('}') {
            Some(end) => line.split_at(end.checked_add(1)?),
            None => line.split_once(' ')?,
        };
        let value = value.split_whitespace().next()?.parse().ok()?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}')?),
            None => (series, ""),
        };
        Some(Sample { name, labels, value })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page() {
        let page = "# HELP a A.\n# TYPE a counter\na_total{node=\"x y\"} 3\na_total{node=\"b\"} 4\nup 1 17\nbroken\n# EOF\n";
        let found: Vec<String> = samples(page)
            .map(|Sample { name, labels, value }| format!("{name}|{labels}|{value}"))
            .collect();
        assert_eq!(found, [r#"a_total|node="x y"|3"#, r#"a_total|node="b"|4"#, "up||1"]);
    }
}
