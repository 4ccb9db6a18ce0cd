//! Fates over many packets, held against what was asked for.

use proptest::prelude::*;

use super::*;
use crate::link::settings::Preset;

const PACKETS: usize = 200_000;
const MS: Duration = Duration::from_millis(1);

/// A packet each millisecond: arrivals minus departures in milliseconds, and how many were lost.
fn delays(link: Impairments) -> (Vec<f64>, usize) {
    let mut model = Model::new(link, 7);
    let mut delays = Vec::new();
    let mut lost = 0;
    for number in 0..u32::try_from(PACKETS).unwrap() {
        let now = MS * number;
        match model.send(now, 100, 0) {
            Fate::Arrives { at, .. } => delays.push((at - now).as_secs_f64() * 1e3),
            Fate::Lost => lost += 1,
            Fate::Dropped => panic!("nothing waits"),
        }
    }
    (delays, lost)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / values.len() as f64).sqrt()
}

/// Of each value with the next.
fn correlation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let pairs = values
        .windows(2)
        .map(|pair| (pair[0] - mean) * (pair[1] - mean));
    pairs.sum::<f64>() / values.len() as f64 / deviation(values).powi(2)
}

#[test]
fn delay_deviation_and_loss_are_as_asked() {
    let (delays, lost) = delays(Preset::Cld.impairments());
    assert!((mean(&delays) - 25.0).abs() < 0.1, "{}", mean(&delays));
    assert!((deviation(&delays) - 5.0).abs() < 0.05);
    assert!(correlation(&delays).abs() < 0.01);
    // Within five standard deviations of a binomial distribution.
    let expected = PACKETS as f64 * 0.004;
    assert!(
        (lost as f64 - expected).abs() < 5.0 * expected.sqrt(),
        "{lost}"
    );
}

#[test]
fn correlated_delays_have_the_same_mean_and_deviation() {
    let link = Impairments {
        correlation: 0.9,
        loss: 0.0,
        ..Preset::Cld.impairments()
    };
    let (delays, _) = delays(link);
    assert!((mean(&delays) - 25.0).abs() < 0.3, "{}", mean(&delays));
    assert!((deviation(&delays) - 5.0).abs() < 0.2);
    assert!((correlation(&delays) - 0.9).abs() < 0.01);
}

#[test]
fn in_order_none_overtakes_another() {
    let link = Impairments {
        in_order: true,
        loss: 0.0,
        ..Preset::Cld.impairments()
    };
    let mut model = Model::new(link, 1);
    let mut latest = Duration::ZERO;
    for number in 0..10_000 {
        let Fate::Arrives { at, .. } = model.send(MS * number, 100, 0) else {
            panic!("it arrives");
        };
        assert!(at >= latest);
        latest = at;
    }
}

#[test]
fn a_rate_spaces_packets_and_a_queue_bounds_them() {
    let link = Impairments {
        rate: Some(8e6),
        queue: 3,
        ..Preset::Loc.impairments()
    };
    let mut model = Model::new(link, 1);
    for number in 0..3 {
        // A thousand bytes at a megabyte per second.
        let at = MS * (number + 1);
        let fate = model.send(Duration::ZERO, 1000, number as usize);
        assert_eq!(fate, Fate::Arrives { at, again: None });
    }
    assert_eq!(model.send(Duration::ZERO, 1000, 3), Fate::Dropped);
    let later = model.send(MS * 10, 1000, 0);
    assert_eq!(
        later,
        Fate::Arrives {
            at: MS * 11,
            again: None
        }
    );
}

#[test]
fn all_or_nothing_is_lost_and_doubled() {
    let whole = |change: fn(&mut Impairments)| {
        let mut link = Preset::Loc.impairments();
        change(&mut link);
        Model::new(link, 1).send(MS, 1, 0)
    };
    assert_eq!(whole(|link| link.loss = 1.0), Fate::Lost);
    let twice = Fate::Arrives {
        at: MS,
        again: Some(MS),
    };
    assert_eq!(whole(|link| link.duplicate = 1.0), twice);
    let ahead = Fate::Arrives {
        at: MS,
        again: None,
    };
    let fate = whole(|link| {
        link.delay = MS;
        link.reorder = 1.0;
    });
    assert_eq!(fate, ahead);
}

#[test]
fn a_piece_of_a_stream_that_is_lost_comes_later() {
    let link = Impairments {
        delay: MS,
        loss: 0.1,
        duplicate: 1.0,
        reorder: 1.0,
        rate: Some(8e6),
        ..Preset::Loc.impairments()
    };
    let mut model = Model::new(link, 1);
    let mut lost_in_all = 0;
    for number in 0..10_000 {
        // A millisecond for a thousand bytes, one of delay.
        let (at, lost) = model.send_in_stream(MS * number, 1000, MS * 200);
        let late = if lost { MS * 200 } else { Duration::ZERO };
        assert_eq!(at, MS * (number + 2) + late);
        lost_in_all += i32::from(lost);
    }
    // Within five standard deviations of a binomial distribution.
    assert!((lost_in_all - 1000).abs() < 150, "{lost_in_all}");
}

proptest! {
    #[test]
    fn nothing_arrives_before_it_was_sent(
        seed: u64,
        (delay, deviation) in (0u64..100, 0u64..100),
        (correlation, reorder) in (0.0..0.99, 0.0..1.0),
        packets in prop::collection::vec((0u64..1_000_000, 0usize..2000), 1..50),
    ) {
        let link = Impairments {
            delay: Duration::from_millis(delay),
            deviation: Duration::from_millis(deviation),
            correlation,
            reorder,
            duplicate: 0.5,
            rate: Some(1e6),
            ..Preset::Loc.impairments()
        };
        let (mut model, mut same) = (Model::new(link.clone(), seed), Model::new(link, seed));
        let mut now = Duration::ZERO;
        for (micros, bytes) in packets {
            now += Duration::from_micros(micros);
            let fate = model.send(now, bytes, 0);
            prop_assert_eq!(fate, same.send(now, bytes, 0));
            if let Fate::Arrives { at, again } = fate {
                prop_assert!(at >= now && again.is_none_or(|again| again >= now));
            }
        }
    }
}
