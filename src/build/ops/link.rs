//! What `COPY --link` needs beside the copy itself: an owner without a rootfs, and layers put on each other.
//!
//! The copy's layer is made on nothing. Its key has no rootfs in it, so that it survives a change of what
//! stands below; [`MergeOp`] puts it there. Users of the stage's own passwd come in as numbers only, by
//! [`OwnerOp`]: another base with the same numbers changes nothing.

use kiln_cache::key::KeyBuilder;

use super::transfer::{failure, folders};
use crate::blocking;
use crate::build::ops::copy;
use crate::build::solve::{Context, Executed, Key, Op, OpFuture, Outcome};
use crate::build::tree::{Merged, lookup_owner};

/// Finds whom `user[:group]` means in a rootfs.
///
/// The result is named by the numbers alone. Its layers are the rootfs's, so that whoever needs the numbers
/// finds them there again.
pub(super) struct OwnerOp {
    pub(super) text: String,
}

impl Op for OwnerOp {
    fn cheap_key(&self, inputs: &[Outcome]) -> Key {
        let key =
            KeyBuilder::new("owner", 1).field("rootfs", inputs[0].id.to_string()).field("owner", &self.text);
        Key { parts: key.parts(), digest: key.digest() }
    }

    fn execute<'a>(&'a self, inputs: &'a [Outcome], context: &'a Context) -> OpFuture<'a> {
        let (chain, text) = (folders(&inputs[0].chain, &context.store), self.text.clone());
        Box::pin(async move {
            let found = blocking::run("find owner", move || {
                Merged::open(&chain).and_then(|rootfs| lookup_owner(&rootfs, &text))
            });
            let owner = found.await.map_err(|error| failure(&copy::Error::from(error)))?;
            let id = KeyBuilder::new("owner-result", 1)
                .field("user", owner.uid.to_string())
                .field("group", owner.gid.to_string())
                .digest();
            let outcome = Outcome { id, ..inputs[0].clone() };
            Ok(Executed { outcome, key: self.cheap_key(inputs) })
        })
    }
}

/// Puts the layers of its second input on those of its first.
pub(super) struct MergeOp;

impl Op for MergeOp {
    fn known(&self, inputs: &[Outcome]) -> Option<Outcome> {
        let [below, above] = inputs else { return None };
        let chain = below.chain.iter().chain(&above.chain).copied().collect();
        Some(Outcome { id: self.cheap_key(inputs).digest, chain, created: above.created })
    }

    fn cheap_key(&self, inputs: &[Outcome]) -> Key {
        let results = inputs.iter().map(|input| input.id.to_string());
        let key = KeyBuilder::new("merge", 1).list("layers", results);
        Key { parts: key.parts(), digest: key.digest() }
    }

    fn execute<'a>(&'a self, inputs: &'a [Outcome], _context: &'a Context) -> OpFuture<'a> {
        let outcome = self.known(inputs).expect("a merge has two inputs");
        let key = self.cheap_key(inputs);
        Box::pin(async move { Ok(Executed { outcome, key }) })
    }
}
