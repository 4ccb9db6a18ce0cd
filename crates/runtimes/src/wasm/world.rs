//! The host side of the world in `sdk/wit`: what a function may ask and say of its own call. Calls of
//! siblings are in `call`, configuration and key-value data in `data`.

use http::{HeaderName, HeaderValue, StatusCode, header};
use mote_core::log::Level;
use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Error, Result};

use self::bindings::mote::function::{log, request, response};
use super::store::CallState;

mod call;
mod data;

pub(super) use self::call::Started;
pub(super) use self::data::Opened;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../sdk/wit",
        world: "function",
        imports: {
            "mote:function/call.invoke": async | trappable,
            "mote:function/call.[method]pending.wait": async | trappable,
            "wasi:keyvalue/store.[method]bucket.get": async | trappable,
            "wasi:keyvalue/store.[method]bucket.set": async | trappable,
            "wasi:keyvalue/store.[method]bucket.delete": async | trappable,
            "wasi:keyvalue/store.[method]bucket.exists": async | trappable,
            "wasi:keyvalue/store.[method]bucket.list-keys": async | trappable,
            "wasi:keyvalue/atomics.[static]cas.new": async | trappable,
            "wasi:keyvalue/atomics.increment": async | trappable,
            "wasi:keyvalue/atomics.swap": async | trappable,
            default: trappable,
        },
        exports: { default: async },
        with: {
            "mote:function/call.pending": super::call::Pending,
            "wasi:keyvalue/store.bucket": mote_core::host::Bucket,
            "wasi:keyvalue/atomics.cas": super::data::Cas,
        },
    });
}

pub(super) use self::bindings::{Function, FunctionPre};

/// Offers the world's imports.
pub(super) fn add_to_linker(linker: &mut Linker<CallState>) -> Result<()> {
    Function::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}

/// Headers that belong to the connection (RFC 9110 §7.6.1) or that the door writes itself.
const DOORS_OWN: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
];

/// Most bytes of a reply's headers; the node keeps them, so the guest's memory does not bound them.
const HEADER_BYTES_MAX: usize = 32 << 10;
/// What a header counts beside its name and value (RFC 9113 §6.5.2).
const HEADER_OVERHEAD_BYTES: usize = 32;

impl request::Host for CallState {
    fn method(&mut self) -> Result<String> {
        Ok(self.call.meta.method.as_str().to_owned())
    }

    fn path(&mut self) -> Result<String> {
        Ok(self.call.meta.path().to_owned())
    }

    fn query(&mut self) -> Result<Option<String>> {
        Ok(self.call.meta.query().map(str::to_owned))
    }

    fn header(&mut self, name: String) -> Result<Option<String>> {
        let value = HeaderName::from_bytes(name.as_bytes())
            .ok()
            .and_then(|name| self.call.meta.headers.get(name));
        Ok(value.map(text))
    }

    fn headers(&mut self) -> Result<Vec<(String, String)>> {
        let headers = self.call.meta.headers.iter();
        Ok(headers
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect())
    }

    fn id(&mut self) -> Result<String> {
        Ok(self.call.id.to_string())
    }
}

impl response::Host for CallState {
    fn set_status(&mut self, status: u16) -> Result<()> {
        let valid = StatusCode::from_u16(status)
            .ok()
            .filter(|_| (200..=599).contains(&status));
        self.call.status = valid
            .ok_or_else(|| Error::msg(format!("set-status: {status} is not within 200 to 599")))?;
        Ok(())
    }

    fn set_header(&mut self, name: String, value: String) -> Result<()> {
        let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::try_from(value),
        ) else {
            return Err(Error::msg(format!(
                "set-header: `{}` or its value is not valid",
                name.escape_debug()
            )));
        };
        if DOORS_OWN.contains(&name) {
            return Err(Error::msg(format!(
                "set-header: `{name}` belongs to the connection"
            )));
        }
        self.call.header_bytes += name.as_str().len() + value.len() + HEADER_OVERHEAD_BYTES;
        if self.call.header_bytes > HEADER_BYTES_MAX {
            return Err(Error::msg(format!(
                "set-header: all headers together are larger than {HEADER_BYTES_MAX} bytes"
            )));
        }
        let added = self.call.headers.try_append(name, value);
        added
            .map(drop)
            .map_err(|_| Error::msg("set-header: too many headers"))
    }

    fn publish(&mut self) -> Result<()> {
        self.call.publish = true;
        Ok(())
    }
}

impl log::Host for CallState {
    fn log(&mut self, level: log::Level, message: String) -> Result<()> {
        let level = match level {
            log::Level::Trace => Level::Trace,
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        message
            .lines()
            .for_each(|line| self.call.log().line(level, line));
        Ok(())
    }
}

/// Header values are bytes; guests get text.
fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
