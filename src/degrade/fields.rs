//! What policies of this folder have in common in a document.

use crate::document::texts::REFERENCE;
use crate::document::{Field, Kind};
use crate::field;

/// The reply that a policy gives, one of the fields that several policies have.
pub const FALLBACK: Field = field!("fallback", Kind::Text(&REFERENCE), else "503, see [what a refusal looks like](../refusals.md)", "the name of the reply to give");
