//! Texts that were written without quotes.
//!
//! Most people write the document as YAML, where a text needs quotes only if it looks like something else, and readers of
//! YAML 1.1 (kubectl, Helm, Argo CD) hand that something else on. A whole number is the text of its digits. Of others nobody can
//! tell what was written: `true` may have been `on`, `yes` or `true`, and `1.5` may have been `1.50`.

use std::borrow::Cow;

use serde::de::Error;

use super::node::Node;

/// Doubles, which is what Istio makes of numbers, hold the whole numbers below this one exactly.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The text that the node is, or was before YAML read it; `None` if it is nothing like a text.
///
/// # Errors
///
/// It was read as something else, and what was written is lost.
pub(super) fn of<E: Error>(node: &Node) -> Result<Option<Cow<'_, str>>, E> {
    match node {
        Node::Text(text) => Ok(Some(Cow::Borrowed(text))),
        Node::Unsigned(number) => Ok(Some(Cow::Owned(number.to_string()))),
        Node::Signed(number) => Ok(Some(Cow::Owned(number.to_string()))),
        Node::Float(number) if number.fract() == 0.0 && number.abs() < EXACT => {
            Ok(Some(Cow::Owned(number.to_string())))
        }
        Node::Float(number) => Err(E::custom(format_args!(
            "{number:?}, must be a text: write it in quotes, or YAML takes it for a number"
        ))),
        Node::Bool(value) => Err(not_a_boolean(*value)),
        Node::Null | Node::Verbatim(..) | Node::List(_) | Node::Object(_) => Ok(None),
    }
}

/// What is wrong with `true` or `false` where a text is wanted.
pub(super) fn not_a_boolean<E: Error>(value: bool) -> E {
    let words = if value { "on, yes and true" } else { "off, no and false" };
    E::custom(format_args!("{value}, must be a text: write it in quotes, or YAML takes {words} for {value}"))
}
