//! Every key of a node's configuration, declared once.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use mote_core::error::Error;
use mote_store::key_value::Synced;

use super::Settings;
use super::value::{CoapEcho, LogFormat, Value, default_data_dir, wildcard};

/// A key as people see it.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its name in the file.
    pub(crate) name: &'static str,
    /// What it is for, in one sentence.
    pub(crate) doc: &'static str,
    /// The text it has when nobody says anything.
    pub(crate) default: fn() -> String,
    /// What that is in words, where it depends on the machine or the person.
    pub(crate) default_words: Option<&'static str>,
    /// What it may be, as in "calls_max is a number from 1 to 1000000".
    pub(crate) takes: &'static str,
    /// Whether the short help lists it.
    pub(crate) common: bool,
}

impl Key {
    /// The environment variable: `MOTE_DATA_DIR`.
    pub(crate) fn variable(&self) -> String {
        format!("MOTE_{}", self.name.to_uppercase())
    }

    /// The flag without its dashes: `data-dir`.
    pub(crate) fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// The default as help and reference give it, the same on every machine; empty when it is nothing.
    pub(crate) fn default_shown(&self) -> String {
        self.default_words
            .map_or_else(self.default, ToOwned::to_owned)
    }
}

macro_rules! keys {
    ($($(#[doc = $doc:literal])* $visible:ident $name:ident: $type:ty = $default:expr $(, $words:literal)?;)*) => {
        /// Every key, in the order of the help.
        pub(crate) const KEYS: &[Key] = &[$(Key {
            name: stringify!($name),
            doc: concat!($($doc),*),
            default: || $default.to_string(),
            default_words: words!($($words)?),
            takes: <$type as Value>::TAKES,
            common: common!($visible),
        },)*];

        /// A checked configuration.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) struct Config {
            $($(#[doc = $doc])* pub(crate) $name: $type,)*
        }

        impl Config {
            /// Checks the text of every key.
            pub(super) fn from_settings(settings: &Settings) -> Result<Self, Error> {
                Ok(Self { $($name: <$type as Value>::read(stringify!($name), &settings.0[stringify!($name)])?,)* })
            }
        }
    };
}

macro_rules! common {
    (common) => {
        true
    };
    (more) => {
        false
    };
}

macro_rules! words {
    () => {
        None
    };
    ($words:literal) => {
        Some($words)
    };
}

keys! {
    /// The folder in which the node keeps what it must not forget.
    common data_dir: PathBuf = default_data_dir().display(), "/var/lib/mote, for others than root ~/.local/share/mote";
    /// Where functions are called over HTTP: address and port, or `off`.
    common http: Option<SocketAddr> = wildcard(8000), "[::]:8000, without IPv6 0.0.0.0:8000";
    /// Where functions are called over CoAP (UDP): address and port, or `off`.
    common coap: Option<SocketAddr> = wildcard(5683), "[::]:5683, without IPv6 0.0.0.0:5683";
    /// Where the admin API answers: address and port, or `off`.
    common admin: Option<SocketAddr> = "127.0.0.1:8080";
    /// Threads that serve calls; 0 is one for each processor.
    common workers: NonZeroUsize = 0;
    /// How much is logged: error, warn, info, debug, trace, or a filter such as `info,mote_engine=debug`.
    common log_level: String = "info";
    /// How the log is written: `text` or `json`.
    common log_format: LogFormat = "text";
    /// Calls that run at once on this node.
    more calls_max: u32 = 512;
    /// Calls that wait on this node for one of those to end.
    more queue_max: u32 = 4096;
    /// Memory that instances of processes and containers may reserve, all together.
    more memory_bytes_max: u64 = format!("{}", crate::memory::for_instances()), "three quarters of what the node may use";
    /// Instances of each environment in use that are started before a function needs them; 0 is none.
    more warm_instances: u8 = 0;
    /// Where the container engine listens: the path of its socket, or nothing to look in the usual places.
    more container_socket: Option<PathBuf> = "";
    /// The cgroup below which the container engine puts containers, or nothing for its own choice.
    more container_cgroup_parent: Option<String> = "";
    /// Connections of the HTTP door at once.
    more connections_max: u32 = 1024;
    /// Largest artifact that may be uploaded.
    more artifact_bytes_max: u64 = "256MiB";
    /// Memory that compiling one function may use.
    more compile_memory_bytes: u64 = "1GiB";
    /// Time that compiling one function may take.
    more compile_timeout: Duration = "120s";
    /// Processor time that compiling one function may take.
    more compile_cpu: Duration = "120s";
    /// Compiled code that is kept in memory, all functions together.
    more images_bytes_max: u64 = "256MiB";
    /// How long an unused function keeps its compiled code in memory.
    more image_idle: Duration = "45m";
    /// Longest wait for the head of a request.
    more header_timeout: Duration = "10s";
    /// Longest wait for the next piece of a request's body.
    more body_timeout: Duration = "30s";
    /// How long an open connection may be idle.
    more idle_timeout: Duration = "75s";
    /// Key-value data that one app may keep: keys, values, and 64 bytes for each key.
    more kv_app_bytes_max: u64 = "16MiB";
    /// Keys that one app may keep.
    more kv_app_keys_max: u32 = 100_000;
    /// Key-value data that all apps together may keep.
    more kv_bytes_max: u64 = "1GiB";
    /// Apps whose key-value data is on the disk before a write is acknowledged, instead of a second later: `none`, `all`, or names with commas.
    more kv_synced: Synced = "none";
    /// How long calls may go on after the node was told to stop.
    more drain: Duration = "10s";
    /// Which CoAP clients must prove their address before large answers: `private-exempt`, `always` or `never`.
    more coap_echo: CoapEcho = "private-exempt";
    /// Largest block of a block-wise CoAP transfer: a power of two from 16 to 1024.
    more coap_block_size: u16 = 1024;
}
