//! The folder of the pages' commands, with models and videos in it.

use std::path::Path;
use std::process::Command;

use impasto::checkpoints::{Architecture, StyleModel};
use impasto::picture::{EncodeOptions, Picture};
use impasto_test_support::{docs, repository};
use tempfile::TempDir;

/// A fresh folder with the photos and models that the pages speak of.
pub fn studio() -> TempDir {
    let folder = docs::studio(|path, width, height| {
        let chart = Picture::from(impasto::quality::test_chart(width, height));
        chart.save(path, &EncodeOptions::default()).expect("saved");
    });
    let fixture = repository("checkpoints/tests/fixtures/johnson1.pt");
    std::fs::copy(fixture, folder.path().join("mosaic.pth")).expect("a fixture");
    let mut model = StyleModel::random(Architecture::johnson(2).expect("a network"), 1).expect("a model");
    model.amend(|metadata| metadata.name = "my".to_owned());
    model.save(folder.path().join("my.safetensors")).expect("saved");
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
