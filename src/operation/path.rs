//! What of a path is compared.
//!
//! Envoy settles how a path is spelled (`normalize_path`, `merge_slashes`, `path_with_escaped_slashes_action`), if it is
//! told to. It leaves path parameters alone (RFC 3986, section 3.3): `/orders;a=1` is `/orders` to a servlet container,
//! and any number of spellings to whoever compares bytes.

use std::borrow::Cow;

/// What becomes of path parameters, the `;` in a segment and what follows it there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parameters {
    /// They are cut off before a path is compared or counted.
    #[default]
    Cut,
    /// They are a part of the path.
    Keep,
}

/// The path without its parameters. Copied only if it has any.
pub fn without_parameters(path: &[u8]) -> Cow<'_, [u8]> {
    if !path.contains(&b';') {
        return Cow::Borrowed(path);
    }
    let mut cut = Vec::with_capacity(path.len());
    for (index, segment) in path.split(|byte| *byte == b'/').enumerate() {
        if index != 0 {
            cut.push(b'/');
        }
        cut.extend(segment.iter().take_while(|byte| **byte != b';'));
    }
    Cow::Owned(cut)
}

/// A setting of Envoy's HTTP connection manager that a path shows to be off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsettled {
    /// `normalize_path`: a dot segment, a backslash, or an encoded character that needs no encoding.
    Normalize,
    /// `merge_slashes`: an empty segment.
    MergeSlashes,
    /// `path_with_escaped_slashes_action`: an encoded slash or backslash.
    EscapedSlashes,
}

impl Unsettled {
    /// The setting's name.
    pub const fn setting(self) -> &'static str {
        match self {
            Self::Normalize => "normalize_path",
            Self::MergeSlashes => "merge_slashes",
            Self::EscapedSlashes => "path_with_escaped_slashes_action",
        }
    }

    /// What the path shows. Looks at each byte once, because every request pays for it.
    pub fn in_path(path: &[u8]) -> Option<Self> {
        let mut rest = path;
        while let [byte, after @ ..] = rest {
            match byte {
                b'/' => match after {
                    [b'/', ..] => return Some(Self::MergeSlashes),
                    [b'.'] | [b'.', b'/', ..] | [b'.', b'.'] | [b'.', b'.', b'/', ..] => return Some(Self::Normalize),
                    _ => {}
                },
                b'\\' => return Some(Self::Normalize),
                b'%' => match after {
                    [b'2', b'f' | b'F', ..] | [b'5', b'c' | b'C', ..] => return Some(Self::EscapedSlashes),
                    [high, low, ..] if is_unreserved(*high, *low) => return Some(Self::Normalize),
                    _ => {}
                },
                _ => {}
            }
            rest = after;
        }
        None
    }
}

/// Whether the hexadecimal digits are those of a letter, a digit, `-`, `.`, `_` or `~`.
const fn is_unreserved(high: u8, low: u8) -> bool {
    matches!(
        (high, low.to_ascii_lowercase()),
        (b'2', b'd' | b'e')
            | (b'3', b'0'..=b'9')
            | (b'4' | b'6', b'1'..=b'9' | b'a'..=b'f')
            | (b'5', b'0'..=b'9' | b'a' | b'f')
            | (b'7', b'0'..=b'9' | b'a' | b'e')
    )
}
