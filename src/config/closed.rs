//! The closed lists of words that labels may say, each with what it means.
//!
//! They are for the reference, and for tests that let no metric say anything else. Native only: the shipped module has the words
//! where it says them, and their sentences nowhere.

use crate::degrade::breaker::state::Transition;
use crate::degrade::stale::Cause;
use crate::monitor::outcome::Outcome;
use crate::monitor::trouble::CALLS;
use crate::monitor::word::Word;
use crate::operation::Tier;
use crate::retry::policy::Decision;
use crate::word;

/// The words in the label `kind` of `outrigger_table_evictions_total`.
#[rustfmt::skip]
pub const KINDS: [Word; 2] = [
    word!("lossless", "the key that lost its place had nothing in it: to nobody's harm"),
    word!("lossy", "the key that lost its place had taken something, see [keys](reference/requests.md#keys)"),
];

/// The words in the label `call` of `outrigger_shared_conflicts_total`: what workers share.
#[rustfmt::skip]
pub const RECORDS: [Word; 11] = [
    word!("breaker", "the state of a breaker"),
    word!("concurrency", "the places of a concurrency limit"),
    word!("hash_seed", "the seed that keys are hashed with, drawn once"),
    word!("keyed_table", "a set of keys of a limit with a `key`"),
    word!("leaky_bucket", "the state of a leaky bucket"),
    word!("roster", "the list of workers that are alive"),
    word!("stale_index", "the list of kept answers"),
    word!("stale_slot", "a kept answer"),
    word!("token_bucket", "the state of a token bucket, or of a budget for retries"),
    word!("uses", "the list of configurations, switches and breakers in use"),
    word!("window", "the state of a window"),
];

/// The words in the label `enforced`.
#[rustfmt::skip]
pub const ENFORCED: [Word; 2] = [
    word!("true", "the request was refused"),
    word!("false", "the request would have been refused: the policy is in shadow mode"),
];

/// The words that the label of the metric may say, by the metric's name. `None` if they are names of the configuration, or
/// reasons made of these.
pub fn words(metric: &str, label: &str) -> Option<Vec<Word>> {
    let words = match (metric, label) {
        (_, "outcome") => Outcome::ALL.map(|it| Word { word: it.as_str(), means: it.means() }).to_vec(),
        (_, "tier") => Tier::ALL.map(|it| Word { word: it.as_str(), means: "" }).to_vec(),
        (_, "decision") => Decision::ALL.map(|it| Word { word: it.as_str(), means: it.means() }).to_vec(),
        ("outrigger_stale_not_kept_total", "cause") => {
            Cause::ALL.map(|it| Word { word: it.as_str(), means: it.means() }).to_vec()
        }
        (_, "cause") => Transition::ALL.map(|it| Word { word: it.cause(), means: it.means() }).to_vec(),
        (_, "to") => Transition::ALL.map(|it| Word { word: it.to(), means: "" }).to_vec(),
        ("outrigger_host_errors_total", "call") => CALLS.to_vec(),
        ("outrigger_shared_conflicts_total", "call") => RECORDS.to_vec(),
        (_, "enforced") => ENFORCED.to_vec(),
        (_, "kind") => KINDS.to_vec(),
        _ => return None,
    };
    Some(words)
}
