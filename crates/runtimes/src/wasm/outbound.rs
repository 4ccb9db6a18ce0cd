//! Outbound HTTP of guests: only to origins that the spec grants.
//!
//! A grant names an origin. A name that resolves to this node or its link, where metadata services
//! live, is refused all the same, unless the grant names that address itself.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use http::Request;
use http_body_util::BodyExt;
use mote_core::log::Level;
use mote_core::spec::FunctionSpec;
use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody, WasiHttpHooks};

use super::stdio::CallLog;
use crate::origin::Origin;

/// The hooks of one store.
pub(super) struct Outbound {
    spec: Arc<FunctionSpec>,
    log: Arc<CallLog>,
}

impl Outbound {
    pub(super) fn new(spec: &Arc<FunctionSpec>, log: &Arc<CallLog>) -> Self {
        Self {
            spec: Arc::clone(spec),
            log: Arc::clone(log),
        }
    }

    fn granted(&self, origin: &Origin) -> bool {
        self.spec
            .allow
            .http
            .iter()
            .any(|grant| Origin::parse(grant).as_ref() == Some(origin))
    }
}

type Answer = Result<(
    http::Response<WasiBody>,
    Box<dyn Future<Output = Result<(), Error>> + Send>,
)>;

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _failure: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Answer> + Send> {
        let origin = Origin::of(request.uri());
        let granted = origin.as_ref().is_some_and(|origin| self.granted(origin));
        let log = Arc::clone(&self.log);
        Box::new(async move {
            let origin = origin.ok_or(Error::HttpRequestUriInvalid)?;
            if !granted {
                let line = format!(
                    "outbound HTTP to {origin} is denied; to grant it write: allow.http = [\"{origin}\"]"
                );
                log.line(Level::Error, &line);
                return Err(Error::HttpRequestDenied);
            }
            if let Some(address) = forbidden_address(&origin).await? {
                log.line(
                    Level::Error,
                    &format!("outbound HTTP to {origin} is denied: it resolves to {address}"),
                );
                return Err(Error::DestinationIpProhibited);
            }
            let (response, connection) =
                wasmtime_wasi_http::default_send_request(request, options).await?;
            Ok((
                response.map(BodyExt::boxed_unsync),
                Box::new(connection) as Box<dyn Future<Output = _> + Send>,
            ))
        })
    }
}

/// An address behind the name that no grant by name reaches.
async fn forbidden_address(origin: &Origin) -> Result<Option<IpAddr>> {
    if origin.names_an_address() {
        return Ok(None);
    }
    let addresses = origin.addresses().await.map_err(|_| Error::DnsError {
        rcode: None,
        info_code: None,
    })?;
    Ok(origin.forbidden(&addresses))
}
