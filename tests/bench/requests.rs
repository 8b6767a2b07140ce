//! `make bench`: what Onetake costs, measured beside what it stands on, and written to `BENCHMARKS.md`.
//!
//! The binary as it is distributed (profile `dist`) is measured as a process of its own, with a Redis that keeps an
//! append-only file and stores whose commits wait for the disk. Where a target is a ratio, both sides are measured in
//! turn, round by round, so that a machine that slows down slows down both. The load comes from a third process on the
//! same cores.
//!
//! Scenes can be named: `idle`, `ready`, `accept`, `drain`, `store`, `locks`, `engine` (or a part of it: `work`, `add`,
//! `latency`, `depth`, `floor`); the sections of others stay as they
//! were measured before.
//! `--quick` (or `ONETAKE_BENCH_QUICK=1`) runs one short round of each, to see that all works, and writes nothing.

mod accept;
mod bare;
mod direct;
mod drain;
mod engine;
mod figures;
mod idle;
mod load;
mod locks;
mod machine;
mod ready;
mod report;
mod scene;
mod support;
mod units;

use report::Report;
use scene::Pace;
use support::store::StoreKind;

/// As in the server: what it is compared with should not lose by its allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["load", order] => load::child(order),
        ["bare", order] => bare::child(order),
        ["peer", order] => engine::ours::child(order),
        // `cargo test --all-targets` starts benchmarks too, without this flag.
        words if words.contains(&"--bench") => measure(words),
        _ => println!("run me with `make bench`"),
    }
}

/// Runs the scenes that are named, or all.
fn measure(words: &[&str]) {
    let is_quick = words.contains(&"--quick") || std::env::var_os("ONETAKE_BENCH_QUICK").is_some();
    let named: Vec<&&str> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |scene: &str| named.is_empty() || named.iter().any(|name| **name == scene);
    let pace = if is_quick { Pace::QUICK } else { Pace::FULL };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let mut report = Report::default();
        if is_wanted("idle") {
            idle::measure(&mut report, &pace).await;
        }
        if is_wanted("ready") {
            ready::measure(&mut report, &pace).await;
        }
        for kind in [StoreKind::Sqlite, StoreKind::Postgres] {
            if is_wanted("accept") {
                accept::measure(&mut report, &pace, kind).await;
            }
        }
        if is_wanted("drain") {
            drain::plain(&mut report, &pace).await;
            for kind in [StoreKind::Sqlite, StoreKind::Postgres] {
                drain::durable(&mut report, &pace, kind).await;
            }
        }
        if is_wanted("locks") {
            locks::measure(&mut report, &pace).await;
        }
        for scene in engine::SCENES {
            if is_wanted("engine") || is_wanted(scene) {
                engine::measure(&mut report, &pace, scene).await;
            }
        }
        for kind in [StoreKind::Sqlite, StoreKind::Postgres] {
            if is_wanted("store") {
                units::measure(&mut report, &pace, kind).await;
            }
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/BENCHMARKS.md");
        // Sections that are not measured now stay as they are.
        let before = if is_quick { String::new() } else { std::fs::read_to_string(path).unwrap_or_default() };
        let text = report.markdown(&before, &machine::describe().await, &machine::stamp(), &pace);
        if is_quick {
            println!("\n{text}\nA quick look: BENCHMARKS.md stays as it is.");
        } else {
            std::fs::write(path, text).expect("the repository can be written");
            println!("\nwrote {path}");
        }
    });
}
