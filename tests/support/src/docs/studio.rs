//! The scratch folder that the pages' commands run in: small photos with the names that the pages use.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

/// A fresh folder with the photos that the pages speak of, each made by `photo` from its path, width and height.
///
/// # Panics
/// When it cannot be written.
pub fn studio(photo: impl Fn(&Path, usize, usize)) -> TempDir {
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
    folder
}
