//! Files with bytes changed by chance: refused or not, the tool ends by itself and says where.

use crate::check;
use crate::pages::project;

/// Xorshift (Marsaglia, 2003): the same numbers for a seed, on all machines.
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state as usize
}

const PIECES: [&str; 24] = [
    "", " ", "\n", "\t", "\"", "'", "{", "}", "[", "]", ":", ": ", "- ", "#", "&a ", "*a", "<<: *a", "|", ">-",
    "!!str ", "é😀", "\\", "---\n", "? ",
];

#[test]
fn no_change_of_bytes_makes_it_panic() {
    let mut state = 7;
    let mut refused = 0;
    let files = ["envoy/envoy.yaml", "envoy/istio/wasmplugin.yaml"];
    for round in 0..300 {
        let mut text: Vec<char> = std::fs::read_to_string(project(files[round % 2])).unwrap().chars().collect();
        for _ in 0..=next(&mut state) % 3 {
            let at = next(&mut state) % text.len();
            let end = (at + next(&mut state) % 4).min(text.len());
            let piece = PIECES[next(&mut state) % PIECES.len()];
            text.splice(at..end, piece.chars());
        }
        let text: String = text.into_iter().collect();
        let (found, status) = check(&text);
        assert!(matches!(status, Some(0 | 1)), "{status:?}: {text}");
        let lines = text.split('\n').count();
        for finding in &found {
            let line = finding["line"].as_u64().unwrap() as usize;
            assert!(1 <= line && line <= lines, "{finding}");
        }
        refused += usize::from(status == Some(1));
    }
    assert!((30..300).contains(&refused), "{refused}");
}
