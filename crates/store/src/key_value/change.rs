//! Changes of values: what may be asked, and making a batch of them in one transaction.

use bytes::Bytes;
use mote_core::error::{Error, ErrorKind};
use mote_core::key_value::{cost, incremented};
use mote_core::name::AppName;
use redb::{Durability, ReadableTable as _, WriteTransaction};

use super::accounts::{Draft, Quotas};
use super::file::{USAGE, VALUES, encode};
use super::row::{Place, Span, key_of};

/// Most keys that one step of a clearing removes, and most bytes of their values.
const CLEAR_KEYS_MAX: usize = 1000;
const CLEAR_BYTES_MAX: usize = 1 << 20;

/// One change of one app.
#[derive(Debug)]
pub(super) enum Change {
    Set(Place, Bytes),
    Delete(Place),
    Increment(Place, i64),
    Swap(Place, Option<Bytes>, Bytes),
    /// Removes some rows of a span, and says whether there are more.
    Clear(AppName, Span),
}

/// What became of a change that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    Set,
    Deleted(bool),
    Sum(i64),
    Swapped(bool),
    Cleared { keys: u64, more: bool },
}

/// What holds for a whole batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    pub(super) quotas: &'a Quotas,
    /// Whether the disk has room for values that are longer than those before them.
    pub(super) room: bool,
}

/// A batch, as it was made.
#[derive(Debug)]
pub(super) struct Made {
    /// What became of each.
    pub(super) outcomes: Vec<Result<Done, Error>>,
    /// The accounts that the file now holds.
    pub(super) draft: Draft,
    /// How many of them changed something.
    pub(super) writes: u64,
    /// Whether they are on the disk already.
    pub(super) durable: bool,
}

impl Change {
    pub(super) fn app(&self) -> &AppName {
        match self {
            Self::Set(place, _)
            | Self::Delete(place)
            | Self::Increment(place, _)
            | Self::Swap(place, ..) => &place.app,
            Self::Clear(app, _) => app,
        }
    }

    /// About how many bytes it makes the file write.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Set(place, value) | Self::Swap(place, _, value) => place.row.len() + value.len(),
            Self::Delete(place) | Self::Increment(place, _) => place.row.len(),
            Self::Clear(..) => CLEAR_BYTES_MAX,
        }
    }
}

/// Makes changes in one commit, which is durable when one that changed something has to be.
pub(super) fn commit(
    file: &redb::Database,
    changes: &[Change],
    mut draft: Draft,
    terms: Terms<'_>,
    must_last: &dyn Fn(&Change) -> bool,
) -> Result<Made, redb::Error> {
    let mut transaction = file.begin_write()?;
    let mut outcomes = Vec::with_capacity(changes.len());
    let (mut writes, mut durable) = (0, false);
    let mut table = transaction.open_table(VALUES)?;
    for change in changes {
        let (outcome, wrote) = apply(&mut table, &mut draft, change, terms)?;
        outcomes.push(outcome);
        writes += u64::from(wrote);
        durable |= wrote && must_last(change);
    }
    drop(table);
    if writes == 0 {
        transaction.abort()?;
    } else {
        write_usage(&transaction, &draft)?;
        let durability = if durable {
            Durability::Immediate
        } else {
            Durability::None
        };
        transaction.set_durability(durability)?;
        transaction.commit()?;
    }
    Ok(Made {
        outcomes,
        draft,
        writes,
        durable,
    })
}

type Table<'a> = redb::Table<'a, &'static str, &'static [u8]>;
/// What became of a change, and whether it wrote something. The outer error is the file's.
type Applied = Result<(Result<Done, Error>, bool), redb::Error>;

fn apply(table: &mut Table<'_>, draft: &mut Draft, change: &Change, terms: Terms<'_>) -> Applied {
    match change {
        Change::Set(place, value) => put(table, draft, place, value, Done::Set, terms),
        Change::Delete(place) => {
            let Some(old) = length(table, place)? else {
                return Ok((Ok(Done::Deleted(false)), false));
            };
            let old = cost(place.key(), old);
            if let Err(error) = draft.book(terms.quotas, &place.app, place.key(), Some(old), None) {
                return Ok((Err(error), false));
            }
            table.remove(place.row.as_str())?;
            Ok((Ok(Done::Deleted(true)), true))
        }
        Change::Increment(place, by) => {
            let sum = {
                let value = table.get(place.row.as_str())?;
                incremented(place.key(), value.as_ref().map(|value| value.value()), *by)
            };
            match sum {
                Ok(sum) => {
                    let text = sum.to_string();
                    put(table, draft, place, text.as_bytes(), Done::Sum(sum), terms)
                }
                Err(error) => Ok((Err(error), false)),
            }
        }
        Change::Swap(place, expected, new) => {
            let fits = {
                let value = table.get(place.row.as_str())?;
                value.as_ref().map(|value| value.value()) == expected.as_deref()
            };
            if !fits {
                return Ok((Ok(Done::Swapped(false)), false));
            }
            put(table, draft, place, new, Done::Swapped(true), terms)
        }
        Change::Clear(app, span) => clear(table, draft, app, span, terms.quotas),
    }
}

fn put(
    table: &mut Table<'_>,
    draft: &mut Draft,
    place: &Place,
    value: &[u8],
    done: Done,
    terms: Terms<'_>,
) -> Applied {
    let (key, new) = (place.key(), cost(place.key(), value.len()));
    let old = length(table, place)?.map(|old| cost(key, old));
    if !terms.room && old.is_none_or(|old| new > old) {
        let key: String = key.chars().take(64).collect();
        let message = format!(
            "the disk of the data folder is full: no room for key `{}`",
            key.escape_debug()
        );
        let error =
            Error::new(ErrorKind::StorageFull, message).with_hint("free space on this disk");
        return Ok((Err(error), false));
    }
    if let Err(error) = draft.book(terms.quotas, &place.app, key, old, Some(new)) {
        return Ok((Err(error), false));
    }
    table.insert(place.row.as_str(), value)?;
    Ok((Ok(done), true))
}

fn clear(
    table: &mut Table<'_>,
    draft: &mut Draft,
    app: &AppName,
    span: &Span,
    quotas: &Quotas,
) -> Applied {
    let end = span.end();
    let (mut rows, mut bytes, mut more) = (Vec::new(), 0, false);
    for row in table.range(span.start()..end.as_str())? {
        if rows.len() == CLEAR_KEYS_MAX || bytes > CLEAR_BYTES_MAX {
            more = true;
            break;
        }
        let (row, value) = row?;
        bytes += value.value().len();
        rows.push((row.value().to_owned(), value.value().len()));
    }
    for (row, length) in &rows {
        let key = key_of(row);
        if let Err(error) = draft.book(quotas, app, key, Some(cost(key, *length)), None) {
            return Ok((Err(error), false));
        }
        table.remove(row.as_str())?;
    }
    let keys = rows.len() as u64;
    Ok((Ok(Done::Cleared { keys, more }), keys > 0))
}

fn length(table: &Table<'_>, place: &Place) -> Result<Option<usize>, redb::Error> {
    let value = table.get(place.row.as_str())?;
    Ok(value.map(|value| value.value().len()))
}

fn write_usage(transaction: &WriteTransaction, draft: &Draft) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(USAGE)?;
    for (app, usage) in draft.changed() {
        match usage.keys {
            0 => drop(table.remove(app.as_str())?),
            _ => drop(table.insert(app.as_str(), encode(usage).as_slice())?),
        }
    }
    Ok(())
}
