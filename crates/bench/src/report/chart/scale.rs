//! From values to places on an axis, and which values are written beside it.

use super::super::units::grouped;

/// An axis without a length: values become shares of it.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
    ticks: Vec<(f64, String)>,
    between: Vec<f64>,
}

impl Scale {
    /// From nothing to the next round number that holds `largest`, with about `wanted` ticks at 1, 2 or 5 of a power of ten.
    pub(in super::super) fn linear(largest: f64, wanted: u32) -> Self {
        let largest = if largest.is_finite() && largest > 0.0 {
            largest
        } else {
            1.0
        };
        let step = round_step(largest / f64::from(wanted.max(1)));
        let steps = (largest / step - 1e-9).ceil().max(1.0);
        let decimals = decimals(step);
        let mut ticks = Vec::new();
        let mut at = 0.0;
        while at <= steps {
            let value = at * step;
            ticks.push((value, grouped(&format!("{value:.decimals$}"))));
            at += 1.0;
        }
        Self {
            low: 0.0,
            high: steps * step,
            logarithmic: false,
            ticks,
            between: Vec::new(),
        }
    }

    /// Between round numbers that hold `smallest` and `largest`; ticks at powers of ten, and at 2 and 5 of them where
    /// these are few.
    pub(in super::super) fn logarithmic(smallest: f64, largest: f64) -> Self {
        if !(largest.is_finite() && largest > 0.0 && smallest > 0.0) {
            return Self::linear(largest, 5);
        }
        let low = round_down(smallest);
        let high = round_up(largest).max(low * 10.0);
        let decades = (high / low).log10();
        let leading: &[f64] = if decades <= 2.5 {
            &[1.0, 2.0, 5.0]
        } else {
            &[1.0]
        };
        // More than eight labels touch each other on a phone.
        let each = (decades / 8.0).ceil().max(1.0);
        let between_at: &[f64] = match decades {
            ..=2.5 => &[3.0, 4.0, 6.0, 7.0, 8.0, 9.0],
            ..=4.5 => &[2.0, 5.0],
            _ => &[],
        };
        let mut ticks = Vec::new();
        let mut between = Vec::new();
        let mut exponent = low.log10().floor();
        while exponent <= high.log10() + 1e-9 {
            let power = 10_f64.powf(exponent);
            for lead in 1..10 {
                let value = f64::from(lead) * power;
                if value < low * (1.0 - 1e-9) || value > high * (1.0 + 1e-9) {
                    continue;
                }
                if leading.contains(&f64::from(lead)) && (exponent / each).fract() == 0.0 {
                    ticks.push((value, power_label(value)));
                } else if between_at.contains(&f64::from(lead)) {
                    between.push(value);
                }
            }
            exponent += 1.0;
        }
        Self {
            low,
            high,
            logarithmic: true,
            ticks,
            between,
        }
    }

    /// Through given values, for numbers that were chosen by people: the ticks are these.
    pub(in super::super) fn through(values: &[(f64, String)]) -> Self {
        let numbers = || values.iter().map(|(value, _)| *value);
        let low = numbers().fold(f64::INFINITY, f64::min);
        let high = numbers().fold(f64::NEG_INFINITY, f64::max);
        let closest = values
            .windows(2)
            .map(|pair| pair[1].0 - pair[0].0)
            .fold(f64::INFINITY, f64::min);
        // Doubling numbers of clients would stand on top of each other.
        let logarithmic = low > 0.0 && values.len() > 2 && closest < (high - low) / 20.0;
        Self {
            low,
            high,
            logarithmic,
            ticks: values.to_vec(),
            between: Vec::new(),
        }
    }

    /// Where a value is, from 0 to 1; beyond the ends at the ends.
    pub(in super::super) fn share(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        if share.is_finite() {
            share.clamp(0.0, 1.0)
        } else {
            0.5
        }
    }

    /// The largest value that is not beyond the end.
    pub(in super::super) fn high(&self) -> f64 {
        self.high
    }

    /// Values with their labels.
    pub(in super::super) fn ticks(&self) -> &[(f64, String)] {
        &self.ticks
    }

    /// Values with a line and no label.
    pub(in super::super) fn between(&self) -> &[f64] {
        &self.between
    }

    pub(in super::super) fn labels(&self) -> impl Iterator<Item = &str> {
        self.ticks.iter().map(|(_, label)| label.as_str())
    }
}

/// The next of 1, 2, 5, 10, … that is not smaller.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let lead = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|lead| lead * power >= value * (1.0 - 1e-9));
    lead.unwrap_or(10.0) * power
}

fn round_down(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let lead = [5.0, 2.0, 1.0]
        .into_iter()
        .find(|lead| lead * power <= value * (1.0 + 1e-9));
    lead.unwrap_or(1.0) * power
}

fn round_step(rough: f64) -> f64 {
    round_up(rough)
}

/// Digits behind the point that tell multiples of `step` apart.
fn decimals(step: f64) -> usize {
    let mut decimals = 0;
    let mut scaled = step;
    while scaled < 1.0 - 1e-9 && decimals < 9 {
        scaled *= 10.0;
        decimals += 1;
    }
    decimals
}

fn power_label(value: f64) -> String {
    let exponent = value.log10();
    if !(-3.0..6.0).contains(&exponent) {
        return format!("{value:.0e}");
    }
    grouped(&format!("{value:.*}", decimals(value)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(scale: &Scale) -> Vec<&str> {
        scale.labels().collect()
    }

    #[test]
    fn linear_ticks_are_1_2_5() {
        assert_eq!(
            labels(&Scale::linear(1737.0, 5)),
            ["0", "500", "1000", "1500", "2000"]
        );
        assert_eq!(
            labels(&Scale::linear(0.31, 4)),
            ["0.0", "0.1", "0.2", "0.3", "0.4"]
        );
        assert_eq!(
            labels(&Scale::linear(100.0, 5)),
            ["0", "20", "40", "60", "80", "100"]
        );
        assert_eq!(labels(&Scale::linear(0.0, 2)), ["0.0", "0.5", "1.0"]);
    }

    #[test]
    fn logarithmic_ticks_are_powers_of_ten_or_more_where_few() {
        assert_eq!(
            labels(&Scale::logarithmic(0.3, 800.0)),
            ["1", "10", "100", "1000"]
        );
        assert_eq!(
            labels(&Scale::logarithmic(9.0, 42.0)),
            ["5", "10", "20", "50"]
        );
        assert_eq!(
            labels(&Scale::logarithmic(0.0, 42.0)),
            labels(&Scale::linear(42.0, 5))
        );
    }

    #[test]
    fn chosen_numbers_that_multiply_get_equal_room() {
        let numbers = |list: &[f64]| -> Vec<(f64, String)> {
            list.iter()
                .map(|number| (*number, number.to_string()))
                .collect()
        };
        assert!(Scale::through(&numbers(&[1.0, 4.0, 16.0, 64.0, 256.0])).logarithmic);
        assert!(!Scale::through(&numbers(&[100.0, 200.0, 300.0])).logarithmic);
        let one = Scale::through(&numbers(&[7.0]));
        assert!(
            (one.share(7.0) - 0.5).abs() < 1e-9,
            "a single value stands in the middle"
        );
    }

    proptest! {
        #[test]
        fn scales_hold_their_values_with_few_ticks(a in 1e-6..1e9_f64, b in 1e-6..1e9_f64, wanted in 2..8_u32) {
            let (small, large) = (a.min(b), a.max(b));
            for scale in [Scale::linear(large, wanted), Scale::logarithmic(small, large)] {
                prop_assert!(scale.high() >= large * (1.0 - 1e-9));
                prop_assert!(scale.ticks().len() >= 2, "{scale:?}");
                prop_assert!(scale.ticks().len() <= 3 + 2 * wanted as usize || scale.logarithmic);
                prop_assert!(scale.ticks().len() <= 16, "{scale:?}");
                prop_assert!(scale.share(small) <= scale.share(large));
            }
        }
    }
}
