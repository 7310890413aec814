//! What the command's tests share: a folder of their own, a small model, small pictures.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use impasto::Frame;
use impasto::checkpoints::{Architecture, StyleModel};
use impasto::picture::{EncodeOptions, Picture};
use tempfile::TempDir;

/// A folder with `style.safetensors` (random weights) and `photo.png` (21×14) in it.
pub struct Studio {
    folder: TempDir,
}

impl Studio {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let studio = Studio { folder };
        small_model().save(studio.path("style.safetensors")).expect("the model saved");
        studio.picture("photo.png", 21, 14);
        studio
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a gradient picture.
    pub fn picture(&self, name: &str, width: usize, height: usize) {
        let rgb = (0..width * height * 3).map(|i| (i * 7 % 256) as u8).collect();
        let picture = Picture::from(Frame::new(width, height, rgb).expect("a frame"));
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("the folder made");
        picture.save(path, &EncodeOptions::default()).expect("the picture saved");
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).expect("written");
    }

    /// `impasto` in this folder.
    pub fn impasto(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_impasto"));
        command.current_dir(self.folder.path()).args(args);
        command
    }

    /// `impasto stylize … --model style.safetensors`.
    pub fn stylize(&self, args: &[&str]) -> Command {
        let mut command = self.impasto(&["stylize", "--model", "style.safetensors"]);
        command.args(args);
        command
    }

    /// Names of all files below the folder, sorted.
    pub fn files(&self) -> Vec<String> {
        fn below(folder: &Path, root: &Path, names: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    below(&path, root, names);
                } else {
                    let name = path.strip_prefix(root).expect("below").display().to_string();
                    names.push(name.replace(std::path::MAIN_SEPARATOR, "/"));
                }
            }
        }
        let mut names = Vec::new();
        below(self.folder.path(), self.folder.path(), &mut names);
        names.sort();
        names
    }
}

/// The smallest network with every kind of layer.
pub fn small_model() -> StyleModel {
    let mut architecture = Architecture::johnson(1).expect("an architecture");
    architecture.layers = "c9s1-2,d3,R3,u2,c9s1-3".parse().expect("layers");
    (architecture.output.scale, architecture.output.offset) = (100.0, 127.0);
    StyleModel::random(architecture, 1).expect("a model")
}

/// The same with the record of a training that never was: two layers of a random loss network.
#[cfg(feature = "reference")]
pub fn trained_model() -> StyleModel {
    let mut model = small_model();
    let config = "loss_net = \"random-vgg16\"\ncontent_weight = 1.0\nstyle_weight = 3.0\ntv_weight = 0.02\nstyle_size = 32\n\
                  balance = \"auto\"\npooling = \"max\"\nstatistic = \"gram\"\n[content_layers]\nrelu2_1 = 1.0\n\
                  [style_layers]\nrelu1_1 = 1.0\nrelu2_1 = 1.0\n";
    let training = serde_json::json!({
        "tool": "test", "loss_network": "random-vgg16", "style_sha256": "0", "steps": 1, "batch_size": 1,
        "image_size": 32, "seed": 0, "content_weight": 1.0, "style_weight": 3.0, "tv_weight": 0.02, "config": config,
    });
    let training = serde_json::from_value(training).expect("a training");
    model.amend(|metadata| metadata.training = Some(training));
    model
}

/// Runs a command that must fail with exit code 1, nothing on stdout, and one line on stderr; gives the line.
pub fn failure(command: &mut Command) -> String {
    let output = command.output().expect("the command ran");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(output.stdout.is_empty());
    assert_eq!(text.lines().count(), 1, "expected one line: {text}");
    assert!(text.starts_with("impasto: "), "{text}");
    text
}
