//! Whether two samples could be of one kind: the two-sample Kolmogorov–Smirnov test.

use crate::sample::quantile;

/// How two samples compare.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Comparison {
    /// The largest distance between the two distributions, 0 to 1.
    pub(crate) distance: f64,
    /// How likely so large a distance or a larger one is, if both are of one kind.
    pub(crate) p: f64,
    /// The median of the one less that of the other.
    pub(crate) median_difference: f64,
}

/// Compares two samples.
pub(crate) fn compare(one: &[f64], other: &[f64]) -> Comparison {
    let (mut one, mut other) = (one.to_vec(), other.to_vec());
    let median_difference = quantile(&mut one, 0.5) - quantile(&mut other, 0.5);
    // Sorted now.
    let distance = distance(&one, &other);
    let (n, m) = (one.len() as f64, other.len() as f64);
    Comparison {
        distance,
        p: likelihood(distance, (n * m / (n + m)).sqrt()),
        median_difference,
    }
}

fn distance(one: &[f64], other: &[f64]) -> f64 {
    let (mut i, mut j, mut largest) = (0, 0, 0.0_f64);
    while i < one.len() && j < other.len() {
        let next = one[i].min(other[j]);
        while i < one.len() && one[i] <= next {
            i += 1;
        }
        while j < other.len() && other[j] <= next {
            j += 1;
        }
        let apart = i as f64 / one.len() as f64 - j as f64 / other.len() as f64;
        largest = largest.max(apart.abs());
    }
    largest
}

/// Kolmogorov's distribution with Stephens' correction for finite samples (1970).
fn likelihood(distance: f64, root: f64) -> f64 {
    let lambda = (root + 0.12 + 0.11 / root) * distance;
    // Below this the series has not settled, and its limit is 1.
    if lambda < 0.2 {
        return 1.0;
    }
    let term = |j: i32| {
        let sign = if j % 2 == 0 { -1.0 } else { 1.0 };
        sign * (-2.0 * f64::from(j * j) * lambda * lambda).exp()
    };
    (2.0 * (1..=TERMS).map(term).sum::<f64>()).clamp(0.0, 1.0)
}

const TERMS: i32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(from: f64) -> Vec<f64> {
        (0..1_000).map(|it| from + f64::from(it)).collect()
    }

    #[test]
    fn samples_of_one_kind_are_likely_and_shifted_ones_are_not() {
        let same = compare(&spread(0.0), &spread(0.25));
        assert!(same.p > 0.99, "{same:?}");
        let shifted = compare(&spread(200.0), &spread(0.0));
        assert!(shifted.p < 1e-6, "{shifted:?}");
        assert!((shifted.distance - 0.2).abs() < 1e-9, "{shifted:?}");
        assert!(
            (shifted.median_difference - 200.0).abs() < 1e-9,
            "{shifted:?}"
        );
    }

    /// The 5 % point of Kolmogorov's distribution is 1.358.
    #[test]
    fn the_distribution_is_the_one_in_the_tables() {
        let root = 1_000.0;
        let p = likelihood(1.358 / root, root);
        assert!((p - 0.05).abs() < 0.001, "{p}");
    }
}
