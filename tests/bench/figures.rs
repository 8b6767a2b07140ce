//! Repeated measurements of one thing: their median and how far apart they lie.

use std::fmt;

/// One figure per round.
#[derive(Clone, Debug, Default)]
pub struct Figures(Vec<f64>);

impl Figures {
    pub fn push(&mut self, figure: f64) {
        self.0.push(figure);
        self.0.sort_by(f64::total_cmp);
    }

    /// The middle figure.
    ///
    /// # Panics
    /// If nothing was measured.
    pub fn median(&self) -> f64 {
        assert!(!self.0.is_empty(), "something was measured");
        self.0[self.0.len() / 2]
    }

    /// `median (least..most)` of each figure times `factor`, and the unit.
    pub fn show(&self, factor: f64, unit: &str) -> String {
        let (least, most) = (self.0[0] * factor, self.0[self.0.len() - 1] * factor);
        format!("{} ({}..{}) {unit}", Number(self.median() * factor), Number(least), Number(most)).trim_end().to_owned()
    }
}

/// A number with three digits that count, and commas between thousands.
pub struct Number(pub f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0;
        if value.abs() < 10.0 {
            return write!(f, "{value:.2}");
        }
        if value.abs() < 100.0 {
            return write!(f, "{value:.1}");
        }
        let digits = format!("{value:.0}");
        let mut text = String::new();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        f.write_str(&text)
    }
}
