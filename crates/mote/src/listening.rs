//! Where a running node listens: said on standard output, and written down for clients.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use mote_api::wire::{ADDRESSES_FILE, Addresses, Doors};
use mote_core::error::{Error, ErrorKind};

/// The addresses that were bound, ports chosen by the system included.
#[derive(Clone, Debug)]
pub(crate) struct Listening {
    /// Functions over HTTP.
    pub(crate) http: Option<SocketAddr>,
    /// Functions over CoAP.
    pub(crate) coap: Option<SocketAddr>,
    /// The admin API.
    pub(crate) admin: Option<SocketAddr>,
    /// The file with the admin token.
    pub(crate) token: PathBuf,
}

impl Listening {
    /// Where the doors are, for the admin API.
    pub(crate) fn doors(&self) -> Doors {
        Doors {
            http: self.http.map(|address| format!("http://{address}")),
            coap: self.coap.map(|address| format!("coap://{address}")),
        }
    }

    fn addresses(&self) -> Addresses {
        let Doors { http, coap } = self.doors();
        Addresses {
            http,
            coap,
            admin: self.admin.map(|address| format!("http://{address}")),
        }
    }

    /// Writes the file `addresses`, then says where the node listens: whoever reads the lines finds
    /// the file. The file goes when the returned guard is dropped.
    pub(crate) fn announce(&self, data_dir: &Path) -> Result<Announced, Error> {
        let path = data_dir.join(ADDRESSES_FILE);
        let failed = |error: std::io::Error| {
            Error::new(
                ErrorKind::Internal,
                format!("cannot write {}: {error}", path.display()),
            )
            .with_hint("check the disk and the owner of the data directory")
        };
        let text =
            serde_json::to_vec_pretty(&self.addresses()).map_err(|error| failed(error.into()))?;
        // Renamed into place, so that no client reads half of it.
        let mut file = tempfile::NamedTempFile::new_in(data_dir).map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;

        let mut lines = String::new();
        let Addresses { http, coap, admin } = self.addresses();
        for (door, url) in [("http", http), ("coap", coap), ("admin", admin)] {
            if let Some(url) = url {
                lines.push_str(&format!("{door} {url}\n"));
            }
        }
        lines.push_str(&format!("token {}\n", self.token.display()));
        let mut stdout = std::io::stdout();
        // A node whose output nobody reads runs all the same.
        let _ = stdout
            .write_all(lines.as_bytes())
            .and_then(|()| stdout.flush());
        Ok(Announced { path })
    }
}

/// The file `addresses` while the node runs.
#[derive(Debug)]
pub(crate) struct Announced {
    path: PathBuf,
}

impl Drop for Announced {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The error for an address that cannot be bound; names it and says what to do.
pub(crate) fn bind_error(door: &str, address: SocketAddr, error: &std::io::Error) -> Error {
    let (kind, hint) = match error.kind() {
        std::io::ErrorKind::AddrInUse => (
            ErrorKind::Conflict,
            format!(
                "another program has it, perhaps another node; stop it, or choose with --{door} {}",
                SocketAddr::new(address.ip(), 0)
            ),
        ),
        std::io::ErrorKind::PermissionDenied => (
            ErrorKind::Forbidden,
            format!("ports below 1024 belong to the administrator; choose another with --{door}"),
        ),
        std::io::ErrorKind::AddrNotAvailable => (
            ErrorKind::BadRequest,
            format!("this machine does not have that address; choose another with --{door}"),
        ),
        _ => (ErrorKind::Internal, format!("choose another with --{door}")),
    };
    Error::new(
        kind,
        format!("the {door} door cannot listen on {address}: {error}"),
    )
    .with_hint(hint)
}
