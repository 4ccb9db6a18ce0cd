//! Programs that look around: at the machine, the node, and other apps.

use std::net::TcpListener;

use mote_tests::node::Node;
use mote_tests::source::{Source, python, server};

use crate::{program, says};

/// Helpers of every spy: `tries` says `NAME: denied WHY`, or what it got.
const SPY: &str = r#"
import ctypes, glob, os, signal, socket, threading
libc = ctypes.CDLL(None, use_errno=True)
def tries(name, what):
    try:
        return f"{name}: got {what()!r}"[:500]
    except OSError as e:
        return f"{name}: denied {e!r}"
    except Exception as e:
        return f"{name}: a mistake of this test, {e!r}"
def call(result):
    if result < 0: raise OSError(ctypes.get_errno(), "")
    return "done"
def connect(host, port):
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    s.settimeout(2)
    try:
        s.connect((host, port))
    except TimeoutError:
        return "something was sent"
    return "connected"
def found(what):
    if not what: raise FileNotFoundError
    return what
"#;

/// A handler that tries each of these, and the lines it answers must all be denials.
#[track_caller]
fn all_denied(node: &Node, name: &str, tries: &[(&str, String)]) {
    let lines: String = tries
        .iter()
        .map(|(what, code)| format!("        tries({what:?}, lambda: {code}),\n"))
        .collect();
    let handler =
        format!("{SPY}\ndef handle(request):\n    return \"\\n\".join([\n{lines}    ])\n");
    node.deploy_source(&python(name, "timeout = \"50s\"", &handler));
    let text = node.post(&format!("/{name}"), b"").expect(200).text();
    for line in text.lines() {
        assert!(line.contains(": denied "), "{line} of\n{text}");
    }
    assert_eq!(text.lines().count(), tries.len(), "{text}");
    node.answers_hello();
}

#[test]
fn the_kernel_does_nothing_for_it_that_no_function_needs() {
    let node = Node::start();
    if !node.isolates_fully() {
        return;
    }
    // Each does no harm where it is allowed, and succeeds then.
    let tries = [
        ("raw", "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"),
        ("packet", "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"),
        ("netfilter", "call(libc.socket(16, 3, 12))"),
        ("vsock", "socket.socket(40, socket.SOCK_STREAM)"),
        (
            "mount",
            "call(libc.mount(b'none', b'/tmp', b'tmpfs', 0, None))",
        ),
        ("remount", "call(libc.mount(None, b'/', None, 32, None))"),
        ("umount", "call(libc.umount2(b'/tmp', 2))"),
        ("unshare", "call(libc.unshare(0x10000000))"),
        (
            "setns",
            "call(libc.setns(os.open('/proc/self/ns/net', 0), 0))",
        ),
        ("chroot", "call(libc.chroot(b'/tmp'))"),
        ("setuid", "os.setuid(0)"),
        ("ptrace", "call(libc.ptrace(0, 0, 0, 0))"),
        ("sethostname", "socket.sethostname(socket.gethostname())"),
        ("device", "os.mknod('/tmp/null', 0o20666, os.makedev(1, 3))"),
        ("kmsg", "open('/dev/kmsg').read(1)"),
        ("mem", "open('/dev/mem').read(1)"),
        (
            "sysctl",
            "os.open('/proc/sys/kernel/core_pattern', os.O_WRONLY)",
        ),
        ("sysrq", "os.open('/proc/sysrq-trigger', os.O_WRONLY)"),
        (
            "cgroup",
            "found(glob.glob('/sys/fs/cgroup/**/cgroup.procs', recursive=True))",
        ),
        ("priority", "os.nice(-5)"),
    ];
    let tries = tries.map(|(what, code)| (what, code.to_owned()));
    all_denied(&node, "s.spy", &tries);
}

#[test]
fn the_node_and_the_machine_are_out_of_sight() {
    let node = Node::start();
    if !node.isolates_fully() {
        return;
    }
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let data = node.data_dir().display().to_string();
    let (pid, port) = (node.pid(), outside.local_addr().unwrap().port());
    let tries = [
        ("usr", "open('/usr/evil', 'w')".to_owned()),
        ("code", "open('/app/handler.py', 'a')".to_owned()),
        ("environment", "open('/environment/evil', 'w')".to_owned()),
        ("data", format!("os.listdir('{data}')")),
        ("token", format!("open('{data}/token').read()")),
        ("store", format!("found(glob.glob('{data}/*'))")),
        ("data through proc", format!("os.listdir('/proc/1/root{data}')")),
        ("shadow", "open('/etc/shadow').read()".to_owned()),
        ("root", "os.listdir('/root')".to_owned()),
        ("home", "found(os.listdir('/home'))".to_owned()),
        ("engine", "os.stat('/var/run/docker.sock')".to_owned()),
        ("node", format!("os.kill({pid}, 0)")),
        ("node memory", format!("open('/proc/{pid}/mem', 'rb')")),
        ("first memory", "open('/proc/1/mem', 'r+b')".to_owned()),
        ("descriptors", "found([n for n in os.listdir('/proc/self/fd') if int(n) > 2 and os.readlink('/proc/self/fd/' + n).startswith('/') and not os.readlink('/proc/self/fd/' + n).startswith(('/proc/', '/app', '/environment', '/dev/null', '/usr'))])".to_owned()),
        ("processes", "found([p for p in os.listdir('/proc') if p.isdigit() and b'up\\0--data-dir' in open(f'/proc/{p}/cmdline', 'rb').read()])".to_owned()),
        ("variables", "found([k for k in os.environ if k.startswith(('MOTE_TOKEN', 'MOTE_DATA', 'CARGO'))])".to_owned()),
        ("http door", format!("connect('127.0.0.1', {})", node.http().port())),
        ("admin door", format!("connect('127.0.0.1', {})", node.admin().port())),
        ("loopback", format!("connect('127.0.0.1', {port})")),
        ("loopback 6", format!("connect('::1', {port})")),
        ("any", format!("connect('0.0.0.0', {port})")),
        ("metadata", "connect('169.254.169.254', 80)".to_owned()),
        ("metadata 6", "connect('fd00:ec2::254', 80)".to_owned()),
        ("outside", "connect('192.0.2.1', 80)".to_owned()),
        ("datagram", "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))".to_owned()),
        ("interfaces", "found([i for _, i in socket.if_nameindex() if i != 'lo'])".to_owned()),
    ];
    all_denied(&node, "s.spy", &tries);
}

#[test]
fn apps_do_not_see_each_other() {
    let node = Node::start();
    if !node.isolates_fully() {
        return;
    }
    // It keeps a secret wherever another app might look for it.
    let keeps = r#"
import socket, threading
open('/tmp/secret', 'w').write('secret')
open('/dev/shm/secret', 'w').write('secret') if os.access('/dev/shm', os.W_OK) else None
local = socket.socket(socket.AF_UNIX)
try:
    local.bind('\0secret'); local.listen()
except OSError: pass
globals()['kept'] = local
answer(h, 'kept ' + os.environ['SECRET'])"#;
    let lines = "port = 7000\nenv = { SECRET = \"secret\" }";
    node.deploy_source(&server("a.one", lines, keeps));
    assert_eq!(node.get("/a.one").expect(200).text(), "kept secret");
    let trees = node.data_dir().join("trees").display().to_string();
    let read = |file: &str| {
        format!(
            "found([p for p in os.listdir('/proc') if p.isdigit() and (b'server.py' in open(f'/proc/{{p}}/{file}', 'rb').read() or b'SECRET=' in open(f'/proc/{{p}}/{file}', 'rb').read())])"
        )
    };
    let tries = [
        ("tmp", "open('/tmp/secret').read()".to_owned()),
        ("shared memory", "open('/dev/shm/secret').read()".to_owned()),
        ("code", "open('/app/server.py').read()".to_owned()),
        ("trees", format!("os.listdir('{trees}')")),
        ("command lines", read("cmdline")),
        ("environments", read("environ")),
        ("port", "connect('127.0.0.1', 7000)".to_owned()),
        (
            "local socket",
            "(lambda s: s.connect('\\0secret'))(socket.socket(socket.AF_UNIX))".to_owned(),
        ),
        (
            "roots",
            "found([p for p in glob.glob('/proc/[0-9]*/root/app/server.py')])".to_owned(),
        ),
        (
            "messages",
            "found(open('/proc/sysvipc/shm').read().splitlines()[1:])".to_owned(),
        ),
    ];
    all_denied(&node, "b.two", &tries);
    assert_eq!(node.get("/a.one").expect(200).text(), "kept secret");
}

#[test]
fn a_granted_folder_is_read_and_nothing_beside_it() {
    let node = Node::start();
    if !node.isolates_fully() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (granted, beside) = (folder.path().join("granted"), folder.path().join("beside"));
    std::fs::create_dir(&granted).unwrap();
    std::fs::write(granted.join("file"), "granted").unwrap();
    std::fs::write(&beside, "secret").unwrap();
    std::os::unix::fs::symlink(&beside, granted.join("link")).unwrap();
    // Whoever runs a function need not be who owns the folder.
    for path in [folder.path(), &granted] {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, open).unwrap();
    }
    let code = format!(
        "{SPY}\nprint(tries('file', lambda: open('/data/file').read()))\nprint(tries('link', lambda: open('/data/link').read()))\nprint(tries('up', lambda: open('/data/../beside').read()))\nprint(tries('host', lambda: open('{}').read()))\nprint(tries('write', lambda: open('/data/x', 'w')))\n",
        beside.display()
    );
    let lines = format!(
        "allow.read = [{{ host = \"{}\", guest = \"/data\" }}]",
        granted.display()
    );
    let source: Source = program("g", "stdio", &lines, &code);
    node.deploy_source(&source);
    let text = node.post("/g", b"").expect(200).text();
    let (first, rest) = text.split_once('\n').unwrap();
    assert_eq!(first, "file: got 'granted'");
    for line in rest.lines() {
        says(line, ": denied ");
    }
    assert_eq!(rest.lines().count(), 4, "{text}");
}
