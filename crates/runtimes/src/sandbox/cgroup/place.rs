//! Where this process's cgroups are, in both versions and in any mix of them.

use std::path::{Path, PathBuf};

/// What this process's cgroups are named in `/proc/self/cgroup`, and where those names are mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// Of version 1: a controller and the folder of this process's cgroup.
    pub(super) v1: Vec<(String, PathBuf)>,
    /// Of version 2.
    pub(super) v2: Option<PathBuf>,
}

/// A mounted hierarchy.
struct Mount {
    /// The cgroup that is seen at the mount point; not `/` inside of some containers.
    root: String,
    point: String,
    unified: bool,
    options: Vec<String>,
}

impl Places {
    /// Of this process. Nothing where cgroups are not mounted.
    pub(super) fn own() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
    }

    fn parse(cgroups: &str, mounts: &str) -> Self {
        let mounts: Vec<Mount> = mounts.lines().filter_map(Mount::parse).collect();
        let mut places = Self::default();
        for line in cgroups.lines() {
            // hierarchy:controllers:path
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if controllers.is_empty() {
                let mount = mounts.iter().find(|mount| mount.unified);
                places.v2 = mount.map(|mount| mount.folder(path));
                continue;
            }
            for controller in controllers.split(',') {
                let mount = mounts
                    .iter()
                    .find(|mount| mount.options.iter().any(|option| option == controller));
                if let Some(mount) = mount {
                    places.v1.push((controller.to_owned(), mount.folder(path)));
                }
            }
        }
        places
    }

    /// The folder of a controller of version 1.
    pub(super) fn v1(&self, controller: &str) -> Option<&Path> {
        let (_, folder) = self.v1.iter().find(|(name, _)| name == controller)?;
        Some(folder)
    }
}

impl Mount {
    /// A line of `/proc/self/mountinfo`, if it is of a cgroup hierarchy (proc(5)).
    fn parse(line: &str) -> Option<Self> {
        let (first, second) = line.split_once(" - ")?;
        let mut first = first.split(' ').skip(3);
        let (root, point) = (first.next()?, first.next()?);
        let mut second = second.split(' ');
        let unified = match second.next()? {
            "cgroup" => false,
            "cgroup2" => true,
            _ => return None,
        };
        let options = if unified { "" } else { second.nth(1)? };
        Some(Self {
            root: unescape(root),
            point: unescape(point),
            unified,
            options: options.split(',').map(str::to_owned).collect(),
        })
    }

    fn folder(&self, path: &str) -> PathBuf {
        let below = Path::new(path).strip_prefix(&self.root);
        // A cgroup outside of what is mounted cannot be named; what is mounted can.
        below.map_or_else(
            |_| PathBuf::from(&self.point),
            |below| Path::new(&self.point).join(below),
        )
    }
}

/// Spaces, tabs, line ends and backslashes are written as three octal digits.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: &str = "\
22 1 0:20 / /proc rw - proc proc rw
30 22 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
31 22 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 22 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 22 0:29 /docker/abc /sys/fs/cgroup/pids\\040here rw - cgroup cgroup rw,pids
";

    #[test]
    fn a_mix_of_versions() {
        let cgroups =
            "9:name=systemd:/x\n8:pids:/docker/abc/in\n4:memory:/a/b\n1:cpu,cpuacct:/\n0::/slice\n";
        let places = Places::parse(cgroups, MIXED);
        let v1 = |name| places.v1(name).map(|path| path.to_str().unwrap());
        assert_eq!(v1("memory"), Some("/sys/fs/cgroup/memory/a/b"));
        assert_eq!(v1("cpu"), Some("/sys/fs/cgroup/cpu,cpuacct/"));
        assert_eq!(v1("pids"), Some("/sys/fs/cgroup/pids here/in"));
        assert_eq!(v1("blkio"), None);
        let v2 = Path::new("/sys/fs/cgroup/unified/slice");
        assert_eq!(places.v2.as_deref(), Some(v2));
    }

    #[test]
    fn a_cgroup_outside_of_what_is_mounted() {
        let mounts = "33 22 0:29 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let places = Places::parse("0::/elsewhere\n", mounts);
        assert_eq!(places.v2.as_deref(), Some(Path::new("/sys/fs/cgroup")));
        assert_eq!(
            Places::parse("nonsense", "nonsense - cgroup"),
            Places::default()
        );
    }
}
