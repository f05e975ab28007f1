//! The figures of several rounds, told as their median and how far they lie apart.

use std::fmt;

use serde_json::{Value, json};

/// Figures of one kind, one for each round, in the order in which they were taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    /// Takes note of one more round.
    pub(crate) fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// Half of the rounds lie below it.
    ///
    /// # Panics
    /// When there was no round.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        if sorted.len().is_multiple_of(2) {
            (sorted[middle - 1] + sorted[middle]) / 2.0
        } else {
            sorted[middle]
        }
    }

    /// The lowest and the highest round.
    pub(crate) fn ends(&self) -> (f64, f64) {
        let sorted = self.sorted();
        (sorted[0], sorted[sorted.len() - 1])
    }

    /// This over that, round by round: what disturbed a round disturbed both.
    pub(crate) fn over(&self, that: &Self) -> Self {
        assert_eq!(self.0.len(), that.0.len(), "taken in the same rounds");
        let pairs = self.0.iter().zip(&that.0);
        pairs.map(|(this, that)| this / that).collect()
    }

    /// This less that, round by round.
    pub(crate) fn less(&self, that: &Self) -> Self {
        assert_eq!(self.0.len(), that.0.len(), "taken in the same rounds");
        let pairs = self.0.iter().zip(&that.0);
        pairs.map(|(this, that)| this - that).collect()
    }

    /// For summary.json.
    pub(crate) fn json(&self) -> Value {
        let (low, high) = self.ends();
        json!({"median": self.median(), "low": low, "high": high, "rounds": self.0})
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

/// So much of them lies below it.
///
/// # Panics
/// When there are none.
pub(crate) fn quantile(figures: &mut [f64], part: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[((figures.len() - 1) as f64 * part).round() as usize]
}

impl FromIterator<f64> for Sample {
    fn from_iter<I: IntoIterator<Item = f64>>(figures: I) -> Self {
        Self(figures.into_iter().collect())
    }
}

/// `0.96 (0.91–1.02)`, with the precision asked for.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let (low, high) = self.ends();
        write!(
            f,
            "{:.digits$} ({low:.digits$}–{high:.digits$})",
            self.median()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_told_as_its_median_and_its_ends() {
        let odd: Sample = [3.0, 1.0, 2.0].into_iter().collect();
        let even: Sample = [4.0, 1.0, 2.0, 3.0].into_iter().collect();
        assert_eq!(format!("{odd:.1}"), "2.0 (1.0–3.0)");
        assert_eq!(format!("{even:.1}"), "2.5 (1.0–4.0)");
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        let slow: Sample = [10.0, 40.0].into_iter().collect();
        let fast: Sample = [5.0, 20.0].into_iter().collect();
        assert_eq!(slow.over(&fast).ends(), (2.0, 2.0));
    }
}
