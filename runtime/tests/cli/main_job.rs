//! What the command does when all is well.

use impasto::Stylizer;
use impasto::picture::{DecodeOptions, Picture};

use super::support::{Studio, failure, small_model};

fn open(studio: &Studio, name: &str) -> Picture {
    Picture::open(studio.path(name), &DecodeOptions::default()).expect("a painting")
}

#[test]
fn a_picture_of_any_size_comes_out_at_its_size() {
    let studio = Studio::new();
    for (width, height) in [(1, 1), (1, 9), (7, 1), (2, 3), (5, 5), (21, 14), (64, 33)] {
        studio.picture("in.png", width, height);
        studio
            .stylize(&["in.png", "-o", "out.png", "--overwrite", "-q"])
            .assert()
            .success()
            .stdout("")
            .stderr("");
        let painted = open(&studio, "out.png");
        assert_eq!((painted.width(), painted.height()), (width, height));
    }
}

#[test]
fn the_command_paints_what_the_library_paints() {
    let studio = Studio::new();
    studio.stylize(&["photo.png", "-o", "out.png"]).assert().success();
    let expected =
        Stylizer::open(studio.path("style.safetensors")).unwrap().stylize(&open(&studio, "photo.png").frame);
    assert_eq!(open(&studio, "out.png").frame, expected.unwrap());
}

#[test]
fn strength_0_is_the_photo_and_colours_can_be_kept() {
    let studio = Studio::new();
    studio.stylize(&["photo.png", "-o", "none.png", "--strength", "0"]).assert().success();
    assert_eq!(open(&studio, "none.png").frame, open(&studio, "photo.png").frame);
    studio.stylize(&["photo.png", "-o", "kept.png", "--keep-colors"]).assert().success();
    studio.stylize(&["photo.png", "-o", "full.png"]).assert().success();
    assert_ne!(open(&studio, "kept.png").frame, open(&studio, "full.png").frame);
}

#[test]
fn the_result_has_the_size_that_was_asked_for() {
    let studio = Studio::new();
    let size = |args: &[&str]| {
        studio.stylize(&["photo.png", "-o", "out.png", "--overwrite"]).args(args).assert().success();
        let painted = open(&studio, "out.png");
        (painted.width(), painted.height())
    };
    assert_eq!(size(&["--size", "42"]), (42, 28));
    assert_eq!(size(&["--stroke-scale", "2"]), (21, 14));
    assert_eq!(size(&["--stroke-scale", "0.3"]), (21, 14));
    let (width, height) = size(&["--side-by-side"]);
    assert!(width >= 42 && height == 14, "{width}×{height}");
}

#[test]
fn a_folder_keeps_its_tree_and_goes_on_past_bad_files() {
    let studio = Studio::new();
    studio.picture("in/a.png", 9, 9);
    studio.picture("in/sub/b.jpg", 9, 9);
    studio.write("in/bad.png", b"no picture at all");
    studio.write("in/notes.txt", b"not even looked at");
    let output = studio.stylize(&["in", "-o", "in/out"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("bad.png") && text.contains("2 painted, 1 failed"), "{text}");
    let files = studio.files();
    assert!(
        files.contains(&"in/out/a.png".into()) && files.contains(&"in/out/sub/b.jpg".into()),
        "{files:?}"
    );
    // A second run does not paint the paintings.
    studio.stylize(&["in", "-o", "in/out", "--overwrite"]).assert().code(1);
    assert_eq!(files, studio.files());
}

#[test]
fn standard_input_and_output_give_what_files_give() {
    let studio = Studio::new();
    let photo = std::fs::read(studio.path("photo.png")).unwrap();
    let output = studio.stylize(&["-", "-o", "-"]).write_stdin(photo).output().unwrap();
    assert!(output.status.success());
    studio.stylize(&["photo.png", "-o", "out.png"]).assert().success();
    assert_eq!(output.stdout, std::fs::read(studio.path("out.png")).unwrap());
}

#[test]
fn every_format_is_written_by_extension_and_by_flag() {
    let studio = Studio::new();
    for (name, magic) in
        [("o.png", &b"\x89PNG"[..]), ("o.jpg", b"\xff\xd8"), ("o.webp", b"RIFF"), ("o.tiff", b"II*\0")]
    {
        studio.stylize(&["photo.png", "-o", name]).assert().success();
        assert!(std::fs::read(studio.path(name)).unwrap().starts_with(magic), "{name}");
    }
    studio.stylize(&["photo.png", "-o", "odd.name", "--format", "jpeg"]).assert().success();
    assert!(std::fs::read(studio.path("odd.name")).unwrap().starts_with(b"\xff\xd8"));
}

#[test]
fn the_report_tells_what_was_painted_and_what_failed() {
    let studio = Studio::new();
    studio.picture("in/a.png", 9, 8);
    studio.write("in/bad.png", b"");
    let output = studio.stylize(&["in", "-o", "out", "--json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["painted"][0]["width"], 9);
    assert_eq!(report["painted"].as_array().unwrap().len(), 1);
    assert!(report["failed"][0]["error"].as_str().unwrap().contains("bad.png"));
}

#[test]
fn a_model_is_shown_with_its_network_and_licence() {
    let studio = Studio::new();
    let output = studio.impasto(&["styles", "show", "style.safetensors"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for expected in ["c9s1-2,d3,R3,u2,c9s1-3", "parameters", "GFLOP per megapixel", "licence"] {
        assert!(text.contains(expected), "{text}");
    }
    let output = studio.impasto(&["styles", "show", "style.safetensors", "--json"]).output().unwrap();
    let facts: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(facts["parameters"], small_model().architecture().parameter_count());
    studio.impasto(&["styles", "list"]).assert().success();
    studio.impasto(&["styles", "list", "--json"]).assert().success();
}

#[test]
fn a_shipped_style_paints_by_name() {
    let studio = Studio::new();
    let output = studio.impasto(&["styles", "list"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let name = text.split_whitespace().next().expect("a shipped style").to_string();
    studio.impasto(&["stylize", "photo.png", "--style", &name, "-o", "out.png"]).assert().success();
    assert_ne!(open(&studio, "out.png").frame, open(&studio, "photo.png").frame);
    studio.impasto(&["styles", "show", &name]).assert().success();
}

#[test]
fn watching_repaints_when_the_model_changes() {
    use std::time::{Duration, Instant, SystemTime};
    let studio = Studio::new();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_impasto"))
        .current_dir(studio.path(""))
        .args(["stylize", "--model", "style.safetensors", "photo.png", "-o", "out.png", "--watch", "-q"])
        .spawn()
        .unwrap();
    let changed_from = |before: Option<Vec<u8>>| {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let now = std::fs::read(studio.path("out.png")).ok();
            if now.is_some() && now != before {
                return now;
            }
            assert!(Instant::now() < deadline, "nothing was painted");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let first = changed_from(None);
    let other = impasto::checkpoints::StyleModel::random(small_model().architecture().clone(), 2).unwrap();
    other.save(studio.path("style.safetensors")).unwrap();
    // A coarse clock must not hide the change.
    let file = std::fs::File::options().write(true).open(studio.path("style.safetensors")).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
    let second = changed_from(first.clone());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_ne!(first, second);
}

/// Only what it painted itself is painted over, not what was there before.
#[test]
fn watching_leaves_files_that_were_there_before_it() {
    use std::time::{Duration, Instant, SystemTime};
    let studio = Studio::new();
    studio.picture("in/a.png", 9, 9);
    studio.picture("in/b.png", 9, 9);
    std::fs::create_dir(studio.path("out")).unwrap();
    studio.write("out/a.png", b"somebody's work");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_impasto"))
        .current_dir(studio.path(""))
        .args(["stylize", "--model", "style.safetensors", "in", "-o", "out", "--watch", "-q"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // b comes after a: once it has changed, a has been looked at too.
    let mut painted = Vec::new();
    for seed in 2..5 {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let now = std::fs::read(studio.path("out/b.png")).unwrap_or_default();
            if !now.is_empty() && now != painted {
                painted = now;
                break;
            }
            assert!(Instant::now() < deadline, "nothing was painted");
            std::thread::sleep(Duration::from_millis(50));
        }
        let network = small_model().architecture().clone();
        let other = impasto::checkpoints::StyleModel::random(network, seed).unwrap();
        other.save(studio.path("style.safetensors")).unwrap();
        // A coarse clock must not hide the change.
        let file = std::fs::File::options().write(true).open(studio.path("style.safetensors")).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(5 * seed)).unwrap();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(std::fs::read(studio.path("out/a.png")).unwrap(), b"somebody's work");
}

/// A phone's card: pictures that are not read are counted, what is hidden is none.
#[test]
fn a_folder_s_pictures_in_other_formats_are_told_and_hidden_files_are_not_looked_at() {
    let studio = Studio::new();
    studio.picture("in/a.png", 9, 9);
    for name in ["in/b.AVIF", "in/c.avif", "in/d.dng"] {
        studio.write(name, b"of a camera");
    }
    studio.write("in/._a.png", b"a resource fork");
    studio.picture("in/.thumbnails/a.png", 9, 9);
    let output = studio.stylize(&["in", "-o", "out"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let words = "pictures left out: 2 avif, 1 dng; expected JPEG, PNG, WebP, HEIC, BMP, TIFF or GIF; hint: ";
    assert!(text.starts_with(words) && text.lines().count() == 1, "{text}");
    assert!(studio.files().iter().filter(|name| name.starts_with("out/")).eq(["out/a.png"]));
    let output = studio.stylize(&["in", "-o", "out", "--overwrite", "--json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let left_out = report["left_out"].as_array().unwrap().iter().map(|path| path.as_str().unwrap());
    assert!(
        left_out.map(|path| path.replace('\\', "/")).eq(["in/b.AVIF", "in/c.avif", "in/d.dng"]),
        "{report}"
    );

    std::fs::remove_file(studio.path("in/a.png")).unwrap();
    let line = failure(&mut studio.stylize(&["in", "-o", "none"]));
    assert!(line.contains(&format!("in: nothing to paint in this folder: {words}")), "{line}");
    let line = failure(&mut studio.stylize(&["in", "-o", "in/"]));
    assert!(line.contains("in: is OUT too") && line.contains("hint: another OUT, such as in"), "{line}");
}
