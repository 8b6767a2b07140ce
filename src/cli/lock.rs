//! `lock`: who has which, and running a command while holding one.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::process::{Child, Command as Program};
use tokio::signal::unix::{SignalKind, signal};

use super::client::{Call, Client, Error};
use super::output::Column;
use super::request::Page;
use super::{Context, Ended};
use crate::clock::{Span, millis};
use crate::config::LOCK_VARIABLES;
use crate::id;
use crate::processor::group::Group;

/// The longest that one call asks the server to wait; longer waits are several calls.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// How long a command may take to end after we were told to; then it is killed.
const GRACE: Duration = Duration::from_secs(10);
/// How long giving the lock back may take.
const RELEASE_WITHIN: Duration = Duration::from_secs(5);
/// The exit code when somebody else had the lock: as that of a mail program that should be called again later.
const BUSY: u8 = 75;
/// The exit code when the lock was lost and the command killed.
const LOST: u8 = 76;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Locks that are held, or were, those granted last first.
    Ls {
        /// Only those whose names begin so.
        #[arg(long)]
        prefix: Option<String>,
        /// Only those in this state.
        #[arg(long, value_parser = PossibleValuesParser::new(["held", "free"]))]
        state: Option<String>,
        /// Only those of this API key's id.
        #[arg(long)]
        holder: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// One lock, with who took it from its holder and why.
    Show { name: String },
    /// Hold a lock while a command runs; kill it and its children if the lock is lost.
    Run(Run),
    /// Give a lock back by its owner's token, or take it from its holder.
    #[command(after_help = "\
Examples:
  onetake lock release nightly --owner-token 6f0c…
  onetake lock release nightly --force --reason 'its host is gone'")]
    Release {
        name: String,
        #[arg(long, value_name = "TOKEN", required_unless_present = "force", conflicts_with = "force")]
        owner_token: Option<String>,
        /// From whoever has it, who learns it at the next renewal.
        #[arg(long, requires = "reason")]
        force: bool,
        /// Kept in the audit.
        #[arg(long, requires = "force")]
        reason: Option<String>,
    },
}

#[derive(Args)]
#[command(after_help = "\
The command gets ONETAKE_LOCK and ONETAKE_FENCING_TOKEN; its exit code is ours. 75: somebody else has the lock.
76: the lock was lost, and the command was killed.

Examples:
  onetake lock run nightly -- pg_dump -f /backup/db.sql mydb
  onetake lock run report --wait 5m --ttl 1m -- sh -c 'make-report --fence $ONETAKE_FENCING_TOKEN'")]
pub(super) struct Run {
    name: String,
    /// How long the lock outlives us if we die. It is renewed while the command runs.
    #[arg(long, value_name = "SPAN", default_value = "30s")]
    ttl: Span,
    /// How long to wait for the lock.
    #[arg(long, value_name = "SPAN", default_value = "0s")]
    wait: Span,
    /// For people: why it is held. The command, if not given.
    #[arg(long)]
    note: Option<String>,
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<std::ffi::OsString>,
}

const COLUMNS: &[Column] = &[
    ("NAME", "/name"),
    ("STATE", "/state"),
    ("TOKEN", "/fencing_token"),
    ("HOLDER", "/holder"),
    ("NOTE", "/note"),
    ("EXPIRES", "/expires_at"),
];

impl Command {
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Context { client, output } = context;
        match self {
            Self::Ls { prefix, state, holder, page } => {
                let call = page.of(Call::get(&["v1", "locks"])).query("prefix", prefix).query("state", state);
                output.list(&client.send(call.query("holder", holder)).await?, COLUMNS)
            }
            Self::Show { name } => output.details(&client.send(Call::get(&["v1", "locks", &name])).await?),
            Self::Run(run) => run.run(client).await,
            Self::Release { name, owner_token: Some(token), .. } => {
                let call = Call::post(&["v1", "locks", &name, "release"], &json!({"owner_token": token}));
                output.done(&client.send(call).await?, &format!("released {name}"))
            }
            Self::Release { name, reason, .. } => {
                let call = Call::post(&["v1", "locks", &name, "force-release"], &json!({"reason": reason}));
                let answer = client.send(call).await?;
                let holder = answer.value["holder"].as_str().unwrap_or_default();
                output.done(&answer, &format!("took {name} from {holder}"))
            }
        }
    }
}

/// The lock in our hands.
struct Held<'a> {
    client: &'a Client,
    name: &'a str,
    owner: String,
    fence: i64,
    ttl: Duration,
    /// It may be trusted until then: before its end, counted from before we asked.
    trusted_until: Instant,
}

impl Run {
    async fn run(self, client: &Client) -> anyhow::Result<()> {
        let mut held = self.acquire(client).await?;
        let started = self.start(&held);
        let ended = match started {
            Ok(child) => held.keep_while(child).await,
            Err(error) => Err(error),
        };
        // The command has ended: whoever waits for the lock need not wait for our own end.
        if !matches!(ended, Ok(Ending::Lost)) {
            held.release().await;
        }
        match ended? {
            Ending::Exit(status) if status.success() => Ok(()),
            Ending::Exit(status) => Err(Ended { code: code_of(status), why: None }.into()),
            Ending::Lost => {
                let why = anyhow!("lost the lock {}: the command was killed", self.name);
                Err(Ended { code: LOST, why: Some(why) }.into())
            }
        }
    }

    async fn acquire<'a>(&'a self, client: &'a Client) -> anyhow::Result<Held<'a>> {
        let note = self.note.clone().unwrap_or_else(|| {
            let words: Vec<_> = self.command.iter().map(|word| word.to_string_lossy()).collect();
            words.join(" ").chars().filter(|c| !c.is_control()).take(200).collect()
        });
        // The same for each call: an answer that was lost on the way is asked for again.
        let request = id::new_id();
        let until = Instant::now() + self.wait.0;
        let mut longest = LONGEST_WAIT;
        loop {
            let wait = until.saturating_duration_since(Instant::now()).min(longest);
            let wait = Duration::from_millis(millis(wait).unsigned_abs());
            let body = json!({
                "ttl": self.ttl, "wait": Span(wait), "note": note, "request_id": request,
            });
            let asked = Instant::now();
            let call = Call::post(&["v1", "locks", &self.name], &body).patience(wait);
            match client.send(call).await {
                Ok(answer) => return held(client, &self.name, self.ttl.0, asked, &answer.value),
                Err(error) if error.code() == Some("lock_busy") => {
                    if Instant::now() >= until {
                        return Err(Ended { code: BUSY, why: Some(error.into()) }.into());
                    }
                }
                // Its `http.max_wait` is shorter than we thought.
                Err(error) if error.field() == Some("wait") && !wait.is_zero() => longest = wait / 2,
                // The server restarts, perhaps: as long as there is time left, it is asked again.
                Err(Error::Unreachable { .. } | Error::Silent { .. }) if Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn start(&self, held: &Held<'_>) -> anyhow::Result<Child> {
        let [program, args @ ..] = self.command.as_slice() else { bail!("there is no command to run") };
        Group::prepare();
        let mut command = Program::new(program);
        command.args(args).process_group(0).kill_on_drop(true);
        command.envs(LOCK_VARIABLES.into_iter().zip([self.name.clone(), held.fence.to_string()]));
        if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
            // A group of its own is no terminal's foreground: reading from it would stop the command.
            command.stdin(std::process::Stdio::null());
        }
        command.spawn().with_context(|| format!("cannot start {}", program.to_string_lossy()))
    }
}

fn held<'a>(
    client: &'a Client,
    name: &'a str,
    ttl: Duration,
    asked: Instant,
    answer: &Value,
) -> anyhow::Result<Held<'a>> {
    let owner = answer["owner_token"].as_str().context("the server gave no owner token")?.to_owned();
    let fence = answer["fencing_token"].as_i64().context("the server gave no fencing token")?;
    Ok(Held { client, name, owner, fence, ttl, trusted_until: asked + trust(ttl, answer) })
}

/// How long a lock may be trusted, of what the server says is left of it.
fn trust(ttl: Duration, answer: &Value) -> Duration {
    let left = answer["ttl"].as_str().and_then(|text| text.parse::<Span>().ok()).map_or(ttl, |left| left.0);
    left.min(ttl).saturating_sub(ttl / 8)
}

enum Ending {
    Exit(ExitStatus),
    Lost,
}

impl Held<'_> {
    /// Renews the lock until the command ends. If it is lost, the command is killed with its children.
    async fn keep_while(&mut self, mut child: Child) -> anyhow::Result<Ending> {
        let group = child.id().map(Group::led_by);
        let leader = child.id().map(|id| Pid::from_raw(id.cast_signed()));
        let stop = SignalKind::from_raw(Signal::SIGTSTP as i32);
        let mut told = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(stop)?];
        let [interrupt, terminate, stop] = &mut told;
        let mut kill_at = None;
        while let Some(left) = self.trusted_until.checked_duration_since(Instant::now()) {
            tokio::select! {
                // dropped: nothing, waiting can be taken up again
                status = child.wait() => {
                    // Whoever it left behind must not go on without the lock.
                    drop(group);
                    return Ok(Ending::Exit(status?));
                }
                // dropped: a pause only
                () = tokio::time::sleep((self.ttl / 3).min(left)) => {
                    if !self.renew().await {
                        break;
                    }
                }
                // dropped: a signal is kept until it is asked for
                _ = interrupt.recv() => kill_at = pass_on(leader, Signal::SIGINT, kill_at),
                _ = terminate.recv() => kill_at = pass_on(leader, Signal::SIGTERM, kill_at),
                // Stopped, we would not renew the lock, and the command would go on without it. Dropped as those.
                _ = stop.recv() => eprintln!("not stopped: the lock {} is held; Ctrl-C ends the command", self.name),
                // dropped: a wait only
                () = until(kill_at) => {
                    drop(group);
                    return Ok(Ending::Exit(child.wait().await?));
                }
            }
        }
        drop(group);
        let _ = child.wait().await;
        Ok(Ending::Lost)
    }

    /// False: the lock is somebody else's, or nobody's. A server that does not answer is asked again, as long as the lock can
    /// be trusted.
    async fn renew(&mut self) -> bool {
        let asked = Instant::now();
        let body = json!({"owner_token": self.owner, "ttl": Span(self.ttl)});
        let call = Call::post(&["v1", "locks", self.name, "renew"], &body);
        match tokio::time::timeout_at(self.trusted_until.into(), self.client.send(call)).await {
            Ok(Ok(answer)) => self.trusted_until = asked + trust(self.ttl, &answer.value),
            Ok(Err(error)) if matches!(error.code(), Some("lock_lost" | "lock_unknown")) => return false,
            Ok(Err(_)) => tokio::time::sleep((self.ttl / 20).min(Duration::from_secs(1))).await,
            Err(_) => return false,
        }
        true
    }

    async fn release(&self) {
        let call = Call::post(&["v1", "locks", self.name, "release"], &json!({"owner_token": self.owner}));
        // The command has ended, and its exit code is waited for.
        let released = tokio::time::timeout(RELEASE_WITHIN, self.client.send(call)).await;
        if !matches!(released, Ok(Ok(_))) {
            eprintln!("could not give the lock {} back: it ends by itself", self.name);
        }
    }
}

/// Tells the command what we were told; the moment at which it is killed if it goes on.
fn pass_on(leader: Option<Pid>, told: Signal, kill_at: Option<Instant>) -> Option<Instant> {
    if let Some(leader) = leader {
        let _ = killpg(leader, told);
    }
    kill_at.or_else(|| Some(Instant::now() + GRACE))
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// As a shell tells it.
fn code_of(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::http::StatusCode;
    use axum::routing::post;
    use axum::{Json, Router};

    use super::super::client::testing;
    use super::*;

    #[tokio::test]
    async fn a_server_that_lets_nobody_wait_so_long_is_asked_for_less() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = asked.clone();
        let grant = async move |Json(wish): Json<Value>| {
            let wait: Span = wish["wait"].as_str().unwrap().parse().unwrap();
            noted.lock().unwrap().push(wait.0.as_millis());
            if wait.0 > Duration::from_secs(6) {
                let problem = json!({"code": "invalid_field", "field": "wait", "detail": "a call waits 6s at most"});
                return (StatusCode::UNPROCESSABLE_ENTITY, Json(problem));
            }
            (StatusCode::OK, Json(json!({"owner_token": "t", "fencing_token": 7, "ttl": "30s"})))
        };
        let client = testing::client(Router::new().route("/v1/locks/nightly", post(grant))).await;
        let run = Run {
            name: "nightly".to_owned(),
            ttl: Span(Duration::from_secs(30)),
            wait: Span(Duration::from_secs(300)),
            note: None,
            command: vec!["true".into()],
        };
        assert_eq!(run.acquire(&client).await.unwrap().fence, 7);
        let asked = asked.lock().unwrap().clone();
        assert_eq!(asked, [20_000, 10_000, 5_000]);
    }

    #[test]
    fn a_lock_is_trusted_for_less_than_the_server_says() {
        let trusted = |left: &str| trust(Duration::from_secs(80), &json!({"ttl": left}));
        assert_eq!(trusted("80s"), Duration::from_secs(70));
        assert_eq!(trusted("20s"), Duration::from_secs(10));
        assert_eq!(trusted("5s"), Duration::ZERO);
        assert_eq!(trusted("1h"), Duration::from_secs(70), "never for longer than was asked for");
    }
}
