//! The headers of one request, in one block of bytes.
//!
//! Proxies hand headers over as one serialised block: a count, the sizes, then the bytes. Reading them all costs one
//! host call, and one is all that a request may cost. The block is kept as it came and searched in place; nothing is
//! copied, and names and values stay bytes, because the network sends what it likes.
//!
//! Layout (proxy-wasm's serialised map; all integers are 32-bit little-endian): `count`, then `count` pairs of
//! `name length, value length`, then for each pair `name NUL value NUL`. A block that is cut short or lies about its
//! sizes ends early; it never panics.

/// All headers of one request in the order they were received. Names are lower-case, as HTTP/2 demands and Envoy
/// makes them.
#[derive(Clone, Debug, Default)]
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

    /// The headers in order, name and value.
    pub fn iter(&self) -> Iter<'_> {
        let count = read_u32(&self.block).unwrap_or(0);
        let sizes = self.block.get(4..).unwrap_or_default();
        let data = count.checked_mul(8).and_then(|length| sizes.get(length..)).unwrap_or_default();
        Iter { left: count, sizes, data }
    }

    /// The first value of the header, or `None` if the request does not have it. `name` is lower-case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(it, _)| *it == name.as_bytes()).map(|(_, value)| value)
    }

    /// All values of the header in order. `name` is lower-case.
    pub fn all<'h, 'n>(&'h self, name: &'n str) -> impl Iterator<Item = &'h [u8]> + use<'h, 'n> {
        self.iter().filter(move |(it, _)| *it == name.as_bytes()).map(|(_, value)| value)
    }
}

/// Iterator over the headers of a block; see [`Headers::iter`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    left: usize,
    sizes: &'a [u8],
    data: &'a [u8],
}

impl<'a> Iter<'a> {
    fn pair(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let name_size = read_u32(self.sizes)?;
        let value_size = read_u32(self.sizes.get(4..)?)?;
        self.sizes = self.sizes.get(8..)?;
        let name = self.data.get(..name_size)?;
        let rest = self.data.get(name_size.checked_add(1)?..)?;
        let value = rest.get(..value_size)?;
        self.data = rest.get(value_size.checked_add(1)?..).unwrap_or_default();
        Some((name, value))
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let pair = self.pair();
        if pair.is_none() {
            self.left = 0;
        }
        pair
    }
}

fn read_u32(bytes: &[u8]) -> Option<usize> {
    let first = bytes.first_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(*first)).ok()
}
