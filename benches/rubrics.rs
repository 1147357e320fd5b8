//! How long 500 rubric files take to load: read, parsed, checked, hashed.
//!
//! `cargo bench --bench rubrics`. Its rule: the files are copies of the shelf under other names, read from a real folder, so that
//! prompts, tests and included texts are as long as people's. The way not taken: a timed test, which fails on a busy machine.

use assize::rubrics::catalog::Catalog;
use assize::rubrics::folder::Folder;
use criterion::Criterion;
use std::collections::BTreeMap;
use std::path::Path;

const FILES: usize = 500;

fn main() {
    let criterion = &mut Criterion::default().sample_size(20).configure_from_args();
    let shelf = Folder::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("rubrics")).expect("the shelf is there");
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(dir.path().join("shared")).expect("a folder");
    for (name, text) in &shelf.shared {
        std::fs::write(dir.path().join("shared").join(name), text.as_bytes()).expect("it can be written");
    }
    for (n, text) in shelf.rubrics.values().cycle().take(FILES).enumerate() {
        let text = text.replacen("\nname: ", &format!("\nname: r{n}_"), 1);
        std::fs::write(dir.path().join(format!("r{n}.yaml")), text).expect("it can be written");
    }
    let panels = BTreeMap::from([("default".to_owned(), vec!["a".to_owned()])]);
    let load = || Catalog::load(dir.path(), &panels, &["a"]).expect("the folder is there");
    assert_eq!(load().active().len(), FILES, "all of them are good");
    criterion.bench_function("load 500 rubric files", |b| b.iter(load));
    criterion.final_summary();
}
