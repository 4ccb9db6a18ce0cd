//! Settings and secrets: the manifest's `env`, and what it lists in `allow.secrets`.
//!
//! ```no_run
//! let room = mote_function::config::get("ROOM").unwrap_or_else(|| "kitchen".to_owned());
//! ```

use crate::bindings::wasi::config::store;

/// A setting or a secret; a secret wins. `None` when there is none of this name, or it is not granted.
pub fn get(key: &str) -> Option<String> {
    // A node keeps them in memory, so it has nothing to fail with.
    store::get(key).ok().flatten()
}

/// All settings and secrets that the function may see.
pub fn all() -> Vec<(String, String)> {
    store::get_all().unwrap_or_default()
}
