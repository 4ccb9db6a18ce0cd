//! How many instances of a function there may be.

use std::time::Duration;

use crate::error::Error;

use super::{bad, millis, within};

/// How many instances there are, and when there are more or fewer of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Instances that are always there; 0 lets the function go to zero.
    pub min: u32,
    /// Most instances.
    pub max: u32,
    /// Calls in flight for each instance; more of them ask for another one. `None`: as many as an
    /// instance takes at once.
    pub target: Option<u32>,
    /// How long an instance goes without a call before it is stopped.
    pub idle: Duration,
}

/// Most instances of one function on one node.
pub const INSTANCES_MAX: u32 = 1000;

impl Default for Scale {
    fn default() -> Self {
        Self {
            min: 0,
            max: 4,
            target: None,
            idle: Duration::from_secs(300),
        }
    }
}

impl Scale {
    pub(super) fn check(&self) -> Result<(), Error> {
        within("scale.max", self.max.into(), 1, INSTANCES_MAX.into())?;
        if self.min > self.max {
            return Err(bad(format!(
                "scale.min = {} is more than scale.max = {}",
                self.min, self.max
            )));
        }
        within(
            "scale.target",
            self.target.unwrap_or(1).into(),
            1,
            super::CONCURRENCY_MAX.into(),
        )?;
        within("scale.idle (ms)", millis(self.idle), 100, 30 * 86_400_000)
    }
}
