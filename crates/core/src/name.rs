//! Names of apps and functions.
//!
//! A full name is `function.app`, both DNS labels that start with a letter; `function` alone means
//! the app `default`. Names are parsed once, at the edge: whoever holds a [`FunctionName`] holds a
//! valid one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};

/// The app of a function that was named without one.
pub const DEFAULT_APP: &str = "default";

/// Longest label, as in DNS (RFC 1035 §2.3.4).
pub const LABEL_LENGTH_MAX: usize = 63;

/// A function's full name: the function's label and its app's label.
///
/// ```
/// use mote_core::name::FunctionName;
/// let light: FunctionName = "light.home".parse().unwrap();
/// assert_eq!((light.function(), light.app()), ("light", "home"));
/// let hello: FunctionName = "hello".parse().unwrap();
/// assert_eq!((hello.app(), hello.to_string().as_str()), ("default", "hello"));
/// assert!("a/b".parse::<FunctionName>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionName {
    full: Box<str>,
    dot: u8,
}

impl FunctionName {
    /// Joins two labels. Fails with `BadRequest` when one of them is not a DNS label that starts
    /// with a letter.
    pub fn new(function: &str, app: &str) -> Result<Self, Error> {
        check_label("function name", function)?;
        check_label("app name", app)?;
        let dot = u8::try_from(function.len()).expect("a label is at most 63 bytes");
        Ok(Self {
            full: format!("{function}.{app}").into_boxed_str(),
            dot,
        })
    }

    /// The function's own label.
    pub fn function(&self) -> &str {
        &self.full[..usize::from(self.dot)]
    }

    /// The app's label.
    pub fn app(&self) -> &str {
        &self.full[usize::from(self.dot) + 1..]
    }

    /// The name of another function as this one says it: `resize`, or with its own app's name
    /// `resize.home`. Fails with `BadRequest` when the text is not a name, and with `Forbidden`
    /// when it names another app.
    ///
    /// ```
    /// use mote_core::name::FunctionName;
    /// let light: FunctionName = "light.home".parse().unwrap();
    /// assert_eq!(light.sibling("resize").unwrap().full(), "resize.home");
    /// assert_eq!(light.sibling("resize.home").unwrap().full(), "resize.home");
    /// assert!(light.sibling("resize.office").is_err());
    /// ```
    pub fn sibling(&self, text: &str) -> Result<Self, Error> {
        let Some((function, app)) = text.split_once('.') else {
            return Self::new(text, self.app());
        };
        let name = Self::new(function, app)?;
        if name.app() == self.app() {
            return Ok(name);
        }
        let message = format!(
            "function `{self}` of app `{}` may not call `{}` of app `{}`",
            self.app(),
            name.function(),
            name.app()
        );
        Err(Error::new(ErrorKind::Forbidden, message)
            .with_hint("only functions of the same app call each other; call others over HTTP, with `allow.http`"))
    }

    /// `function.app`, also for the app `default`.
    pub fn full(&self) -> &str {
        &self.full
    }

    /// The shortest spelling that parses back: without the app when that is `default`.
    pub fn short(&self) -> &str {
        if self.app() == DEFAULT_APP {
            self.function()
        } else {
            self.full()
        }
    }
}

impl FromStr for FunctionName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once('.') {
            Some((function, app)) => Self::new(function, app),
            None => Self::new(text, DEFAULT_APP),
        }
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

impl fmt::Debug for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.full())
    }
}

/// An app's name: one label. Cheap to clone.
///
/// ```
/// use mote_core::name::AppName;
/// let home: AppName = "home".parse().unwrap();
/// assert_eq!(home.as_str(), "home");
/// assert!("Home".parse::<AppName>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppName(Arc<str>);

impl AppName {
    /// The label.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for AppName {
    /// The app of functions that are named without one.
    fn default() -> Self {
        Self(DEFAULT_APP.into())
    }
}

impl From<&FunctionName> for AppName {
    /// The function's app.
    fn from(function: &FunctionName) -> Self {
        Self(function.app().into())
    }
}

impl FromStr for AppName {
    type Err = Error;

    /// Fails with `BadRequest` when it is not a DNS label that starts with a letter.
    fn from_str(text: &str) -> Result<Self, Error> {
        check_label("app name", text)?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks one label; `what` names it in the error.
pub fn check_label(what: &str, label: &str) -> Result<(), Error> {
    let bytes = label.as_bytes();
    let valid = !bytes.is_empty()
        && bytes.len() <= LABEL_LENGTH_MAX
        && bytes[0].is_ascii_lowercase()
        && bytes[bytes.len() - 1] != b'-'
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
    if valid {
        return Ok(());
    }
    let shown: String = label.chars().take(LABEL_LENGTH_MAX + 1).collect();
    Err(Error::new(ErrorKind::BadRequest, format!("{what} `{}` is not valid", shown.escape_debug())).with_hint(
        "use 1 to 63 lower-case letters, digits and hyphens, starting with a letter and not ending with a hyphen",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_is_not_a_label() {
        for bad in [
            "", ".", "a.", ".a", "A", "1a", "a-", "a_b", "a/b", "a.b.c", "ä", "a b", "../x",
        ] {
            let error = bad.parse::<FunctionName>().expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::BadRequest);
        }
        assert!("a".repeat(64).parse::<FunctionName>().is_err());
        assert!("a".repeat(63).parse::<FunctionName>().is_ok());
    }

    proptest! {
        #[test]
        fn what_parses_prints_back(text in "\\PC{0,80}") {
            if let Ok(name) = text.parse::<FunctionName>() {
                prop_assert_eq!(&name.to_string().parse::<FunctionName>().unwrap(), &name);
                prop_assert_eq!(name.full().parse::<FunctionName>().unwrap(), name);
            }
        }

        #[test]
        fn a_sibling_is_of_the_same_app_or_refused(
            own in "[a-z]{1,3}\\.[a-z]{1,3}",
            text in "\\PC{0,80}|[a-z]{1,3}(\\.[a-z]{1,3}){0,2}",
        ) {
            let own: FunctionName = own.parse().unwrap();
            match own.sibling(&text) {
                Ok(name) => {
                    prop_assert_eq!(name.app(), own.app());
                    prop_assert!(text == name.function() || text == name.full());
                }
                Err(error) if error.kind() == ErrorKind::Forbidden => {
                    let other: FunctionName = text.parse().unwrap();
                    prop_assert_ne!(other.app(), own.app());
                }
                Err(error) => {
                    prop_assert_eq!(error.kind(), ErrorKind::BadRequest);
                    prop_assert!(text.parse::<FunctionName>().is_err());
                }
            }
        }
    }
}
