//! Where a value is in the file: app, bucket and key as one text.
//!
//! A zero byte ends the app's name and the bucket's. Neither can hold one and the key comes last, so
//! every row has one reading, and the rows of a bucket, and of an app, stand together.

use mote_core::error::Error;
use mote_core::key_value::{check_bucket, check_key};
use mote_core::name::AppName;

/// The place of one key, checked.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) app: AppName,
    pub(super) row: String,
    key_at: usize,
}

impl Place {
    /// Fails with `BadRequest` when bucket or key are not valid.
    pub(super) fn new(app: &AppName, bucket: &str, key: &str) -> Result<Self, Error> {
        check_bucket(bucket)?;
        check_key(key)?;
        let mut row = Span::bucket(app, bucket).0;
        let key_at = row.len();
        row.push_str(key);
        Ok(Self {
            app: app.clone(),
            row,
            key_at,
        })
    }

    pub(super) fn key(&self) -> &str {
        &self.row[self.key_at..]
    }
}

/// The rows that begin with a text that ends in a zero byte.
#[derive(Clone, Debug)]
pub(super) struct Span(String);

impl Span {
    /// All of an app.
    pub(super) fn app(app: &AppName) -> Self {
        Self(format!("{app}\0"))
    }

    /// All of a bucket, whose name was checked.
    pub(super) fn bucket(app: &AppName, bucket: &str) -> Self {
        Self(format!("{app}\0{bucket}\0"))
    }

    /// What they begin with, which is before them.
    pub(super) fn start(&self) -> &str {
        &self.0
    }

    /// A row in the span, from what follows its beginning.
    pub(super) fn row(&self, rest: &str) -> String {
        format!("{}{rest}", self.0)
    }

    /// What is behind all of them.
    pub(super) fn end(&self) -> String {
        format!("{}\u{1}", &self.0[..self.0.len() - 1])
    }
}

/// The cost of a stored row, which [`mote_core::key_value::cost`] says of its key and value.
pub(super) fn key_of(row: &str) -> &str {
    row.splitn(3, '\0').nth(2).unwrap_or_default()
}

/// The bucket of a stored row.
pub(super) fn bucket_of(row: &str) -> &str {
    row.split('\0').nth(1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_row_has_one_reading(app in "[a-z][a-z0-9]{0,8}", bucket in "[a-z0-9-]{1,9}", key in "(?s).{1,20}") {
            let app: AppName = app.parse().unwrap();
            let place = Place::new(&app, &bucket, &key).unwrap();
            prop_assert_eq!(place.key(), &key);
            prop_assert_eq!(key_of(&place.row), &key);
            prop_assert_eq!(bucket_of(&place.row), &bucket);
            for span in [Span::app(&app), Span::bucket(&app, &bucket)] {
                prop_assert!(span.start() < place.row.as_str());
                prop_assert!(place.row < span.end());
            }
        }

        #[test]
        fn spans_do_not_overlap(one in "[a-z][a-z0-9-]{0,3}[a-z]", other in "[a-z][a-z0-9-]{0,3}[a-z]", key in "(?s).{1,9}") {
            let place = Place::new(&one.parse().unwrap(), "b", &key).unwrap();
            let span = Span::app(&other.parse().unwrap());
            let inside = span.start() < place.row.as_str() && place.row < span.end();
            prop_assert_eq!(inside, one == other);
        }
    }
}
