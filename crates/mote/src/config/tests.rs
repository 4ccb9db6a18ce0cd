//! Precedence, and what is said about values that are not valid.

use std::ffi::OsString;
use std::time::Duration;

use mote_core::error::Error;
use mote_store::key_value::Synced;

use super::{Config, Flags, KEYS, Settings};

fn gather(
    file: &str,
    environment: &[(&str, &str)],
    flags: &[(&'static str, &str)],
) -> Result<Settings, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mote.conf");
    std::fs::write(&path, file).unwrap();
    let flags = Flags {
        file: Some(path),
        values: flags
            .iter()
            .map(|(key, text)| (*key, (*text).to_owned()))
            .collect(),
    };
    Settings::gather(&flags, |name| {
        let found = environment.iter().find(|(key, _)| *key == name);
        found.map(|(_, text)| OsString::from(*text))
    })
}

fn config(file: &str, environment: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Config {
    gather(file, environment, flags).unwrap().check().unwrap()
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let port = |config: Config| config.http.map(|address| address.port());
    let file = "http = \"127.0.0.1:1\"\n";
    let environment = [("MOTE_HTTP", "127.0.0.1:2")];
    let flags = [("http", "127.0.0.1:3")];
    assert_eq!(port(config("", &[], &[])), Some(8000));
    assert_eq!(port(config(file, &[], &[])), Some(1));
    assert_eq!(port(config(file, &environment, &[])), Some(2));
    assert_eq!(port(config(file, &environment, &flags)), Some(3));
    let settings = gather(
        "\nhttp = \"off\"\n",
        &[("MOTE_COAP", "off")],
        &[("drain", "1s")],
    )
    .unwrap();
    assert!(
        settings.0["http"]
            .origin
            .to_string()
            .ends_with("mote.conf:2")
    );
    assert_eq!(settings.0["coap"].origin.to_string(), "MOTE_COAP");
    assert_eq!(settings.0["drain"].origin.to_string(), "--drain");
    assert_eq!(settings.0["admin"].origin.to_string(), "default");
    let config = settings.check().unwrap();
    assert_eq!((config.http, config.coap), (None, None));
}

#[test]
fn the_defaults_are_those_promised() {
    let config = config("", &[], &[]);
    assert_eq!(config.calls_max, 512);
    assert_eq!(config.queue_max, 4096);
    assert_eq!(config.connections_max, 1024);
    assert_eq!(config.images_bytes_max, 256 << 20);
    assert_eq!(config.image_idle, Duration::from_secs(45 * 60));
    assert_eq!(config.admin, Some("127.0.0.1:8080".parse().unwrap()));
    assert!(config.workers.get() >= 1);
    let filter = self::config("log_level = \"info,mote_engine=debug\"", &[], &[]).log_level;
    assert_eq!(filter, "info,mote_engine=debug");
}

#[track_caller]
fn refused(result: Result<Settings, Error>, message: &str, hint: &str) {
    let error = result.and_then(|settings| settings.check()).unwrap_err();
    assert!(error.message().contains(message), "{error}");
    assert!(
        error.hint().unwrap_or_default().contains(hint),
        "{:?}",
        error.hint()
    );
}

#[test]
fn mistakes_are_named_with_their_origin() {
    refused(
        gather("htpp = \"off\"", &[], &[]),
        "mote.conf:1: unknown key `htpp`",
        "did you mean `http`?",
    );
    refused(
        gather("\n[http]\n", &[], &[]),
        "mote.conf:2: http is a table",
        "write http = ",
    );
    refused(gather("http = ", &[], &[]), "mote.conf:1: ", "");
    refused(
        gather("", &[("MOTE_HTTP", "8000")], &[]),
        "http = \"8000\" (from MOTE_HTTP) is not valid",
        "127.0.0.1:8000",
    );
    refused(
        gather("", &[], &[("drain", "10")]),
        "drain = \"10\" (from --drain)",
        "\"10s\"",
    );
    refused(gather("workers = -1", &[], &[]), "workers = \"-1\"", "1024");
    refused(
        gather("coap_block_size = 1000", &[], &[]),
        "coap_block_size",
        "power of two",
    );
    for apps in ["", "home,", "Home", "home;shop"] {
        let file = format!("kv_synced = \"{apps}\"");
        refused(gather(&file, &[], &[]), "kv_synced", "`none`, `all`");
    }
    for level in ["loud", "info,", "mote_engine=inf", ""] {
        let file = format!("log_level = \"{level}\"");
        refused(gather(&file, &[], &[]), "log_level", "trace");
    }
}

#[test]
fn apps_whose_data_is_synced_are_named() {
    let read = |text: &str| {
        let file = format!("kv_synced = \"{text}\"");
        config(&file, &[], &[]).kv_synced
    };
    assert_eq!(config("", &[], &[]).kv_synced, Synced::None);
    assert_eq!(read("all"), Synced::All);
    let apps = ["home", "shop"].map(|name| name.parse().unwrap());
    assert_eq!(read("shop, home"), Synced::Apps(apps.into()));
}

#[test]
fn every_key_has_a_sentence() {
    for key in KEYS {
        assert!(key.doc.trim().ends_with('.'), "{}", key.name);
        assert!(key.variable().starts_with("MOTE_"));
        assert!(!key.takes.is_empty() && !key.takes.ends_with('.'));
    }
}
