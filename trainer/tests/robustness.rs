//! The table of bad pictures (`runtime/tests/robustness/pictures.rs`) through `impasto-train`, as the painting and as the
//! photos: one line that says what was expected, and nothing written.

#![allow(clippy::unwrap_used)] // a test's helpers may fail as the test may

mod common;
#[path = "../../runtime/tests/robustness/files.rs"]
#[allow(dead_code)] // shared with the tests of `impasto`
mod files;
#[path = "../../runtime/tests/pictures/fixtures.rs"]
mod fixtures;
#[path = "../../runtime/tests/robustness/pictures.rs"]
#[allow(dead_code)] // of the table, the bad ones
mod pictures;

use std::path::Path;

use common::{error_line, run, stderr, tiny};
use pictures::{BAD, Bad, Make};

/// Rows whose names are the file's on every system, and show as they are.
fn rows() -> impl Iterator<Item = &'static Bad> {
    BAD.iter().filter(|row| row.name.chars().all(|c| c.is_ascii() && !c.is_control()))
}

fn put(row: &Bad, folder: &Path) {
    match &row.make {
        Make::Bytes(bytes) => std::fs::write(folder.join(row.name), bytes()).unwrap(),
        Make::Place(put) => put(&folder.join(row.name)),
    }
}

#[test]
fn a_bad_painting_is_one_line_and_nothing_is_written() {
    for row in rows() {
        let folder = tempfile::tempdir().unwrap();
        put(row, folder.path());
        let output = run(tiny(folder.path(), &["--steps", "2", "--style", row.name]));
        assert_eq!(output.status.code(), Some(1), "{}: {}", row.name, stderr(&output));
        let error = error_line(&output);
        assert!(error.contains(row.name), "{}: {error}", row.name);
        for part in row.says {
            // What could not be read is said to be the style picture.
            let part = part.strip_prefix("cannot read: ").unwrap_or(part);
            assert!(error.contains(part), "{}: expected `{part}` in: {error}", row.name);
        }
        assert!(!folder.path().join("a.safetensors").exists(), "{}", row.name);
    }
}

#[test]
fn a_dataset_of_bad_photos_is_one_line_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    std::fs::create_dir(&photos).unwrap();
    rows().filter(|row| matches!(row.make, Make::Bytes(_))).for_each(|row| put(row, &photos));
    let output = run(tiny(folder.path(), &["--steps", "2", "--dataset", "photos"]));
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let error = error_line(&output);
    assert!(error.contains("photos: none of the "), "{error}");
    assert!(!folder.path().join("a.safetensors").exists());
}
