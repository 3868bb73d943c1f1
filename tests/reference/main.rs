//! Writes what is made of the tables of fields: `docs/schema.json`, and the tables between markers in `docs/reference`; and of the
//! table of metrics: `docs/metrics.md` between markers, and the rules that make labels in manifests and in `docs/gateway.md`.

#![allow(clippy::expect_used, reason = "a tool may panic")]

mod generate;

fn main() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for (path, text) in generate::files(root) {
        let path = root.join(path);
        if std::fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            std::fs::write(&path, text).expect("files of docs can be written");
            println!("written: {}", path.display());
        }
    }
}
