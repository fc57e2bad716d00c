//! Finding a recorded result: the cheap key first, then the content key.

use kiln_cache::{Digest, Label, Record, Store};

use super::{Key, Op, OpError, Outcome};
use crate::api::{Failure, FailureKind};

/// The kind of note that marks an op's [family](Op::family) of which some content was recorded.
///
/// Without it, reading a whole context to look it up can't find anything: it is copied and keyed in one pass.
const CONTENT_SEEN: &str = "content-seen";

/// Looks `op` up, and tells under which key it was found. Blocking; reads only, but for the cheap key of a closed
/// op whose content was found.
pub(super) fn find(
    op: &dyn Op,
    inputs: &[Outcome],
    store: &Store,
) -> Result<Option<(Digest, Outcome)>, OpError> {
    let cheap = op.cheap_key(inputs);
    if op.is_closed()
        && let Some(record) = store.record(&cheap.digest).map_err(store_error)?
    {
        return Ok(Some((cheap.digest, outcome(record))));
    }
    if store.note(CONTENT_SEEN, &op.family(inputs).hex()).map_err(store_error)?.is_none() {
        return Ok(None);
    }
    let Some(content) = op.content_key(inputs, store)? else { return Ok(None) };
    let Some(record) = store.record(&content.digest).map_err(store_error)? else { return Ok(None) };
    if op.is_closed() {
        // The next look-up reads nothing. A record that can't be written costs that reading, no more.
        let _ = store.put_record(&[cheap.digest], &record, &Label::default());
    }
    Ok(Some((content.digest, outcome(record))))
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
        parts: key.parts.clone(),
    };
    let known = store.record(&key.digest).map_err(store_error)?.as_ref() == Some(&record);
    store.put_record(&keys, &record, label).map_err(store_error)?;
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
