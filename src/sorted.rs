//! Sorted lists in place of trees.
//!
//! Each kind of `BTreeMap` weighs some four kilobytes in the module, and every proxy compiles them. What is kept here are
//! lists that are short, or that seldom get an entry. A [`SortedMap`] is cut into runs, so that one more entry moves at most a
//! run, and a configuration of thousands of policies is taken up in a time in proportion to it. Of a plain list [`insert`]
//! moves all that is behind. So nothing belongs here that clients can make long without a bound.

use std::borrow::Borrow;

/// Adds what is not in the sorted list yet. Returns `false` if it is.
pub fn insert<T: Ord>(list: &mut Vec<T>, item: T) -> bool {
    match list.binary_search(&item) {
        Ok(_) => false,
        Err(place) => {
            list.insert(place, item);
            true
        }
    }
}

/// Two sorted lists read as one, without a copy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Merged<'l> {
    one: &'l [usize],
    other: &'l [usize],
}

impl<'l> Merged<'l> {
    /// The items of both, each of which is in one of them only.
    pub fn new(one: &'l [usize], other: &'l [usize]) -> Self {
        Self { one, other }
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.one.is_empty() && self.other.is_empty()
    }
}

impl Iterator for Merged<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let list = match (self.one, self.other) {
            ([one, ..], [other, ..]) if other < one => &mut self.other,
            ([_, ..], _) => &mut self.one,
            ([], _) => &mut self.other,
        };
        let (first, rest) = list.split_first()?;
        *list = rest;
        Some(*first)
    }
}

/// How many entries stand in one run at most. Two of the runs that a full one is cut into hold half of it each.
const RUN: usize = 256;

/// Values by key, in the order of the keys.
#[derive(Clone, Debug)]
pub struct SortedMap<K, V> {
    /// Runs of entries, none of them empty.
    runs: Vec<Vec<(K, V)>>,
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self { runs: Vec::new() }
    }
}

/// Where a key is, or where it would have to be: number of the run, place in it.
type Place = (usize, Result<usize, usize>);

impl<K: Ord, V> SortedMap<K, V> {
    /// The value of the key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (run, place) = self.place(key);
        self.runs.get(run)?.get(place.ok()?).map(|(_, value)| value)
    }

    /// The value of the key, which is made if there is none yet. For values that stand for something shared.
    pub fn get_or_insert_with<Q: Ord + ToOwned<Owned = K> + ?Sized>(&mut self, key: &Q, make: impl FnOnce() -> V) -> V
    where
        K: Borrow<Q>,
        V: Clone,
    {
        if let Some(value) = self.get(key) {
            return value.clone();
        }
        let value = make();
        self.insert(key.to_owned(), value.clone());
        value
    }

    /// Makes this the value of the key.
    pub fn insert(&mut self, key: K, value: V) {
        let (number, place) = self.place(&key);
        let Some(run) = self.runs.get_mut(number) else {
            self.runs.push(vec![(key, value)]);
            return;
        };
        match place {
            Ok(place) => {
                if let Some((_, old)) = run.get_mut(place) {
                    *old = value;
                }
            }
            Err(place) => run.insert(place, (key, value)),
        }
        if RUN < run.len() {
            let rest = run.split_off(RUN / 2);
            self.runs.insert(number + 1, rest);
        }
    }

    /// Takes the value of the key out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (number, place) = self.place(key);
        let run = self.runs.get_mut(number)?;
        let (_, value) = run.remove(place.ok()?);
        if run.is_empty() {
            self.runs.remove(number);
        }
        Some(value)
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// All entries, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.runs.iter().flatten()
    }

    /// All values, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The last run that does not begin behind the key, or the first, and the place there.
    fn place<Q: Ord + ?Sized>(&self, key: &Q) -> Place
    where
        K: Borrow<Q>,
    {
        let behind = self.runs.partition_point(|run| run.first().is_some_and(|(first, _)| first.borrow() <= key));
        let number = behind.saturating_sub(1);
        let place = self.runs.get(number).map(|run| run.binary_search_by(|(it, _)| it.borrow().cmp(key)));
        (number, place.unwrap_or(Err(0)))
    }
}
