//! The figures of one row, of all peers, and the ratios of ours to theirs, round by round.

use crate::engine::peers::{self, Peer};
use crate::figures::Figures;
use crate::report::Report;

/// What one measurement of one peer brought.
#[derive(Clone, Copy, Default)]
pub struct Side {
    /// Jobs per second.
    pub rate: f64,
    /// Of Redis' processor time, per job.
    pub redis_us: f64,
    /// Bytes, of the process or of a job in Redis.
    pub memory: f64,
}

/// One side for each peer and round.
#[derive(Default)]
pub struct Comparison([Vec<Side>; 3]);

impl Comparison {
    pub fn push(&mut self, peer: Peer, side: Side) {
        self.0[peer as usize].push(side);
    }

    /// Rates, with the factors over Node and over the crate that are aimed for.
    pub fn row(&self, report: &mut Report, what: &str, over_node: Option<f64>, over_crate: Option<f64>) {
        let factor = |peer| self.ratio(peer, |side| side.rate);
        let (mut measured, mut targets, mut is_met) = (self.show(), Vec::new(), true);
        for (peer, least, name) in [(Peer::Node, over_node, "Node"), (Peer::Crate, over_crate, "the crate")] {
            if self.0[peer as usize].is_empty() {
                continue;
            }
            measured += &format!("; {} of {name}", factor(peer).show(1.0, "times"));
            if let Some(least) = least {
                targets.push(format!("{least} times {name}"));
                is_met &= factor(peer).median() >= least;
            }
        }
        report.row(what, measured, &targets.join(" and "), is_met);
    }

    pub fn note(&self, report: &mut Report, what: &str) {
        report.note(what, self.show());
    }

    /// Of the processes.
    pub fn memory_row(&self, report: &mut Report, what: &str, most_mb: f64) {
        let ours = self.figures(Peer::Ours, |side| side.memory);
        let is_met = ours.median() / 1e6 <= most_mb;
        report.row(what, self.each(|side| side.memory, 1e-6, "MB"), &format!("at most {most_mb} MB"), is_met);
    }

    /// Of something in Redis, not more than the crate's.
    pub fn bytes_row(&self, report: &mut Report, what: &str) {
        let is_met = self.ratio(Peer::Crate, |side| side.memory).median() <= 1.0;
        report.row(what, self.each(|side| side.memory, 1.0, "B"), "no more than the crate's", is_met);
    }

    /// Redis' processor time, at most this part of Node's.
    pub fn redis_row(&self, report: &mut Report, what: &str, most: f64) {
        let ratio = self.ratio(Peer::Node, |side| side.redis_us);
        let measured = format!("{}; {} of Node's", self.each(|side| side.redis_us, 1.0, "µs"), ratio.show(100.0, "%"));
        report.row(what, measured, &format!("at most {} % of Node's", most * 100.0), ratio.median() <= most);
    }

    fn show(&self) -> String {
        let redis = |peer| self.figures(peer, |side| side.redis_us);
        let sides = self.named().map(|(name, peer)| {
            let rate = self.figures(peer, |side| side.rate).show(1.0, "/s");
            match redis(peer).median() {
                0.0 => format!("{name} {rate}"),
                _ => format!("{name} {rate}, Redis {} a job", redis(peer).show(1.0, "µs")),
            }
        });
        sides.collect::<Vec<_>>().join("; ")
    }

    fn each(&self, of: impl Fn(&Side) -> f64, factor: f64, unit: &str) -> String {
        let sides = self.named().map(|(name, peer)| {
            let figures = self.figures(peer, &of);
            format!("{name} {}", figures.show(factor, unit))
        });
        sides.collect::<Vec<_>>().join("; ")
    }

    /// Those that were measured, ours first.
    fn named(&self) -> impl Iterator<Item = (&'static str, Peer)> {
        peers::ALL.into_iter().rev().filter(|peer| !self.0[*peer as usize].is_empty()).map(|peer| match peer {
            Peer::Ours => ("ours", peer),
            Peer::Node => ("Node", peer),
            Peer::Crate => ("crate", peer),
        })
    }

    fn figures(&self, peer: Peer, of: impl Fn(&Side) -> f64) -> Figures {
        let mut figures = Figures::default();
        for side in &self.0[peer as usize] {
            figures.push(of(side));
        }
        figures
    }

    /// Ours by theirs, of the same round.
    fn ratio(&self, peer: Peer, of: impl Fn(&Side) -> f64) -> Figures {
        let mut figures = Figures::default();
        for (ours, theirs) in self.0[Peer::Ours as usize].iter().zip(&self.0[peer as usize]) {
            figures.push(of(ours) / of(theirs));
        }
        figures
    }
}
