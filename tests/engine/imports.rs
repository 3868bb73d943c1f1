//! Which part of `src/` imports which: no circles, and policies that know nothing of what puts them together.
//!
//! A part is a folder of `src/` with the file of its name, or a file without a folder. What a file imports is read with a
//! parser of Rust, from its `use` items and from the paths in its code, documentation left out.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// For each part the parts that it imports, and for each of these the files that do.
type Graph = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Folders of the playbook.
const POLICIES: [&str; 3] = ["degrade", "limit", "retry"];

/// What all stand on, lowest first: each may import those before it, and nothing else.
const BASE: [&str; 6] = ["sorted", "time", "headers", "host", "cx", "monitor"];

/// What puts policies together.
const ABOVE: [&str; 6] = ["config", "envoy", "filter", "pipeline", "plan", "worker"];

#[test]
fn no_parts_import_each_other_in_a_circle() {
    let graph = graph();
    let mut left: BTreeSet<&str> = graph.keys().map(String::as_str).collect();
    loop {
        let is_free = |part: &&str| graph.get(*part).is_none_or(|it| it.keys().all(|to| !left.contains(to.as_str())));
        let free: Vec<&str> = left.iter().copied().filter(is_free).collect();
        if free.is_empty() {
            break;
        }
        left.retain(|part| !free.contains(part));
    }
    let mut arrows = Vec::new();
    for part in &left {
        for (to, files) in graph.get(*part).into_iter().flatten().filter(|(to, _)| left.contains(to.as_str())) {
            arrows.push(format!("{part} imports {to}, in {}", files.iter().cloned().collect::<Vec<_>>().join(", ")));
        }
    }
    assert!(left.is_empty(), "a circle among {left:?}:\n{}", arrows.join("\n"));
}

#[test]
fn no_policy_knows_what_puts_it_together() {
    let graph = graph();
    for part in POLICIES.iter().chain(&["shared", "monitor", "operation", "reply"]) {
        for above in ABOVE {
            let files = graph.get(*part).and_then(|it| it.get(above));
            assert_eq!(files, None, "{part} must not import {above}");
        }
    }
}

#[test]
fn what_all_stand_on_knows_no_policy() {
    let graph = graph();
    for part in BASE.iter().chain(&["shared"]) {
        for policy in POLICIES {
            let files = graph.get(*part).and_then(|it| it.get(policy));
            assert_eq!(files, None, "{part} must not import {policy}");
        }
    }
}

fn graph() -> Graph {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    find(&src, &mut files);
    let mut graph = Graph::new();
    for file in files {
        let name = file.strip_prefix(&src).expect("a file of src").with_extension("");
        let module: Vec<String> = name.iter().map(|it| it.to_string_lossy().into_owned()).collect();
        let part = module[0].clone();
        let tree = syn::parse_file(&fs::read_to_string(&file).expect("a readable file")).expect("Rust");
        let mut imports = Imports { module: module.clone(), parts: BTreeSet::new() };
        imports.visit_file(&tree);
        let edges = graph.entry(part.clone()).or_default();
        for to in imports.parts.into_iter().filter(|to| *to != part && part != "lib") {
            edges.entry(to).or_default().insert(module.join("::"));
        }
    }
    graph
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            find(&path, files);
        } else if path.extension().is_some_and(|it| it == "rs") {
            files.push(path);
        }
    }
}

/// The parts that one file imports.
struct Imports {
    module: Vec<String>,
    parts: BTreeSet<String>,
}

impl Imports {
    /// Takes in a path, of which the last segments may be no modules.
    fn take(&mut self, path: &[String]) {
        let mut path = path.iter().map(String::as_str);
        let mut base = match path.next() {
            Some("crate") => Vec::new(),
            Some("super") => self.parent(&self.module),
            _ => return,
        };
        for segment in path {
            if segment == "super" {
                base = self.parent(&base);
            } else {
                base.push(segment.to_owned());
            }
        }
        self.parts.extend(base.into_iter().next());
    }

    fn parent(&self, module: &[String]) -> Vec<String> {
        module.split_last().map(|(_, parent)| parent.to_vec()).unwrap_or_default()
    }
}

impl<'ast> Visit<'ast> for Imports {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        leaves(&item.tree, &mut Vec::new(), &mut |path| self.take(path));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|it| it.ident.to_string()).collect();
        self.take(&segments);
        visit::visit_path(self, path);
    }
}

fn leaves(tree: &syn::UseTree, path: &mut Vec<String>, leaf: &mut dyn FnMut(&[String])) {
    match tree {
        syn::UseTree::Path(it) => {
            path.push(it.ident.to_string());
            leaves(&it.tree, path, leaf);
            path.pop();
        }
        syn::UseTree::Group(it) => it.items.iter().for_each(|item| leaves(item, path, leaf)),
        syn::UseTree::Name(it) => {
            path.push(it.ident.to_string());
            leaf(path);
            path.pop();
        }
        syn::UseTree::Rename(it) => {
            path.push(it.ident.to_string());
            leaf(path);
            path.pop();
        }
        syn::UseTree::Glob(_) => leaf(path),
    }
}
