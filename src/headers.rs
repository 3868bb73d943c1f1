//! The headers of one request, in one block of bytes.
//!
//! Proxies hand headers over as one serialised block: a count, the sizes, then the bytes. Reading them all costs one
//! host call, and one is all that a request may cost. The block is kept as it came and searched in place; nothing is
//! copied, and names and values stay bytes, because the network sends what it likes.
//!
//! Layout (proxy-wasm's serialised map; all integers are 32-bit little-endian): `count`, then `count` pairs of
//! `name length, value length`, then for each pair `name NUL value NUL`. A block that is cut short or lies about its
//! sizes ends early; it never panics.
//!
//! Blanks around a value are no part of it (RFC 9110, section 5.5). Envoy cuts them off over HTTP/1 and hands them over
//! over HTTP/2, and services cut them off: so they are cut off here, once for everything that compares or counts.

/// All headers of one request in the order they were received. Names are lower-case, as HTTP/2 demands and Envoy
/// makes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    block: Vec<u8>,
}

impl Headers {
    /// Takes over a serialised block.
    pub fn from_block(block: Vec<u8>) -> Self {
        Self { block }
    }

    /// Serialises pairs, for hosts that do not hand over a block.
    pub fn from_pairs(pairs: &[(impl AsRef<str>, impl AsRef<[u8]>)]) -> Self {
        let mut block = Vec::new();
        let push_size = |size: usize, block: &mut Vec<u8>| {
            block.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes());
        };
        push_size(pairs.len(), &mut block);
        for (name, value) in pairs {
            push_size(name.as_ref().len(), &mut block);
            push_size(value.as_ref().len(), &mut block);
        }
        for (name, value) in pairs {
            block.extend_from_slice(name.as_ref().as_bytes());
            block.push(0);
            block.extend_from_slice(value.as_ref());
            block.push(0);
        }
        Self { block }
    }

    /// The serialised block.
    pub fn as_block(&self) -> &[u8] {
        &self.block
    }

    /// The headers in order, name and value. Values come without the blanks around them.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.places())
    }

    /// The first value of the header, or `None` if the request does not have it. `name` is lower-case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.places().find_map(|place| place.value_of(name.as_bytes()))
    }

    /// All values of the header in order. `name` is lower-case.
    pub fn all<'h, 'n>(&'h self, name: &'n str) -> impl Iterator<Item = &'h [u8]> + use<'h, 'n> {
        self.places().filter_map(|place| place.value_of(name.as_bytes()))
    }

    fn places(&self) -> Places<'_> {
        let (sizes, data) = split(&self.block).unwrap_or_default();
        Places { sizes: sizes.iter(), data, start: 0 }
    }
}

/// Iterator over the headers of a block; see [`Headers::iter`].
#[derive(Clone, Debug)]
pub struct Iter<'a>(Places<'a>);

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        // What comes after the end of a block that is cut short lies after it too.
        self.0.next()?.pair()
    }
}

/// Where the headers lie in a block.
#[derive(Clone, Debug)]
struct Places<'a> {
    /// Of name and value, four bytes each.
    sizes: std::slice::Iter<'a, [u8; 8]>,
    data: &'a [u8],
    /// Of the next header.
    start: u64,
}

/// Where a header lies, if the block tells the truth. A request is searched for many names, and most headers have names of
/// another length than the one looked for: those cost no look at their bytes.
struct Place<'a> {
    data: &'a [u8],
    start: u64,
    name: u32,
    value: u32,
}

impl<'a> Iterator for Places<'a> {
    type Item = Place<'a>;

    #[inline]
    fn next(&mut self) -> Option<Place<'a>> {
        let sizes = u64::from_le_bytes(*self.sizes.next()?);
        let place = Place { data: self.data, start: self.start, name: sizes as u32, value: (sizes >> 32) as u32 };
        self.start = place.value_start() + u64::from(place.value) + 1;
        Some(place)
    }
}

impl<'a> Place<'a> {
    /// No more than [`u32::MAX`] bytes hold the sizes, so that this cannot overflow.
    #[inline]
    fn value_start(&self) -> u64 {
        self.start + u64::from(self.name) + 1
    }

    #[inline]
    fn pair(&self) -> Option<(&'a [u8], &'a [u8])> {
        let value = slice(self.data, self.value_start(), self.value)?;
        Some((slice(self.data, self.start, self.name)?, without_blanks(value)))
    }

    #[inline]
    fn value_of(&self, name: &[u8]) -> Option<&'a [u8]> {
        if self.name as usize != name.len() {
            return None;
        }
        self.pair().filter(|(it, _)| *it == name).map(|(_, value)| value)
    }
}

/// The sizes and the bytes of a block that has both.
fn split(block: &[u8]) -> Option<(&[[u8; 8]], &[u8])> {
    let (count, rest) = block.split_first_chunk::<4>()?;
    let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
    let (sizes, data) = rest.split_at_checked(count.checked_mul(8)?)?;
    Some((sizes.as_chunks().0, data))
}

#[inline]
fn slice(data: &[u8], start: u64, size: u32) -> Option<&[u8]> {
    data.get(usize::try_from(start).ok()?..)?.get(..size as usize)
}

/// Cuts off blanks and tabs at both ends.
#[inline]
fn without_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
