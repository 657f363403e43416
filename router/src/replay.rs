//! Tells nodes what they have missed, as soon as they can be reached.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    link::{Link, LinkError, Stream},
    spool::{Debt, Spool},
    wire::{
        cut::{Cutter, Said, Shape},
        request,
    },
};

/// Deletes that are sent together.
const BATCH_MAX: usize = 256;
/// A node must have answered a batch by then.
const DEADLINE: Duration = Duration::from_secs(5);

/// Until it is stopped. `link` says how nodes are connected to now.
pub(crate) async fn run(
    spool: Arc<Spool>,
    retry: Duration,
    link: impl Fn() -> Link,
    stop: CancellationToken,
) {
    let replaying = async {
        loop {
            let debtors = spool.debtors();
            if debtors.is_empty() {
                spool.news.notified().await;
                continue;
            }
            let link = link();
            let telling = debtors.iter().map(|address| tell(&spool, &link, address));
            futures_util::future::join_all(telling).await;
            sleep(retry).await;
        }
    };
    tokio::select! {
        () = replaying => {}
        () = stop.cancelled() => {}
    }
}

async fn in_time<T>(act: impl Future<Output = Result<T, LinkError>>) -> Result<T, LinkError> {
    let late = |_| LinkError::Io(io::ErrorKind::TimedOut.into());
    timeout(DEADLINE, act).await.map_err(late)?
}

/// Tells one node all that it has missed, if it can be reached.
async fn tell(spool: &Spool, link: &Link, address: &str) {
    let telling = async {
        let mut stream = in_time(link.connect(address)).await?;
        let mut count = 0_usize;
        while let Some(debt) = spool.debt(address, BATCH_MAX) {
            let number = match debt {
                Debt::Keys(keys, number) => {
                    in_time(delete(&mut stream, &keys)).await?;
                    count = count.saturating_add(keys.len());
                    number
                }
                Debt::Everything(number) => {
                    in_time(expect(&mut stream, b"flush_all\r\n", 1)).await?;
                    tracing::warn!(node = address, "a node had missed too much, and was emptied");
                    number
                }
            };
            spool.told(address, number);
        }
        Ok::<usize, LinkError>(count)
    };
    match telling.await {
        Ok(count) => tracing::info!(node = address, count, "a node was told what it had missed"),
        Err(err) => tracing::debug!(node = address, error = %err, "a node cannot be told yet"),
    }
}

async fn delete(stream: &mut Stream, keys: &[Box<[u8]>]) -> Result<(), LinkError> {
    let mut question = Vec::new();
    for key in keys {
        request::delete_any(key, &mut question);
    }
    expect(stream, &question, keys.len()).await
}

/// Asks, and demands that nothing in the answers is an error.
async fn expect(stream: &mut Stream, question: &[u8], answers: usize) -> Result<(), LinkError> {
    stream.write_all(question).await?;
    stream.flush().await?;
    let (mut reply, mut cutter, mut left) = (Vec::new(), Cutter::default(), answers);
    while left > 0 {
        if stream.read_buf(&mut reply).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        while left > 0
            && let Some(cut) = cutter.next(Shape::Line, &reply).map_err(io::Error::other)?
        {
            if matches!(cut.said, Said::ClientError | Said::ServerError | Said::Unknown) {
                let said = reply.get(..cut.bytes).unwrap_or_default().escape_ascii().to_string();
                return Err(io::Error::other(format!("the node says {said}")).into());
            }
            reply.drain(..cut.bytes);
            left = left.saturating_sub(1);
        }
    }
    Ok(())
}
