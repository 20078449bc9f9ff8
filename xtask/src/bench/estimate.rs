//! The median and how well it is known.

use super::Result;

/// How much of the probability the interval may leave out, on each side.
const TAIL: f64 = 0.025;

/// A median with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Estimate {
    /// The median of `values` and the interval that its order statistics give.
    ///
    /// Each value is above the true median with probability one half, so the number of those below
    /// it is binomial, and the k-th smallest and k-th largest value enclose it with a probability
    /// that can be computed. Nothing is assumed about the distribution of the values but that they
    /// are independent, and nothing is drawn at random.
    pub(crate) fn of(values: &[f64]) -> Result<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        let rank = rank(n).ok_or("six values are needed for a 95 % interval")?;
        Ok(Self { median: median(&sorted), low: sorted[rank - 1], high: sorted[n - rank] })
    }
}

/// Ours by the other's, for every two neighbouring slices; each says whether it is ours.
pub(crate) fn ratios(slices: &[(bool, f64)]) -> Vec<f64> {
    let (pairs, _) = slices.as_chunks();
    let ratio = |[(_, first), (ours, second)]: &[(bool, f64); 2]| if *ours { second / first } else { first / second };
    pairs.iter().map(ratio).collect()
}

/// The median of values; of none it is not a number.
pub(crate) fn median_of(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    median(&sorted)
}

/// The median of values in order.
fn median(sorted: &[f64]) -> f64 {
    match sorted {
        [] => f64::NAN,
        _ => f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]),
    }
}

/// The greatest k for which fewer than k of n fair coins show heads with at most [`TAIL`].
fn rank(n: usize) -> Option<usize> {
    let mut probability = 0.5_f64.powi(i32::try_from(n).ok()?);
    let mut below = 0.0;
    let mut rank = 0;
    while rank < n {
        below += probability;
        if below > TAIL {
            break;
        }
        probability *= (n - rank) as f64 / (rank + 1) as f64;
        rank += 1;
    }
    (rank > 0).then_some(rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_the_textbook() {
        let table = [(5, None), (6, Some(1)), (8, Some(1)), (10, Some(2)), (20, Some(6)), (50, Some(18))];
        for (n, expected) in table {
            assert_eq!(rank(n), expected, "{n} values");
        }
    }

    #[test]
    fn the_interval_encloses_the_median() {
        let values: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        let estimate = Estimate::of(&values).unwrap();
        assert_eq!(estimate, Estimate { median: 10.5, low: 6.0, high: 15.0 });
        assert!(Estimate::of(&values[..5]).is_err());
    }
}
