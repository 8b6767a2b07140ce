//! What is told: a line per measurement while it runs, and `BENCHMARKS.md` at the end.

use std::fmt::Write;

use crate::scene::Pace;

/// The measurements so far, as Markdown.
#[derive(Default)]
pub struct Report {
    text: String,
    targets: usize,
    missed: Vec<String>,
    section: String,
}

impl Report {
    /// What comes now.
    pub fn section(&mut self, title: &str, about: &str) {
        println!("{title}");
        title.clone_into(&mut self.section);
        let table = "| what | measured | target | met |\n|---|---|---|---|";
        writeln!(self.text, "\n## {title}\n\n{about}\n\n{table}").expect("memory takes all that is written");
    }

    /// A line for whoever waits.
    #[expect(clippy::unused_self, reason = "reads as the other lines do")]
    pub fn progress(&self, what: &str) {
        println!("  ... {what}");
    }

    /// A measurement with a target.
    pub fn row(&mut self, what: &str, measured: String, target: &str, is_met: bool) {
        self.targets += 1;
        let met = if is_met { "yes" } else { "**no**" };
        if !is_met {
            self.missed.push(format!("{}: {what}", self.section));
        }
        println!("  {what}: {measured} [{target}: {met}]");
        writeln!(self.text, "| {what} | {measured} | {target} | {met} |").expect("memory takes all that is written");
    }

    /// A measurement that only informs.
    pub fn note(&mut self, what: &str, measured: String) {
        println!("  {what}: {measured}");
        writeln!(self.text, "| {what} | {measured} | | |").expect("memory takes all that is written");
    }

    /// The whole document.
    pub fn markdown(&self, machine: &str, pace: &Pace) -> String {
        let missed = match self.missed.as_slice() {
            [] if self.targets == 0 => "No target was measured.".to_owned(),
            [] => "Every target is met.".to_owned(),
            missed => format!("Not met: {}.", missed.join("; ")),
        };
        format!(
            "# Benchmarks\n\nWritten by `make bench`. Figures are medians of {} rounds with the least and the most; ratios \
             are those of the two sides of one round, measured one right after the other, for {:?} each. The server, Redis, \
             Postgres and the load (a process of its own with keep-alive connections) share the same cores. Commits wait \
             for the disk (SQLite: WAL with `synchronous=full`; Postgres: defaults with 128 MB of shared buffers); Redis \
             keeps an append-only file, synced every second.\n\n{missed}\n\n{machine}{}",
            pace.rounds, pace.measured, self.text
        )
    }
}
