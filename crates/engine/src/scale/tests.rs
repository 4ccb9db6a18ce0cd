//! The policy at its bounds, through a trial, and against random views.

use super::*;
use proptest::prelude::*;

fn view() -> View {
    View {
        running: 1,
        starting: 0,
        idle: 0,
        in_flight: 0,
        waiting: 0,
        slots: 1,
        instances_max: u32::MAX,
        fitting: 100,
        pressure: 0.0,
        recent: Sample::default(),
        trial: None,
        ceiling: None,
    }
}

fn scale(min: u32, max: u32) -> Scale {
    Scale {
        min,
        max,
        ..Scale::default()
    }
}

#[track_caller]
fn check(view: &View, scale: &Scale, now: Instant, instances: u32, reason: Reason) -> Decision {
    let decision = decide(view, scale, now);
    assert_eq!((decision.instances, decision.reason), (instances, reason));
    decision
}

fn sample(rate: u64, latency_ms: f64) -> Sample {
    Sample {
        calls: rate * 2,
        over: Duration::from_secs(2),
        seconds: latency_ms / 1e3 * (rate * 2) as f64,
    }
}

#[tokio::test(start_paused = true)]
async fn goes_from_zero_up_by_doubling_and_back() {
    let now = Instant::now();
    let mut seen = view();
    seen.running = 0;
    check(&seen, &scale(0, 8), now, 0, Reason::Enough);
    seen.waiting = 7;
    check(&seen, &scale(0, 8), now, 2, Reason::Load);
    (seen.running, seen.in_flight, seen.waiting) = (2, 2, 5);
    check(&seen, &scale(0, 8), now, 4, Reason::Load);
    (seen.running, seen.in_flight) = (7, 7);
    check(&seen, &scale(0, 8), now, 8, Reason::Load);
    seen.running = 8;
    check(&seen, &scale(0, 8), now, 8, Reason::Maximum);
    (seen.in_flight, seen.waiting, seen.idle) = (1, 0, 3);
    check(&seen, &scale(0, 8), now, 5, Reason::Idle);
    (seen.in_flight, seen.idle) = (0, 8);
    check(&seen, &scale(0, 8), now, 0, Reason::Idle);
    check(&seen, &scale(2, 8), now, 2, Reason::Idle);
}

#[tokio::test(start_paused = true)]
async fn keeps_its_bounds() {
    let now = Instant::now();
    let mut seen = view();
    seen.running = 0;
    check(&seen, &scale(3, 8), now, 2, Reason::Minimum);
    seen.fitting = 0;
    check(&seen, &scale(3, 8), now, 0, Reason::Memory);
    (seen.running, seen.waiting, seen.fitting) = (2, 9, 1);
    check(&seen, &scale(0, 8), now, 3, Reason::Load);
    (seen.fitting, seen.pressure) = (100, 50.0);
    check(&seen, &scale(0, 8), now, 2, Reason::Pressure);
    (seen.pressure, seen.running) = (0.0, 5);
    check(&seen, &scale(0, 3), now, 3, Reason::Maximum);
    seen.instances_max = 1;
    (seen.running, seen.in_flight) = (1, 50);
    check(&seen, &scale(0, 3), now, 1, Reason::Maximum);
    // Instances that reserve nothing fit without end.
    seen.fitting = u32::MAX;
    check(&seen, &scale(0, 3), now, 1, Reason::Maximum);
}

#[tokio::test(start_paused = true)]
async fn stops_adding_when_calls_get_slower() {
    let start = Instant::now();
    let mut seen = view();
    (seen.running, seen.in_flight, seen.waiting) = (4, 4, 20);
    seen.recent = sample(100, 40.0);
    let begun = check(&seen, &scale(0, 20), start, 8, Reason::Load);
    let mut trial = begun.trial.unwrap();
    assert_eq!((trial.from, trial.since), (4, None));

    trial.since = Some(start);
    (seen.running, seen.in_flight, seen.waiting) = (8, 8, 16);
    seen.trial = Some(trial);
    seen.recent = sample(90, 60.0);
    check(&seen, &scale(0, 20), start + TRIAL / 2, 8, Reason::Trial);
    let judged = check(&seen, &scale(0, 20), start + TRIAL, 4, Reason::Worse);
    let ceiling = judged.ceiling.unwrap();
    assert_eq!((ceiling.instances, judged.trial), (4, None));

    seen.running = 4;
    (seen.trial, seen.ceiling) = (None, Some(ceiling));
    let later = start + TRIAL + CEILING / 2;
    check(&seen, &scale(0, 20), later, 4, Reason::Worse);
    check(&seen, &scale(0, 20), later + CEILING, 8, Reason::Load);
}

#[tokio::test(start_paused = true)]
async fn goes_on_adding_while_it_helps() {
    let now = Instant::now();
    let mut seen = view();
    (seen.running, seen.in_flight, seen.waiting) = (2, 2, 20);
    seen.trial = Some(Trial {
        from: 1,
        before: sample(50, 400.0),
        since: Some(now),
    });
    seen.recent = sample(100, 200.0);
    let decision = check(&seen, &scale(0, 20), now + TRIAL, 4, Reason::Load);
    assert_eq!(decision.trial.unwrap().from, 2);
}

proptest! {
    #[test]
    fn no_view_leads_out_of_bounds(
        running in 0_u32..50, starting in 0_u32..5, idle in 0_u32..50, in_flight in 0_u32..500,
        waiting in 0_u32..500, slots in 1_u32..100, fitting in 0_u32..20, pressure in 0.0..100.0,
        min in 0_u32..10, more in 0_u32..20, target in proptest::option::of(1_u32..50),
    ) {
        let seen = View {
            running, starting, idle, in_flight, waiting, slots, fitting, pressure, ..view()
        };
        let scale = Scale { min, max: (min + more).max(1), target, ..Scale::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _guard = runtime.enter();
        let there = running + starting;
        let decision = decide(&seen, &scale, Instant::now());
        prop_assert!(decision.instances <= there.max(scale.max));
        prop_assert!(decision.instances <= (2 * there).max(2));
        prop_assert!(decision.instances <= there + fitting);
        if decision.instances < there {
            prop_assert!(decision.instances >= min.min(there));
            prop_assert!(matches!(decision.reason, Reason::Idle | Reason::Maximum));
        }
    }
}
