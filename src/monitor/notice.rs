//! What a configuration is warned of, in the log once and not once per worker.
//!
//! A proxy reads a configuration in every worker, and once more to try it. They agree by a shared record on who of them speaks:
//! the first that finds another text there than it has to say.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::cx::Cx;
use crate::host::{Expected, Written};

/// The record of what was said of the plugin's configuration. Its own, even where plugins share a scope: one must not take
/// the place of the other, or each worker would say both again.
pub fn record(scope: Option<&str>, plugin: &str, what: &str) -> String {
    match scope {
        Some(scope) => format!("outrigger/{scope}/said/{what}/{plugin}"),
        None => format!("outrigger/{plugin}/said/{what}"),
    }
}

/// How many lines are logged at most. A mistake made once may show in thousands of places.
pub const MOST: usize = 20;

/// Logs the lines unless they are what was logged last for the record. If that cannot be told, they are logged. Of more than
/// [`MOST`] the first are, and how many more there are.
pub fn tell(cx: &Cx<'_>, record: &str, lines: &[impl fmt::Display]) {
    if is_news(cx, record, lines) {
        for line in lines.iter().take(MOST) {
            log::warn!("{line}");
        }
        let more = lines.len().saturating_sub(MOST);
        if 0 < more {
            log::warn!("and {more} more warnings");
        }
    }
}

fn is_news(cx: &Cx<'_>, record: &str, lines: &[impl fmt::Display]) -> bool {
    let mut hasher = SipHasher13::new();
    for line in lines {
        hasher.write(line.to_string().as_bytes());
        hasher.write_u8(b'\n');
    }
    let digest = hasher.finish().to_le_bytes();
    let expected = match cx.host.shared_get(record) {
        Ok(Some(last)) if last.bytes == digest => return false,
        Ok(Some(last)) => Expected::Unchanged(last.version),
        // Nothing was said, and there is nothing to say.
        Ok(None) if lines.is_empty() => return false,
        Ok(None) => Expected::Absent,
        Err(_) => return true,
    };
    // Who lost the race leaves it to the other.
    !matches!(cx.host.shared_set(record, &digest, expected), Ok(Written::Conflict))
}
