//! Published values: what observers of a function are shown.
//!
//! An observable function has one published value for each path and query. A reply becomes it only
//! when the guest says so; equal values are not repeated. Values are in memory and end with the
//! function. Bounded by the number of resources of a function and the size of a value; what is over
//! a bound is refused, and counted by the caller.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::HeaderValue;
use mote_core::error::{Error, ErrorKind};
use mote_core::invocation::FunctionId;
use tokio::sync::watch;

/// Most resources (paths with queries) of a function that are published or watched at once.
pub const RESOURCES_MAX: usize = 1024;
/// Largest value.
pub const VALUE_BYTES_MAX: u64 = 64 << 10;

/// What can be observed: a path and query of a function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// The function.
    pub function: FunctionId,
    /// The path after the function's name.
    pub path: String,
    /// The query.
    pub query: Option<String>,
}

/// A published value.
#[derive(Debug, PartialEq, Eq)]
pub struct Published {
    /// The bytes.
    pub body: Bytes,
    /// Their media type.
    pub content_type: Option<HeaderValue>,
    /// Rises with each change of this resource.
    pub sequence: u64,
    /// Differs whenever bytes or media type differ.
    pub etag: u64,
}

/// Follows one published value.
#[derive(Debug)]
pub struct Watch {
    receiver: watch::Receiver<Option<Arc<Published>>>,
}

impl Watch {
    /// The value now.
    pub fn current(&self) -> Option<Arc<Published>> {
        self.receiver.borrow().clone()
    }

    /// Waits for the next change and returns the newest value; changes in between are skipped.
    /// `None` when the function was removed. Cancel-safe.
    pub async fn changed(&mut self) -> Option<Arc<Published>> {
        loop {
            self.receiver.changed().await.ok()?;
            if let Some(value) = self.receiver.borrow_and_update().clone() {
                return Some(value);
            }
        }
    }
}

/// The published values of one function.
#[derive(Debug, Default)]
pub struct PublishedSet {
    resources: Mutex<HashMap<String, watch::Sender<Option<Arc<Published>>>>>,
    hasher: foldhash::quality::RandomState,
}

impl PublishedSet {
    /// The value of a path and query.
    pub fn get(&self, path: &str, query: Option<&str>) -> Option<Arc<Published>> {
        let resources = self.lock();
        if resources.is_empty() {
            return None;
        }
        resources.get(&key(path, query))?.borrow().clone()
    }

    /// Publishes a value. Returns whether it differs from the one before; fails with `TooLarge` or
    /// `Overloaded` when a bound is reached.
    pub fn publish(
        &self,
        path: &str,
        query: Option<&str>,
        body: Bytes,
        content_type: Option<HeaderValue>,
    ) -> Result<bool, Error> {
        if body.len() as u64 > VALUE_BYTES_MAX {
            return Err(mote_core::body::too_large(VALUE_BYTES_MAX));
        }
        let etag = self.etag(&body, content_type.as_ref());
        let mut resources = self.lock();
        let sender = sender(&mut resources, path, query)?;
        Ok(sender.send_if_modified(|current| {
            let sequence = match current {
                Some(old) if old.body == body && old.content_type == content_type => return false,
                Some(old) => old.sequence + 1,
                None => 1,
            };
            *current = Some(Arc::new(Published {
                body,
                content_type,
                sequence,
                etag,
            }));
            true
        }))
    }

    /// Follows a path and query, published already or not. Fails with `Overloaded` when too many
    /// are followed.
    pub fn watch(&self, path: &str, query: Option<&str>) -> Result<Watch, Error> {
        let mut resources = self.lock();
        let receiver = sender(&mut resources, path, query)?.subscribe();
        Ok(Watch { receiver })
    }

    /// How many are watching, over all resources.
    pub fn watchers(&self) -> usize {
        self.lock()
            .values()
            .map(watch::Sender::receiver_count)
            .sum()
    }

    /// Forgets every value; whoever watches is told that the function is gone.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn etag(&self, body: &[u8], content_type: Option<&HeaderValue>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(body);
        hasher.write_u8(0);
        hasher.write(content_type.map_or(&[], |value| value.as_bytes()));
        hasher.finish()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<Option<Arc<Published>>>>> {
        // Nothing panics while the lock is held, and a map is valid at every step anyway.
        self.resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

type Resources = HashMap<String, watch::Sender<Option<Arc<Published>>>>;

fn sender<'a>(
    resources: &'a mut Resources,
    path: &str,
    query: Option<&str>,
) -> Result<&'a watch::Sender<Option<Arc<Published>>>, Error> {
    if resources.len() >= RESOURCES_MAX {
        // Paths that were only watched, and are no more, make room first.
        resources.retain(|_, sender| sender.receiver_count() > 0 || sender.borrow().is_some());
    }
    let full = resources.len() >= RESOURCES_MAX;
    match resources.entry(key(path, query)) {
        Entry::Occupied(entry) => Ok(entry.into_mut()),
        Entry::Vacant(_) if full => Err(Error::new(
            ErrorKind::Overloaded,
            format!(
                "the function has {RESOURCES_MAX} published or watched paths, which is the limit"
            ),
        )),
        Entry::Vacant(entry) => Ok(entry.insert(watch::Sender::new(None))),
    }
}

fn key(path: &str, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn publish(set: &PublishedSet, path: &str, body: &'static str) -> Result<bool, Error> {
        set.publish(path, None, Bytes::from_static(body.as_bytes()), None)
    }

    #[tokio::test]
    async fn watchers_see_each_change_once() {
        let set = PublishedSet::default();
        let mut watch = set.watch("", None).unwrap();
        assert!(watch.current().is_none());
        assert!(publish(&set, "", "on").unwrap());
        assert_eq!(&watch.changed().await.unwrap().body[..], b"on");
        assert!(
            !publish(&set, "", "on").unwrap(),
            "an equal value is no change"
        );
        assert!(watch.changed().now_or_never().is_none());
        assert!(publish(&set, "", "off").unwrap());
        assert!(publish(&set, "", "on").unwrap());
        let value = watch.changed().await.unwrap();
        assert_eq!((&value.body[..], value.sequence), (&b"on"[..], 3));
        set.clear();
        assert!(
            watch.changed().await.is_none(),
            "the end of the function is told"
        );
    }

    #[test]
    fn paths_and_queries_are_apart() {
        let set = PublishedSet::default();
        publish(&set, "/a", "1").unwrap();
        assert!(set.get("/b", None).is_none());
        assert!(set.get("/a", Some("x")).is_none());
        assert_eq!(&set.get("/a", None).unwrap().body[..], b"1");
    }

    #[test]
    fn resources_and_sizes_are_bounded() {
        let set = PublishedSet::default();
        for path in 0..RESOURCES_MAX {
            drop(set.watch(&path.to_string(), None).unwrap());
        }
        publish(&set, "/first", "x").expect("paths that nobody watches any more make room");
        for path in 1..RESOURCES_MAX {
            publish(&set, &path.to_string(), "x").unwrap();
        }
        assert_eq!(
            publish(&set, "/over", "x").unwrap_err().kind(),
            ErrorKind::Overloaded
        );
        let big = Bytes::from(vec![0; 1 + usize::try_from(VALUE_BYTES_MAX).unwrap()]);
        assert_eq!(
            set.publish("/first", None, big, None).unwrap_err().kind(),
            ErrorKind::TooLarge
        );
    }
}
