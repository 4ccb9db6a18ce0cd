//! Offering a call to instances outside of the node.

use std::sync::Arc;

use mote_core::error::{Error, ErrorKind};
use mote_core::invocation::Invocation;
use mote_core::reply::Reply;
use mote_core::runtime::CallContext;
use tokio::time::Instant;

use crate::plan::Entry;
use crate::pool::Lease;
use crate::waits::Hands;

/// How many instances of a group a call is offered.
const OFFERS_MAX: u32 = 3;

/// Offers a call to instances of a group until one takes it. One that does not is taken out of the
/// group; a call that was handed over is never offered again.
pub(super) async fn offer(
    entry: &Arc<Entry>,
    mut offered: Option<Invocation>,
    context: CallContext,
    mut lease: Lease,
    hands: Hands<'_>,
    started: Instant,
) -> Result<(Reply, Lease), Error> {
    for offers_left in (0..OFFERS_MAX).rev() {
        if let Some(invocation) = &mut offered {
            let budget = invocation.budget.min(entry.spec.limits.timeout);
            invocation.budget = budget.saturating_sub(started.elapsed());
        }
        let called = lease.instance().call(&mut offered, context.clone()).await;
        let Lease::Seat(seat) = lease else {
            break;
        };
        match called {
            Ok(reply) => {
                seat.served();
                return Ok((reply, Lease::Seat(seat)));
            }
            // An instance that has no room says so; one that cannot take the call is replaced.
            Err(error)
                if offered.is_some()
                    && offers_left > 0
                    && error.kind() != ErrorKind::Overloaded =>
            {
                seat.distrust(error);
                lease = entry.pool.lease(Instant::now(), &hands).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::new(ErrorKind::Internal, "no instance took the call"))
}
