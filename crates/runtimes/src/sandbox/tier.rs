//! Which layers of isolation are in force.
//!
//! A layer is found by trying it, because neither the kernel's version nor its configuration says
//! what this process may do: a container, a security module or a sysctl can deny any of them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One way to keep a program apart from everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    /// It runs in a user namespace, so that it has no rights outside of it even as root.
    UserNamespace,
    /// It has mounts of its own.
    MountNamespace,
    /// It sees its own processes only, and ends with the first of them.
    PidNamespace,
    /// It has shared memory and message queues of its own.
    IpcNamespace,
    /// It has a host name of its own.
    UtsNamespace,
    /// It has a loopback interface of its own, and nothing else.
    NetworkNamespace,
    /// It sees only the files that it was given.
    PrivateRoot,
    /// Its memory is limited.
    CgroupMemory,
    /// Its share of the processors is limited.
    CgroupCpu,
    /// The number of its processes is limited.
    CgroupPids,
    /// It cannot make the system calls that no function needs.
    Seccomp,
    /// It can open only the files it should, whatever their modes say.
    Landlock,
    /// No program that it starts gains rights by that.
    NoNewPrivileges,
}

impl Layer {
    /// Every layer, outermost first.
    pub const ALL: &'static [Layer] = &[
        Self::UserNamespace,
        Self::MountNamespace,
        Self::PidNamespace,
        Self::IpcNamespace,
        Self::UtsNamespace,
        Self::NetworkNamespace,
        Self::PrivateRoot,
        Self::CgroupMemory,
        Self::CgroupCpu,
        Self::CgroupPids,
        Self::Seccomp,
        Self::Landlock,
        Self::NoNewPrivileges,
    ];

    /// The name for people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::UserNamespace => "user namespace",
            Self::MountNamespace => "mount namespace",
            Self::PidNamespace => "pid namespace",
            Self::IpcNamespace => "ipc namespace",
            Self::UtsNamespace => "uts namespace",
            Self::NetworkNamespace => "network namespace",
            Self::PrivateRoot => "private root",
            Self::CgroupMemory => "cgroup memory",
            Self::CgroupCpu => "cgroup cpu",
            Self::CgroupPids => "cgroup pids",
            Self::Seccomp => "seccomp",
            Self::Landlock => "landlock",
            Self::NoNewPrivileges => "no-new-privileges",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// The layers in force, as a set.
///
/// Its text is `full`, or names what is missing: `reduced: no cgroup cpu, no landlock`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tier(u16);

impl Tier {
    /// The set of these layers.
    pub fn of(layers: &[Layer]) -> Self {
        Self(layers.iter().fold(0, |set, layer| set | layer.bit()))
    }

    /// Whether a layer is in force.
    pub fn has(self, layer: Layer) -> bool {
        self.0 & layer.bit() != 0
    }

    /// This set and a layer, when it is in force.
    #[must_use]
    pub fn with(self, layer: Layer, in_force: bool) -> Self {
        if in_force {
            Self(self.0 | layer.bit())
        } else {
            Self(self.0 & !layer.bit())
        }
    }

    /// The layers of both sets: those of a sandbox and those of its cgroups.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether no layer is missing.
    pub fn is_full(self) -> bool {
        self.missing().next().is_none()
    }

    /// What is missing, outermost first.
    pub fn missing(self) -> impl Iterator<Item = Layer> {
        Layer::ALL
            .iter()
            .copied()
            .filter(move |layer| !self.has(*layer))
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_full() {
            return f.write_str("full");
        }
        for (index, layer) in self.missing().enumerate() {
            let before = if index == 0 { "reduced: no" } else { ", no" };
            write!(f, "{before} {}", layer.label())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_text_names_what_is_missing() {
        let full = Tier::of(Layer::ALL);
        assert_eq!(full.to_string(), "full");
        let reduced = full
            .with(Layer::Landlock, false)
            .with(Layer::CgroupCpu, false);
        assert_eq!(reduced.to_string(), "reduced: no cgroup cpu, no landlock");
        assert!(!reduced.is_full());
        let both = reduced.and(Tier::of(&[Layer::Landlock, Layer::CgroupCpu]));
        assert_eq!(both, full);
    }
}
