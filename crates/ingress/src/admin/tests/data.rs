//! Key-value data and secrets: what the admin API makes of them, with the client and without it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use mote_api::client::data::Part;
use mote_core::error::{Error, ErrorKind};
use mote_core::key_value::{
    KeyPage, KeyValue, KeyValueAdmin, Usage, check_bucket, check_key, check_value, cost,
    incremented,
};
use mote_core::name::AppName;
use mote_core::runtime::BoxFuture;
use mote_core::secrets::{SecretStore, Secrets, check_name};

use super::{TOKEN, start};
use crate::admin::Data;

/// Data in memory, without bounds.
#[derive(Default)]
pub(super) struct Memory {
    values: Mutex<BTreeMap<(AppName, String, String), Bytes>>,
    secrets: Mutex<BTreeMap<(AppName, String), Arc<str>>>,
}

impl Memory {
    pub(super) fn data() -> Data {
        let memory = Arc::new(Self::default());
        Data {
            key_value: memory.clone(),
            secrets: memory,
        }
    }

    /// Changes one value and returns it as it was.
    fn change(
        &self,
        app: &AppName,
        bucket: &str,
        key: &str,
        change: impl FnOnce(Option<&Bytes>) -> Result<Option<Bytes>, Error>,
    ) -> Result<Option<Bytes>, Error> {
        check_bucket(bucket)?;
        check_key(key)?;
        let place = (app.clone(), bucket.to_owned(), key.to_owned());
        let mut values = self.values.lock().unwrap();
        match change(values.get(&place))? {
            Some(value) => {
                check_value(key, value.len())?;
                Ok(values.insert(place, value))
            }
            None => Ok(values.remove(&place)),
        }
    }

    fn page(names: impl Iterator<Item = String>, after: Option<&str>, max: u32) -> KeyPage {
        let mut names = names.filter(|name| after.is_none_or(|after| name.as_str() > after));
        let keys: Vec<_> = names.by_ref().take(max as usize).collect();
        let more = names.next().is_some();
        KeyPage {
            next: more.then(|| keys.last().unwrap().clone()),
            keys,
        }
    }
}

fn ready<T: Send + 'static>(value: T) -> BoxFuture<'static, T> {
    Box::pin(std::future::ready(value))
}

impl KeyValue for Memory {
    fn get<'a>(
        &'a self,
        app: &'a AppName,
        bucket: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Bytes>, Error>> {
        let mut found = None;
        let looked = self.change(app, bucket, key, |value| {
            found = value.cloned();
            Ok(found.clone())
        });
        ready(looked.map(|_| found))
    }

    fn set<'a>(
        &'a self,
        app: &'a AppName,
        bucket: &'a str,
        key: &'a str,
        value: Bytes,
    ) -> BoxFuture<'a, Result<(), Error>> {
        let set = self.change(app, bucket, key, |_| Ok(Some(value)));
        ready(set.map(drop))
    }

    fn delete<'a>(
        &'a self,
        app: &'a AppName,
        bucket: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        let removed = self.change(app, bucket, key, |_| Ok(None));
        ready(removed.map(|old| old.is_some()))
    }

    fn increment<'a>(
        &'a self,
        app: &'a AppName,
        bucket: &'a str,
        key: &'a str,
        by: i64,
    ) -> BoxFuture<'a, Result<i64, Error>> {
        let mut sum = 0;
        let changed = self.change(app, bucket, key, |value| {
            sum = incremented(key, value.map(AsRef::as_ref), by)?;
            Ok(Some(sum.to_string().into()))
        });
        ready(changed.map(|_| sum))
    }

    fn swap<'a>(
        &'a self,
        app: &'a AppName,
        bucket: &'a str,
        key: &'a str,
        expected: Option<Bytes>,
        new: Bytes,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        let mut fits = false;
        let swapped = self.change(app, bucket, key, |value| {
            fits = value == expected.as_ref();
            Ok(if fits { Some(new) } else { value.cloned() })
        });
        ready(swapped.map(|_| fits))
    }

    fn list<'a>(
        &'a self,
        app: &'a AppName,
        bucket: &'a str,
        after: Option<&'a str>,
        max: u32,
    ) -> BoxFuture<'a, Result<KeyPage, Error>> {
        let values = self.values.lock().unwrap();
        let keys = values
            .keys()
            .filter(|(of, inside, _)| of == app && inside == bucket);
        let page = Self::page(keys.map(|(_, _, key)| key.clone()), after, max);
        ready(check_bucket(bucket).map(|()| page))
    }
}

impl KeyValueAdmin for Memory {
    fn usage(&self) -> Vec<(AppName, Usage)> {
        let mut apps: BTreeMap<AppName, Usage> = BTreeMap::new();
        for ((app, _, key), value) in self.values.lock().unwrap().iter() {
            let usage = apps.entry(app.clone()).or_default();
            usage.keys += 1;
            usage.bytes += cost(key, value.len());
        }
        apps.into_iter().collect()
    }

    fn buckets<'a>(
        &'a self,
        app: &'a AppName,
        after: Option<&'a str>,
        max: u32,
    ) -> BoxFuture<'a, Result<KeyPage, Error>> {
        let values = self.values.lock().unwrap();
        let mut buckets: Vec<_> = values.keys().filter(|(of, ..)| of == app).collect();
        buckets.dedup_by_key(|(_, bucket, _)| bucket);
        let names = buckets.into_iter().map(|(_, bucket, _)| bucket.clone());
        ready(Ok(Self::page(names, after, max)))
    }

    fn clear<'a>(
        &'a self,
        app: &'a AppName,
        bucket: Option<&'a str>,
    ) -> BoxFuture<'a, Result<u64, Error>> {
        let mut values = self.values.lock().unwrap();
        let before = values.len();
        values.retain(|(of, inside, _), _| of != app || bucket.is_some_and(|name| name != inside));
        ready(Ok((before - values.len()) as u64))
    }
}

impl Secrets for Memory {
    fn get(&self, app: &AppName, name: &str) -> Option<Arc<str>> {
        let secrets = self.secrets.lock().unwrap();
        secrets.get(&(app.clone(), name.to_owned())).cloned()
    }
}

impl SecretStore for Memory {
    fn names(&self, app: &AppName) -> Vec<String> {
        let secrets = self.secrets.lock().unwrap();
        let names = secrets.keys().filter(|(of, _)| of == app);
        names.map(|(_, name)| name.clone()).collect()
    }

    fn set<'a>(
        &'a self,
        app: &'a AppName,
        name: &'a str,
        value: Arc<str>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        let checked = check_name(name);
        if checked.is_ok() {
            let mut secrets = self.secrets.lock().unwrap();
            secrets.insert((app.clone(), name.to_owned()), value);
        }
        ready(checked)
    }

    fn remove<'a>(&'a self, app: &'a AppName, name: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        let mut secrets = self.secrets.lock().unwrap();
        let removed = secrets.remove(&(app.clone(), name.to_owned()));
        ready(Ok(removed.is_some()))
    }
}

#[tokio::test]
async fn values_go_in_and_come_out_as_they_are() {
    let node = start().await;
    let (client, home) = (&node.client, "home".parse::<AppName>().unwrap());
    let strange = "a/b?c#d %2F\u{1F4A1}\0";
    let value = Bytes::from_static(b"\x00\xff\n");
    client
        .kv_set(&home, "default", strange, value.clone())
        .await
        .unwrap();
    assert_eq!(
        client.kv_get(&home, "default", strange).await.unwrap(),
        value
    );
    client
        .kv_set(&home, "other", "empty", Bytes::new())
        .await
        .unwrap();
    assert_eq!(client.kv_get(&home, "other", "empty").await.unwrap(), "");
    let usage = client.kv_usage().await.unwrap();
    assert_eq!((usage[0].app.as_str(), usage[0].keys), ("home", 2));
    let buckets = client.kv_buckets(&home, Part::default()).await.unwrap();
    assert_eq!(buckets.buckets, ["default", "other"]);
    let one = Part {
        after: Some("default"),
        max: Some(1),
    };
    let buckets = client.kv_buckets(&home, one).await.unwrap();
    assert_eq!(
        (buckets.buckets, buckets.next),
        (vec!["other".to_owned()], None)
    );
    let keys = client
        .kv_keys(&home, "default", Part::default())
        .await
        .unwrap();
    assert_eq!(keys.keys, [strange]);
    client.kv_remove(&home, "default", strange).await.unwrap();
    for missing in [
        client.kv_get(&home, "default", strange).await.map(drop),
        client.kv_remove(&home, "default", strange).await,
    ] {
        let error = missing.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.hint().unwrap().contains("mote kv ls --app home"));
    }
    assert_eq!(client.kv_clear(&home, Some("default")).await.unwrap(), 0);
    assert_eq!(client.kv_clear(&home, None).await.unwrap(), 1);
}

#[tokio::test]
async fn what_is_wrong_with_a_request_for_data_is_said() {
    let node = start().await;
    let large = "x".repeat(65_537);
    for (method, path, body, status, kind) in [
        ("GET", "/v1/apps/Home/kv", "", 400, "bad_request"),
        ("GET", "/v1/apps/home/kv/My", "", 400, "bad_request"),
        ("GET", "/v1/apps/home/kv/b?max=0", "", 400, "bad_request"),
        ("GET", "/v1/apps/home/kv/b?max=1001", "", 400, "bad_request"),
        ("GET", "/v1/apps/home/kv/b?aftre=x", "", 400, "bad_request"),
        (
            "PUT",
            "/v1/apps/home/kv/b/k",
            large.as_str(),
            413,
            "too_large",
        ),
        ("GET", "/v1/apps/home/kv/b/%FF", "", 400, "bad_request"),
        (
            "POST",
            "/v1/apps/home/kv/b/k",
            "",
            405,
            "method_not_allowed",
        ),
        ("PUT", "/v1/apps/home/secrets/k", "v", 400, "bad_request"),
        (
            "PUT",
            "/v1/apps/home/secrets/K",
            large.as_str(),
            413,
            "too_large",
        ),
        ("DELETE", "/v1/apps/home/secrets/K", "", 404, "not_found"),
        (
            "GET",
            "/v1/apps/home/secrets/K",
            "",
            405,
            "method_not_allowed",
        ),
    ] {
        let (found, _, problem) = node.ask(method, path, Some(TOKEN), body).await;
        let problem = problem.unwrap_or_else(|| panic!("{method} {path}"));
        assert_eq!(
            (found, problem.kind.as_str()),
            (status, kind),
            "{method} {path}"
        );
        let (found, ..) = node.ask(method, path, None, body).await;
        assert_eq!(found, 401, "{method} {path}");
    }
}

#[tokio::test]
async fn secrets_are_named_and_never_sent() {
    let node = start().await;
    let (client, home) = (&node.client, "home".parse::<AppName>().unwrap());
    for name in ["B", "A"] {
        client
            .set_secret(&home, name, "hidden\n".into())
            .await
            .unwrap();
    }
    assert_eq!(client.secrets(&home).await.unwrap(), ["A", "B"]);
    assert_eq!(client.secrets(&AppName::default()).await.unwrap(), [""; 0]);
    client.remove_secret(&home, "A").await.unwrap();
    let gone = client.remove_secret(&home, "A").await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    let error = client
        .set_secret(&home, "C", Bytes::from_static(b"\xff"))
        .await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::BadRequest);
    assert_eq!(client.secrets(&home).await.unwrap(), ["B"]);
}

#[test]
fn the_description_is_whole() {
    let document = serde_json::to_value(crate::admin::openapi()).unwrap();
    let text = document.to_string();
    // What is referred to is there.
    let references = text.split("\"#/components/schemas/").skip(1);
    for name in references.map(|rest| rest.split('"').next().unwrap()) {
        let schema = &document["components"]["schemas"][name];
        assert!(schema.is_object(), "{name}");
    }
    assert!(text.contains("schemas/Problem"), "errors are described");
    // Every part of an address is described, and nothing else as one.
    for (path, item) in document["paths"].as_object().unwrap() {
        let parts = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let mut parts: Vec<_> = parts.collect();
        parts.sort_unstable();
        for (method, operation) in item.as_object().unwrap() {
            let described = operation["parameters"].as_array().into_iter().flatten();
            let described = described.filter(|parameter| parameter["in"] == "path");
            let mut described: Vec<_> = described
                .map(|parameter| {
                    assert_eq!(parameter["required"], true, "{method} {path}");
                    parameter["name"].as_str().unwrap()
                })
                .collect();
            described.sort_unstable();
            assert_eq!(described, parts, "{method} {path}");
        }
    }
}
