//! How much memory this system has, and whether it is short of it.

use std::fs;

/// Bytes that this node may use: the system's memory or the limit of the node's own cgroup.
fn of_node() -> u64 {
    let limits = [total(), cgroup_limit()];
    limits.into_iter().flatten().min().unwrap_or(1 << 30)
}

/// Bytes that instances may reserve by default: three quarters of all.
pub(crate) fn for_instances() -> u64 {
    of_node() / 4 * 3
}

/// The memory of a node whose instances may reserve so much: a node that was given less than it has
/// is as good as a smaller one.
pub(crate) fn of_node_with(for_instances: u64) -> u64 {
    of_node().min(for_instances.saturating_add(for_instances / 3))
}

/// Bytes that stay with each place for a call of WebAssembly, when so many calls may run at once.
///
/// 64 KiB are what a small guest writes to; a call in Go writes to 200 KiB, in JavaScript to 400. What stays is written
/// back before the next call; the rest is given to the system and fetched again by faults. With 256 KiB instead of 64 a
/// call in Go costs 50 us of processor time instead of 460, with 512 KiB one in JavaScript 140 instead of 1,060 (64 calls
/// at once, two processors). A call in Python writes to 1,600 KiB, and gains nothing by more: wasmtime writes back at
/// most 32 pieces of a memory (`MAX_REGIONS` in its `pagemap.rs`), and these are hundreds.
///
/// Places are used again before others are, so about as many have memory as calls ever ran at once, and at most a
/// hundred more on each thread, for functions that come back. 64 of them keep a thirty-second of the node's memory.
pub(crate) fn kept_for_a_call(of_node: u64, calls_max: u32) -> usize {
    const LEAST: u64 = 64 << 10;
    const MOST: u64 = 512 << 10;
    let usual = calls_max.clamp(1, 64);
    let share = of_node / 32 / u64::from(usual);
    let whole_pages = share.clamp(LEAST, MOST) & !0xffff;
    usize::try_from(whole_pages).expect("at most 512 KiB")
}

/// Share of the last ten seconds in which something waited for memory, in percent; 0 where the
/// system does not tell (<https://docs.kernel.org/accounting/psi.html>).
pub(crate) fn pressure() -> f64 {
    fs::read_to_string("/proc/pressure/memory")
        .ok()
        .and_then(|text| parse_pressure(&text))
        .unwrap_or(0.0)
}

fn parse_pressure(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let average = some
        .split(' ')
        .find_map(|field| field.strip_prefix("avg10="))?;
    average.parse().ok()
}

fn total() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

/// The limit of the node's own cgroup, of either version.
fn cgroup_limit() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    own.lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let path = path.trim_start_matches('/');
            let file = match controllers {
                "" => format!("/sys/fs/cgroup/{path}/memory.max"),
                "memory" => format!("/sys/fs/cgroup/memory/{path}/memory.limit_in_bytes"),
                _ => return None,
            };
            fs::read_to_string(file).ok()?.trim().parse().ok()
        })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_with_a_call_is_bounded() {
        assert_eq!(kept_for_a_call(100 << 20, 512), 64 << 10);
        assert_eq!(kept_for_a_call(512 << 20, 512), 256 << 10);
        assert_eq!(kept_for_a_call(1 << 30, 512), 512 << 10);
        assert_eq!(kept_for_a_call(64 << 30, 512), 512 << 10);
        assert_eq!(kept_for_a_call(512 << 20, 1), 512 << 10);
        assert_eq!(kept_for_a_call(0, 0), 64 << 10);
    }

    #[test]
    fn the_systems_words_are_understood() {
        let text = "some avg10=12.50 avg60=1.00 avg300=0.00 total=9\nfull avg10=1.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(parse_pressure(text), Some(12.5));
        assert_eq!(parse_pressure(""), None);
        assert!(for_instances() > 1 << 20);
    }
}
