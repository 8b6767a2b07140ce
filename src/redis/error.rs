//! What can go wrong between us and Redis, by what the caller can do about it.

use fred::error::{Error as FredError, ErrorKind};

use crate::batch::Failure;

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Down, loading, read-only, full, or silent for too long. Whether the command ran is unknown.
    #[error("redis cannot be reached or cannot serve")]
    Unreachable { source: Cause },
    /// The server understood and said no: a script error, a wrong type, missing rights.
    #[error("redis refused: {message}")]
    Refused { message: String },
    /// The answer has a shape that the command does not have.
    #[error("redis answered in an unexpected shape: {detail}")]
    Protocol { detail: String },
    /// The address or another setting makes no sense.
    #[error("redis settings: {detail}")]
    Settings { detail: String },
}

/// Why Redis is unreachable, in the words of the client or the server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Cause(String);

/// Replies by which a server says that it cannot serve now, though it may later: not the fault of the command.
const CANNOT_SERVE: &[&str] =
    &["LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "NOREPLICAS", "OOM", "BUSY "];

impl Error {
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    pub(crate) fn unreachable(why: impl Into<String>) -> Self {
        Self::Unreachable { source: Cause(why.into()) }
    }

    pub(crate) fn protocol(detail: impl Into<String>) -> Self {
        Self::Protocol { detail: detail.into() }
    }

    /// The server does not know the script: it certainly did not run.
    pub(super) fn is_no_script(&self) -> bool {
        matches!(self, Self::Refused { message } if message.starts_with("NOSCRIPT"))
    }
}

impl Failure for Error {
    fn is_of_all(&self) -> bool {
        self.is_unreachable()
    }

    fn stopping() -> Self {
        Self::unreachable("the server is stopping")
    }
}

impl From<FredError> for Error {
    fn from(error: FredError) -> Self {
        let message = error.details().to_owned();
        match error.kind() {
            ErrorKind::Url | ErrorKind::Config => Self::Settings { detail: message },
            ErrorKind::Parse | ErrorKind::NotFound | ErrorKind::Protocol => Self::Protocol { detail: message },
            // A refusal by the server is told from a failure of the client by its text: fred calls both unknown.
            ErrorKind::Unknown | ErrorKind::InvalidArgument | ErrorKind::InvalidCommand => {
                let cannot_serve =
                    CANNOT_SERVE.iter().any(|code| message.starts_with(code) || message.contains(&format!("-{code}")));
                let from_client = message.starts_with("Client is not") || message.starts_with("Failed to");
                if cannot_serve || from_client { Self::unreachable(message) } else { Self::Refused { message } }
            }
            _ => Self::unreachable(error.to_string()),
        }
    }
}
