//! From a request to the call of a function, or to the response that needs none.

use std::sync::Arc;

use mote_core::body::Body;
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
        let recipient = Recipient {
            peer_hash: origin.peer_hash,
            transfer: request.key(&self.hasher, origin.peer_hash, KeyOf::Reply),
            accept: request.accept,
            block2: request.block2,
        };
        if let Some(asked) = request.block2.filter(|block| block.number > 0) {
            return Some(self.later_block(now, recipient.transfer, asked));
        }
        if request.is_root() || request.is_discovery() {
            return Some(self.own_resource(now, &request, recipient, functions));
        }
        let Some(function) = resolve(functions, request.name) else {
            return Some(unknown(request.name));
        };
        // A format that is not in the table is one that no function can be asked for.
        if request
            .accept
            .is_some_and(|accept| mapping::media_type(accept).is_none())
        {
            return Some(not_acceptable(request.accept));
        }
        let (target, prefix) = match request.target() {
            Ok(target) => target,
            Err(error) => return Some(Response::error(&error)),
        };
        let meta = Meta {
            method,
            target,
            prefix,
            headers: request.headers(),
        };
        let mut observes = false;
        if origin.header.code == Code::GET && function.observable {
            let resource = || Resource {
                function: function.id,
                path: meta.path().to_owned(),
                query: meta.query().map(str::to_owned),
            };
            match request.observe {
                Some(0) => {
                    let token = origin.header.token;
                    match self.register(
                        now,
                        &origin,
                        token,
                        resource(),
                        recipient,
                        &request,
                        functions,
                    ) {
                        Registered::Answered(response) => return Some(response),
                        Registered::Waits => observes = true,
                        Registered::Not => {}
                    }
                }
                Some(1) => self.deregister(&origin, functions),
                _ => {
                    if let Some(valid) = self.still_valid(&request, &resource(), functions) {
                        return Some(valid);
                    }
                }
            }
        }
        if self.calls.len() >= self.calls_max {
            self.counters.refused_calls.add_one();
            self.withdraw(observes, &origin, functions);
            return Some(Response::unavailable(
                "too many calls are under way at this door",
            ));
        }
        let body = match self.body(now, key, &origin, &request, &function) {
            Ok(body) => body,
            Err(response) => {
                self.withdraw(observes, &origin, functions);
                return Some(response);
            }
        };
        if !self.facts.insert(key, origin.peer_hash) {
            self.counters.refused_facts.add_one();
            self.withdraw(observes, &origin, functions);
            return Some(Response::unavailable(
                "this door can remember no more requests for now",
            ));
        }
        self.counters.calls.add_one();
        let pending = Pending {
            origin,
            accept: request.accept,
            block1: request.block1.map(|block| self.granted(block)),
            block2: request.block2,
            transfer: recipient.transfer,
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
        None
    }

    /// `/` and `/.well-known/core`.
    fn own_resource(
        &mut self,
        now: Time,
        request: &Request<'_>,
        recipient: Recipient,
        functions: &dyn Functions,
    ) -> Response {
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
        self.cut(now, recipient, transfer)
    }

    /// The whole body, or the response to a block of it (RFC 7959 §2.5, §2.9).
    fn body(
        &mut self,
        now: Time,
        key: u64,
        origin: &From,
        request: &Request<'_>,
        function: &Function,
    ) -> Result<Body, Response> {
        let limit = function.body_bytes;
        let announced = u64::from(request.size1.unwrap_or(0)).max(request.payload.len() as u64);
        let granted = request.block1.map(|block| self.granted(block));
        let too_large = || Response {
            size1: Some(u32::try_from(limit).unwrap_or(u32::MAX)),
            block1: granted,
            ..Response::error(&mote_core::body::too_large(limit))
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
