//! Finding a recorded result: the cheap key first, then the content key.

use kiln_cache::{Digest, Label, Record, Store};

use super::{Absent, Key, Known, Op, OpError, Outcome};
use crate::api::{Failure, FailureKind};

/// The kind of note that marks an op's [family](Op::family) of which some content was recorded.
///
/// Without it, reading a whole context to look it up can't find anything: it is copied and keyed in one pass.
const CONTENT_SEEN: &str = "content-seen";

/// What a look-up gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// The key under which it is recorded, and a result whose layers are there.
    Here(Digest, Outcome),
    /// One whose layers were collected then, in unix seconds; its id is as good as ever.
    Collected(Outcome, i64),
    /// None that may be used.
    Nothing(Absent),
}

/// Which records may be used.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usable {
    /// None of them.
    pub(super) refuses_all: bool,
    /// Those that were made no earlier, in unix seconds.
    pub(super) since: Option<i64>,
}

/// Looks `op` up. Blocking; reads only, but for the cheap key of a closed op whose content was found.
///
/// Content of an input whose layers were collected can't be read: then the ids alone have to find it.
pub(super) fn find(
    op: &dyn Op,
    (cheap, inputs): (&Key, &[Known]),
    usable: Usable,
    store: &Store,
) -> Result<Found, OpError> {
    if usable.refuses_all {
        return Ok(Found::Nothing(Absent::Refused));
    }
    if op.is_closed()
        && let Some(found) = under(&cheap.digest, usable, store)?
    {
        return Ok(found);
    }
    if op.is_closed() && !(0..inputs.len()).any(|index| op.reads(index)) {
        // The cheap key says it all.
        return Ok(Found::Nothing(Absent::Never));
    }
    let outcomes: Vec<Outcome> = inputs.iter().map(|input| input.outcome.clone()).collect();
    if store.note(CONTENT_SEEN, &op.family(&outcomes).hex()).map_err(store_error)?.is_none() {
        return Ok(Found::Nothing(Absent::Never));
    }
    if inputs.iter().enumerate().any(|(index, input)| !input.is_there && op.reads(index)) {
        return Ok(Found::Nothing(Absent::Never));
    }
    let Some(content) = op.content_key(&outcomes, store)? else { return Ok(Found::Nothing(Absent::Never)) };
    let found = under(&content.digest, usable, store)?.unwrap_or(Found::Nothing(Absent::Never));
    if let Found::Here(..) = &found
        && op.is_closed()
        && let Some(record) = store.record(&content.digest).map_err(store_error)?
    {
        // The next look-up reads nothing. A record that can't be written costs that reading, no more.
        let _ = store.put_record(&[cheap.digest], &record, &Label::default());
    }
    Ok(found)
}

/// What lies under `key`; `None` if nothing ever did.
fn under(key: &Digest, usable: Usable, store: &Store) -> Result<Option<Found>, OpError> {
    let found = store.find_record(key).map_err(store_error)?;
    Ok(found.map(|found| match found {
        kiln_cache::Found::Present(record) => fresh(Found::Here(*key, outcome(record)), usable),
        kiln_cache::Found::Collected { record, at } => fresh(Found::Collected(outcome(record), at), usable),
    }))
}

/// A result that is too old is as none.
fn fresh(found: Found, usable: Usable) -> Found {
    match &found {
        Found::Here(_, outcome) | Found::Collected(outcome, _)
            if usable.since.is_some_and(|since| outcome.created < since) =>
        {
            Found::Nothing(Absent::Expired { created: outcome.created })
        }
        _ => found,
    }
}

/// Records what an execution gave under its own key and, for a closed op, under the cheap one.
///
/// True when just that was recorded already: the op found out that nothing has changed.
pub(super) fn record(
    op: &dyn Op,
    (cheap, inputs): (&Key, &[Outcome]),
    key: &Key,
    (outcome, label): (&Outcome, &Label),
    store: &Store,
) -> Result<bool, OpError> {
    let mut keys: Vec<Digest> = vec![key.digest];
    if op.is_closed() && cheap.digest != key.digest {
        keys.push(cheap.digest);
    }
    let record = Record {
        result: outcome.id,
        chain: outcome.chain.clone(),
        created: outcome.created,
        parts: key.parts.texts(),
    };
    let known = store.put_record(&keys, &record, label).map_err(store_error)?;
    if cheap.digest != key.digest {
        store.put_note(CONTENT_SEEN, &op.family(inputs).hex(), "1").map_err(store_error)?;
    }
    Ok(known)
}

fn outcome(record: Record) -> Outcome {
    Outcome { id: record.result, chain: record.chain, created: record.created }
}

pub(super) fn store_error(error: kiln_cache::Error) -> OpError {
    Box::new(Failure::from_error(FailureKind::System, &error))
}
