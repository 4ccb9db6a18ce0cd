//! What the engine is told about a container: everything a function is not granted is denied here.
//!
//! The root is read-only and so are granted folders; what can be written is in memory, with a size,
//! and counts as memory of the container. No capability, no new privilege, no device, no way out of
//! the network, no restart by the engine, and nothing of its output kept on a disk.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, ImageConfig, Mount,
    MountBindOptions, MountBindOptionsPropagationEnum, MountType, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};
use mote_core::spec::FunctionSpec;

use super::code::Code;
use super::engine::NODE_LABEL;
use crate::environment::APP;

/// Where a program of contract `http` listens when its spec does not say.
pub(super) const PORT: u16 = 8080;

/// Open files of a container's processes.
const FILES_MAX: i64 = 4096;
/// Shared memory, which counts as memory of the container.
const SHARED_MEMORY_BYTES: i64 = 16 << 20;
/// Volumes of an image that are replaced by memory.
const VOLUMES_MAX: usize = 16;
/// A name server that is not there (RFC 5737). Names of other containers are answered by the engine;
/// for all others it would ask the node's own servers, which is a way out of an internal network.
const NO_NAME_SERVER: &str = "192.0.2.1";

/// A container to be made.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) spec: &'a FunctionSpec,
    /// The version, for people who look at the engine.
    pub(super) version: &'a str,
    /// The image's name in the engine.
    pub(super) image: &'a str,
    /// What the image says of itself.
    pub(super) config: &'a ImageConfig,
    pub(super) node: &'a str,
    pub(super) network: &'a str,
    pub(super) cgroup_parent: Option<&'a str>,
    /// Variables of the contract; they win over those of the spec.
    pub(super) env: &'a [(&'static str, String)],
    /// Plain source that the image serves.
    pub(super) code: Option<&'a Code>,
}

impl Wanted<'_> {
    /// What the engine is asked for.
    pub(super) fn body(&self) -> ContainerCreateBody {
        let program = self.spec.program.clone().unwrap_or_default();
        let mut env: Vec<String> = Vec::new();
        for (key, value) in &self.spec.env {
            if !self.env.iter().any(|(ours, _)| ours == key) {
                env.push(format!("{key}={value}"));
            }
        }
        env.extend(self.env.iter().map(|(key, value)| format!("{key}={value}")));
        let labels = [
            (NODE_LABEL, self.node),
            ("mote.function", self.spec.name.full()),
            ("mote.version", self.version),
        ];
        // A command replaces what the image starts, its entry point too.
        let command = self.code.map_or(&program.command, |code| &code.command);
        let (entrypoint, cmd) = if command.is_empty() {
            (None, None)
        } else {
            (Some(command.clone()), Some(Vec::new()))
        };
        ContainerCreateBody {
            hostname: Some(self.spec.name.function().to_owned()),
            image: Some(self.image.to_owned()),
            env: Some(env),
            entrypoint,
            cmd,
            working_dir: self.code.map(|_| APP.to_owned()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            // An image's own check would use the container's time; the contract tells more.
            healthcheck: Some(HealthConfig {
                test: Some(vec!["NONE".to_owned()]),
                ..HealthConfig::default()
            }),
            labels: Some(
                labels
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
            ),
            host_config: Some(self.host(&program)),
            ..ContainerCreateBody::default()
        }
    }

    fn host(&self, program: &mote_core::spec::Program) -> HostConfig {
        let memory = i64::try_from(self.spec.limits.memory_bytes).unwrap_or(i64::MAX);
        HostConfig {
            memory: Some(memory),
            // Memory and swap together: no swap.
            memory_swap: Some(memory),
            nano_cpus: Some(nano(program.cpus)),
            // One more for the init process that the engine adds.
            pids_limit: Some(i64::from(program.processes) + 1),
            ulimits: Some(vec![limit("nofile", FILES_MAX), limit("core", 0)]),
            shm_size: Some(SHARED_MEMORY_BYTES),
            readonly_rootfs: Some(true),
            tmpfs: Some(self.tmpfs(program.tmp_bytes)),
            mounts: Some(self.mounts()),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            init: Some(true),
            network_mode: Some(self.network.to_owned()),
            dns: Some(vec![NO_NAME_SERVER.to_owned()]),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::NO),
                maximum_retry_count: None,
            }),
            log_config: Some(HostConfigLogConfig {
                typ: Some("none".to_owned()),
                config: None,
            }),
            cgroup_parent: self.cgroup_parent.map(str::to_owned),
            auto_remove: Some(false),
            privileged: Some(false),
            ..HostConfig::default()
        }
    }

    /// What can be written: `/tmp`, and the volumes of the image, which would be on the disk and
    /// without a limit.
    fn tmpfs(&self, bytes: u64) -> HashMap<String, String> {
        // No size at all would be half of the machine's memory.
        let options = format!("rw,exec,nosuid,nodev,mode=1777,size={}", bytes.max(4096));
        let volumes = self.config.volumes.iter().flatten().take(VOLUMES_MAX);
        let mut tmpfs: HashMap<String, String> = volumes
            .map(|folder| (folder.clone(), options.clone()))
            .collect();
        if bytes > 0 {
            tmpfs.insert("/tmp".to_owned(), options);
        }
        // A folder is granted or temporary, not both.
        tmpfs.retain(|folder, _| {
            !self
                .spec
                .allow
                .read
                .iter()
                .any(|grant| grant.guest == *folder)
        });
        tmpfs
    }

    fn mounts(&self) -> Vec<Mount> {
        let grants = self.spec.allow.read.iter();
        let grants = grants.map(|grant| (&*grant.host, grant.guest.as_str()));
        let code = self.code.iter().flat_map(|code| &code.mounts);
        let code = code.map(|(host, guest)| (&**host, *guest));
        code.chain(grants)
            .map(|(host, guest)| Mount {
                typ: Some(MountType::BIND),
                source: Some(host.to_string_lossy().into_owned()),
                target: Some(guest.to_owned()),
                read_only: Some(true),
                bind_options: Some(MountBindOptions {
                    propagation: Some(MountBindOptionsPropagationEnum::PRIVATE),
                    // What is mounted below would be writable with older engines.
                    non_recursive: Some(true),
                    ..MountBindOptions::default()
                }),
                ..Mount::default()
            })
            .collect()
    }
}

fn limit(name: &str, most: i64) -> ResourcesUlimits {
    ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(most),
        hard: Some(most),
    }
}

/// Processors in billionths.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a spec has at most 1024 processors"
)]
fn nano(cpus: f64) -> i64 {
    (cpus * 1e9) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use mote_core::spec::{DirectoryGrant, Program, RuntimeKind};

    fn body(change: impl FnOnce(&mut FunctionSpec), config: &ImageConfig) -> ContainerCreateBody {
        let mut spec = FunctionSpec::new("light.home".parse().unwrap());
        spec.runtime = RuntimeKind::Container;
        spec.program = Some(Program::default());
        change(&mut spec);
        let wanted = Wanted {
            spec: &spec,
            version: "v1",
            image: "sha256:00",
            config,
            node: "n1",
            network: "mote-n1-home",
            cgroup_parent: None,
            env: &[("PORT", "8080".to_owned())],
            code: None,
        };
        wanted.body()
    }

    #[test]
    fn nothing_is_granted_that_was_not_asked_for() {
        let body = body(|_| {}, &ImageConfig::default());
        let host = body.host_config.unwrap();
        assert_eq!(host.readonly_rootfs, Some(true));
        assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(
            host.security_opt,
            Some(vec!["no-new-privileges".to_owned()])
        );
        assert_eq!(host.memory, Some(64 << 20));
        assert_eq!(host.memory_swap, host.memory);
        assert_eq!(
            (host.nano_cpus, host.pids_limit),
            (Some(1_000_000_000), Some(65))
        );
        assert_eq!(host.network_mode.as_deref(), Some("mote-n1-home"));
        assert_eq!(host.mounts, Some(vec![]));
        assert_eq!((host.cap_add, host.devices, host.binds), (None, None, None));
        assert_eq!((body.entrypoint, body.cmd), (None, None));
        assert_eq!(body.labels.unwrap()["mote.node"], "n1");
    }

    #[test]
    fn the_contract_wins_over_the_environment_of_the_spec() {
        let change = |spec: &mut FunctionSpec| {
            spec.env = [("PORT", "1"), ("A", "b=c")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into();
        };
        let env = body(change, &ImageConfig::default()).env.unwrap();
        assert_eq!(env, ["A=b=c", "PORT=8080"]);
    }

    #[test]
    fn volumes_of_the_image_are_memory_with_a_size() {
        let config = ImageConfig {
            volumes: Some(vec!["/data".to_owned(), "/models".to_owned()]),
            ..ImageConfig::default()
        };
        let change = |spec: &mut FunctionSpec| {
            spec.allow.read = vec![DirectoryGrant {
                host: "/srv/models".into(),
                guest: "/models".to_owned(),
            }];
        };
        let host = body(change, &config).host_config.unwrap();
        let tmpfs = host.tmpfs.unwrap();
        assert!(tmpfs["/data"].contains("size=67108864"), "{tmpfs:?}");
        assert!(!tmpfs.contains_key("/models"));
        let mount = &host.mounts.unwrap()[0];
        assert_eq!(
            (mount.read_only, mount.target.as_deref()),
            (Some(true), Some("/models"))
        );
        let none = |spec: &mut FunctionSpec| spec.program.as_mut().unwrap().tmp_bytes = 0;
        let tmpfs = body(none, &config).host_config.unwrap().tmpfs.unwrap();
        assert!(!tmpfs.contains_key("/tmp") && tmpfs["/data"].contains("size=4096"));
    }
}
