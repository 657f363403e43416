//! [`Clerk`]: looks for requests in the folder beside the file, hands them to the writing thread, and takes those away
//! that are durable.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc as std_mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use super::writer::Command;
use crate::{StreamError, request};

/// How often the folder is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A thread of its own. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Clerk {
    stop: Option<std_mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Clerk {
    pub(super) fn start(
        file: &Path,
        commands: mpsc::Sender<Command>,
    ) -> Result<Clerk, StreamError> {
        let folder = request::folder(file);
        let (stop, stopped) = std_mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("stream-requests".to_owned())
            .spawn(move || {
                while stopped.recv_timeout(LOOK_INTERVAL)
                    == Err(std_mpsc::RecvTimeoutError::Timeout)
                {
                    if !look(&folder, &commands) {
                        return;
                    }
                }
            })
            .map_err(|err| StreamError::Append { source: Box::new(err) })?;
        Ok(Clerk { stop: Some(stop), thread: Some(thread) })
    }
}

/// False once nothing is written any more.
fn look(folder: &Path, commands: &mpsc::Sender<Command>) -> bool {
    for (path, request) in request::left(folder) {
        let (ack, acked) = oneshot::channel();
        let taken = Arc::new(AtomicBool::new(false));
        let command = Command::Request { request, taken: Arc::clone(&taken), ack };
        if commands.blocking_send(command).is_err() {
            return false;
        }
        match acked.blocking_recv() {
            // Without a version of its source, a request waits for one.
            Ok(Ok(())) if taken.load(Ordering::Relaxed) => request::done(&path),
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return false,
        }
    }
    true
}

impl Drop for Clerk {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that looks for requests panicked");
        }
    }
}
