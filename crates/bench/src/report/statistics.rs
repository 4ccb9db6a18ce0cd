//! Numbers out of measurements: pure functions of data, with a seed where chance is used.
//!
//! Latencies are kept as pairs of a value and how many operations had it, so a distribution of millions of operations
//! is as large as its resolution, not as its count.
//!
//! Quantiles are those of the listed operations with a straight line between neighbours (Hyndman and Fan's type 7,
//! the default of R and NumPy), so the median of an even number of operations lies between the two in the middle.

pub mod bootstrap;

/// Latencies, each with how many operations had it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// Ascending, each once.
    values: Vec<f64>,
    /// How many operations had this value or a smaller one.
    up_to: Vec<u64>,
}

impl Histogram {
    /// In any order; what is not a number, and what nothing had, is left out.
    #[must_use]
    pub fn new(pairs: &[(f64, u64)]) -> Self {
        Self::of(pairs.to_vec())
    }

    /// All operations of all of them.
    #[must_use]
    pub fn merged<'a>(parts: impl IntoIterator<Item = &'a [(f64, u64)]>) -> Self {
        Self::of(parts.into_iter().flatten().copied().collect())
    }

    fn of(mut pairs: Vec<(f64, u64)>) -> Self {
        pairs.retain(|(value, count)| value.is_finite() && *count > 0);
        pairs.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let mut histogram = Self::default();
        let mut total = 0_u64;
        for (value, count) in pairs {
            total = total.saturating_add(count);
            if histogram.values.last() == Some(&value) {
                histogram.up_to.pop();
            } else {
                histogram.values.push(value);
            }
            histogram.up_to.push(total);
        }
        histogram
    }

    /// How many operations.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.up_to.last().copied().unwrap_or(0)
    }

    /// Ascending: a value, and how many operations had it or a smaller one.
    pub fn steps(&self) -> impl Iterator<Item = (f64, u64)> {
        self.values.iter().copied().zip(self.up_to.iter().copied())
    }

    /// The value of the operation at `rank`, which counts from nothing in ascending order.
    #[must_use]
    pub fn at_rank(&self, rank: u64) -> Option<f64> {
        let index = self.up_to.partition_point(|up_to| *up_to <= rank);
        self.values.get(index).copied()
    }

    /// The smallest value.
    #[must_use]
    pub fn min(&self) -> Option<f64> {
        self.values.first().copied()
    }

    /// The largest value.
    #[must_use]
    pub fn max(&self) -> Option<f64> {
        self.values.last().copied()
    }

    /// The mean, or nothing of nothing.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        let mut before = 0;
        let mut sum = 0.0;
        for (value, up_to) in self.steps() {
            sum += value * count(up_to - before);
            before = up_to;
        }
        (before > 0).then(|| sum / count(before))
    }

    /// The value that the share `quantile` of operations does not exceed, or nothing of nothing.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let last = self.total().checked_sub(1)?;
        let position = count(last) * quantile.clamp(0.0, 1.0);
        let below = whole(position);
        let low = self.at_rank(below)?;
        let high = self.at_rank(below + 1).unwrap_or(low);
        Some(low + (high - low) * (position - count(below)))
    }

    /// The distance of the quartiles.
    #[must_use]
    pub fn interquartile_range(&self) -> Option<f64> {
        Some(self.quantile(0.75)? - self.quantile(0.25)?)
    }
}

/// The number in the middle, or the mean of the two that are.
#[must_use]
pub fn median(numbers: impl IntoIterator<Item = f64>) -> Option<f64> {
    let ordered = sorted(numbers);
    let high = *ordered.get(ordered.len() / 2)?;
    let low = ordered[(ordered.len() - 1) / 2];
    Some(f64::midpoint(low, high))
}

/// Which of the numbers is the one in the middle; of two that are, the smaller: a run is taken whole, as it was.
#[must_use]
pub fn median_index(numbers: &[f64]) -> Option<usize> {
    let mut order: Vec<usize> = (0..numbers.len())
        .filter(|&index| numbers[index].is_finite())
        .collect();
    order.sort_by(|&a, &b| numbers[a].total_cmp(&numbers[b]));
    order
        .get(order.len().checked_sub(1).map_or(0, |last| last / 2))
        .copied()
}

/// The smallest and the largest.
#[must_use]
pub fn range(numbers: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let ordered = sorted(numbers);
    Some((*ordered.first()?, *ordered.last()?))
}

/// Ascending, without what is not a number.
fn sorted(numbers: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut ordered: Vec<f64> = numbers
        .into_iter()
        .filter(|number| number.is_finite())
        .collect();
    ordered.sort_by(f64::total_cmp);
    ordered
}

/// A count to calculate with.
#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
#[must_use]
pub fn count(value: u64) -> f64 {
    value as f64
}

/// The whole part of a number that is not negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is cut off is the point; negative becomes nothing"
)]
pub(super) fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests;
