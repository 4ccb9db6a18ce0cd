//! The plan of a root: which names exist in it, and what is behind each.
//!
//! Everything above a bind is a folder of the plan's own, so that no link in an image or on the host
//! can lead a mount elsewhere: an image's folder that a guest path crosses is replaced by one that
//! holds its entries, and a link that it crosses by an empty folder. At most [`NODES_MAX`] names.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::super::root::{Base, Root, guest_names};

/// Most names of one plan.
const NODES_MAX: usize = 4096;

/// What is behind a name.
#[derive(Debug)]
pub(super) enum Node {
    Folder(Folder),
    Link(PathBuf),
    File(String),
    /// A file or folder of the host.
    Bind(PathBuf),
}

/// Names, and what is behind them.
pub(super) type Folder = BTreeMap<String, Node>;

/// How often a path is looked up. The kernel gives up on one with `..` in it, or in a link on its way,
/// when anything on the system is renamed or mounted meanwhile (openat2(2), `EAGAIN`).
const LOOKUPS_MAX: u32 = 1000;

/// The host's files, seen from their root whatever the root of this process is.
#[derive(Debug)]
pub(super) struct Host(OwnedFd);

impl Host {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(root, flags, Mode::empty())?))
    }

    /// Opens what a path leads to, links included, never above the host's root.
    pub(super) fn find(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_with(path, OFlags::PATH)
    }

    fn open_with(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        let within = ResolveFlags::IN_ROOT;
        for _ in 1..LOOKUPS_MAX {
            match rustix::fs::openat2(&self.0, path, flags, Mode::empty(), within) {
                Err(Errno::AGAIN) => std::thread::yield_now(),
                done => return Ok(done?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    fn exists(&self, path: &Path) -> bool {
        self.find(path).is_ok()
    }

    /// What is behind a path itself: a link stays one. Nothing for devices, pipes and sockets.
    fn node(&self, path: &Path) -> io::Result<Option<Node>> {
        let found = self.open_with(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode);
        Ok(match kind {
            FileType::Symlink => Some(Node::Link(link_target(found.as_fd())?)),
            FileType::Directory | FileType::RegularFile => Some(Node::Bind(path.to_owned())),
            _ => None,
        })
    }

    /// The entries of a folder, each bound by itself.
    fn entries(&self, path: &Path) -> io::Result<Folder> {
        let folder = self.open_with(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut entries = Folder::new();
        for entry in rustix::fs::Dir::read_from(&folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if name == "." || name == ".." {
                continue;
            }
            if entries.len() == NODES_MAX {
                return Err(too_many());
            }
            if let Some(node) = self.node(&path.join(name))? {
                entries.insert(name.to_owned(), node);
            }
        }
        Ok(entries)
    }
}

fn link_target(link: impl AsFd) -> io::Result<PathBuf> {
    let target = rustix::fs::readlinkat(link, "", Vec::new())?;
    let target = target
        .into_string()
        .map_err(|_| io::Error::from_raw_os_error(libc::EILSEQ))?;
    Ok(target.into())
}

fn too_many() -> io::Error {
    io::Error::from_raw_os_error(libc::E2BIG)
}

/// The plan of a root.
pub(super) fn plan(host: &Host, root: &Root, host_name: &str) -> io::Result<Folder> {
    let mut folder = match &root.base {
        Base::System => system(host, host_name)?,
        Base::Image(image) => host.entries(image)?,
    };
    for name in ["proc", "dev", "tmp"] {
        folder.insert(name.to_owned(), Node::Folder(Folder::new()));
    }
    // The shorter ones first, so that one within another is not hidden by it.
    let mut binds: Vec<_> = root.binds.iter().collect();
    binds.sort_by_key(|bind| bind.guest.components().count());
    for bind in binds {
        let names =
            guest_names(&bind.guest).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        insert(host, &mut folder, &names, Node::Bind(bind.host.clone()))?;
    }
    if count(&folder) > NODES_MAX {
        return Err(too_many());
    }
    Ok(folder)
}

/// Puts a node at a path, over what was there.
fn insert(host: &Host, folder: &mut Folder, names: &[String], node: Node) -> io::Result<()> {
    let Some((name, rest)) = names.split_first() else {
        return Ok(());
    };
    if rest.is_empty() {
        folder.insert(name.clone(), node);
        return Ok(());
    }
    let below = match folder.remove(name) {
        Some(Node::Folder(below)) => below,
        // A file that is bound has no entries, and gives way.
        Some(Node::Bind(path)) => match host.entries(&path) {
            Err(error) if error.raw_os_error() == Some(libc::ENOTDIR) => Folder::new(),
            entries => entries?,
        },
        Some(Node::Link(_) | Node::File(_)) | None => Folder::new(),
    };
    let entry = folder.entry(name.clone()).or_insert(Node::Folder(below));
    match entry {
        Node::Folder(below) => insert(host, below, rest, node),
        _ => Ok(()),
    }
}

fn count(folder: &Folder) -> usize {
    let below = |node: &Node| match node {
        Node::Folder(folder) => count(folder),
        _ => 0,
    };
    folder.values().map(|node| 1 + below(node)).sum()
}

/// Where systems keep programs and libraries.
const PROGRAMS: &[&str] = &["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// What programs need of `/etc`: how to find libraries, certificates, times and types. Nothing that
/// tells about the machine or its users, and no keys.
const SETTINGS: &[&str] = &[
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ssl/certs",
    "ssl/openssl.cnf",
    "ca-certificates",
    "ca-certificates.conf",
    "pki/ca-trust",
    "pki/tls/certs",
    "crypto-policies",
    "alternatives",
    "localtime",
    "mime.types",
    "protocols",
    "services",
    "os-release",
];

/// The first letters of folders in `/etc` that hold settings of language runtimes.
const LANGUAGES: &[&str] = &["python3", "java"];

fn system(host: &Host, host_name: &str) -> io::Result<Folder> {
    let mut folder = Folder::new();
    for name in PROGRAMS {
        if let Ok(Some(node)) = host.node(&Path::new("/").join(name)) {
            folder.insert((*name).to_owned(), node);
        }
    }

    let mut names: Vec<String> = SETTINGS.iter().map(|&name| name.to_owned()).collect();
    let all = host.entries(Path::new("/etc")).unwrap_or_default();
    names.extend(
        all.into_keys()
            .filter(|name| LANGUAGES.iter().any(|language| name.starts_with(language))),
    );
    let mut etc = Folder::new();
    for name in names {
        // Links are followed: their targets may not be among what is given.
        let path = Path::new("/etc").join(&name);
        if host.exists(&path) {
            let names: Vec<String> = name.split('/').map(str::to_owned).collect();
            insert(host, &mut etc, &names, Node::Bind(path))?;
        }
    }
    for (name, text) in generated(host_name) {
        etc.insert(name.to_owned(), Node::File(text));
    }
    folder.insert("etc".to_owned(), Node::Folder(etc));

    // The first is where code may come later.
    for name in ["app", "run"] {
        folder.insert(name.to_owned(), Node::Folder(Folder::new()));
    }
    let var_tmp = Folder::from([("tmp".to_owned(), Node::Link("/tmp".into()))]);
    folder.insert("var".to_owned(), Node::Folder(var_tmp));
    Ok(folder)
}

fn generated(host_name: &str) -> [(&'static str, String); 6] {
    [
        (
            "passwd",
            "app:x:1000:1000::/tmp:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n".to_owned(),
        ),
        ("group", "app:x:1000:\nnogroup:x:65534:\n".to_owned()),
        (
            "hosts",
            format!("127.0.0.1 localhost {host_name}\n::1 localhost\n"),
        ),
        ("hostname", format!("{host_name}\n")),
        (
            "nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n"
                .to_owned(),
        ),
        ("resolv.conf", String::new()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::root::Bind;

    fn image() -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        std::fs::create_dir_all(image.join("opt/tools")).unwrap();
        std::fs::write(image.join("opt/readme"), "x").unwrap();
        std::os::unix::fs::symlink("/somewhere/else", image.join("app")).unwrap();
        std::os::unix::fs::symlink("/somewhere/else", image.join("tmp")).unwrap();
        std::os::unix::fs::symlink("usr/bin", image.join("bin")).unwrap();
        let bind = |guest: &str| Bind {
            host: "/code".into(),
            guest: guest.into(),
        };
        let root = Root {
            base: Base::Image(image),
            binds: vec![bind("/app/code"), bind("/opt/tools/mine")],
            tmp_bytes: 0,
        };
        (folder, root)
    }

    #[test]
    fn links_of_an_image_lead_no_mount_elsewhere() {
        let (_folder, root) = image();
        let host = Host::open(Path::new("/")).unwrap();
        let plan = plan(&host, &root, "test").unwrap();
        let Node::Folder(app) = &plan["app"] else {
            panic!("{plan:?}");
        };
        assert!(matches!(&app["code"], Node::Bind(path) if path == Path::new("/code")));
        assert!(matches!(&plan["tmp"], Node::Folder(tmp) if tmp.is_empty()));
        assert!(matches!(&plan["bin"], Node::Link(to) if to == Path::new("usr/bin")));
        let Node::Folder(opt) = &plan["opt"] else {
            panic!("{plan:?}");
        };
        assert!(matches!(&opt["readme"], Node::Bind(_)));
        assert!(matches!(&opt["tools"], Node::Folder(tools) if tools.contains_key("mine")));
    }

    #[test]
    fn a_system_has_programs_and_no_secrets() {
        let host = Host::open(Path::new("/")).unwrap();
        let root = Root {
            base: Base::System,
            binds: Vec::new(),
            tmp_bytes: 0,
        };
        let plan = plan(&host, &root, "test").unwrap();
        assert!(plan.contains_key("usr"));
        for absent in ["home", "root", "sys", "srv", "mnt"] {
            assert!(!plan.contains_key(absent), "{absent}");
        }
        let Node::Folder(etc) = &plan["etc"] else {
            panic!("{plan:?}");
        };
        assert!(matches!(&etc["passwd"], Node::File(_)));
        assert!(!etc.contains_key("shadow"));
    }
}
