//! Sorted lists do what trees do.

use std::collections::{BTreeMap, BTreeSet};

use outrigger::sorted::{self, SortedMap};

use crate::common::Random;

#[test]
fn a_sorted_map_does_what_a_tree_does() {
    let mut random = Random::seeded(41);
    let (mut map, mut tree) = (SortedMap::default(), BTreeMap::new());
    let mut removed = 0;
    for value in 0..5_000_u64 {
        let key = random.below(60).to_string();
        match random.below(4) {
            0 => {
                let expected = tree.remove(&key);
                removed += usize::from(expected.is_some());
                assert_eq!(map.remove(key.as_str()), expected);
            }
            1 => assert_eq!(map.get_or_insert_with(key.as_str(), || value), *tree.entry(key).or_insert(value)),
            2 => assert_eq!(map.get(key.as_str()), tree.get(&key)),
            _ => {
                map.insert(key.clone(), value);
                tree.insert(key, value);
            }
        }
        assert!(map.values().eq(tree.values()), "after {value} steps");
    }
    assert!(500 < removed, "{removed}");
}

#[test]
fn a_sorted_list_holds_each_item_once() {
    let mut random = Random::seeded(42);
    let (mut list, mut tree) = (Vec::new(), BTreeSet::new());
    for _ in 0..500 {
        let item = random.below(300);
        assert_eq!(sorted::insert(&mut list, item), tree.insert(item));
    }
    assert!(list.iter().eq(&tree));
    assert!(list.len() < 500, "some came twice");
}
