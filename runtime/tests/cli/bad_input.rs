//! Arguments and outputs that cannot be: one line that names the file and what was expected, nothing written. Bad files
//! are in the table of `robustness.rs`.

#[cfg(target_os = "linux")]
use impasto_test_support::SmallDisk;

use super::support::{Studio, failure};

/// Runs `impasto` on what it must refuse; afterwards no file may be there that was not before.
fn refused(studio: &Studio, args: &[&str], expected: &[&str]) {
    let before = studio.files();
    let line = failure(&mut studio.impasto(args));
    for part in expected {
        assert!(line.contains(part), "{args:?}: no `{part}` in {line}");
    }
    assert_eq!(before, studio.files(), "{args:?}");
}

#[test]
fn usage_errors_have_exit_code_2_and_name_the_flag() {
    let studio = Studio::new();
    for (args, expected) in [
        (&["photo.png", "-o", "o.png", "--strength", "2"][..], "--strength"),
        (&["photo.png", "-o", "o.png", "--stroke-scale", "nan"], "--stroke-scale"),
        (&["photo.png", "-o", "o.png", "--size", "0"], "--size"),
        (&["photo.png", "-o", "o.png", "--device", "gpu"], "`gpu` is not a device"),
        (&["photo.png", "-o", "o.png", "--style", "wave"], "cannot be used with"),
        (&["photo.png"], "--output"),
    ] {
        let output = studio.stylize(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(expected), "{text}");
    }
    refused(
        &studio,
        &["stylize", "photo.png", "--style", "no-such", "-o", "o.png"],
        &["no-such", "shipped styles"],
    );
}

#[test]
fn outputs_that_cannot_be_are_refused() {
    let studio = Studio::new();
    let stylize = |rest: &[&str], expected: &[&str]| {
        let args = [&["stylize", "--model", "style.safetensors"], rest].concat();
        refused(&studio, &args, expected);
    };
    stylize(&["photo.png", "-o", "photo.png"], &["photo.png", "exists", "--overwrite"]);
    stylize(&["photo.png", "-o", "out.xyz"], &["out.xyz", "expected", ".png"]);
    stylize(&["photo.png", "-o", "style.safetensors/out.png"], &["style.safetensors"]);
    stylize(&["photo.png", "photo.png", "-o", "-"], &["standard output"]);
    stylize(&["photo.png", "-o", "-", "--json"], &["--json"]);
    // Painting again and again: what can be read or written once only, and a painting of a painting of a painting.
    stylize(&["-", "-o", "o.png", "--watch"], &["--watch", "standard input"]);
    stylize(&["photo.png", "-o", "-", "--watch"], &["--watch", "standard input and output"]);
    stylize(&["photo.png", "-o", "./photo.png", "--watch", "--overwrite"], &["photo.png", "--watch", "hint"]);
    if cfg!(not(any(feature = "cuda", feature = "wgpu"))) {
        stylize(&["photo.png", "-o", "o.png", "--device", "cuda"], &["cuda", "hint"]);
    }
    // Two inputs for one output: the first is painted, the second refused.
    std::fs::create_dir(studio.path("two")).unwrap();
    studio.picture("two/a.png", 8, 8);
    std::fs::copy(studio.path("two/a.png"), studio.path("two/a.bmp")).unwrap();
    let output = studio.stylize(&["two", "-o", "out"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("goes to already"));
}

/// That it is not painted first is seen by its not failing there: the activations have nowhere to go.
#[test]
fn what_cannot_be_written_is_refused_before_it_is_painted() {
    let studio = Studio::new();
    studio.picture("wide.png", 9000, 2);
    let refused_early = |rest: &[&str], expected: &[&str]| {
        let args = [&["stylize", "--model", "style.safetensors", "--tile", "4"], rest].concat();
        let line = failure(studio.impasto(&args).env("IMPASTO_SCRATCH", studio.path("nowhere")));
        for part in expected {
            assert!(line.contains(part), "{args:?}: no `{part}` in {line}");
        }
    };
    refused_early(
        &["wide.png", "-o", "out.webp", "--side-by-side"],
        &["out.webp: 18000×2 is too large", "hint"],
    );
    refused_early(&["wide.png", "-o", "-", "--format", "webp", "--size", "17000"], &["17000×4 is too large"]);
    refused_early(&["photo.png", "-o", "photo.png/out.png"], &["photo.png/out.png: cannot write"]);
    #[cfg(target_os = "linux")]
    {
        refused_early(&["photo.png", "-o", "/proc/out.png"], &["/proc/out.png: cannot write: "]);
        std::os::unix::fs::symlink("/dev/null", studio.path("null.png")).unwrap();
        refused_early(
            &["photo.png", "-o", "null.png", "--overwrite"],
            &["null.png: cannot write: it is a device or a pipe, expected the name of a file"],
        );
    }
}

/// A full disk: the old file stays, nothing half is left. Needs root, to mount one.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_keeps_the_old_file_and_leaves_no_half_of_a_new_one() {
    let studio = Studio::new();
    let disk = studio.path("disk");
    let Some(_mounted) = SmallDisk::mount("full disk", &disk, "64k") else { return };
    studio.picture("large.png", 300, 300);
    std::fs::write(disk.join("old.png"), b"old").unwrap();
    let line = failure(&mut studio.stylize(&["large.png", "-o", "disk/new.png"]));
    let again = failure(&mut studio.stylize(&["large.png", "-o", "disk/old.png", "--overwrite"]));
    let names: Vec<_> = std::fs::read_dir(&disk).unwrap().flatten().map(|entry| entry.file_name()).collect();
    let old = std::fs::read(disk.join("old.png"));
    assert!(line.contains("disk/new.png") && line.contains("No space left"), "{line}");
    assert!(again.contains("disk/old.png"), "{again}");
    assert_eq!(names, ["old.png"]);
    assert_eq!(old.unwrap(), b"old");
}

#[cfg(not(feature = "webcam"))]
#[test]
fn a_command_of_another_build_says_how_to_get_it() {
    let output = Studio::new().impasto(&["webcam", "--source", "test"]).output().expect("it ran");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("--features webcam") && text.lines().count() == 1, "{text}");
}
