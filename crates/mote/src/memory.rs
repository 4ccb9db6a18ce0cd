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
    fn the_systems_words_are_understood() {
        let text = "some avg10=12.50 avg60=1.00 avg300=0.00 total=9\nfull avg10=1.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(parse_pressure(text), Some(12.5));
        assert_eq!(parse_pressure(""), None);
        assert!(for_instances() > 1 << 20);
    }
}
