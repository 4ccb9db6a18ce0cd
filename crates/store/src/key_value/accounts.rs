//! What each app keeps, and whether there is room for more.
//!
//! The totals are rows of the file, written in the transaction of the change that moves them: they
//! are exact after any crash, and nothing is counted at start. In memory is a copy of what is
//! committed.

use std::collections::HashMap;

use mote_core::error::{Error, ErrorKind};
use mote_core::key_value::Usage;
use mote_core::name::AppName;

/// Most apps that keep data on a node: as many as it may have functions.
pub(super) const APPS_MAX: usize = 10_000;

/// How much may be kept. Lowering one takes nothing away: what is over it can only shrink.
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    /// Bytes of one app, as [`mote_core::key_value::cost`] counts them.
    pub app_bytes_max: u64,
    /// Keys of one app.
    pub app_keys_max: u64,
    /// Bytes of all apps.
    pub node_bytes_max: u64,
}

/// Apps that have keys, with what they keep.
#[derive(Clone, Debug, Default)]
pub(super) struct Accounts {
    apps: HashMap<AppName, Usage>,
    total_bytes: u64,
}

impl Accounts {
    pub(super) fn set(&mut self, app: AppName, usage: Usage) {
        let old = match usage.keys {
            0 => self.apps.remove(&app),
            _ => self.apps.insert(app, usage),
        };
        self.total_bytes = self.total_bytes + usage.bytes - old.unwrap_or_default().bytes;
    }

    /// Every app, by name.
    pub(super) fn all(&self) -> Vec<(AppName, Usage)> {
        let apps = self.apps.iter();
        let mut all: Vec<_> = apps.map(|(app, usage)| (app.clone(), *usage)).collect();
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        all
    }
}

/// The accounts as a transaction would leave them.
#[derive(Debug)]
pub(super) struct Draft {
    /// The apps that it changes, each once.
    lines: Vec<Line>,
    apps: usize,
    total_bytes: u64,
}

#[derive(Debug)]
struct Line {
    app: AppName,
    before: Usage,
    after: Usage,
}

impl Draft {
    /// For changes of these apps.
    pub(super) fn of<'a>(accounts: &Accounts, apps: impl Iterator<Item = &'a AppName>) -> Self {
        let mut lines: Vec<Line> = Vec::new();
        for app in apps {
            // A batch is of few apps.
            if !lines.iter().any(|line| line.app == *app) {
                let before = accounts.apps.get(app).copied().unwrap_or_default();
                lines.push(Line {
                    app: app.clone(),
                    before,
                    after: before,
                });
            }
        }
        Self {
            lines,
            apps: accounts.apps.len(),
            total_bytes: accounts.total_bytes,
        }
    }

    /// Books a key whose cost goes from `old` to `new`, `None` being no key. What grows is refused
    /// with `StorageFull` when there is no room; what shrinks never is.
    pub(super) fn book(
        &mut self,
        quotas: &Quotas,
        app: &AppName,
        key: &str,
        old: Option<u64>,
        new: Option<u64>,
    ) -> Result<(), Error> {
        let line = self.lines.iter_mut().find(|line| line.app == *app);
        let usage = &mut line.expect("a draft is of the apps of its changes").after;
        let moved = moved(*usage, old, new);
        let total_bytes = self.total_bytes + moved.bytes - usage.bytes;
        if moved.bytes > usage.bytes || moved.keys > usage.keys {
            admit(quotas, app, key, moved, total_bytes)?;
            if usage.keys == 0 && self.apps >= APPS_MAX {
                let message = format!(
                    "{APPS_MAX} apps keep key-value data, which is the limit: no room for app `{app}`"
                );
                return Err(Error::new(ErrorKind::StorageFull, message)
                    .with_hint("`mote kv usage` lists them, `mote kv clear` removes one's data"));
            }
        }
        self.apps = self.apps + usize::from(usage.keys == 0 && moved.keys > 0)
            - usize::from(usage.keys > 0 && moved.keys == 0);
        self.total_bytes = total_bytes;
        *usage = moved;
        Ok(())
    }

    /// The apps whose usage is another now.
    pub(super) fn changed(&self) -> impl Iterator<Item = (&AppName, Usage)> {
        let changed = self.lines.iter().filter(|line| line.before != line.after);
        changed.map(|line| (&line.app, line.after))
    }

    /// After the commit.
    pub(super) fn publish(self, accounts: &mut Accounts) {
        for line in self.lines {
            accounts.set(line.app, line.after);
        }
    }
}

fn moved(usage: Usage, old: Option<u64>, new: Option<u64>) -> Usage {
    Usage {
        keys: usage.keys + u64::from(new.is_some()) - u64::from(old.is_some()),
        bytes: usage.bytes + new.unwrap_or(0) - old.unwrap_or(0),
    }
}

fn admit(
    quotas: &Quotas,
    app: &AppName,
    key: &str,
    moved: Usage,
    total_bytes: u64,
) -> Result<(), Error> {
    let key: String = key.chars().take(64).collect();
    let key = key.escape_debug();
    let full = |message: String, hint: &str| {
        Err(Error::new(ErrorKind::StorageFull, message).with_hint(hint.to_owned()))
    };
    let (keys, bytes) = (quotas.app_keys_max, quotas.app_bytes_max);
    if moved.keys > keys {
        return full(
            format!("app `{app}` has {keys} keys, which is the limit: no room for key `{key}`"),
            "remove some with `mote kv rm`, or raise kv_app_keys_max of the node",
        );
    }
    if moved.bytes > bytes {
        return full(
            format!(
                "key `{key}` would take app `{app}` to {} bytes: the limit is {bytes} bytes",
                moved.bytes
            ),
            "remove some keys with `mote kv rm`, or raise kv_app_bytes_max of the node",
        );
    }
    if total_bytes > quotas.node_bytes_max {
        return full(
            format!(
                "key `{key}` would take the key-value data of the node to {total_bytes} bytes: the limit is {} bytes",
                quotas.node_bytes_max
            ),
            "`mote kv usage` says which apps keep how much; raise kv_bytes_max of the node for more",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const QUOTAS: Quotas = Quotas {
        app_bytes_max: 1000,
        app_keys_max: 5,
        node_bytes_max: 1500,
    };

    fn app(number: u8) -> AppName {
        format!("a{number}").parse().unwrap()
    }

    proptest! {
        /// A model that keeps every key: the totals are its sums, and within the quotas.
        #[test]
        fn totals_are_the_sum_of_the_keys(changes in prop::collection::vec((0u8..3, 0u8..9, prop::option::of(60u64..400)), 0..80), batch in 1usize..7) {
            let mut accounts = Accounts::default();
            let mut model: BTreeMap<(u8, u8), u64> = BTreeMap::new();
            for changes in changes.chunks(batch) {
                let apps: Vec<_> = changes.iter().map(|(number, ..)| app(*number)).collect();
                let mut draft = Draft::of(&accounts, apps.iter());
                for (number, key, new) in changes {
                    let old = model.get(&(*number, *key)).copied();
                    if draft.book(&QUOTAS, &app(*number), "key", old, *new).is_ok() {
                        match new {
                            Some(cost) => model.insert((*number, *key), *cost),
                            None => model.remove(&(*number, *key)),
                        };
                    } else {
                        prop_assert!(new > &old, "only what grows is refused");
                    }
                }
                draft.publish(&mut accounts);
                let mut sums: BTreeMap<AppName, Usage> = BTreeMap::new();
                for ((number, _), cost) in &model {
                    let sum = sums.entry(app(*number)).or_default();
                    (sum.keys, sum.bytes) = (sum.keys + 1, sum.bytes + cost);
                }
                prop_assert_eq!(accounts.all(), sums.into_iter().collect::<Vec<_>>());
                prop_assert_eq!(accounts.total_bytes, model.values().sum::<u64>());
                prop_assert!(accounts.total_bytes <= 1500);
                prop_assert!(accounts.all().iter().all(|(_, usage)| usage.keys <= 5 && usage.bytes <= 1000));
            }
        }
    }

    #[test]
    fn what_is_over_a_lowered_quota_can_shrink() {
        let mut accounts = Accounts::default();
        let (keys, bytes) = (9, 2000);
        accounts.set(app(1), Usage { keys, bytes });
        let mut draft = Draft::of(&accounts, [app(1)].iter());
        let grown = draft.book(&QUOTAS, &app(1), "k", Some(100), Some(101));
        assert_eq!(grown.unwrap_err().kind(), ErrorKind::StorageFull);
        draft
            .book(&QUOTAS, &app(1), "k", Some(100), Some(90))
            .unwrap();
        draft.book(&QUOTAS, &app(1), "k", Some(90), None).unwrap();
        let (keys, bytes) = (8, 1900);
        assert_eq!(
            draft.changed().collect::<Vec<_>>(),
            [(&app(1), Usage { keys, bytes })]
        );
    }

    #[test]
    fn there_is_room_for_so_many_apps() {
        let mut accounts = Accounts::default();
        let (keys, bytes) = (1, 0);
        for number in 0..APPS_MAX {
            let app = format!("a{number}").parse().unwrap();
            accounts.set(app, Usage { keys, bytes });
        }
        let more: AppName = "more".parse().unwrap();
        let mut draft = Draft::of(&accounts, [&more, &app(1)].into_iter());
        let refused = draft.book(&QUOTAS, &more, "k", None, Some(70));
        assert!(refused.unwrap_err().message().contains("10000 apps"));
        draft.book(&QUOTAS, &app(1), "k", Some(0), None).unwrap();
        draft.book(&QUOTAS, &more, "k", None, Some(70)).unwrap();
    }
}
