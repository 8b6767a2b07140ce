//! Runs a program to its end, bounded in time and output, and leaves nothing of it behind.
//!
//! The program gets its input on stdin, and its end is the end of the whole: whoever it started is killed then, or when
//! the time is up, or when the future is dropped.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, Command};
use tokio::time::timeout;

use super::group::Group;
use super::tail::{Lines, Tail};

/// The most that a program may write on stdout, in bytes.
pub(crate) const MAX_STDOUT: usize = 8 * 1024 * 1024;

/// How long the output of a program that has ended may still trickle in from children that hold its pipes open.
const DRAIN: Duration = Duration::from_millis(500);

/// How long a killed program may take to be gone.
const DYING: Duration = Duration::from_secs(2);

/// What to run.
#[derive(Debug)]
pub(crate) struct Program {
    pub program: String,
    pub args: Vec<OsString>,
    /// Added to our own environment.
    pub env: Vec<(&'static str, String)>,
    /// Where it runs; where we run if not given.
    pub folder: Option<PathBuf>,
    /// What it may read on stdin. It does not have to.
    pub input: Vec<u8>,
    pub time_limit: Duration,
}

/// How a program ended by itself.
#[derive(Debug)]
pub(crate) struct Ended {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    /// The last lines of stderr that were not taken.
    pub tail: String,
}

/// Why a program did not come to an end of its own. The messages are for people, with the tail of stderr if any.
#[derive(Debug, Error)]
pub(crate) enum Trouble {
    #[error("cannot start {program}: {source}")]
    NotStarted { program: String, source: io::Error },
    #[error("took longer than {limit:?} and was killed{}", with(.tail))]
    TooSlow { limit: Duration, tail: String },
    #[error("wrote more than {MAX_STDOUT} bytes on stdout and was killed{}", with(.tail))]
    TooMuch { tail: String },
    #[error("cannot follow the program: {0}")]
    Lost(#[from] io::Error),
}

/// A tail of output as the end of a sentence.
pub(crate) fn with(tail: &str) -> String {
    if tail.is_empty() { String::new() } else { format!(": {tail}") }
}

impl Program {
    /// Runs the program. Each line of stderr is shown to `takes_line`; those it does not take (`false`) make the tail.
    ///
    /// # Errors
    /// The program could not be started or followed, or had to be killed. How it ended by itself is no error.
    ///
    /// # Cancel safety
    /// Dropping the future kills the program and its children.
    pub(crate) async fn run(self, takes_line: impl FnMut(&str) -> bool + Send) -> Result<Ended, Trouble> {
        Group::prepare();
        let mut command = Command::new(self.path());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.args(&self.args).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let mut child =
            command.spawn().map_err(|source| Trouble::NotStarted { program: self.program.clone(), source })?;
        // Declared after the child, so dropped before it: the group is killed while its leader cannot be reused.
        let group = child.id().map(Group::led_by);

        let stdin = child.stdin.take().expect("stdin was asked for above");
        let stdout = child.stdout.take().expect("stdout was asked for above");
        let stderr = child.stderr.take().expect("stderr was asked for above");
        let mut said = Vec::new();
        let mut lines = Lines::new(takes_line);
        let ended = timeout(self.time_limit, async {
            let talk = async {
                let (fits, (), ()) =
                    tokio::join!(read_all(stdout, &mut said), read_lines(stderr, &mut lines), feed(stdin, &self.input));
                fits
            };
            tokio::pin!(talk);
            let mut talked = None;
            let status = loop {
                tokio::select! {
                    // dropped: nothing, waiting can be taken up again
                    status = child.wait() => break status?,
                    // dropped: nothing, the conversation is kept and goes on below
                    fits = &mut talk, if talked.is_none() => match fits {
                        Fits::Yes => talked = Some(Fits::Yes),
                        Fits::No => return Ok(None),
                    },
                }
            };
            // What is late is lost: a child that went on in the background may hold the pipes open for ever.
            if talked.is_none() && matches!(timeout(DRAIN, &mut talk).await, Ok(Fits::No)) {
                return Ok(None);
            }
            Ok::<_, io::Error>(Some(status))
        })
        .await;

        drop(group);
        let tail = lines.finish();
        match ended {
            Ok(Ok(Some(status))) => return Ok(Ended { status, stdout: said, tail }),
            Ok(Err(error)) => return Err(error.into()),
            Ok(Ok(None)) | Err(_) => {}
        }
        // Gone before we say so: nothing may write into the scratch folder while the caller removes it.
        let _ = timeout(DYING, child.wait()).await;
        Err(match ended {
            Err(_) => Trouble::TooSlow { limit: self.time_limit, tail },
            _ => Trouble::TooMuch { tail },
        })
    }

    /// A path is meant from where we run, even if the program runs in another folder.
    fn path(&self) -> PathBuf {
        let path = PathBuf::from(&self.program);
        if self.program.contains('/') { std::path::absolute(&path).unwrap_or(path) } else { path }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Fits {
    Yes,
    No,
}

/// Reads to the end, or until it is too much. A pipe that breaks has ended.
async fn read_all(mut from: impl AsyncRead + Unpin, into: &mut Vec<u8>) -> Fits {
    while let Ok(1..) = from.read_buf(into).await {
        if into.len() > MAX_STDOUT {
            return Fits::No;
        }
    }
    Fits::Yes
}

async fn read_lines<F: FnMut(&str) -> bool>(mut from: impl AsyncRead + Unpin, lines: &mut Lines<F>) {
    let mut piece = [0; 8192];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        lines.push(&piece[..length]);
    }
}

/// Writes the input and closes stdin. A program that closes its end has read what it wants.
async fn feed(mut stdin: ChildStdin, input: &[u8]) {
    let _ = stdin.write_all(input).await;
}

/// The end of a program's output as text, for a message.
pub(crate) fn tail_of(bytes: &[u8]) -> String {
    let mut tail = Tail::default();
    tail.push(bytes);
    tail.text()
}
