//! Secrets: values of an app that its code should not carry, such as the password of a service.
//!
//! People set them and cannot read them back; a function is given those that its spec grants by
//! name. Reading one is a look into memory, so a changed secret is seen by the next call.

use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::name::AppName;
use crate::runtime::BoxFuture;

/// Longest name: that of an environment variable, with room for a prefix.
pub const NAME_LENGTH_MAX: usize = 128;
/// Largest value: a certificate chain with its key fits.
pub const VALUE_BYTES_MAX: usize = 64 << 10;
/// Most secrets of one app.
pub const PER_APP_MAX: usize = 1000;

/// The secrets as functions see them. Which ones a function may see is the caller's to check.
pub trait Secrets: Send + Sync {
    /// A secret's value; `None` when there is none of this name. In memory and cheap.
    fn get(&self, app: &AppName, name: &str) -> Option<Arc<str>>;
}

/// The secrets as people manage them. After a dropped `set` or `remove` it is open whether it is in
/// the file, in memory, or both.
pub trait SecretStore: Secrets {
    /// The names of an app's secrets, in order.
    fn names(&self, app: &AppName) -> Vec<String>;

    /// Sets a secret. Durable on return, and seen by whoever reads from then on. `BadRequest` for a
    /// name or value that is not valid, `TooLarge` for a value over [`VALUE_BYTES_MAX`],
    /// `StorageFull` when the app or the node has as many as it may, or the disk is full.
    fn set<'a>(
        &'a self,
        app: &'a AppName,
        name: &'a str,
        value: Arc<str>,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// Removes a secret, and says whether it was there. Durable on return.
    fn remove<'a>(&'a self, app: &'a AppName, name: &'a str) -> BoxFuture<'a, Result<bool, Error>>;
}

/// Checks a secret's name, which is that of an environment variable: capital letters, digits and
/// underscores, not starting with a digit. Fails with `BadRequest`.
///
/// ```
/// use mote_core::secrets::check_name;
/// assert!(check_name("MQTT_PASSWORD").is_ok() && check_name("_KEY2").is_ok());
/// assert!(check_name("mqtt-password").is_err() && check_name("2ND").is_err());
/// ```
pub fn check_name(name: &str) -> Result<(), Error> {
    let letter = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let valid = (1..=NAME_LENGTH_MAX).contains(&name.len())
        && name.bytes().all(letter)
        && !name.starts_with(|first: char| first.is_ascii_digit());
    if valid {
        return Ok(());
    }
    let shown: String = name.chars().take(64).collect();
    let message = format!("secret name `{}` is not valid", shown.escape_debug());
    Err(Error::new(ErrorKind::BadRequest, message).with_hint(
        "use 1 to 128 capital letters, digits and underscores, not starting with a digit",
    ))
}

/// Checks a secret's value: not empty, at most [`VALUE_BYTES_MAX`] bytes, and without a zero byte,
/// which no environment variable can hold. The errors do not show it.
pub fn check_value(name: &str, value: &str) -> Result<(), Error> {
    if value.is_empty() {
        let message = format!("the value of secret `{name}` is empty");
        return Err(Error::new(ErrorKind::BadRequest, message)
            .with_hint(format!("remove it with `mote secret rm {name}`")));
    }
    if value.len() > VALUE_BYTES_MAX {
        let bytes = value.len();
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!(
                "value of {bytes} bytes for secret `{name}`: the limit is {VALUE_BYTES_MAX} bytes"
            ),
        ));
    }
    if value.contains('\0') {
        let message = format!("the value of secret `{name}` holds a zero byte");
        return Err(Error::new(ErrorKind::BadRequest, message)
            .with_hint("encode binary values, for example with base64"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_bounded_and_not_shown() {
        assert!(check_value("K", &"v".repeat(65_536)).is_ok());
        let refusals = [
            ("v".repeat(65_537), ErrorKind::TooLarge),
            ("hidden\0".to_owned(), ErrorKind::BadRequest),
            (String::new(), ErrorKind::BadRequest),
        ];
        for (value, kind) in refusals {
            let error = check_value("K", &value).unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(error.message().contains("`K`"), "{error}");
            assert!(!error.message().contains("hidden"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_what_the_pattern_says(name in "\\PC{0,140}|[A-Z_0-9]{0,140}") {
            let pattern = |c: char| matches!(c, 'A'..='Z' | '0'..='9' | '_');
            let first = name.chars().next();
            let valid = name.chars().all(pattern)
                && name.len() <= 128
                && first.is_some_and(|c| !c.is_ascii_digit());
            prop_assert_eq!(check_name(&name).is_ok(), valid);
        }
    }
}
