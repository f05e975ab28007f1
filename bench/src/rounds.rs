//! Ways measured in turn, so that what disturbs one disturbs all.

use crate::sample::Sample;
use crate::ways::Way;

/// Rounds of what takes long and changes little from one to the next.
const FEW: usize = 3;

/// How often such a thing is measured when others have so many rounds.
pub(crate) fn few(rounds: usize) -> usize {
    rounds.min(FEW)
}

/// What was measured of each way, round by round.
pub(crate) struct Rounds<T>(Vec<(Way, Vec<T>)>);

impl<T> Rounds<T> {
    /// Measures each way once in each round: there and back again, so that a drift favours nobody.
    pub(crate) fn measure(ways: &[Way], rounds: usize, mut measure: impl FnMut(Way) -> T) -> Self {
        let mut measured: Vec<_> = ways.iter().map(|way| (*way, Vec::new())).collect();
        for round in 0..rounds {
            let mut order: Vec<_> = measured.iter_mut().collect();
            if !round.is_multiple_of(2) {
                order.reverse();
            }
            for (way, figures) in order {
                figures.push(measure(*way));
            }
        }
        Self(measured)
    }

    /// The ways, in the order in which they were given.
    pub(crate) fn ways(&self) -> impl Iterator<Item = Way> {
        self.0.iter().map(|(way, _)| *way)
    }

    /// Everything that was measured of a way.
    pub(crate) fn all(&self, way: Way) -> impl Iterator<Item = &T> {
        let measured = self.0.iter().filter(move |(measured, _)| *measured == way);
        measured.flat_map(|(_, measured)| measured)
    }

    /// One figure of every round of a way; `None` where the way was not measured.
    pub(crate) fn of(&self, way: Way, figure: impl Fn(&T) -> f64) -> Option<Sample> {
        let (_, measured) = self.0.iter().find(|(measured, _)| *measured == way)?;
        Some(measured.iter().map(figure).collect())
    }

    /// The same over another way's, round by round.
    pub(crate) fn ratio(&self, way: Way, to: Way, figure: impl Fn(&T) -> f64) -> Option<Sample> {
        Some(self.of(way, &figure)?.over(&self.of(to, &figure)?))
    }

    /// What a way costs, for the README: `1.06 (1.5)`, in parentheses against its floor.
    pub(crate) fn cost(&self, way: Way, figure: impl Fn(&T) -> f64) -> String {
        let cost = self
            .of(way, &figure)
            .map(|it| format!("{:.2}", it.median()));
        let cost = cost.unwrap_or_default();
        match (way, self.ratio(way, way.floor(), &figure)) {
            (Way::Floor(_), _) | (_, None) => cost,
            (_, Some(ratio)) => format!("{cost} ({:.1})", ratio.median()),
        }
    }

    /// The same less another way's, round by round.
    pub(crate) fn added(&self, way: Way, to: Way, figure: impl Fn(&T) -> f64) -> Option<Sample> {
        Some(self.of(way, &figure)?.less(&self.of(to, &figure)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ways::Behind;

    #[test]
    fn every_way_has_its_turn_there_and_back() {
        let ways = [Way::Direct, Way::Floor(Behind::Tls)];
        let mut order = Vec::new();
        let rounds = Rounds::measure(&ways, 2, |way| {
            order.push(way);
            order.len() as f64
        });
        assert_eq!(order, [ways[0], ways[1], ways[1], ways[0]]);
        let ratio = rounds.ratio(ways[1], ways[0], |it| *it).unwrap();
        assert_eq!(ratio.ends(), (0.75, 2.0));
    }
}
