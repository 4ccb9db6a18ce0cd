//! What a function keeps and is told: `wasi:keyvalue` and `wasi:config`.
//!
//! What is granted is the host's to say ([`mote_core::host::Host`]); here are handles, and errors in
//! the interfaces' own words.

use bytes::Bytes;
use mote_core::error::{Error, ErrorKind};
use mote_core::host::Bucket;
use mote_core::key_value::PAGE_KEYS_MAX;
use mote_core::log::Level;
use wasmtime::Result;
use wasmtime::component::{Resource, ResourceTable};

use super::bindings::wasi::config::store as config;
use super::bindings::wasi::keyvalue::{atomics, store};
use crate::wasm::store::{CallState, RESOURCES_MAX};

/// Most bytes of keys and values that the compare-and-swap handles of one store hold: they are the
/// node's memory, not the guest's.
const CAS_BYTES_MAX: usize = 1 << 20;
/// What a handle counts beside key and value.
const CAS_OVERHEAD_BYTES: usize = 128;

/// The buckets and compare-and-swap handles of a store. They hold nothing of a call, so they stay
/// with a store that serves several.
pub(in crate::wasm) struct Opened {
    table: ResourceTable,
    cas_bytes: usize,
}

/// A key as it was when it was looked at.
#[expect(unreachable_pub, reason = "the generated code names it so")]
pub struct Cas {
    bucket: Bucket,
    key: String,
    seen: Option<Bytes>,
}

impl Cas {
    fn bytes(&self) -> usize {
        self.key.len() + self.seen.as_ref().map_or(0, Bytes::len) + CAS_OVERHEAD_BYTES
    }
}

impl Opened {
    fn push_cas(&mut self, cas: Cas) -> Result<Resource<Cas>, store::Error> {
        let bytes = self.cas_bytes + cas.bytes();
        if bytes > CAS_BYTES_MAX {
            let message = format!(
                "the compare-and-swap handles of a call hold {bytes} bytes: the limit is {CAS_BYTES_MAX} bytes"
            );
            return Err(store::Error::Other(message));
        }
        let pushed = self.table.push(cas);
        let pushed = pushed.map_err(|error| store::Error::Other(error.to_string()))?;
        self.cas_bytes = bytes;
        Ok(pushed)
    }

    fn take_cas(&mut self, cas: Resource<Cas>) -> Result<Cas> {
        let cas = self.table.delete(cas)?;
        self.cas_bytes -= cas.bytes();
        Ok(cas)
    }
}

impl CallState {
    fn opened(&mut self) -> &mut Opened {
        self.opened.get_or_insert_with(|| {
            let mut table = ResourceTable::new();
            table.set_max_capacity(RESOURCES_MAX);
            let cas_bytes = 0;
            Box::new(Opened { table, cas_bytes })
        })
    }

    fn bucket(&mut self, bucket: &Resource<Bucket>) -> Result<&Bucket> {
        Ok(self.opened().table.get(bucket)?)
    }

    /// Looks at a key, to swap it later.
    async fn look(&mut self, bucket: Bucket, key: String) -> Result<Resource<Cas>, store::Error> {
        let seen = bucket.get(&key).await?;
        self.opened().push_cas(Cas { bucket, key, seen })
    }
}

impl store::Host for CallState {
    fn open(&mut self, identifier: String) -> Result<Result<Resource<Bucket>, store::Error>> {
        let bucket = match self.call.context.host.bucket(&identifier) {
            Ok(bucket) => bucket,
            Err(error) => {
                let refusal = match error.kind() {
                    ErrorKind::Forbidden => store::Error::AccessDenied,
                    ErrorKind::BadRequest => store::Error::NoSuchStore,
                    _ => return Ok(Err(error.into())),
                };
                // The interface has no room for words.
                let hint = error.hint().unwrap_or_default();
                let line = format!("{error}; {hint}");
                self.call.log().line(Level::Error, &line);
                return Ok(Err(refusal));
            }
        };
        let pushed = self.opened().table.push(bucket);
        Ok(pushed.map_err(|error| store::Error::Other(error.to_string())))
    }
}

impl store::HostBucket for CallState {
    async fn get(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> Result<Result<Option<Vec<u8>>, store::Error>> {
        let value = self.bucket(&bucket)?.get(&key).await;
        Ok(value.map(|value| value.map(Vec::from)).map_err(Into::into))
    }

    async fn set(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        value: Vec<u8>,
    ) -> Result<Result<(), store::Error>> {
        let set = self.bucket(&bucket)?.set(&key, value.into()).await;
        Ok(set.map_err(Into::into))
    }

    async fn delete(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> Result<Result<(), store::Error>> {
        let deleted = self.bucket(&bucket)?.delete(&key).await;
        Ok(deleted.map(drop).map_err(Into::into))
    }

    async fn exists(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> Result<Result<bool, store::Error>> {
        let value = self.bucket(&bucket)?.get(&key).await;
        Ok(value.map(|value| value.is_some()).map_err(Into::into))
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<String>,
    ) -> Result<Result<store::KeyResponse, store::Error>> {
        let page = self.bucket(&bucket)?.list(cursor.as_deref(), PAGE_KEYS_MAX);
        let page = page.await.map(|page| store::KeyResponse {
            keys: page.keys,
            cursor: page.next,
        });
        Ok(page.map_err(Into::into))
    }

    fn drop(&mut self, bucket: Resource<Bucket>) -> Result<()> {
        self.opened().table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for CallState {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: i64,
    ) -> Result<Result<i64, store::Error>> {
        let sum = self.bucket(&bucket)?.increment(&key, delta).await;
        Ok(sum.map_err(Into::into))
    }

    async fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> Result<Result<(), atomics::CasError>> {
        let Cas { bucket, key, seen } = self.opened().take_cas(cas)?;
        let failed = match bucket.swap(&key, seen, value.into()).await {
            Ok(true) => return Ok(Ok(())),
            Ok(false) => match self.look(bucket, key).await {
                Ok(cas) => atomics::CasError::CasFailed(cas),
                Err(error) => atomics::CasError::StoreError(error),
            },
            Err(error) => atomics::CasError::StoreError(error.into()),
        };
        Ok(Err(failed))
    }
}

impl atomics::HostCas for CallState {
    async fn new(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> Result<Result<Resource<Cas>, store::Error>> {
        let bucket = self.bucket(&bucket)?.clone();
        Ok(self.look(bucket, key).await)
    }

    fn current(&mut self, cas: Resource<Cas>) -> Result<Result<Option<Vec<u8>>, store::Error>> {
        let cas = self.opened().table.get(&cas)?;
        Ok(Ok(cas.seen.as_ref().map(|seen| seen.to_vec())))
    }

    fn drop(&mut self, cas: Resource<Cas>) -> Result<()> {
        self.opened().take_cas(cas).map(drop)
    }
}

impl config::Host for CallState {
    fn get(&mut self, key: String) -> Result<Result<Option<String>, config::Error>> {
        let setting = self.call.context.host.setting(&key);
        Ok(Ok(setting.map(|value| value.as_ref().to_owned())))
    }

    fn get_all(&mut self) -> Result<Result<Vec<(String, String)>, config::Error>> {
        let settings = self.call.context.host.settings().into_iter();
        Ok(Ok(settings
            .map(|(key, value)| (key, value.as_ref().to_owned()))
            .collect()))
    }
}

impl From<Error> for store::Error {
    fn from(error: Error) -> Self {
        Self::Other(error.message().to_owned())
    }
}
