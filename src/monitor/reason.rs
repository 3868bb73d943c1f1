//! Why a request was refused, or its answer replaced: one spelling everywhere.

use crate::cx::Cx;
use crate::host::LogField;
use crate::monitor::metrics::Handle;
use crate::monitor::names::Names;

/// A reason: `limit/orders-per-user`, `switch/no-reviews`, `breaker/inventory`, `failure/reviews` …
///
/// The same word is the label of metrics, the field of the access log and the header of the reply. Response-code details
/// have it in Envoy's own style.
#[derive(Debug)]
pub struct Reason {
    text: String,
    details: String,
    names: Names,
    enforced: Handle,
    shadow: Handle,
}

/// Whether a refusal happened, or would have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// The request was refused.
    Enforced,
    /// It would have been, by a policy that is being tried out.
    Shadow,
}

impl Enforcement {
    /// That of a policy whose configuration says `enforced` so.
    pub const fn of(enforced: bool) -> Self {
        if enforced { Self::Enforced } else { Self::Shadow }
    }

    /// The word in the metric's label `enforced`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforced => "true",
            Self::Shadow => "false",
        }
    }
}

/// Why a request is refused that has no time left.
pub const DEADLINE: &str = "deadline";

/// The reason of the policy of that kind and name, as a word.
pub fn text(kind: &str, name: &str) -> String {
    format!("{kind}/{name}")
}

impl Reason {
    /// The reason of the policy of that kind and name.
    pub fn new(kind: &str, name: &str, names: &Names) -> Self {
        Self {
            text: text(kind, name),
            details: format!("outrigger_{kind}_{name}"),
            names: names.clone(),
            enforced: Handle::default(),
            shadow: Handle::default(),
        }
    }

    /// A reason that has no policy of a name.
    pub fn plain(word: &str, names: &Names) -> Self {
        Self {
            text: word.to_owned(),
            details: format!("outrigger_{word}"),
            names: names.clone(),
            enforced: Handle::default(),
            shadow: Handle::default(),
        }
    }

    /// The word.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The word in response-code details.
    pub fn details(&self) -> &str {
        &self.details
    }

    /// Counts a refusal.
    pub fn count(&self, cx: &Cx<'_>, enforcement: Enforcement) {
        let handle = match enforcement {
            Enforcement::Enforced => &self.enforced,
            Enforcement::Shadow => &self.shadow,
        };
        let name = || self.names.refusals_total(&self.text, enforcement.as_str());
        let counted = handle.count(cx, name);
        cx.report(counted);
    }

    /// Counts that a prepared reply of that name was served.
    pub fn count_fallback(&self, cx: &Cx<'_>, fallback: &str) {
        let name = self.names.fallbacks_total(fallback, &self.text);
        cx.report(cx.count(name));
    }

    /// Makes the reason visible to the access log.
    pub fn log(&self, cx: &Cx<'_>) {
        cx.report(cx.host.set_log_field(LogField::Reason, &self.text));
    }
}
