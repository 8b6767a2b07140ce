//! Where the figures come from: the machine, the versions, the date and the commit.

use std::process::Command;

use sqlx::sqlite::SqlitePool;

/// A Markdown list.
pub async fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into());
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
    let memory_gib = memory.trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1024.0 / 1024.0;
    let sqlite = SqlitePool::connect("sqlite::memory:").await.expect("SQLite opens memory");
    let sqlite: String = sqlx::query_scalar("select sqlite_version()").fetch_one(&sqlite).await.expect("it has one");
    let list = [
        ("processor", format!("{processor}, {cores} cores")),
        ("memory", format!("{memory_gib:.0} GiB")),
        ("system", said("uname", &["-sr"])),
        ("Rust", said("rustc", &["--version"])),
        ("Redis", said("redis-server", &["--version"])),
        ("Postgres", said(&crate::support::postgres::program("postgres"), &["--version"])),
        ("SQLite", sqlite),
    ];
    list.into_iter().map(|(what, value)| format!("- {what}: {value}\n")).collect()
}

/// When, and of which commit.
pub fn stamp() -> String {
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC");
    let commit = said("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"]);
    format!("Measured {date}, commit {commit}.")
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The first line that a program writes.
fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").trim().to_owned()
}
