//! How sure a ratio is: percentile intervals of the bootstrap.
//!
//! Runs differ from each other more than the operations within one do, so where both sides were repeated, what is
//! drawn again and again is repetitions. Where there is one run there is nothing else to draw than its operations;
//! the interval then says nothing about how another run would have turned out, and carries [`Basis::Operations`].
//!
//! The same seed draws the same numbers, so a comparison made twice is the same one.

use fastrand::Rng;
use serde::Serialize;

use super::{Histogram, count, median, whole};

/// Draws of each interval: its ends move by less than a tenth of its width from one seed to another.
const DRAWS: usize = 2000;
/// From this many repetitions on each side, the repetitions are drawn.
pub(super) const REPETITIONS_MIN: usize = 3;
/// From this many operations beyond the quantile on each side, operations are drawn instead.
const OPERATIONS_BEYOND_MIN: f64 = 50.0;

/// A ratio and where it lies with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// As measured.
    pub ratio: f64,
    /// 2.5 % of the draws are smaller.
    pub low: f64,
    /// 2.5 % of the draws are larger.
    pub high: f64,
    /// What was drawn.
    pub basis: Basis,
}

/// What an interval was drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Repetitions.
    Repetitions,
    /// Operations, for want of repetitions.
    Operations,
}

/// How many times larger a quantile of `b` is than that of `a`: of the medians over repetitions, with one histogram
/// for each repetition. Nothing when there is too little to say.
#[must_use]
pub fn ratio_of_quantiles(
    a: &[Histogram],
    b: &[Histogram],
    quantile: f64,
    seed: u64,
) -> Option<Interval> {
    let each = |side: &[Histogram]| -> Vec<f64> {
        side.iter()
            .filter_map(|histogram| histogram.quantile(quantile))
            .collect()
    };
    let (a_each, b_each) = (each(a), each(b));
    if a_each.len().min(b_each.len()) >= REPETITIONS_MIN {
        return ratio_of_medians(&a_each, &b_each, seed);
    }
    let (a_pool, b_pool) = (pooled(a), pooled(b));
    let beyond = quantile.min(1.0 - quantile);
    let enough = |pool: &Histogram| count(pool.total()) * beyond >= OPERATIONS_BEYOND_MIN;
    if !enough(&a_pool) || !enough(&b_pool) {
        return None;
    }
    let mut random = Rng::with_seed(seed);
    let ratio = median(b_each)? / median(a_each)?;
    let draws = (0..DRAWS).map(|_| {
        let below = drawn_quantile(&a_pool, quantile, &mut random);
        drawn_quantile(&b_pool, quantile, &mut random) / below
    });
    interval(ratio, draws.collect(), Basis::Operations)
}

/// How many times larger the median of `b` is than that of `a`, with one number for each repetition. Nothing when
/// there are too few.
#[must_use]
pub fn ratio_of_medians(a: &[f64], b: &[f64], seed: u64) -> Option<Interval> {
    if a.len().min(b.len()) < REPETITIONS_MIN {
        return None;
    }
    let mut random = Rng::with_seed(seed);
    let ratio = median(b.iter().copied())? / median(a.iter().copied())?;
    let draws = (0..DRAWS).map(|_| {
        let below = drawn_median(a, &mut random);
        drawn_median(b, &mut random) / below
    });
    interval(ratio, draws.collect(), Basis::Repetitions)
}

fn interval(ratio: f64, mut draws: Vec<f64>, basis: Basis) -> Option<Interval> {
    draws.retain(|draw| draw.is_finite());
    if draws.len() < DRAWS || !ratio.is_finite() {
        return None;
    }
    draws.sort_by(f64::total_cmp);
    Some(Interval {
        ratio,
        low: draws[DRAWS / 40],
        high: draws[DRAWS - 1 - DRAWS / 40],
        basis,
    })
}

fn pooled(parts: &[Histogram]) -> Histogram {
    let pairs: Vec<Vec<(f64, u64)>> = parts.iter().map(pairs).collect();
    Histogram::merged(pairs.iter().map(Vec::as_slice))
}

fn pairs(histogram: &Histogram) -> Vec<(f64, u64)> {
    let mut before = 0;
    histogram
        .steps()
        .map(|(value, up_to)| (value, up_to - std::mem::replace(&mut before, up_to)))
        .collect()
}

/// The median of as many numbers as there are, each drawn from all of them.
fn drawn_median(numbers: &[f64], random: &mut Rng) -> f64 {
    let drawn = numbers
        .iter()
        .map(|_| numbers[random.usize(..numbers.len())]);
    median(drawn).unwrap_or(f64::NAN)
}

/// The quantile of as many operations as there are, each drawn from all of them, without drawing them: the place of
/// the operation with rank `k` of `n` uniform draws follows the beta distribution with `k` and `n + 1 - k`.
fn drawn_quantile(pool: &Histogram, quantile: f64, random: &mut Rng) -> f64 {
    let total = count(pool.total());
    let rank = (total - 1.0) * quantile + 1.0;
    let place = beta(rank, total + 1.0 - rank, random);
    pool.at_rank(whole(place * total).min(pool.total().saturating_sub(1)))
        .unwrap_or(f64::NAN)
}

fn beta(a: f64, b: f64, random: &mut Rng) -> f64 {
    let x = gamma(a, random);
    let y = gamma(b, random);
    x / (x + y)
}

/// Marsaglia and Tsang, "A simple method for generating gamma variables" (2000), for shapes from 1.
fn gamma(shape: f64, random: &mut Rng) -> f64 {
    debug_assert!(shape >= 1.0, "the method needs shapes from 1");
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(random);
        let v = (1.0 + c * x).powi(3);
        let u = 1.0 - random.f64();
        if v > 0.0 && u.ln() < 0.5 * x * x + d * (1.0 - v + v.ln()) {
            return d * v;
        }
    }
}

/// Box and Muller.
fn normal(random: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.f64()).cos()
}
