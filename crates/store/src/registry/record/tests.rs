//! Stored records: round trips, random bytes, and the pinned bytes of version 1.

use std::os::unix::ffi::OsStrExt;

use mote_core::digest::Digest;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;

fn duration() -> impl Strategy<Value = Duration> {
    (any::<u64>(), 0..1_000_000_000u32).prop_map(|(secs, nanos)| Duration::new(secs, nanos))
}

fn limits() -> impl Strategy<Value = Limits> {
    let bytes = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
    (bytes, duration(), duration(), any::<u32>(), any::<u32>()).prop_map(
        |(
            (memory_bytes, table_elements, body_bytes, log_bytes),
            timeout,
            cpu,
            concurrency,
            queue,
        )| {
            Limits {
                memory_bytes,
                table_elements,
                timeout,
                cpu,
                body_bytes,
                log_bytes,
                concurrency,
                queue,
            }
        },
    )
}

fn grants() -> impl Strategy<Value = Grants> {
    let directory = (any::<String>(), any::<String>()).prop_map(|(host, guest)| DirectoryGrant {
        host: host.into(),
        guest,
    });
    let texts = || vec(any::<String>(), 0..3);
    (texts(), vec(directory, 0..3), any::<bool>(), texts()).prop_map(
        |(http, read, keyvalue, secrets)| Grants {
            http,
            read,
            keyvalue,
            secrets,
        },
    )
}

fn one_of<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    (0..all.len()).prop_map(|place| all[place])
}

/// Numbers whose text is exact; others may come back different in their last digit.
fn quarters() -> impl Strategy<Value = f64> {
    (0..1_000_000_u32).prop_map(|number| f64::from(number) / 4.0)
}

fn program() -> impl Strategy<Value = spec::Program> {
    let how = (
        option::of(one_of(spec::Contract::ALL)),
        one_of(spec::Isolation::ALL),
        any::<bool>(),
    );
    let texts = (
        vec(any::<String>(), 0..3),
        option::of(any::<String>()),
        option::of(any::<String>()),
        option::of(any::<String>()),
    );
    let numbers = (
        option::of(any::<u16>()),
        any::<u64>(),
        any::<u32>(),
        quarters(),
    );
    (how, texts, numbers).prop_map(
        |((contract, isolation, pull), (command, environment, ready, image), numbers)| {
            let (port, tmp_bytes, processes, cpus) = numbers;
            spec::Program {
                contract,
                command,
                environment,
                port,
                ready,
                tmp_bytes,
                processes,
                cpus,
                isolation,
                image,
                pull,
            }
        },
    )
}

fn scale() -> impl Strategy<Value = spec::Scale> {
    (
        any::<u32>(),
        any::<u32>(),
        option::of(any::<u32>()),
        duration(),
    )
        .prop_map(|(min, max, target, idle)| spec::Scale {
            min,
            max,
            target,
            idle,
        })
}

fn spec(name: FunctionName) -> impl Strategy<Value = FunctionSpec> {
    let env = btree_map(any::<String>(), any::<String>(), 0..4);
    let runs = (one_of(RuntimeKind::ALL), option::of(program()), scale());
    (limits(), any::<u32>(), any::<bool>(), env, grants(), runs).prop_map(
        move |(limits, reuse, observable, env, allow, (runtime, program, scale))| FunctionSpec {
            name: name.clone(),
            runtime,
            program,
            scale,
            limits,
            reuse,
            observable,
            env,
            allow,
        },
    )
}

fn version(name: FunctionName) -> impl Strategy<Value = mote_core::registry::Version> {
    let image =
        (any::<String>(), any::<[u8; 32]>(), any::<u64>()).prop_map(|(file, digest, bytes)| {
            mote_core::runtime::Image {
                file,
                digest: Digest::from_bytes(digest),
                bytes,
            }
        });
    (
        spec(name),
        any::<[u8; 32]>(),
        option::of(image),
        any::<u64>(),
    )
        .prop_map(
            |(spec, artifact, image, deployed_ms)| mote_core::registry::Version {
                number: 0,
                spec,
                artifact: Digest::from_bytes(artifact),
                image,
                deployed_ms,
            },
        )
}

fn record() -> impl Strategy<Value = FunctionRecord> {
    (
        "[a-z]([a-z0-9-]{0,61}[a-z0-9])?",
        "[a-z]([a-z0-9-]{0,61}[a-z0-9])?",
    )
        .prop_map(|(function, app)| FunctionName::new(&function, &app).unwrap())
        .prop_flat_map(|name| {
            (
                Just(name.clone()),
                vec(version(name), 1..=5),
                0..5usize,
                any::<u16>(),
            )
        })
        .prop_map(|(name, mut versions, live, first)| {
            for (number, version) in (u32::from(first)..).zip(&mut versions) {
                version.number = number;
            }
            let live = versions[live % versions.len()].number;
            FunctionRecord {
                name,
                live,
                versions,
            }
        })
}

proptest! {
    #[test]
    fn what_is_stored_comes_back(record in record()) {
        let bytes = encode(&record).unwrap();
        prop_assert_eq!(decode(record.name.full(), &bytes).unwrap(), record);
    }

    #[test]
    fn random_bytes_never_panic(name in "\\PC{0,20}", mut bytes in vec(any::<u8>(), 0..200), known in any::<bool>()) {
        if known && !bytes.is_empty() {
            bytes[0] = VERSION;
        }
        prop_assert!(decode(&name, &bytes).is_err());
    }

    // Close to valid is where a decoder breaks.
    #[test]
    fn damaged_records_never_panic(record in record(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = encode(&record).unwrap();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
            prop_assert!(decode(record.name.full(), &bytes).is_err());
        } else {
            bytes[at] = byte;
            if let Ok(decoded) = decode(record.name.full(), &bytes) {
                // Still a record, though maybe another one: it can be stored again.
                encode(&decoded).unwrap();
            }
        }
    }
}

fn one() -> FunctionRecord {
    let name: FunctionName = "light.home".parse().unwrap();
    FunctionRecord {
        live: 3,
        versions: vec![mote_core::registry::Version {
            number: 3,
            spec: FunctionSpec::new(name.clone()),
            artifact: Digest::from_bytes([7; 32]),
            image: None,
            deployed_ms: 1,
        }],
        name,
    }
}

/// What version 1 looks like is a promise to every later version: this text may not change.
#[test]
fn version_one_is_read_for_ever() {
    let json = br#"{"live":3,"versions":[{"number":3,"artifact":"0707070707070707070707070707070707070707070707070707070707070707","image":null,"deployed_ms":1,"spec":{"runtime":"wasm","memory_bytes":67108864,"table_elements":100000,"timeout":{"secs":10,"nanos":0},"cpu":{"secs":1,"nanos":0},"body_bytes":1048576,"log_bytes":65536,"concurrency":64,"queue":1024,"reuse":1,"observable":false,"env":{},"allow_http":[],"allow_read":[]}}]}"#;
    let bytes = [&[1], &json[..]].concat();
    assert_eq!(decode("light.home", &bytes).unwrap(), one());
}

/// The same for version 2.
#[test]
fn version_two_is_read_for_ever() {
    let json = br#"{"live":3,"versions":[{"number":3,"artifact":"0707070707070707070707070707070707070707070707070707070707070707","image":null,"deployed_ms":1,"spec":{"runtime":"process","memory_bytes":67108864,"table_elements":100000,"timeout":{"secs":10,"nanos":0},"cpu":{"secs":1,"nanos":0},"body_bytes":1048576,"log_bytes":65536,"concurrency":64,"queue":1024,"reuse":1,"observable":false,"env":{},"allow_http":[],"allow_read":[],"program":{"contract":"http","command":["./serve"],"environment":null,"port":8080,"ready":"/health","tmp_bytes":67108864,"processes":64,"cpus":0.5,"isolation":"required","pull":false},"scale":{"min":1,"max":4,"target":2,"idle":{"secs":300,"nanos":0}}}}]}"#;
    let bytes = [&[2], &json[..]].concat();
    let mut record = one();
    let spec = &mut record.versions[0].spec;
    spec.runtime = RuntimeKind::Process;
    spec.program = Some(spec::Program {
        contract: Some(spec::Contract::Http),
        command: vec!["./serve".to_owned()],
        port: Some(8080),
        ready: Some("/health".to_owned()),
        cpus: 0.5,
        isolation: spec::Isolation::Required,
        ..spec::Program::default()
    });
    (spec.scale.min, spec.scale.target) = (1, Some(2));
    assert_eq!(decode("light.home", &bytes).unwrap(), record);
}

/// The same for version 3, which is what is written.
#[test]
fn version_three_is_read_for_ever() {
    let json = br#"{"live":3,"versions":[{"number":3,"artifact":"0707070707070707070707070707070707070707070707070707070707070707","image":null,"deployed_ms":1,"spec":{"runtime":"wasm","memory_bytes":67108864,"table_elements":100000,"timeout":{"secs":10,"nanos":0},"cpu":{"secs":1,"nanos":0},"body_bytes":1048576,"log_bytes":65536,"concurrency":64,"queue":1024,"reuse":1,"observable":false,"env":{},"allow_http":[],"allow_read":[],"allow_keyvalue":true,"allow_secrets":["KEY"],"program":null,"scale":{"min":0,"max":4,"target":null,"idle":{"secs":300,"nanos":0}}}}]}"#;
    let bytes = [&[3], &json[..]].concat();
    let mut record = one();
    let allow = &mut record.versions[0].spec.allow;
    (allow.keyvalue, allow.secrets) = (true, vec!["KEY".to_owned()]);
    assert_eq!(decode("light.home", &bytes).unwrap(), record);
    assert_eq!(encode(&record).unwrap(), bytes);
}

#[test]
fn newer_versions_are_named_and_not_guessed_at() {
    let mut bytes = encode(&one()).unwrap();
    bytes[0] = VERSION + 1;
    let error = decode("light.home", &bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error.message().contains("`light.home` has version 4"),
        "{error}"
    );
}

#[test]
fn records_that_contradict_themselves_are_refused() {
    let mut dead = one();
    dead.live = 4;
    let mut twice = one();
    twice.versions.push(twice.versions[0].clone());
    let mut foreign = one();
    foreign.versions[0].spec.name = "other".parse().unwrap();
    let mut huge = one();
    huge.versions[0]
        .spec
        .env
        .insert("K".to_owned(), "v".repeat(RECORD_BYTES_MAX));
    let mut bytes_in_path = one();
    let host = std::ffi::OsStr::from_bytes(b"/\xff");
    bytes_in_path.versions[0]
        .spec
        .allow
        .read
        .push(DirectoryGrant {
            host: host.into(),
            guest: "/x".to_owned(),
        });
    for (record, kind) in [
        (dead, ErrorKind::BadRequest),
        (twice, ErrorKind::BadRequest),
        (foreign, ErrorKind::BadRequest),
        (huge, ErrorKind::TooLarge),
        (bytes_in_path, ErrorKind::BadRequest),
    ] {
        assert_eq!(encode(&record).unwrap_err().kind(), kind);
    }
}
