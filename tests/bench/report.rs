//! What is told: a line per measurement while it runs, and `BENCHMARKS.md`, of which each section says when it was measured.

use std::fmt::Write;

use crate::scene::Pace;

/// The measurements of this run.
#[derive(Default)]
pub struct Report {
    sections: Vec<Section>,
}

struct Section {
    title: String,
    text: String,
}

impl Report {
    /// What comes now.
    pub fn section(&mut self, title: &str, about: &str) {
        println!("{title}");
        let text = format!("{about}\n\n| what | measured | target | met |\n|---|---|---|---|\n");
        self.sections.push(Section { title: title.to_owned(), text });
    }

    /// A line for whoever waits.
    #[expect(clippy::unused_self, reason = "reads as the other lines do")]
    pub fn progress(&self, what: &str) {
        println!("  ... {what}");
    }

    /// A measurement with a target.
    pub fn row(&mut self, what: &str, measured: String, target: &str, is_met: bool) {
        let met = if is_met { "yes" } else { MISSED };
        println!("  {what}: {measured} [{target}: {met}]");
        self.line(&format!("| {what} | {measured} | {target} | {met} |"));
    }

    /// A measurement that only informs.
    pub fn note(&mut self, what: &str, measured: String) {
        println!("  {what}: {measured}");
        self.line(&format!("| {what} | {measured} | | |"));
    }

    fn line(&mut self, line: &str) {
        let section = self.sections.last_mut().expect("a section was begun");
        writeln!(section.text, "{line}").expect("memory takes all that is written");
    }

    /// The whole document: these sections, and those of `before` that were not measured now.
    pub fn markdown(self, before: &str, machine: &str, stamp: &str, pace: &Pace) -> String {
        let mut sections = read(before);
        for Section { title, text } in self.sections {
            let text = format!("{}\n\n{stamp}\n", text.trim_end());
            match sections.iter_mut().find(|section| section.title == title) {
                Some(section) => section.text = text,
                None => sections.push(Section { title, text }),
            }
        }
        let missed: Vec<String> = sections
            .iter()
            .flat_map(|section| section.text.lines().map(move |line| (&section.title, line)))
            .filter(|(_, line)| line.ends_with(&format!("| {MISSED} |")))
            .map(|(title, line)| {
                format!("{title}: {}", line.split(" | ").next().unwrap_or_default().trim_matches('|').trim())
            })
            .collect();
        let missed = match missed.as_slice() {
            [] => "Every target is met.".to_owned(),
            missed => format!("Not met: {}.", missed.join("; ")),
        };
        let body: String = sections.iter().map(|Section { title, text }| format!("\n## {title}\n\n{text}")).collect();
        format!(
            "# Benchmarks\n\nWritten by `make bench`. Figures are medians of {} rounds with the least and the most; ratios \
             are those of the two sides of one round, measured one right after the other, for {:?} each. The server, Redis, \
             Postgres and the load (a process of its own with keep-alive connections) share the same cores. Commits wait \
             for the disk (SQLite: WAL with `synchronous=full`; Postgres: defaults with 128 MB of shared buffers); Redis \
             keeps an append-only file, synced every second.\n\n{missed}\n\n{machine}{body}",
            pace.rounds, pace.measured
        )
    }
}

const MISSED: &str = "**no**";

/// The sections of an earlier document.
fn read(document: &str) -> Vec<Section> {
    let sections = document.split("\n## ").skip(1);
    sections
        .filter_map(|section| section.split_once("\n\n"))
        .map(|(title, text)| Section { title: title.to_owned(), text: format!("{}\n", text.trim_end()) })
        .collect()
}
