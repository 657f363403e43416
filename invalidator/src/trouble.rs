//! [`Trouble`]: why a lane is interrupted.

use stream::StreamError;

use crate::{connection::ConnectionError, metrics::Cause, report::Report};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("serve the node")]
    Node(#[from] ConnectionError),
    #[error("use the stream")]
    Stream(#[from] StreamError),
}

impl Trouble {
    /// Reports what went wrong. What cannot pass ends the lane.
    pub(crate) fn note(self, report: &Report) -> Result<(), StreamError> {
        match self {
            Trouble::Node(_)
            | Trouble::Stream(StreamError::Read { .. } | StreamError::Append { .. }) => {
                report.interrupted(self.cause(), &self);
                Ok(())
            }
            Trouble::Stream(err) => Err(err),
        }
    }

    fn cause(&self) -> Cause {
        match self {
            Trouble::Stream(_) => Cause::Stream,
            Trouble::Node(err) => match err {
                ConnectionError::Connect(_) | ConnectionError::Closed | ConnectionError::Io(_) => {
                    Cause::Unreachable
                }
                ConnectionError::Deadline(_) => Cause::Deadline,
                ConnectionError::Refused(_) => Cause::Refused,
                ConnectionError::Decode(_)
                | ConnectionError::Malformed(_)
                | ConnectionError::Endless
                | ConnectionError::OutOfStep { .. } => Cause::OutOfStep,
            },
        }
    }
}
