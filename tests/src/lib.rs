//! What the end-to-end tests share: the real program as a process, and clients that talk to it over
//! real sockets.
//!
//! What is not here: any part of the program. It is found where cargo built it, started, and judged
//! by what it says and does. Everything fails by panicking with what the program said.
//!
//! ```no_run
//! use mote_tests::node::Node;
//! let mut node = Node::start();
//! node.deploy_example("hello");
//! assert_eq!(node.get("/hello").status, 200);
//! node.stop();
//! ```

#![expect(
    clippy::unwrap_used,
    reason = "this is test code: it stops at the first surprise"
)]

pub mod program;
pub mod project;

pub mod node;

pub mod deploy;

pub mod source;

pub mod engine;

pub mod http;

pub mod guest;

pub mod eventually;
