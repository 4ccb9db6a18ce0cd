//! From the text of a key to its checked type.

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use mote_api::units::{Period, Size};
use mote_core::error::{Error, ErrorKind};
use mote_store::key_value::Synced;

use super::{Origin, Setting};

/// A type that a text can become.
pub(crate) trait Value: Sized {
    /// What the text may be, to follow "KEY is".
    const TAKES: &'static str;

    /// Reads the text of a key. The error names key, text and origin.
    fn read(key: &str, setting: &Setting) -> Result<Self, Error>;
}

/// Who must prove to be where its datagrams say (RFC 9175 §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CoapEcho {
    /// Everyone but loopback and private networks.
    PrivateExempt,
    /// Everyone.
    Always,
    /// No one.
    Never,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON value per line.
    Json,
}

fn bad(key: &str, setting: &Setting, expected: impl fmt::Display) -> Error {
    let text: String = setting.text.chars().take(128).collect();
    let origin = match &setting.origin {
        Origin::Default => "by default".to_owned(),
        origin => format!("from {origin}"),
    };
    Error::new(
        ErrorKind::BadRequest,
        format!(
            "{key} = \"{}\" ({origin}) is not valid",
            text.escape_debug()
        ),
    )
    .with_hint(format!("{key} is {expected}"))
}

impl Value for PathBuf {
    const TAKES: &'static str = "a path";

    fn read(key: &str, setting: &Setting) -> Result<Self, Error> {
        if setting.text.is_empty() {
            return Err(bad(key, setting, Self::TAKES));
        }
        // Absolute, so that it means the same whatever happens to the working directory.
        std::path::absolute(&setting.text)
            .map_err(|error| bad(key, setting, format!("{}: {error}", Self::TAKES)))
    }
}

impl Value for Option<String> {
    const TAKES: &'static str = "a text, or nothing";

    fn read(_: &str, setting: &Setting) -> Result<Self, Error> {
        Ok((!setting.text.is_empty()).then(|| setting.text.clone()))
    }
}

impl Value for Option<PathBuf> {
    const TAKES: &'static str = "a path, or nothing";

    fn read(key: &str, setting: &Setting) -> Result<Self, Error> {
        if setting.text.is_empty() {
            return Ok(None);
        }
        PathBuf::read(key, setting).map(Some)
    }
}

impl Value for Option<SocketAddr> {
    const TAKES: &'static str =
        "an address with a port, such as 127.0.0.1:8000 or [::]:8000, or `off`";

    fn read(key: &str, setting: &Setting) -> Result<Self, Error> {
        if setting.text == "off" {
            return Ok(None);
        }
        setting
            .text
            .parse()
            .map(Some)
            .map_err(|_| bad(key, setting, Self::TAKES))
    }
}

impl Value for NonZeroUsize {
    const TAKES: &'static str = "a number up to 1024; 0 is one for each processor";

    fn read(key: &str, setting: &Setting) -> Result<Self, Error> {
        let count: u16 = setting
            .text
            .parse()
            .ok()
            .filter(|count| *count <= 1024)
            .ok_or_else(|| bad(key, setting, Self::TAKES))?;
        match Self::new(count.into()) {
            Some(count) => Ok(count),
            None => Ok(std::thread::available_parallelism().unwrap_or(Self::MIN)),
        }
    }
}

impl Value for u32 {
    const TAKES: &'static str = "a number from 1 to 1000000";

    fn read(key: &str, setting: &Setting) -> Result<Self, Error> {
        setting
            .text
            .parse()
            .ok()
            .filter(|count| (1..=1_000_000).contains(count))
            .ok_or_else(|| bad(key, setting, Self::TAKES))
    }
}

impl Value for u8 {
    const TAKES: &'static str = "a number up to 16; 0 is none";

    fn read(key: &str, setting: &Setting) -> Result<Self, Error> {
        let count = setting.text.parse().ok();
        count
            .filter(|count| *count <= 16)
            .ok_or_else(|| bad(key, setting, Self::TAKES))
    }
}

impl Value for u16 {
    const TAKES: &'static str = "a power of two from 16 to 1024";

    fn read(key: &str, setting: &Setting) -> Result<Self, Error> {
        setting
            .text
            .parse()
            .ok()
            .filter(|size: &Self| size.is_power_of_two() && (16..=1024).contains(size))
            .ok_or_else(|| bad(key, setting, Self::TAKES))
    }
}

impl Value for u64 {
    const TAKES: &'static str = "a size such as \"64MiB\"";

    fn read(key: &str, setting: &Setting) -> Result<Self, Error> {
        match setting.text.parse::<Size>() {
            Ok(Size(bytes)) if bytes > 0 => Ok(bytes),
            _ => Err(bad(key, setting, Self::TAKES)),
        }
    }
}

impl Value for Duration {
    const TAKES: &'static str = "a duration such as \"10s\"";

    fn read(key: &str, setting: &Setting) -> Result<Self, Error> {
        match setting.text.parse::<Period>() {
            Ok(Period(time)) if !time.is_zero() && time <= Self::from_secs(366 * 86_400) => {
                Ok(time)
            }
            _ => Err(bad(key, setting, Self::TAKES)),
        }
    }
}

impl Value for String {
    const TAKES: &'static str =
        "error, warn, info, debug, trace, or a filter such as \"info,mote_engine=debug\"";

    /// A filter of the log. The logging crate takes a misspelt level for the name of a module and
    /// then logs nothing; here every part must end with a level.
    fn read(key: &str, setting: &Setting) -> Result<Self, Error> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let known = setting.text.split(',').all(|part| {
            let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
            LEVELS.contains(&level.trim())
        });
        match tracing_subscriber::EnvFilter::builder().parse(&setting.text) {
            Ok(_) if known => Ok(setting.text.clone()),
            _ => Err(bad(key, setting, Self::TAKES)),
        }
    }
}

impl Value for CoapEcho {
    const TAKES: &'static str = "`private-exempt`, `always` or `never`";

    fn read(key: &str, setting: &Setting) -> Result<Self, Error> {
        match setting.text.as_str() {
            "private-exempt" => Ok(Self::PrivateExempt),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err(bad(key, setting, Self::TAKES)),
        }
    }
}

impl Value for Synced {
    const TAKES: &'static str = "`none`, `all`, or names of apps such as \"home,shop\"";

    fn read(key: &str, setting: &Setting) -> Result<Self, Error> {
        match setting.text.as_str() {
            "none" => Ok(Self::None),
            "all" => Ok(Self::All),
            names => {
                let apps: Result<_, _> = names.split(',').map(|name| name.trim().parse()).collect();
                apps.map(Self::Apps)
                    .map_err(|_| bad(key, setting, Self::TAKES))
            }
        }
    }
}

impl Value for LogFormat {
    const TAKES: &'static str = "`text` or `json`";

    fn read(key: &str, setting: &Setting) -> Result<Self, Error> {
        match setting.text.as_str() {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(bad(key, setting, Self::TAKES)),
        }
    }
}

/// The text of a variable. One that is not Unicode has no value that any key takes.
pub(super) fn unicode(text: OsString, origin: &Origin) -> Result<String, Error> {
    text.into_string().map_err(|_| {
        Error::new(
            ErrorKind::BadRequest,
            format!("{origin} is not valid Unicode"),
        )
    })
}

/// Where a node keeps its data when nobody says: the system's folder for the administrator, the
/// person's own otherwise.
pub(crate) fn default_data_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/mote");
    }
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    match (absolute("XDG_DATA_HOME"), absolute("HOME")) {
        (Some(data), _) => data.join("mote"),
        (None, Some(home)) => home.join(".local/share/mote"),
        (None, None) => PathBuf::from("/var/lib/mote"),
    }
}

/// Every address of the machine: both families when it has IPv6, else IPv4.
pub(super) fn wildcard(port: u16) -> SocketAddr {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    if UdpSocket::bind(both).is_ok() {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
    } else {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
    }
}
