//! `Cache-Control`, as far as it decides about keeping an answer (RFC 9111, section 5.2).
//!
//! Read strictly: a field that does not parse, a number that is none, or a directive that is given twice with different
//! numbers makes the whole field malformed, and nothing is kept on the word of a malformed field. Directives that are
//! not known here are passed by, as the RFC demands.

use crate::degrade::stale::cause::Cause;

/// The greatest number of seconds; larger ones are read as this (RFC 9111, section 1.2.2).
pub(super) const MAX_SECONDS: u32 = 1 << 31;

/// The directives of all lines of the field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CacheControl {
    /// Whether `no-store` is among them.
    pub(super) no_store: bool,
    /// The first of `no-cache`, `private`, `must-revalidate` and `proxy-revalidate`, with or without field names.
    pub(super) no_reuse: Option<Cause>,
    /// Whether `public` is.
    pub(super) public: bool,
    /// `max-age`, in seconds.
    pub(super) max_age: Option<u32>,
    /// `s-maxage`, in seconds: the `max-age` of caches that serve several users.
    pub(super) s_maxage: Option<u32>,
    /// `stale-if-error`, in seconds: how long after it went stale the answer may replace a failure (RFC 5861).
    pub(super) stale_if_error: Option<u32>,
}

impl CacheControl {
    /// Reads the lines of the field; `None` if they are malformed.
    pub(super) fn read<'h>(lines: impl Iterator<Item = &'h [u8]>) -> Option<Self> {
        let mut found = Self::default();
        for line in lines {
            found.read_line(line)?;
        }
        Some(found)
    }

    fn read_line(&mut self, line: &[u8]) -> Option<()> {
        let mut rest = line;
        loop {
            // Empty elements are allowed (RFC 9110, section 5.6.1.2).
            rest = after(rest, |byte| matches!(byte, b' ' | b'\t' | b','));
            if rest.is_empty() {
                return Some(());
            }
            let (name, behind) = token(rest)?;
            let (argument, behind) = match behind.strip_prefix(b"=") {
                Some(value) => argument(value).map(|(argument, behind)| (Some(argument), behind))?,
                None => (None, behind),
            };
            rest = after(behind, |byte| matches!(byte, b' ' | b'\t'));
            if !matches!(rest, [] | [b',', ..]) {
                return None;
            }
            self.add(name, argument)?;
        }
    }

    fn add(&mut self, name: &[u8], argument: Option<&[u8]>) -> Option<()> {
        match name.to_ascii_lowercase().as_slice() {
            b"no-store" => self.no_store = true,
            b"no-cache" => self.forbid(Cause::NoCache),
            b"private" => self.forbid(Cause::Private),
            b"must-revalidate" | b"proxy-revalidate" => self.forbid(Cause::MustRevalidate),
            b"public" => self.public = true,
            b"max-age" => return set(&mut self.max_age, argument),
            b"s-maxage" => return set(&mut self.s_maxage, argument),
            b"stale-if-error" => return set(&mut self.stale_if_error, argument),
            _ => {}
        }
        Some(())
    }

    fn forbid(&mut self, cause: Cause) {
        self.no_reuse.get_or_insert(cause);
    }
}

/// `None` if there is no number, or another one already.
fn set(seconds: &mut Option<u32>, argument: Option<&[u8]>) -> Option<()> {
    let given = delta_seconds(argument?)?;
    match seconds.replace(given) {
        Some(before) if before != given => None,
        _ => Some(()),
    }
}

/// A number of seconds, at most [`MAX_SECONDS`].
pub(super) fn delta_seconds(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u32, |seconds, digit| {
        let digit = digit.is_ascii_digit().then(|| u32::from(digit.wrapping_sub(b'0')))?;
        Some(seconds.saturating_mul(10).saturating_add(digit).min(MAX_SECONDS))
    })
}

/// Whether the byte may stand in a token (RFC 9110, section 5.6.2).
pub(super) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

fn token(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| !is_token(*byte)).unwrap_or(bytes.len());
    if end == 0 { None } else { bytes.split_at_checked(end) }
}

/// A token or what stands between quotes, escapes left as they are: no number has any.
fn argument(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let Some(quoted) = bytes.strip_prefix(b"\"") else {
        return token(bytes);
    };
    let mut escaped = false;
    let end = quoted.iter().position(|byte| {
        let closes = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        closes
    })?;
    let (content, behind) = quoted.split_at_checked(end)?;
    Some((content, behind.strip_prefix(b"\"")?))
}

fn after(bytes: &[u8], is_skipped: impl Fn(u8) -> bool) -> &[u8] {
    let start = bytes.iter().position(|byte| !is_skipped(*byte)).unwrap_or(bytes.len());
    bytes.get(start..).unwrap_or_default()
}
