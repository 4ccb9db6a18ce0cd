//! Observers: registration, notifications, and the end of both (RFC 7641).

use std::sync::Arc;

use mote_engine::published::{Published, Resource};

use super::render::Recipient;
use super::route::{Ask, Registered};
use super::{Endpoint, From, Functions, Observer, ObserverKey, Output, Pending};
use crate::coap::Time;
use crate::coap::exchange::Purpose;
use crate::coap::message::{Code, Header, Kind, Opaque};
use crate::coap::response::Response;

impl Endpoint {
    /// Registers an observer (RFC 7641 §4.1), anew if it is one already.
    pub(super) fn register(
        &mut self,
        now: Time,
        ask: &Ask<'_>,
        resource: Resource,
        functions: &mut dyn Functions,
    ) -> Registered {
        let Ask {
            origin,
            request,
            recipient,
        } = ask;
        let key = ObserverKey {
            peer: origin.peer,
            token: origin.header.token,
        };
        let before = self.observers.get_mut(&key);
        let sequence = before.map_or(0, |observer| observer.sequence);
        // The same token for something else ends the old observation (§3.6).
        self.cancel(key, functions);
        let watched = match self.observers.is_observed(&resource) {
            true => Ok(self.observers.current(&resource)),
            false => functions.watch(&resource),
        };
        let Ok(current) = watched else {
            self.counters.refused_observers.add_one();
            return Registered::Not;
        };
        let resource = Arc::new(resource);
        let observer = Observer {
            resource: Arc::clone(&resource),
            accept: recipient.accept,
            exponent: recipient
                .block2
                .map_or(self.exponent, |block| block.exponent.min(self.exponent)),
            transfer: recipient.transfer,
            sequence,
            outstanding: None,
            answering: current.is_none(),
            waiting: false,
        };
        let count = self.observers.count();
        if !self.observers.add(key, observer) {
            self.counters.refused_observers.add_one();
            if !self.observers.is_observed(&resource) {
                functions.unwatch(&resource);
            }
            return Registered::Not;
        }
        self.counters
            .observers_now
            .shift(count, self.observers.count());
        let Some(current) = current else {
            return Registered::Waits;
        };
        self.observers.publish(&resource, Arc::clone(&current));
        let tag = Opaque::from_u64(current.etag);
        let has_it = request
            .etags()
            .is_some_and(|mut etags| etags.any(|etag| etag == tag));
        let mut response = if has_it {
            Response {
                etag: Some(tag),
                ..Response::new(Code::VALID)
            }
        } else {
            self.render_published(now, *recipient, &current)
        };
        if response.code.class() == 2 {
            response.observe = self.observers.get_mut(&key).map(Observer::next_sequence);
        } else {
            self.cancel(key, functions);
        }
        Registered::Answered(response)
    }

    /// Observe 1 (RFC 7641 §3.6).
    pub(super) fn deregister(&mut self, origin: &From, functions: &mut dyn Functions) {
        let key = ObserverKey {
            peer: origin.peer,
            token: origin.header.token,
        };
        self.cancel(key, functions);
    }

    /// The function's reply for the one who asked: the first answer of an observation if it is a
    /// success, its end otherwise. A value that was published meanwhile follows, if it is another.
    pub(super) fn first_answer(
        &mut self,
        now: Time,
        call: u64,
        pending: &Pending,
        mut response: Response,
        functions: &mut dyn Functions,
        out: &mut Output,
    ) {
        let key = ObserverKey {
            peer: pending.origin.peer,
            token: pending.origin.header.token,
        };
        let stands = response.code.class() == 2;
        let mut waiting = false;
        match self.observers.get_mut(&key) {
            Some(observer) if stands && observer.answering => {
                observer.answering = false;
                response.observe = Some(observer.next_sequence());
                waiting = std::mem::take(&mut observer.waiting);
            }
            Some(observer) if observer.answering => self.cancel(key, functions),
            _ => {}
        }
        self.deliver(now, call, pending, &response, out);
        let resource = self
            .observers
            .get_mut(&key)
            .map(|observer| Arc::clone(&observer.resource));
        let current = resource.and_then(|resource| self.observers.current(&resource));
        let another = current.is_some_and(|current| {
            let shown = &response.payload;
            current.body.len() != response.size2.map_or(shown.len(), |size| size as usize)
                || !current.body.starts_with(shown)
        });
        if waiting && another {
            self.notify(now, key, functions, out);
        }
    }

    /// Takes a change of a published value; `None`: the function is gone.
    pub fn published(
        &mut self,
        now: Time,
        resource: &Resource,
        value: Option<Arc<Published>>,
        functions: &mut dyn Functions,
        out: &mut Output,
    ) {
        let Some(value) = value else {
            return self.gone(now, resource, functions, out);
        };
        // Equal values are not repeated.
        let before = self.observers.current(resource);
        if before.is_some_and(|before| before.etag == value.etag) {
            return;
        }
        for key in self.observers.publish(resource, value) {
            let Some(observer) = self.observers.get_mut(&key) else {
                continue;
            };
            // One notification at a time; what comes meanwhile is replaced by the newest (§4.5.1).
            if observer.answering || observer.outstanding.is_some() {
                observer.waiting = true;
            } else {
                self.notify(now, key, functions, out);
            }
        }
    }

    /// A message of ours was acknowledged: the next notification may go.
    pub(super) fn acknowledged(
        &mut self,
        now: Time,
        purpose: &Purpose,
        functions: &mut dyn Functions,
        out: &mut Output,
    ) {
        let Purpose::Notification(key) = purpose else {
            return;
        };
        let Some(observer) = self.observers.get_mut(key) else {
            return;
        };
        observer.outstanding = None;
        if std::mem::take(&mut observer.waiting) {
            self.notify(now, *key, functions, out);
        }
    }

    /// Ends an observation.
    pub(super) fn cancel(&mut self, key: ObserverKey, functions: &mut dyn Functions) {
        let Some(observer) = self.observers.get_mut(&key) else {
            return;
        };
        if let Some(id) = observer.outstanding {
            self.exchanges.end(key.peer, id);
        }
        let count = self.observers.count();
        if let Some(resource) = self.observers.remove(key) {
            functions.unwatch(&resource);
        }
        self.counters
            .observers_now
            .shift(count, self.observers.count());
    }

    /// Tells every observer that there will be no more, once and without waiting.
    pub(super) fn dismiss_observers(&mut self, functions: &mut dyn Functions, out: &mut Output) {
        let response = Response::unavailable("this node is shutting down");
        for key in self.observers.all() {
            self.cancel(key, functions);
            let peer_hash = std::hash::BuildHasher::hash_one(&self.hasher, key.peer);
            let header = Header {
                kind: Kind::NonConfirmable,
                code: response.code,
                id: self.ids.next(peer_hash),
                token: key.token,
            };
            out.sends
                .send(key.peer, |buffer| response.write(buffer, &header));
        }
    }

    /// Sends the newest value to an observer.
    fn notify(
        &mut self,
        now: Time,
        key: ObserverKey,
        functions: &mut dyn Functions,
        out: &mut Output,
    ) {
        let peer_hash = std::hash::BuildHasher::hash_one(&self.hasher, key.peer);
        let own_exponent = self.exponent;
        let Some(observer) = self.observers.get_mut(&key) else {
            return;
        };
        let exponent = observer.exponent;
        let asked = crate::coap::block::Block {
            number: 0,
            more: false,
            exponent,
        };
        let recipient = Recipient {
            peer_hash,
            transfer: observer.transfer,
            accept: observer.accept,
            block2: (exponent < own_exponent).then_some(asked),
        };
        let sequence = observer.next_sequence();
        let resource = Arc::clone(&observer.resource);
        let Some(current) = self.observers.current(&resource) else {
            return;
        };
        let mut response = self.render_published(now, recipient, &current);
        if response.code.class() != 2 {
            // The value cannot be had any more in the format that was asked for (§4.2).
            return self.end(now, key, &response, functions, out);
        }
        response.observe = Some(sequence);
        let id = self.send_notification(
            now,
            key,
            peer_hash,
            &response,
            Purpose::Notification(key),
            out,
        );
        if let Some(observer) = self.observers.get_mut(&key) {
            observer.outstanding = id;
        }
    }

    /// Ends an observation with a last notification, which is no success (§4.2).
    fn end(
        &mut self,
        now: Time,
        key: ObserverKey,
        response: &Response,
        functions: &mut dyn Functions,
        out: &mut Output,
    ) {
        self.cancel(key, functions);
        let peer_hash = std::hash::BuildHasher::hash_one(&self.hasher, key.peer);
        self.send_notification(now, key, peer_hash, response, Purpose::Response, out);
    }

    fn gone(
        &mut self,
        now: Time,
        resource: &Resource,
        functions: &mut dyn Functions,
        out: &mut Output,
    ) {
        let response = Response::diagnostic(Code::NOT_FOUND, "the function was removed");
        for key in self.observers.of(resource) {
            self.end(now, key, &response, functions, out);
        }
        functions.unwatch(resource);
    }

    /// Sends a notification, and returns its id if its acknowledgement is awaited.
    fn send_notification(
        &mut self,
        now: Time,
        key: ObserverKey,
        peer_hash: u64,
        response: &Response,
        purpose: Purpose,
        out: &mut Output,
    ) -> Option<u16> {
        self.counters.notifications.add_one();
        let (kind, id) = self.fresh_message(key.peer, peer_hash);
        let header = Header {
            kind,
            code: response.code,
            id,
            token: key.token,
        };
        let sent = out
            .sends
            .send(key.peer, |buffer| response.write(buffer, &header));
        if kind != Kind::Confirmable {
            return None;
        }
        self.exchanges.sent(now, key.peer, id, sent, purpose);
        Some(id)
    }
}
