//! Names, units and digits of numbers.

use crate::results::Metric;

/// What a number is divided by before it is shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Unit {
    pub(super) name: &'static str,
    pub(super) divisor: f64,
}

/// What papers print latencies in.
pub(super) const MILLISECONDS: Unit = Unit {
    name: "ms",
    divisor: 1000.0,
};

/// What a metric is called.
pub(super) fn label(metric: Metric) -> &'static str {
    match metric {
        Metric::MedianIqr => "median – IQR of latency",
        Metric::Mean => "mean latency",
        Metric::Median => "median latency",
        Metric::P99 => "99th percentile of latency",
        Metric::Rate => "good answers",
        Metric::Success => "answered well and in time",
        Metric::ServerCpu => "processor time per request",
        Metric::ServerMemory => "memory",
        Metric::InstancesMax => "most instances",
        Metric::InstancesMean => "instances on average",
    }
}

/// Whether it is a latency.
pub(super) fn is_latency(metric: Metric) -> bool {
    matches!(
        metric,
        Metric::MedianIqr | Metric::Mean | Metric::Median | Metric::P99
    )
}

/// The unit of a metric whose largest number is `largest`, as stored.
pub(super) fn unit(metric: Metric, largest: f64) -> Unit {
    let plain = |name| Unit { name, divisor: 1.0 };
    match metric {
        Metric::MedianIqr | Metric::Mean | Metric::Median | Metric::P99 => latency(largest),
        Metric::Rate => plain("per second"),
        Metric::Success => plain("%"),
        Metric::ServerCpu => plain("µs"),
        Metric::ServerMemory => plain("MB"),
        Metric::InstancesMax | Metric::InstancesMean => plain("instances"),
    }
}

/// The unit of latencies of which the largest is `largest_us`.
pub(super) fn latency(largest_us: f64) -> Unit {
    if largest_us < 1000.0 {
        Unit {
            name: "µs",
            divisor: 1.0,
        }
    } else if largest_us < 100e6 {
        MILLISECONDS
    } else {
        Unit {
            name: "s",
            divisor: 1e6,
        }
    }
}

/// Three digits that say something, and all digits before the point.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    let decimals = if size == 0.0 || size >= 99.95 {
        0
    } else if size >= 9.995 {
        1
    } else if size >= 0.9995 {
        2
    } else {
        3
    };
    if size > 0.0 && size < 0.001 {
        return format!("{value:.1e}");
    }
    grouped(&format!("{value:.decimals$}"))
}

/// With as many digits behind the point as `other` has.
pub(super) fn digits_like(value: f64, other: &str) -> String {
    let decimals = other.split_once('.').map_or(0, |(_, rest)| rest.len());
    grouped(&format!("{value:.decimals$}"))
}

/// Of a share: 100 only when it is all of it.
pub(super) fn percent(value: f64) -> String {
    if value < 100.0 && value > 99.95 {
        return format!("{:.3}", (value * 1000.0).floor() / 1000.0);
    }
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// Groups of three digits from ten thousand on, with a narrow space that does not break.
pub(super) fn grouped(digits: &str) -> String {
    let (whole, rest) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.len() < 5 || !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return digits.to_owned();
    }
    let mut text = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    if !rest.is_empty() {
        text.push('.');
        text.push_str(rest);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_say_something() {
        let shown = [0.0, 0.4234, 4.234, 42.34, 436.5, 9_999.6, 12_345.6, 0.000_2];
        let expect = [
            "0",
            "0.423",
            "4.23",
            "42.3",
            "436",
            "10\u{202f}000",
            "12\u{202f}346",
            "2.0e-4",
        ];
        assert_eq!(shown.map(number), expect);
    }

    #[test]
    fn a_share_is_all_only_when_it_is() {
        let shown = [100.0, 99.999_99, 99.98, 99.9, 50.0, 0.0];
        assert_eq!(
            shown.map(percent),
            ["100", "99.999", "99.980", "99.9", "50", "0"]
        );
    }

    #[test]
    fn the_largest_latency_chooses_the_unit() {
        assert_eq!(latency(999.0).name, "µs");
        assert_eq!(latency(1000.0).name, "ms");
        assert_eq!(latency(1e9).name, "s");
    }
}
