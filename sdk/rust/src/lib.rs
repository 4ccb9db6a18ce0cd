//! A function for Mote: a request in, a reply out.
//!
//! ```
//! use mote_function::{Request, handler};
//!
//! handler!(handle);
//!
//! fn handle(request: Request) -> String {
//!     let name = request.query_value("name").unwrap_or_else(|| "world".to_owned());
//!     format!("hello, {name}\n")
//! }
//! # assert_eq!(handle(Request::new("GET", "?name=Ada", "")), "hello, Ada\n");
//! ```
//!
//! Each call runs in a memory of its own: what a handler leaves in a `static` is gone for the next call. What must
//! stay goes into [`keyvalue`]; other functions are called with [`call`]; settings and secrets come from [`config`].
//! What the manifest does not grant is refused with an error that says so.
//!
//! The crate brings no dependency of its own. The feature `json` adds `Request::json` and `Reply::json` with
//! `serde_json`, the feature `http` conversions from and to the types of the crate `http`.
//! A handler can be tested with `cargo test` on the developer's machine: a [`Request::new`] stands for a call. What
//! only a node has, such as key-value data, panics there.

#[doc(hidden)]
#[rustfmt::skip]
#[allow(
    clippy::all,
    missing_docs,
    unreachable_pub,
    unused_imports,
    reason = "generated"
)]
pub mod bindings;
pub mod call;
pub mod config;
pub mod keyvalue;
pub mod log;
mod percent;
mod reply;
mod request;
mod rt;

pub use reply::{IntoReply, Reply};
pub use request::Request;

/// What `handler!` needs, and nobody else.
#[doc(hidden)]
pub mod internal {
    pub use crate::bindings::Guest;
    pub use crate::rt::serve;
}

/// Says which function of this crate serves the calls: `handler!(handle);`, once.
///
/// It takes a [`Request`] and gives anything that is a reply ([`IntoReply`]): text, bytes, a [`Reply`], a status with
/// one of these, or a `Result`, whose error is answered with status 500 and logged.
///
/// ```
/// use mote_function::{Reply, Request, handler};
///
/// handler!(double);
///
/// fn double(request: Request) -> Result<Reply, std::num::ParseIntError> {
///     let number: i64 = request.text().trim().parse()?;
///     Ok(Reply::text(format!("{}\n", number * 2)).header("cache-control", "no-store"))
/// }
/// ```
#[macro_export]
macro_rules! handler {
    ($handler:path) => {
        const _: () = {
            struct Handler;
            impl $crate::internal::Guest for Handler {
                fn handle(
                    body: ::std::vec::Vec<u8>,
                ) -> ::std::result::Result<::std::vec::Vec<u8>, ::std::string::String> {
                    $crate::internal::serve($handler, body)
                }
            }
    $crate::bindings::export_function!(Handler with_types_in $crate::bindings);
        };
    };
}

/// Says what is done once while the function is built, with `build = { language = "rust", preinit = true }`: its memory
/// becomes the one that each call begins with.
///
/// ```
/// use std::sync::OnceLock;
/// use mote_function::{Request, handler, preinit};
///
/// static PRIMES: OnceLock<Vec<u32>> = OnceLock::new();
///
/// preinit!(fill);
/// handler!(handle);
///
/// fn fill() {
///     let is_prime = |n: &u32| (2..*n).all(|d| n % d != 0);
///     PRIMES.set((2..100).filter(is_prime).collect()).ok();
/// }
///
/// fn handle(_: Request) -> String {
///     // Without `preinit = true` it is done now.
///     if PRIMES.get().is_none() { fill() }
///     format!("{:?}\n", PRIMES.get())
/// }
/// # assert!(handle(Request::new("GET", "", "")).contains("97"));
/// ```
///
/// There is no call yet, so it may ask the node for nothing: no request, no settings, no data.
#[macro_export]
macro_rules! preinit {
    ($function:path) => {
        const _: () = {
            #[cfg_attr(target_arch = "wasm32", unsafe(export_name = "mote-preinit"))]
            extern "C" fn preinit() {
                $function();
            }
        };
    };
}
