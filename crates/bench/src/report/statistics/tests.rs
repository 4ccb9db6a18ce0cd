//! Quantiles against the listed operations, and intervals against what is known about the data.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the numbers are small"
)]

use proptest::prelude::*;

use super::bootstrap::{Basis, ratio_of_medians, ratio_of_quantiles};
use super::*;

/// Type 7 on the operations one by one, as R does it.
fn quantile_of_list(list: &[f64], quantile: f64) -> f64 {
    let position = (list.len() - 1) as f64 * quantile;
    let low = list[position.floor() as usize];
    let high = list[position.ceil() as usize];
    low + (high - low) * (position - position.floor())
}

fn pairs() -> impl Strategy<Value = Vec<(f64, u64)>> {
    prop::collection::vec((0.0..1e6_f64, 0..20_u64), 1..40)
}

proptest! {
    #[test]
    fn quantiles_and_mean_are_those_of_the_listed_operations(pairs in pairs(), quantile in 0.0..=1.0_f64) {
        let histogram = Histogram::new(&pairs);
        let mut list: Vec<f64> = pairs.iter().flat_map(|(value, count)| vec![*value; *count as usize]).collect();
        list.sort_by(f64::total_cmp);
        prop_assert_eq!(histogram.total(), list.len() as u64);
        if list.is_empty() {
            prop_assert_eq!(histogram.quantile(quantile), None);
            prop_assert_eq!(histogram.mean(), None);
        } else {
            let expect = quantile_of_list(&list, quantile);
            prop_assert!((histogram.quantile(quantile).unwrap() - expect).abs() < 1e-6);
            let mean = list.iter().sum::<f64>() / list.len() as f64;
            prop_assert!((histogram.mean().unwrap() - mean).abs() < 1e-6);
        }
    }

    #[test]
    fn merging_is_the_histogram_of_all(a in pairs(), b in pairs()) {
        let merged = Histogram::merged([a.as_slice(), b.as_slice()]);
        prop_assert_eq!(merged, Histogram::new(&[a, b].concat()));
    }

    #[test]
    fn quantiles_ascend_and_stay_within(pairs in pairs(), low in 0.0..=1.0_f64, high in 0.0..=1.0_f64) {
        let histogram = Histogram::new(&pairs);
        prop_assume!(histogram.total() > 0);
        let (low, high) = (low.min(high), low.max(high));
        let at = |quantile| histogram.quantile(quantile).unwrap();
        prop_assert!(at(low) <= at(high));
        prop_assert_eq!(at(0.0), histogram.min().unwrap());
        prop_assert_eq!(at(1.0), histogram.max().unwrap());
    }

    #[test]
    fn an_interval_holds_its_ratio(numbers in prop::collection::vec(1.0..1e3_f64, 3..12), factor in 0.1..10.0_f64, seed: u64) {
        let scaled: Vec<f64> = numbers.iter().map(|number| number * factor).collect();
        let interval = ratio_of_medians(&numbers, &scaled, seed).unwrap();
        prop_assert!(interval.low <= interval.high);
        prop_assert!((interval.ratio - factor).abs() < 1e-9);
        prop_assert_eq!(Some(interval), ratio_of_medians(&numbers, &scaled, seed));
    }
}

#[test]
fn the_median_of_two_lies_between_them() {
    let histogram = Histogram::new(&[(436.0, 50), (437.0, 50)]);
    assert_eq!(histogram.quantile(0.5), Some(436.5));
    assert_eq!(median([3.0, 1.0, f64::NAN, 2.0, 4.0]), Some(2.5));
    assert_eq!(median([]), None);
}

#[test]
fn the_run_in_the_middle_is_one_of_the_runs() {
    assert_eq!(median_index(&[5.0, 1.0, 3.0]), Some(2));
    assert_eq!(median_index(&[5.0, 1.0, 3.0, 4.0]), Some(2));
    assert_eq!(median_index(&[f64::NAN, 7.0]), Some(1));
    assert_eq!(median_index(&[]), None);
}

#[test]
fn what_is_not_a_number_is_left_out() {
    let histogram = Histogram::new(&[(f64::NAN, 3), (f64::INFINITY, 2), (1.0, 0), (2.0, 4)]);
    assert_eq!(histogram.total(), 4);
    assert_eq!(histogram.mean(), Some(2.0));
    assert_eq!(histogram.interquartile_range(), Some(0.0));
}

#[test]
fn a_few_repetitions_are_drawn_and_one_run_draws_its_operations() {
    let spread: Vec<(f64, u64)> = (1..=1000).map(|value| (f64::from(value), 10)).collect();
    let twice: Vec<(f64, u64)> = spread.iter().map(|(value, n)| (value * 2.0, *n)).collect();
    let (one, other) = (Histogram::new(&spread), Histogram::new(&twice));

    let three = ratio_of_quantiles(
        &[one.clone(), one.clone(), one.clone()],
        &[other.clone(), other.clone(), other.clone()],
        0.5,
        1,
    )
    .unwrap();
    assert_eq!(three.basis, Basis::Repetitions);
    assert!((three.low - 2.0).abs() < 1e-9 && (three.high - 2.0).abs() < 1e-9);

    let single = ratio_of_quantiles(std::slice::from_ref(&one), &[other], 0.5, 1).unwrap();
    assert_eq!(single.basis, Basis::Operations);
    // The median of 10,000 uniform draws has a deviation of 0.5 %, the ratio of two of them of 1.4 % of 2.
    assert!(single.low < 2.0 && 2.0 < single.high);
    let width = single.high - single.low;
    assert!((0.07..0.16).contains(&width), "{width}");

    let few = Histogram::new(&[(1.0, 40), (2.0, 40)]);
    assert_eq!(ratio_of_quantiles(&[few], &[one], 0.5, 1), None);
}

#[test]
fn nothing_divided_by_nothing_has_no_interval() {
    assert_eq!(ratio_of_medians(&[0.0; 3], &[1.0; 3], 1), None);
    assert_eq!(ratio_of_medians(&[1.0; 2], &[1.0; 9], 1), None);
}
