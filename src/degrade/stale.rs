//! Stale answers: when the service fails, its last good answer to the same request is better than an error.
//!
//! ```text
//! request:            Stale::candidate   ─▶ Candidate, kept with the stream           a write: Address
//! response headers:   good: Stale::begin ─▶ Capture      failed: Stale::lookup ─▶ Kept ─▶ Reply
//!                     anything else: Stale::begin renews or gives up what is kept     a write: Stale::forget
//! each part of body:  Capture::push
//! end of body:        Capture::finish                    end of the stream before that: Capture::abandon
//! ```
//!
//! This is no cache in front of the service: each request is sent on, and what is kept is served only in place of a
//! failure. What may be kept is decided by the [rules]; by whom it may be got, by the [digest] of the request: scheme,
//! authority, path with query, the parts that `stale.key` names, and the headers that the answer's `Vary` names.
//!
//! The service has the last word. A write that did not fail gives up all that is kept of its address, and of those that
//! its answer names (RFC 9111, section 4.4). An answer that is not to be kept, or that says that the page has moved or gone, gives up
//! the one before it; a 304 renews the one that it confirms (section 4.3.4). What is on its way meanwhile is not kept. Another worker
//! that has just dealt with an answer keeps the next one no earlier than it would have.
//!
//! Who is kept is decided by the [frequency] with which answers are asked for: one that would push out what is in more demand is not even
//! copied. A request whose cookies are all [ignored](cookies) counts as one without; why an answer is not kept is told by its [cause].
//!
//! Answers are kept in a fixed number of shared [slots], for all workers of the sidecar: never more than `max_bytes` of
//! them, answers on their way included, at any instant. One answer may take up a [quarter](Spec::max_answer) of that; longer
//! ones pass untouched. Beside it there is the [index] of at most 14 KB, and what the proxy itself needs per record.
//! Records cannot be deleted: what a rule kept stays with the proxy, within the rule's bound, when the rule is removed.
//!
//! An answer is written again when it is a tenth of `max_age` old, but every [`MAX_REWRITE`] at least, so a path in demand costs
//! no call of the proxy in between, but for four at most that tell the index of its demand. A served answer is older than the last good one by no more than that. Each worker
//! begins to keep a hundred answers a second at most, so that requests that never come again cost little.

mod address;
mod cache_control;
mod capture;
mod cause;
mod cookies;
mod digest;
mod entry;
pub mod fields;
mod frequency;
mod http_date;
mod index;
mod kept;
mod memory;
mod rules;
mod slots;
mod vary;

use std::hash::Hasher;
use std::rc::Rc;
use std::time::Duration;

pub use address::Address;
pub use capture::{Capture, Progress};
pub use cause::Cause;
pub use cookies::IgnoredCookies;
pub use frequency::{Frequencies, MOST, SAMPLE};
pub use index::{LAYOUT, RESERVED_FOR, SLOTS};
pub use kept::{Kept, Origin};
pub use memory::{MAX_CAPTURES, Memories, Memory};
pub use rules::MAX_REQUEST_HEADERS;

use crate::cx::Cx;
use crate::degrade::stale::address::Mark;
use crate::degrade::stale::cache_control::MAX_SECONDS;
use crate::degrade::stale::cause::NotKept;
use crate::degrade::stale::digest::Digest;
use crate::degrade::stale::entry::{Entry, PREFIX};
use crate::degrade::stale::index::Refusal;
use crate::degrade::stale::rules::{Terms, Word};
use crate::degrade::stale::slots::{Asked, Slots, Whose};
use crate::degrade::stale::vary::Vary;
use crate::headers::Headers;
use crate::host::HostError;
use crate::monitor::names::Names;
use crate::operation::client_ip::ClientIp;
use crate::operation::key::{KeyPart, KeySpec, Missing};
use crate::operation::request::Request;
use crate::shared::seed::Seed;

/// The longest time after which an answer is written again.
pub const MAX_REWRITE: Duration = Duration::from_secs(10);

/// The most bytes that are reserved for an answer that does not say how long it is; longer ones are not kept.
const UNKNOWN_LENGTH: u32 = 64 * 1024;

/// How long a worker that gave up what was kept of a request does not look again whether there is something: an answer that is never to
/// be kept would otherwise cost a call of the proxy each time.
const GIVEN_UP_FOR: Duration = Duration::from_secs(1);

/// What a rule says about stale answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// From this age on an answer is not served. Positive.
    pub max_age: Duration,
    /// The most bytes of all answers of the rule, over all workers: heads and bodies.
    pub max_bytes: u32,
    /// How long an answer is fresh that says nothing of it; `None` if such are not kept. In whole seconds, of which one that has
    /// begun counts.
    pub assume_fresh: Option<Duration>,
    /// A request whose cookies are all among these counts as one without cookies.
    pub ignore_cookies: IgnoredCookies,
    /// What parts a request's key has besides scheme, authority, path and query. A missing part is a value like any other.
    pub key: Vec<KeyPart>,
    /// How to find the client's address.
    pub client_ip: ClientIp,
}

impl Spec {
    /// The most bytes of one answer: a quarter of them all, so that no answer drives out all others.
    pub const fn max_answer(&self) -> u32 {
        self.max_bytes / 4
    }

    /// What is reserved for an answer of unknown length: a sixteenth, at most 64 KiB.
    const fn reserve_unknown(&self) -> u32 {
        let share = self.max_bytes / 16;
        if share < UNKNOWN_LENGTH { share } else { UNKNOWN_LENGTH }
    }

    /// The lifetime of an answer that says nothing of it, in seconds.
    fn assumed(&self) -> Option<u32> {
        let whole = |time: Duration| time.as_secs().saturating_add(u64::from(0 < time.subsec_nanos()));
        self.assume_fresh.map(|time| u32::try_from(whole(time)).unwrap_or(u32::MAX).min(MAX_SECONDS))
    }

    /// From what age on an answer is written again.
    pub fn rewrite_after(&self) -> Duration {
        MAX_REWRITE.min(self.max_age / 10)
    }
}

/// All of an answer but its body.
struct Answer {
    terms: Terms,
    headers: Headers,
    /// Of the body, if it is known.
    length: Option<usize>,
}

/// What one worker remembers of stale answers. Outlives configurations.
#[derive(Debug, Default)]
pub struct Store {
    memories: Memories,
    seed: Rc<Seed>,
}

impl Store {
    /// An empty one of a worker that knows this secret.
    pub fn new(seed: &Rc<Seed>) -> Self {
        Self { memories: Memories::default(), seed: Rc::clone(seed) }
    }
}

/// The stale answers of one rule, as one worker sees them.
#[derive(Debug)]
pub struct Stale {
    spec: Spec,
    key: KeySpec,
    /// What the rule tells requests apart by, and whose answers it keeps, in words.
    telling: String,
    slots: Rc<Slots>,
    memory: Rc<Memory>,
    not_kept: Rc<NotKept>,
    seed: Rc<Seed>,
}

/// A request that may be answered by what another one was answered. Kept with the stream, because request headers cannot
/// be read any more when the answer comes.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Of all that is known of the key before there is an answer.
    base: Digest,
    address: Mark,
    /// For what the answer's `Vary` names: a copy of at most [`MAX_REQUEST_HEADERS`].
    headers: Headers,
}

impl Stale {
    /// The answers whose records are at `prefix` followed by a word, and what the worker remembers of them.
    ///
    /// `prefix` is `outrigger/<scope>/stale/<rule>/`. It names the answers, so it must not change with the rule's numbers:
    /// another `max_bytes` holds from the next answer that is kept, another `max_age` at once. `names` are those that it counts in.
    pub fn new(prefix: String, spec: Spec, names: &Names, store: &Store) -> Self {
        let fixed = [":scheme", ":authority", ":path"].map(|name| KeyPart::Header(name.to_owned()));
        let parts = fixed.into_iter().chain(spec.key.iter().cloned()).collect();
        let telling = format!("{:?}{:?}{}", spec.key, spec.ignore_cookies, spec.assume_fresh.is_some());
        let key = KeySpec { parts, missing: Missing::Shared, client_ip: spec.client_ip.clone() };
        let memory = store.memories.of(&prefix);
        let (max_bytes, max_age, rewrite_after) = (spec.max_bytes, spec.max_age, spec.rewrite_after());
        let slots = Rc::new(Slots { prefix, max_bytes, max_age, rewrite_after });
        Self { spec, key, telling, slots, memory, not_kept: Rc::new(NotKept::new(names)), seed: Rc::clone(&store.seed) }
    }

    /// What must be kept of a request so that its answer can be kept, or replaced by one. `None` for requests of which nobody expects
    /// it, or if the proxy refuses. No call of the proxy, but for the hash secret the first time and the client's address where it is
    /// part of the key.
    ///
    /// A request whose cookies are all ignored has none from here on: neither for the key, nor for a `Vary: Cookie`.
    ///
    /// # Errors
    ///
    /// Why the request has no part in this.
    pub fn candidate(&self, cx: &Cx<'_>, request: &Request<'_>, operation: &str) -> Option<Result<Candidate, Cause>> {
        let without_cookies = self.spec.ignore_cookies.without_cookies(request.headers);
        let request = Request { headers: without_cookies.as_ref().unwrap_or(request.headers), ..*request };
        if let Err(cause) = rules::may_share(&request) {
            return cause.map(Err);
        }
        let base = told(self.base(cx, &request, operation), cx)?;
        let hasher = told(self.seed.hasher(cx), cx)?;
        let address = Address::of(&request).mark(hasher);
        Some(Ok(Candidate { base, address, headers: request.headers.clone() }))
    }

    /// Counts an answer that is not kept.
    pub fn count_not_kept(&self, cx: &Cx<'_>, cause: Cause) {
        self.not_kept.count(cx, cause);
    }

    /// Hears an answer that is no failure: begins to keep it if it may be kept and is worth it, and otherwise does to what is kept what it
    /// says. `response` are all its headers, `:status` included.
    ///
    /// No call of the proxy if this worker has dealt with such an answer within [`Spec::rewrite_after`].
    pub fn begin(&self, cx: &Cx<'_>, candidate: &Candidate, response: &Headers) -> Option<Capture> {
        let cause = match Word::read(response, self.spec.assumed()) {
            Word::Good(terms) => match self.keep(cx, candidate, response, terms) {
                Ok(capture) => return capture,
                Err(cause) => Some(cause),
            },
            Word::Confirmed => self.renew(cx, candidate, response).err(),
            Word::TakenBack(cause) => {
                self.take_back(cx, candidate);
                cause
            }
            Word::Silent(cause) => cause,
        };
        if let Some(cause) = cause {
            self.not_kept.count(cx, cause);
        }
        None
    }

    /// A write to these addresses did not fail. One call of the proxy, two if anything was kept of them.
    pub fn forget(&self, cx: &Cx<'_>, addresses: &[Address]) {
        let Some(hasher) = told(self.seed.hasher(cx), cx) else {
            return;
        };
        let marks: Vec<Mark> = addresses.iter().map(|address| address.mark(hasher)).collect();
        self.memory.forget_addresses(&marks);
        told(self.slots.forget_addresses(cx, &marks), cx);
    }

    /// Begins to keep an answer; `None` if there is no need, or the proxy refuses.
    fn keep(
        &self,
        cx: &Cx<'_>,
        candidate: &Candidate,
        response: &Headers,
        terms: Terms,
    ) -> Result<Option<Capture>, Cause> {
        let now = cx.now();
        let vary = Vary::of_response(response).ok_or(Cause::Vary)?;
        let Some(hasher) = told(self.seed.hasher(cx), cx) else {
            return Ok(None);
        };
        let variant = candidate.base.variant(&vary, &candidate.headers, hasher);
        let frequency = self.memory.count(variant);
        let told = self.memory.last_frequency(variant, self.spec.rewrite_after(), now);
        // The index hears when an answer is asked for twice as often: four times at most.
        if told.is_some_and(|told| frequency < told.saturating_mul(2)) {
            return Ok(None);
        }
        let length = rules::content_length(response).ok_or(Cause::Malformed)?;
        let headers = Headers::from_pairs(&rules::kept_headers(response).ok_or(Cause::Malformed)?);
        let untold = frequency.saturating_sub(told.unwrap_or(0));
        let whose = Whose { variant, vary: &vary, address: candidate.address, frequency, untold };
        let capture = self.reserve(cx, whose, Answer { terms, headers, length })?;
        if capture.is_some() {
            self.memory.forget(candidate.base);
        }
        Ok(capture)
    }

    /// Reserves a slot for the answer and writes its head; `None` if there is no need, or the proxy refuses.
    fn reserve(&self, cx: &Cx<'_>, whose: Whose<'_>, answer: Answer) -> Result<Option<Capture>, Cause> {
        let now = cx.now();
        let Answer { terms, headers, length } = answer;
        let Whose { variant, address, frequency, .. } = whose;
        let head = PREFIX.saturating_add(headers.as_block().len());
        let expected = length.map(|length| head.saturating_add(length));
        let size = match expected {
            Some(size) => u32::try_from(size).ok().filter(|size| *size <= self.spec.max_answer()),
            None => Some(self.spec.reserve_unknown()).filter(|size| head < *size as usize),
        };
        let size = size.ok_or(Cause::TooLarge)?;
        if self.memory.is_turned_away(variant, frequency, size, now) {
            return Err(Cause::NotAdmitted);
        }
        let permit = self.memory.permit(now).ok_or(Cause::Busy)?;
        let asked = told(self.slots.reserve(cx, whose, size), cx);
        let is_recent = self.memory.has_seen(variant, self.spec.rewrite_after(), now);
        let reserved = match asked {
            Some(Asked::Refused(Refusal::Unpopular)) => {
                self.memory.turn_away(frequency, size, now);
                return Err(Cause::NotAdmitted);
            }
            Some(Asked::Refused(Refusal::Busy)) => return Err(Cause::Busy),
            // It is written again when it would have been.
            Some(Asked::Known) if is_recent => {
                self.memory.tell(variant, frequency);
                return Ok(None);
            }
            Some(Asked::Refused(Refusal::Lists)) => {
                self.memory.see(variant, address, MOST, now);
                return Err(Cause::Vary);
            }
            Some(Asked::Known) | None => {
                self.memory.see(variant, address, frequency, now);
                return Ok(None);
            }
            Some(Asked::Reserved(reserved)) => reserved,
        };
        self.memory.see(variant, address, frequency, now);
        let entry = Entry { variant, generation: reserved.turn.generation, stored: now, terms, headers };
        let (slots, not_kept, size) = (Rc::clone(&self.slots), Rc::clone(&self.not_kept), size as usize);
        permit.hold(&entry.begin(), size);
        Ok(Some(Capture { slots, permit, variant, reserved, size, expected, began: now, cause: None, not_kept }))
    }

    /// Writes again what the response confirms, under the headers that it brings. The answer is looked for no more often than it would be
    /// written, and asked for as often as it is confirmed.
    fn renew(&self, cx: &Cx<'_>, candidate: &Candidate, response: &Headers) -> Result<(), Cause> {
        let now = cx.now();
        let asked = candidate.base.inverse();
        let frequency = self.memory.count(asked);
        if self.memory.has_seen(asked, self.spec.rewrite_after(), now) {
            return Ok(());
        }
        self.memory.see(asked, candidate.address, frequency, now);
        let Some((entry, body)) = self.find(cx, candidate) else {
            return Ok(());
        };
        if !rules::confirms(response, &entry.headers) {
            return Ok(());
        }
        let pairs = rules::renewed_headers(&entry.headers, response).ok_or(Cause::Malformed)?;
        let headers = Headers::from_pairs(&pairs);
        let terms = Terms::renewed(&headers, response, self.spec.assumed());
        let vary = Vary::of_response(&headers).ok_or(Cause::Vary);
        let (terms, vary) = match terms.and_then(|terms| Ok((terms, vary?))) {
            Ok(it) => it,
            Err(cause) => {
                self.take_back(cx, candidate);
                return Err(cause);
            }
        };
        let Some(hasher) = told(self.seed.hasher(cx), cx) else {
            return Ok(());
        };
        let variant = candidate.base.variant(&vary, &candidate.headers, hasher);
        let whose = Whose { variant, vary: &vary, address: candidate.address, frequency, untold: frequency };
        let answer = Answer { terms, headers, length: Some(body.len()) };
        let Some(mut capture) = self.reserve(cx, whose, answer)? else {
            return Ok(());
        };
        match capture.push(&body, now) {
            Progress::More => capture.finish(cx),
            Progress::Enough => capture.abandon(cx),
        }
        Ok(())
    }

    /// Gives up what the request could be answered with.
    fn take_back(&self, cx: &Cx<'_>, candidate: &Candidate) {
        let now = cx.now();
        if self.memory.has_seen(candidate.base, GIVEN_UP_FOR, now) {
            return;
        }
        let Some(hasher) = told(self.seed.hasher(cx), cx) else {
            return;
        };
        self.memory.forget_addresses(&[candidate.address]);
        self.memory.see(candidate.base, candidate.address, 0, now);
        let variant = |vary: &Vary| candidate.base.variant(vary, &candidate.headers, hasher);
        told(self.slots.forget_answers(cx, variant), cx);
    }

    /// The newest answer that may be served in place of the one that failed. Two calls of the proxy.
    pub fn lookup(&self, cx: &Cx<'_>, candidate: &Candidate) -> Option<Kept> {
        let now = cx.now();
        let found = self.find(cx, candidate);
        let (entry, body) = found.filter(|(entry, _)| entry.is_usable(self.spec.max_age, now))?;
        let whole_seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
        Some(Kept {
            age: now.saturating_since(entry.stored).saturating_add(whole_seconds(entry.terms.age)),
            lifetime: entry.terms.lifetime.map(whole_seconds).unwrap_or_default(),
            headers: entry.headers,
            body,
        })
    }

    fn find(&self, cx: &Cx<'_>, candidate: &Candidate) -> Option<(Entry, Vec<u8>)> {
        let hasher = told(self.seed.hasher(cx), cx)?;
        let variant = |vary: &Vary| candidate.base.variant(vary, &candidate.headers, hasher);
        told(self.slots.find(cx, variant), cx)?
    }

    fn base(&self, cx: &Cx<'_>, request: &Request<'_>, operation: &str) -> Result<Digest, HostError> {
        let mut hasher = self.seed.hasher(cx)?;
        // A rule that tells requests apart by something else, at the same place of the list, must not find these answers.
        hasher.write(self.telling.as_bytes());
        self.key.feed(cx, request, operation, &mut hasher)?;
        Ok(Digest::of(hasher))
    }
}

/// `None` if the proxy refused a call, which is counted. A request loses nothing by it that it had without this.
fn told<T>(result: Result<T, HostError>, cx: &Cx<'_>) -> Option<T> {
    result.map_err(|error| cx.host_error(error)).ok()
}
