//! The scratch folder that the pages' commands run in: small files with the names that the pages use.

#![allow(dead_code)] // of the two tests that share this, each uses a part

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use impasto::checkpoints::{Architecture, StyleModel};
use impasto::picture::{EncodeOptions, Picture};
use tempfile::TempDir;

use super::markdown::repository;

/// Whether a program runs; if not, says in one line that what needs it is skipped.
pub fn is_there(program: &str, argument: &str) -> bool {
    let mut command = Command::new(program);
    let there = command.arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        let _ = writeln!(std::io::stderr(), "skipped: commands of the docs: {program} is not installed");
    }
    there
}

/// Discs of colour over a gradient, with some structure everywhere.
fn photo(path: &Path, width: usize, height: usize) {
    let frame = impasto::quality::test_chart(width, height);
    Picture::from(frame).save(path, &EncodeOptions::default()).expect("saved");
}

/// A fresh folder with everything in it that the pages speak of.
pub fn studio() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    for name in ["holiday/beach", "photos/more", "train2017"] {
        fs::create_dir_all(path(name)).expect("made");
    }
    photo(&path("photo.jpg"), 120, 90);
    photo(&path("boat.png"), 64, 48);
    for name in ["painting.jpg", "starry_night.jpg", "wave.jpg"] {
        photo(&path(name), 96, 80);
    }
    photo(&path("holiday/one.jpg"), 40, 30);
    photo(&path("holiday/beach/two.png"), 30, 40);
    for number in 0..4 {
        photo(&path(&format!("photos/{number}.jpg")), 80, 60);
        photo(&path(&format!("train2017/{number}.jpg")), 64, 48);
    }
    photo(&path("photos/more/four.jpg"), 60, 80);
    // A folder of photos as they are: one of them is none.
    fs::write(path("photos/more/broken.jpg"), b"not a photo").expect("written");
    let pth = repository().join("checkpoints/tests/fixtures/johnson1.pt");
    fs::copy(pth, path("mosaic.pth")).expect("a fixture");
    let mut model = StyleModel::random(Architecture::johnson(2).expect("a network"), 1).expect("a model");
    model.amend(|metadata| metadata.name = "my".to_owned());
    model.save(path("my.safetensors")).expect("saved");
    folder
}

/// A video, a clip and an animation, by ffmpeg.
pub fn add_videos(folder: &Path) {
    // Long enough for `--start 0:30 --duration 10`, and few frames.
    for arguments in [
        "-f lavfi -i testsrc=s=48x32:r=2:d=42 -f lavfi -i sine=d=42 -shortest -c:v libx264 -c:a aac holiday.mp4",
        "-f lavfi -i testsrc=s=64x48:r=10:d=1 -c:v libx264 clip.mp4",
        "-f lavfi -i testsrc=s=48x32:r=5:d=1 cat.gif",
    ] {
        let output = Command::new("ffmpeg")
            .args(["-nostdin", "-hide_banner", "-v", "error", "-y"])
            .args(arguments.split_whitespace())
            .current_dir(folder)
            .output()
            .expect("ffmpeg ran");
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
