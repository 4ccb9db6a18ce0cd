//! Where a node is, and the token that opens it.
//!
//! A local node writes its addresses and its token into its data directory; a remote one is named
//! by its admin address, with the token beside it.

use std::io::Read;
use std::path::{Path, PathBuf};

use http::Uri;
use mote_core::error::{Error, ErrorKind};

use crate::wire::{ADDRESSES_FILE, Addresses, TOKEN_FILE};

/// What to do about a missing or wrong token.
pub const TOKEN_HINT: &str =
    "set MOTE_TOKEN to the text of the file `token` in the node's data directory";

/// Largest of the files read here.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// A node as a client sees it.
#[derive(Clone, PartialEq, Eq)]
pub struct Node {
    /// Base of the admin API, without a slash at the end: `http://127.0.0.1:8080`.
    pub admin: String,
    /// The bearer token, if there is one.
    pub token: Option<String>,
    /// Where its doors are, if its data directory said so.
    pub addresses: Option<Addresses>,
    /// The data directory that said so.
    pub data_dir: Option<PathBuf>,
}

impl Node {
    /// A node by its admin address, `http://HOST:PORT` or `HOST:PORT`.
    pub fn remote(address: &str, token: Option<String>) -> Result<Self, Error> {
        let text = match address.split_once("://") {
            Some(_) => address.to_owned(),
            None => format!("http://{address}"),
        };
        let text = text.trim_end_matches('/');
        let uri: Option<Uri> = text.parse().ok();
        let valid = uri.is_some_and(|uri| {
            uri.scheme_str() == Some("http") && uri.host().is_some() && uri.path() == "/"
        });
        if !valid {
            return Err(Error::new(
                ErrorKind::BadRequest,
                format!("`{}` is not the address of a node", address.escape_debug()),
            )
            .with_hint("write its admin address, such as http://127.0.0.1:8080"));
        }
        Ok(Self {
            admin: text.to_owned(),
            token: token.map(|token| token.trim().to_owned()),
            addresses: None,
            data_dir: None,
        })
    }

    /// The node that runs in a data directory of this machine. Reads two small files.
    pub fn local(data_dir: &Path) -> Result<Self, Error> {
        let path = data_dir.join(ADDRESSES_FILE);
        let text = read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => not_running(data_dir),
            _ => unreadable(&path, &error),
        })?;
        let addresses: Addresses = serde_json::from_str(&text).map_err(|error| {
            Error::new(
                ErrorKind::Internal,
                format!("{} cannot be read: {error}", path.display()),
            )
        })?;
        let Some(admin) = &addresses.admin else {
            return Err(Error::new(
                ErrorKind::Forbidden,
                format!(
                    "the node in {} has its admin door closed",
                    data_dir.display()
                ),
            )
            .with_hint("start it with --admin 127.0.0.1:8080"));
        };
        let path = data_dir.join(TOKEN_FILE);
        let token = read(&path).map_err(|error| unreadable(&path, &error))?;
        Ok(Self {
            data_dir: Some(data_dir.to_owned()),
            ..Self::remote(admin, Some(token))?.with_addresses(addresses)
        })
    }

    fn with_addresses(mut self, addresses: Addresses) -> Self {
        self.addresses = Some(addresses);
        self
    }

    /// The error for a node that does not answer.
    pub(crate) fn unreachable(&self, cause: &Error) -> Error {
        match &self.data_dir {
            Some(data_dir) => not_running(data_dir),
            None => Error::new(
                ErrorKind::Overloaded,
                format!("no node answers at {}: {cause}", self.admin),
            )
            .with_hint(
                "start one with `mote up`, or check the address given by --node or MOTE_NODE",
            ),
        }
    }

    /// A door's address as this machine can reach it: a door that listens on every address is
    /// reached where the admin door is.
    pub fn reachable(&self, door: &str) -> String {
        let host = self.admin.parse::<Uri>().ok();
        let host = host.as_ref().and_then(Uri::host).unwrap_or("127.0.0.1");
        for any in ["//0.0.0.0:", "//[::]:"] {
            if let Some((scheme, port)) = door.split_once(any) {
                return format!("{scheme}//{host}:{port}");
            }
        }
        door.to_owned()
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token stays out of logs.
        f.debug_struct("Node")
            .field("admin", &self.admin)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}

fn not_running(data_dir: &Path) -> Error {
    Error::new(
        ErrorKind::Overloaded,
        format!("no node is running in {}", data_dir.display()),
    )
    .with_hint("start one with `mote up`, or name another with --data-dir or --node")
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::Unauthorized,
        format!("{} cannot be read: {error}", path.display()),
    )
    .with_hint("run as the user who runs the node, or set MOTE_NODE and MOTE_TOKEN")
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(FILE_BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        for (address, admin) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://edge-7:8080/", "http://edge-7:8080"),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(Node::remote(address, None).unwrap().admin, admin);
        }
        for address in [
            "https://edge:8080",
            "http://",
            "coap://x",
            "http://x/y",
            "a b",
        ] {
            assert!(Node::remote(address, None).is_err(), "{address}");
        }
    }

    #[test]
    fn a_door_on_every_address_is_reached_where_the_node_is() {
        let node = Node::remote("http://edge-7:8080", None).unwrap();
        assert_eq!(node.reachable("http://[::]:8000"), "http://edge-7:8000");
        assert_eq!(node.reachable("coap://0.0.0.0:5683"), "coap://edge-7:5683");
        assert_eq!(
            node.reachable("http://10.0.0.7:8000"),
            "http://10.0.0.7:8000"
        );
    }

    #[test]
    fn the_token_stays_out_of_logs() {
        let node = Node::remote("127.0.0.1:1", Some("secret\n".to_owned())).unwrap();
        assert_eq!(node.token.as_deref(), Some("secret"));
        assert!(!format!("{node:?}").contains("secret"));
    }

    #[test]
    fn a_node_that_is_not_there_is_explained() {
        let error = Node::local(Path::new("/nonexistent/mote")).unwrap_err();
        assert_eq!(error.message(), "no node is running in /nonexistent/mote");
        assert!(error.hint().unwrap().contains("mote up"));
    }
}
