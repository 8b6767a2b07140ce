//! The command line. The only place that knows clap.
//!
//! `serve` and `dev` are the server; every other command is a client of a running one (SQLite belongs to one process),
//! or looks at the configuration. Answers go to stdout, everything else to stderr.
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration; `lock run` passes that of its command on.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use secrecy::SecretString;
use url::Url;

mod bulk;
mod client;
mod config;
mod dedupe;
mod delivery;
mod doctor;
mod flow;
mod group;
mod import;
mod job;
mod key;
mod lock;
mod order;
mod output;
mod pickup;
mod queue;
mod request;
mod saga;
mod scheduler;
mod server;
mod slot;
mod video;

use client::Client;
use output::Output;

/// A Redis-native job queue and dedupe server: ask for the same thing a thousand times, it is made once, and everyone who
/// asked gets it.
#[derive(Parser)]
#[command(name = "onetake", version, propagate_version = true, max_term_width = 120, after_help = EXAMPLES)]
pub struct Cli {
    /// Print answers as JSON.
    #[arg(long, global = true, help_heading = "Client")]
    json: bool,
    /// The running server that commands talk to.
    #[arg(
        long,
        global = true,
        env = "ONETAKE_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:7700",
        value_parser = server_address,
        help_heading = "Client"
    )]
    server: Url,
    /// The key to show it, if it asks for one.
    #[arg(
        long,
        global = true,
        env = "ONETAKE_API_KEY",
        value_name = "KEY",
        hide_env_values = true,
        help_heading = "Client"
    )]
    api_key: Option<SecretString>,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  onetake dev --demo                            try it: Redis and SQLite come along
  onetake video request Anna --wait 60          ask for a video and wait for it
  onetake enqueue mail --data '{\"to\": \"ann\"}'   add a job to a queue
  onetake dedupe ls --scope video               what is being made, and what is ready
  onetake lock run nightly -- make backup       run it here only, of all machines
  onetake config show                           what is in force, and from where
  onetake doctor                                what is missing on this machine";

#[derive(Subcommand)]
enum Command {
    /// Run the server, on a Redis and a database of yours.
    Serve(server::Serve),
    /// Run a server that brings its own Redis and SQLite.
    Dev(server::Dev),
    /// Ask for videos, and import those that exist.
    #[command(subcommand)]
    Video(video::Command),
    /// Add a job to a queue (short for `job add`).
    Enqueue(Box<job::Add>),
    /// Queues: list, show, pause, resume, limit, and work over all jobs of a state.
    #[command(subcommand)]
    Queue(queue::Command),
    /// Groups of jobs that are served in turn: list, show, limit, pause, resume.
    #[command(subcommand)]
    Group(group::Command),
    /// Jobs: list, show, add, change, remove.
    #[command(subcommand)]
    Job(job::Command),
    /// Flows: add jobs that wait for their children, show the tree of one.
    #[command(subcommand)]
    Flow(flow::Command),
    /// Job schedulers: list, show, set, remove.
    #[command(subcommand)]
    Scheduler(scheduler::Command),
    /// Dedupe keys: what is being made or kept, and for whom.
    #[command(subcommand)]
    Dedupe(dedupe::Command),
    /// Requests: who asked for what, and how it stands.
    #[command(subcommand)]
    Request(request::Command),
    /// Deliveries: what was handed to whom, and what could not be.
    #[command(subcommand)]
    Delivery(delivery::Command),
    /// Interview slots: list, book, cancel, bring a new list.
    #[command(subcommand)]
    Slot(slot::Command),
    /// The pickup point: accept, issue, take back, return to the courier.
    #[command(subcommand)]
    Pickup(pickup::Command),
    /// Locks: who has which; run a command while holding one.
    #[command(subcommand)]
    Lock(lock::Command),
    /// Orders: list, show, cancel, give money back.
    #[command(subcommand)]
    Order(order::Command),
    /// Effects outside, such as refunds: list, show, decide about those that are parked.
    #[command(subcommand)]
    Saga(saga::Command),
    /// API keys: create, list, revoke.
    #[command(subcommand)]
    Key(key::Command),
    /// Settings: show, check, print the annotated defaults.
    #[command(subcommand)]
    Config(config::Command),
    /// Look for what keeps a server from working here.
    Doctor(config::File),
    /// Print a script that completes commands in your shell.
    #[command(after_help = "Example:\n  onetake completions bash > ~/.local/share/bash-completion/completions/onetake")]
    Completions { shell: Shell },
}

/// The user asked for something that cannot be: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misused(String);

/// A command of the user's ended, or was not run, and this is the exit code for it; with what there is to say about it.
#[derive(Debug, thiserror::Error)]
#[error("the command ended with code {code}")]
struct Ended {
    code: u8,
    why: Option<anyhow::Error>,
}

/// What the commands that are clients work with.
struct Context {
    client: Client,
    output: Output,
}

/// Runs the command line of this process to its end.
pub async fn run() -> ExitCode {
    // Two TLS providers can be chosen from at run time, and the choice is the process's. A second choice changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help that nobody reads to its end is no failure.
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2));
        }
    };
    let output = Output::new(cli.json);
    match dispatch(cli, output).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if is_broken_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            if let Some(Ended { code, why }) = e.downcast_ref() {
                if let Some(why) = why {
                    report(why, output);
                }
                return ExitCode::from(*code);
            }
            report(&e, output);
            ExitCode::from(if e.is::<Misused>() { 2 } else { 1 })
        }
    }
}

async fn dispatch(cli: Cli, output: Output) -> anyhow::Result<()> {
    let context = Context { client: Client::new(cli.server, cli.api_key)?, output };
    match cli.command {
        Command::Serve(serve) => serve.run().await,
        Command::Dev(dev) => dev.run().await,
        Command::Video(command) => command.run(&context).await,
        Command::Enqueue(add) => add.run(&context).await,
        Command::Queue(command) => command.run(&context).await,
        Command::Group(command) => command.run(&context).await,
        Command::Job(command) => command.run(&context).await,
        Command::Flow(command) => command.run(&context).await,
        Command::Scheduler(command) => command.run(&context).await,
        Command::Dedupe(command) => command.run(&context).await,
        Command::Request(command) => command.run(&context).await,
        Command::Delivery(command) => command.run(&context).await,
        Command::Slot(command) => command.run(&context).await,
        Command::Pickup(command) => command.run(&context).await,
        Command::Lock(command) => command.run(&context).await,
        Command::Order(command) => command.run(&context).await,
        Command::Saga(command) => command.run(&context).await,
        Command::Key(command) => command.run(&context).await,
        Command::Config(command) => command.run(output),
        Command::Doctor(file) => doctor::run(file, &context).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "onetake", &mut script);
            output.text(&String::from_utf8_lossy(&script))
        }
    }
}

/// `onetake job ls | head` ends the reader first; that is how pipes work, not an error.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe))
}

fn report(error: &anyhow::Error, output: Output) {
    let mut stderr = anstream::stderr();
    // Nobody is left to be told that stderr is closed.
    let _ = if output.is_json() {
        let code = error.downcast_ref::<client::Error>().and_then(client::Error::code);
        writeln!(stderr, "{}", serde_json::json!({"error": format!("{error:#}"), "code": code}))
    } else {
        writeln!(stderr, "\x1b[1;31merror:\x1b[0m {error:#}")
    };
}

fn server_address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| e.to_string())?;
    let fits = matches!(url.scheme(), "http" | "https") && url.has_host();
    if fits { Ok(url) } else { Err("must be an http:// or https:// address".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> i32 {
        Cli::try_parse_from(line.split(' ')).err().expect("it is refused").exit_code()
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_is_understood_and_takes_json() {
        for line in [
            "serve --config a.toml --bind 0.0.0.0:80 --role http --database-url postgres://db --redis-url redis://r",
            "dev --demo --data d --port 7701",
            "video request Anna --gender girl --template snow --user 7 --chat -100 --wait 5 --refresh",
            "video import old.csv --skip-bad",
            "enqueue mail --data {}",
            "queue ls",
            "queue pause video",
            "queue retry video --state completed",
            "queue promote video",
            "queue drain video --delayed",
            "queue clean video --state failed --grace 24h --limit 5",
            "queue obliterate video --force",
            "queue trim-events video --keep 100",
            "queue concurrency video 5",
            "queue concurrency video --clear",
            "queue rate-limit video --max 5 --per 1s",
            "queue rate-limit video --clear",
            "queue rate-limit video --lift",
            "job ls video --state failed --limit 5",
            "job retry video 17 --state failed --reset-attempts",
            "job promote video 17",
            "job cancel video 17 --reason stop",
            "job add video --timeout 5s",
            "queue workers video --concurrency 5",
            "job delay video 17 5s",
            "job priority video 17 3 --lifo",
            "job data video 17 {}",
            "job remove video 17 --children",
            "job children video 17 --kind failed --cursor failed-5",
            "job logs video 17 --start 5 --limit 5",
            "job show video 17",
            "job add mail --name welcome --data [1] --delay 5s --priority 3 --attempts 2 --backoff fixed:1s --lifo",
            "flow add {} --idempotency-key k",
            "flow tree report 17 --depth 3 --width 5",
            "scheduler list mail --start 50 --limit 10",
            "scheduler show mail digest",
            "scheduler set mail poll --every 30s --limit 5 --data {}",
            "scheduler set mail noon --pattern @daily --tz Europe/Berlin --end 2027-01-01T00:00:00Z",
            "scheduler remove mail digest",
            "dedupe ls --scope video",
            "dedupe show video anna girl default",
            "dedupe release video anna --reason wrong",
            "request ls --user 7",
            "request leave 0123",
            "delivery replay 0123",
            "slot ls --free --limit 5",
            "slot bookings olga",
            "slot book 7 --user olga",
            "slot cancel 7 --user olga",
            "slot sync monday.json",
            "pickup ls olga",
            "pickup history olga --cursor x",
            "pickup show 17",
            "pickup accept 17 --user olga --until 2027-01-31T20:00:00Z",
            "pickup issue 17 18 --user olga",
            "pickup take-back 17 --user olga",
            "pickup return-to-courier 17",
            "lock ls --prefix a --state held --holder abc --limit 5",
            "lock show nightly",
            "lock release nightly --owner-token abc",
            "lock release nightly --force --reason gone",
            "order ls --user 7 --state paid",
            "order show 0123",
            "order cancel 0123 --user 7 --reason changed",
            "order refund 0123 --reason wrong",
            "order payments --state unknown --limit 5",
            "saga ls --state parked --name order_refund",
            "saga show 0123",
            "saga resolve 0123 not-done --reason looked",
            "key create --name bot --scope read --scope enqueue",
            "key revoke abc",
            "config show",
            "config default",
            "config alerts",
            "doctor",
            "completions zsh",
        ] {
            let line = format!("onetake {line} --json");
            if let Err(e) = Cli::try_parse_from(line.split(' ')) {
                panic!("{line}: {e}");
            }
        }
    }

    #[test]
    fn wrong_usage_ends_with_code_2() {
        for line in [
            "onetake",
            "onetake frobnicate",
            "onetake job add mail --data {",
            "onetake job add mail --delay 5",
            "onetake job add mail --backoff sometimes:1s",
            "onetake job add mail --id 1 --dedupe-key a",
            "onetake queue ls --server ftp://host",
            "onetake flow add {",
            "onetake scheduler set mail poll",
            "onetake scheduler set mail poll --every 5s --pattern @daily",
            "onetake scheduler set mail poll --every 5s --tz UTC",
            "onetake queue clean video",
            "onetake queue clean video --state waiting-children",
            "onetake queue concurrency video",
            "onetake queue rate-limit video --max 5",
            "onetake queue rate-limit video",
            "onetake slot book 7",
            "onetake pickup accept 17 --user olga --until soon",
            "onetake pickup issue --user olga",
            "onetake job delay video 17 soon",
            "onetake job add video --timeout 5",
            "onetake queue workers video --concurrency many",
            "onetake job data video 17 {",
            "onetake lock run nightly",
            "onetake lock run nightly --ttl soon -- true",
            "onetake lock release nightly",
            "onetake lock release nightly --force",
            "onetake lock release nightly --owner-token a --force --reason b",
            "onetake order refund 0123",
            "onetake saga resolve 0123 maybe --reason x",
            "onetake saga resolve 0123 done",
            "onetake key create --name bot --scope everything",
            "onetake serve --role both",
        ] {
            assert_eq!(refused(line), 2, "{line}");
        }
    }

    #[test]
    fn help_is_no_failure() {
        assert_eq!(refused("onetake job add --help"), 0);
    }

    #[test]
    fn a_closed_pipe_is_known_through_its_context() {
        let pipe = anyhow::Error::from(std::io::Error::from(ErrorKind::BrokenPipe)).context("printing");
        assert!(is_broken_pipe(&pipe));
        assert!(!is_broken_pipe(&anyhow::anyhow!("else")));
    }
}
