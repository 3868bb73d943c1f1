//! A module taken apart: how large its functions are, and whose.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use wasmparser::{KnownCustom, Name, Parser, Payload, TypeRef};

/// A function that the module has code for.
pub(crate) struct Function {
    pub(crate) name: String,
    /// Of its body in the code section.
    pub(crate) bytes: usize,
}

/// Functions of the module, the largest first. The file must have their names: the twin that `./build.sh wasm` puts beside the
/// module is the same but for these.
pub(crate) fn functions(path: &Path) -> Vec<Function> {
    let module = fs::read(path).unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()));
    let (mut imported, mut sizes, mut names) = (0, Vec::new(), BTreeMap::new());
    for payload in Parser::new(0).parse_all(&module) {
        match payload.expect("a module") {
            Payload::ImportSection(imports) => {
                let types = imports.into_imports().map(|import| import.expect("an import").ty);
                imported = types.filter(|ty| matches!(ty, TypeRef::Func(_))).count();
            }
            Payload::CodeSectionEntry(body) => {
                let range = body.range();
                sizes.push(usize::try_from(range.end - range.start).expect("a file in memory"));
            }
            Payload::CustomSection(section) => {
                if let KnownCustom::Name(subsections) = section.as_known() {
                    for subsection in subsections {
                        let Name::Function(functions) = subsection.expect("names") else { continue };
                        names.extend(functions.into_iter().map(|it| it.expect("a name")).map(|it| (it.index, it.name)));
                    }
                }
            }
            _ => {}
        }
    }
    let name = |place: usize| {
        let index = u32::try_from(imported + place).expect("functions are few");
        names
            .get(&index)
            .map_or_else(|| format!("function {index}"), |name| format!("{:#}", rustc_demangle::demangle(name)))
    };
    let mut functions: Vec<Function> =
        sizes.into_iter().enumerate().map(|(place, bytes)| Function { name: name(place), bytes }).collect();
    functions.sort_by_key(|function| std::cmp::Reverse(function.bytes));
    functions
}

/// Bytes by whose the functions are: folders of `src/`, dependencies, and the rest. The largest first.
pub(crate) fn shares(functions: &[Function]) -> Vec<(String, usize)> {
    let mut shares = BTreeMap::<String, usize>::new();
    for function in functions {
        *shares.entry(owner(&function.name)).or_default() += function.bytes;
    }
    let mut shares: Vec<(String, usize)> = shares.into_iter().collect();
    shares.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    shares
}

/// The first of ours, else the first crate of a name that may be `<A as B<C>>::f`.
fn owner(name: &str) -> String {
    if let Some((_, ours)) = name.split_once("outrigger::") {
        return format!("src/{}", ours.split([':', '<', '>', ' ', ',']).next().unwrap_or_default());
    }
    if name.starts_with("proxy_on_") || name == "_initialize" {
        return "src/envoy".to_owned();
    }
    let path = name.trim_start_matches(|letter: char| !letter.is_alphanumeric() && letter != '_');
    match path.split_once("::") {
        Some((krate, _)) if krate.chars().all(|it| it.is_alphanumeric() || it == '_') => krate.to_owned(),
        _ => "other".to_owned(),
    }
}
