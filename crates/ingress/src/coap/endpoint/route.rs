//! From a request to the call of a function, or to the response that needs none.

use std::sync::Arc;

use mote_core::body::Body;
use mote_core::error::ErrorKind;
use mote_core::invocation::{Invocation, Meta, Origin};
use mote_engine::published::Resource;

use super::render::{Recipient, not_acceptable};
use super::{Call, Endpoint, From, Output, Pending};
use crate::coap::Time;
use crate::coap::block::{self, Block, Part, Transfer};
use crate::coap::discovery::{self, Filter};
use crate::coap::functions::{Function, Functions};
use crate::coap::mapping::{self, LINK_FORMAT};
use crate::coap::message::{Code, Kind, Message, write_empty};
use crate::coap::request::{KeyOf, Refusal, Request};
use crate::coap::response::Response;

impl Endpoint {
    /// Decides about a request: the response, or nothing if a call was made of it or nothing is to
    /// be said.
    pub(super) fn route(
        &mut self,
        now: Time,
        key: u64,
        mut origin: From,
        message: Message<'_>,
        functions: &mut dyn Functions,
        out: &mut Output,
    ) -> Option<Response> {
        let request = match Request::read(message) {
            Ok(request) => request,
            Err(refusal) => return refuse(refusal, &origin, out),
        };
        origin.unwanted = request.unwanted;
        let Some(method) = mapping::method(origin.header.code) else {
            return Some(Response::diagnostic(
                Code::METHOD_NOT_ALLOWED,
                "methods are GET, POST, PUT, DELETE, FETCH, PATCH and iPATCH",
            ));
        };
        if self.closing {
            return Some(Response::unavailable("this node is shutting down"));
        }
        let ask = Ask {
            origin,
            recipient: Recipient {
                peer_hash: origin.peer_hash,
                transfer: request.key(&self.hasher, origin.peer_hash, KeyOf::Reply),
                accept: request.accept,
                block2: request.block2,
            },
            request,
        };
        if let Some(asked) = request.block2.filter(|block| block.number > 0) {
            return Some(self.later_block(now, ask.recipient.transfer, asked));
        }
        if request.is_root() || request.is_discovery() {
            return Some(self.own_resource(now, &ask, functions));
        }
        let Some(function) = resolve(functions, request.name) else {
            functions.refused(ErrorKind::NotFound);
            return Some(unknown(request.name));
        };
        // A format that is not in the table is one that no function can be asked for.
        let table_has = |accept| mapping::media_type(accept).is_some();
        if !request.accept.is_none_or(table_has) {
            return Some(not_acceptable(request.accept));
        }
        let (target, prefix) = match request.target() {
            Ok(target) => target,
            Err(error) => {
                functions.refused(error.kind());
                return Some(Response::error(&error));
            }
        };
        let meta = Meta {
            method,
            target,
            prefix,
            headers: request.headers(),
        };
        let observes = match self.observe(now, &ask, &function, &meta, functions) {
            Registered::Answered(response) => return Some(response),
            Registered::Waits => true,
            Registered::Not => false,
        };
        let started = self.start(now, key, &ask, &function, meta, observes, functions, out);
        if started.is_err() && observes {
            self.deregister(&origin, functions);
        }
        started.err()
    }

    /// What the Observe and ETag options of a GET of an observable function ask for.
    fn observe(
        &mut self,
        now: Time,
        ask: &Ask<'_>,
        function: &Function,
        meta: &Meta,
        functions: &mut dyn Functions,
    ) -> Registered {
        let Ask {
            origin, request, ..
        } = ask;
        if origin.header.code != Code::GET || !function.observable {
            return Registered::Not;
        }
        if request.observe == Some(1) {
            self.deregister(origin, functions);
            return Registered::Not;
        }
        if request.observe != Some(0) && !request.has_etag {
            return Registered::Not;
        }
        let resource = Resource {
            function: function.id,
            path: meta.path().to_owned(),
            query: meta.query().map(str::to_owned),
        };
        if request.observe == Some(0) {
            return self.register(now, ask, resource, functions);
        }
        match self.still_valid(request, &resource, functions) {
            Some(response) => Registered::Answered(response),
            None => Registered::Not,
        }
    }

    /// Makes a call of a request, or says why not.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a different thing, and there is one caller"
    )]
    fn start(
        &mut self,
        now: Time,
        key: u64,
        ask: &Ask<'_>,
        function: &Function,
        meta: Meta,
        observes: bool,
        functions: &mut dyn Functions,
        out: &mut Output,
    ) -> Result<(), Response> {
        if self.calls.len() >= self.calls_max {
            self.counters.refused_calls.add_one();
            functions.refused(ErrorKind::Overloaded);
            let text = "too many calls are under way at this door";
            return Err(Response::unavailable(text));
        }
        let body = self.body(now, key, ask, function, functions)?;
        if !self.facts.insert(key, ask.origin.peer_hash) {
            self.counters.refused_facts.add_one();
            functions.refused(ErrorKind::Overloaded);
            let text = "this door can remember no more requests for now";
            return Err(Response::unavailable(text));
        }
        self.counters.calls.add_one();
        let pending = Pending {
            origin: ask.origin,
            accept: ask.request.accept,
            block1: ask.request.block1.map(|block| self.granted(block)),
            block2: ask.request.block2,
            transfer: ask.recipient.transfer,
            observes,
            due: None,
            acknowledged: false,
        };
        self.calls.insert(key, pending);
        let invocation = Invocation {
            id: functions.next_id(),
            function: function.id,
            meta,
            body,
            budget: function.timeout,
            origin: Origin::Coap,
            hops: 0,
        };
        out.calls.push(Call {
            key,
            invocation,
            body_bytes: function.body_bytes,
        });
        Ok(())
    }

    /// `/` and `/.well-known/core`.
    fn own_resource(&mut self, now: Time, ask: &Ask<'_>, functions: &dyn Functions) -> Response {
        let Ask {
            request, recipient, ..
        } = ask;
        if request.header.code != Code::GET {
            return Response::diagnostic(
                Code::METHOD_NOT_ALLOWED,
                "this resource can only be read",
            );
        }
        let (format, text) = if request.is_root() {
            (
                0,
                "mote: functions are listed at /.well-known/core\n".to_owned(),
            )
        } else {
            let filters: Vec<_> = request.queries().map(Filter::new).collect();
            let mut text = String::new();
            functions.links(&mut |link| discovery::write_link(&mut text, &link, &filters));
            (LINK_FORMAT, text)
        };
        if recipient.accept.is_some_and(|accept| accept != format) {
            return not_acceptable(recipient.accept);
        }
        let transfer = Transfer {
            code: Code::CONTENT,
            etag: None,
            format: Some(format),
            max_age: None,
            body: text.into(),
        };
        self.cut(now, *recipient, transfer)
    }

    /// The whole body, or the response to a block of it (RFC 7959 §2.5, §2.9).
    fn body(
        &mut self,
        now: Time,
        key: u64,
        ask: &Ask<'_>,
        function: &Function,
        functions: &dyn Functions,
    ) -> Result<Body, Response> {
        let Ask {
            origin, request, ..
        } = ask;
        let limit = function.body_bytes;
        let announced = u64::from(request.size1.unwrap_or(0)).max(request.payload.len() as u64);
        let granted = request.block1.map(|block| self.granted(block));
        let too_large = || {
            functions.refused(ErrorKind::TooLarge);
            Response {
                size1: Some(u32::try_from(limit).unwrap_or(u32::MAX)),
                block1: granted,
                ..Response::error(&mote_core::body::too_large(limit))
            }
        };
        if announced > limit {
            return Err(too_large());
        }
        let Some(block) = request.block1 else {
            return Ok(Body::Bytes(bytes::Bytes::copy_from_slice(request.payload)));
        };
        let part = Part {
            key: request.key(&self.hasher, origin.peer_hash, KeyOf::Upload),
            peer: origin.peer_hash,
            datagram: key,
            block,
            payload: request.payload,
            limit,
        };
        match self.assemblies.take(now, part) {
            Ok(Some(body)) => {
                self.counters.uploads.add_one();
                Ok(Body::Bytes(body))
            }
            Ok(None) => Err(Response {
                block1: granted,
                ..Response::new(Code::CONTINUE)
            }),
            Err(block::Refusal::TooLarge) => Err(too_large()),
            Err(refusal) => {
                let response = match refusal {
                    block::Refusal::Incomplete => Response::diagnostic(
                        Code::INCOMPLETE,
                        "blocks before this one are missing; begin with block 0",
                    ),
                    block::Refusal::Full => {
                        self.counters.refused_uploads.add_one();
                        functions.refused(ErrorKind::Overloaded);
                        Response::unavailable("too many uploads are under way at this door")
                    }
                    _ => Response::diagnostic(
                        Code::BAD_REQUEST,
                        "a block that is not the last must be full",
                    ),
                };
                Err(Response {
                    block1: granted,
                    ..response
                })
            }
        }
    }

    /// Block1 in a response: the same block, with the size that we would rather have (RFC 7959 §2.3).
    fn granted(&self, block: Block) -> Block {
        Block {
            exponent: block.exponent.min(self.exponent),
            ..block
        }
    }

    /// 2.03 if the client has the published value already (RFC 7252 §5.10.6.2).
    fn still_valid(
        &mut self,
        request: &Request<'_>,
        resource: &Resource,
        functions: &mut dyn Functions,
    ) -> Option<Response> {
        let mut etags = request.etags()?;
        let current = self.peek(resource, functions)?;
        let tag = crate::coap::message::Opaque::from_u64(current.etag);
        etags.any(|etag| etag == tag).then(|| Response {
            etag: Some(tag),
            ..Response::new(Code::VALID)
        })
    }

    fn peek(
        &self,
        resource: &Resource,
        functions: &mut dyn Functions,
    ) -> Option<Arc<mote_engine::published::Published>> {
        if self.observers.is_observed(resource) {
            return self.observers.current(resource);
        }
        let current = functions.watch(resource).ok()?;
        functions.unwatch(resource);
        current
    }
}

/// A request, from whom, and how its reply is to be cut up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    pub(super) origin: From,
    pub(super) request: Request<'a>,
    pub(super) recipient: Recipient,
}

/// What became of a registration.
pub(super) enum Registered {
    /// There is a value, or it cannot be had in the asked format.
    Answered(Response),
    /// The function is to give the first answer.
    Waits,
    /// It is answered like any other request.
    Not,
}

fn resolve(functions: &dyn Functions, name: &[u8]) -> Option<Function> {
    functions.resolve(std::str::from_utf8(name).ok()?)
}

fn unknown(name: &[u8]) -> Response {
    let name: String = String::from_utf8_lossy(name).chars().take(64).collect();
    let text = format!("no function `{}` on this node", name.escape_debug());
    Response::diagnostic(Code::NOT_FOUND, &text)
}

fn refuse(refusal: Refusal, origin: &From, out: &mut Output) -> Option<Response> {
    match refusal {
        Refusal::Critical(_) if origin.header.kind == Kind::NonConfirmable => {
            // RFC 7252 §5.4.1: a non-confirmable one is rejected as a message.
            out.sends.send(origin.peer, |buffer| {
                write_empty(buffer, Kind::Reset, origin.header.id)
            });
            None
        }
        Refusal::Critical(number) => Some(Response::diagnostic(
            Code::BAD_OPTION,
            &format!("option {number} is critical and not understood"),
        )),
        Refusal::Proxy => Some(Response::diagnostic(
            Code::NO_PROXY,
            "this node is no proxy",
        )),
        Refusal::BlockSize => Some(Response::diagnostic(
            Code::BAD_REQUEST,
            "block size 7 is reserved",
        )),
    }
}
