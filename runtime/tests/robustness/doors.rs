//! The ways into the command for a picture, a model or a video, and where one of them says something else than the others.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use super::runner::{Scene, input};

/// A command that takes a file.
pub struct Door {
    pub name: &'static str,
    /// Its arguments; a `FILE` at the end of one stands for the file, which is standard input when it is not among them.
    args: &'static [&'static str],
    /// What it makes of a good file.
    pub makes: &'static [&'static str],
    /// Where the frames are that come out of a good picture at strength 0.
    pub shows: Shows,
    /// The shortest side of a picture that it is tried on.
    pub least: usize,
}

/// Where a command puts what it made.
#[derive(PartialEq)]
pub enum Shows {
    /// In the file that it makes.
    File,
    /// On standard output.
    Stdout,
    /// Nowhere: a measurement, a test run.
    Nothing,
}

const fn door(name: &'static str, args: &'static [&'static str], makes: &'static [&'static str]) -> Door {
    Door { name, args, makes, shows: Shows::Nothing, least: 1 }
}

/// As [`door`], for an iterative method: in a picture that is one pixel wide it has nothing to go by.
#[cfg(feature = "reference")]
const fn slow(name: &'static str, args: &'static [&'static str], makes: &'static [&'static str]) -> Door {
    Door { least: 16, ..door(name, args, makes) }
}

/// The shortest job of Gatys's method, and the files it is given.
#[cfg(feature = "reference")]
macro_rules! gatys {
    ($($file:literal),* $(,)?) => {
        &[
            "gatys", "--loss-net", "random-vgg16", "--content-layers", "relu1_1", "--style-layers", "relu1_1",
            "--steps", "1", "--size", "20", "-q", "-o", "out.png", $($file),*
        ]
    };
}

/// Commands that read a picture.
pub const PICTURE_DOORS: &[Door] = &[
    Door {
        shows: Shows::File,
        ..door(
            "stylize",
            &["stylize", "--model", "style.safetensors", "--strength", "0", "-o", "out.png", "--", "FILE"],
            &["out.png"],
        )
    },
    Door {
        shows: Shows::Stdout,
        ..door(
            "stylize -",
            &["stylize", "--model", "style.safetensors", "--strength", "0", "-o", "-", "-"],
            &[],
        )
    },
    door(
        "bench",
        &[
            "bench",
            "--model",
            "style.safetensors",
            "--size",
            "9x7",
            "--frames",
            "1",
            "--warmup",
            "0",
            "--input=FILE",
        ],
        &[],
    ),
    #[cfg(feature = "reference")]
    Door {
        shows: Shows::File,
        ..slow(
            "gatys",
            &[
                "gatys",
                "--loss-net",
                "random-vgg16",
                "--content-layers",
                "relu1_1",
                "--style-layers",
                "relu1_1",
                "--steps",
                "1",
                "--size",
                "0",
                "--strength",
                "0",
                "-q",
                "-o",
                "out.png",
                "--",
                "FILE",
                "painting.png",
            ],
            &["out.png"],
        )
    },
    #[cfg(feature = "reference")]
    slow("gatys painting", gatys!["--", "painting.png", "FILE"], &["out.png"]),
    #[cfg(feature = "reference")]
    slow("gatys --init", gatys!["painting.png", "painting.png", "--init=FILE"], &["out.png"]),
    #[cfg(feature = "reference")]
    Door {
        shows: Shows::File,
        ..slow(
            "dream",
            &[
                "dream",
                "--loss-net",
                "random-vgg16",
                "--layers",
                "relu1_1",
                "--octaves",
                "1",
                "--iterations",
                "1",
                "--size",
                "0",
                "--strength",
                "0",
                "-q",
                "-o",
                "out.png",
                "--",
                "FILE",
            ],
            &["out.png"],
        )
    },
    #[cfg(feature = "reference")]
    slow(
        "dream --guide",
        &[
            "dream",
            "--loss-net",
            "random-vgg16",
            "--layers",
            "relu1_1",
            "--octaves",
            "1",
            "--iterations",
            "1",
            "--size",
            "20",
            "-q",
            "-o",
            "out.png",
            "painting.png",
            "--guide=FILE",
        ],
        &["out.png"],
    ),
    #[cfg(feature = "reference")]
    slow(
        "compare",
        &[
            "compare",
            "--model",
            "trained.safetensors",
            "--painting",
            "painting.png",
            "--size",
            "32",
            "--steps",
            "3",
            "-q",
            "-o",
            "out",
            "--",
            "FILE",
        ],
        &["out/…"],
    ),
    #[cfg(feature = "reference")]
    slow(
        "compare --painting",
        &[
            "compare",
            "--model",
            "trained.safetensors",
            "--size",
            "32",
            "--steps",
            "3",
            "-q",
            "-o",
            "out",
            "painting.png",
            "--painting=FILE",
        ],
        &["out/…"],
    ),
];

/// Commands that read a style model. What else they read is not there where they come to the model first.
pub const MODEL_DOORS: &[Door] = &[
    door("stylize", &["stylize", "painting.png", "-o", "out.png", "--model=FILE"], &["out.png"]),
    door("styles show", &["styles", "show", "--", "FILE"], &[]),
    door("bench", &["bench", "--size", "9x7", "--frames", "1", "--warmup", "0", "--model=FILE"], &[]),
    #[cfg(feature = "reference")]
    door("compare", &["compare", "a.png", "--painting", "b.png", "-o", "out", "--model=FILE"], &[]),
    #[cfg(feature = "serve")]
    door("serve", &["serve", "--listen", "127.0.0.1:0", "--model=FILE"], &[]),
];

/// Commands that read a style model and start ffmpeg before that.
pub const MODEL_DOORS_OF_VIDEO: &[Door] = &[
    door("video", &["video", "clip.y4m", "-o", "out.mp4", "--model=FILE"], &["out.mp4"]),
    #[cfg(feature = "webcam")]
    door("webcam", &["webcam", "--source", "test", "--no-window", "--frames", "1", "--model=FILE"], &[]),
];

/// Commands that read a foreign model.
pub const IMPORT_DOORS: &[Door] = &[door(
    "styles import",
    &["styles", "import", "-o", "new.safetensors", "--", "FILE"],
    &["new.safetensors"],
)];

/// Commands that read a video.
pub const VIDEO_DOORS: &[Door] = &[
    door("video", &["video", "--model", "style.safetensors", "-o", "out.mp4", "--", "FILE"], &["out.mp4"]),
    #[cfg(feature = "webcam")]
    door(
        "webcam",
        &["webcam", "--model", "style.safetensors", "--no-window", "--frames", "1", "--source=FILE"],
        &[],
    ),
];

/// Where a command says something else of a case than the table: the case, the command, what it says.
const DIFFERENCES: &[(&str, &str, &[&str])] = &[
    // A folder is what `stylize` takes; it is searched for pictures.
    ("folder.png", "stylize", &["no pictures in this folder", "expected jpg"]),
    #[cfg(feature = "reference")]
    ("folder.png", "gatys", &["is a folder", "expected one picture"]),
    #[cfg(feature = "reference")]
    ("folder.png", "dream", &["is a folder", "expected one picture"]),
    #[cfg(feature = "reference")]
    ("folder.png", "compare", &["no pictures in this folder", "expected jpg"]),
    // What else a source may be is said too.
    #[cfg(feature = "webcam")]
    ("missing.mp4", "webcam", &["no such file", "hint: camera"]),
    #[cfg(feature = "webcam")]
    ("loop.mp4", "webcam", &["no such file", "hint: camera"]),
    // A pipe or a device is read as it comes.
    #[cfg(feature = "webcam")]
    ("endless.mp4", "webcam", &["no frame to paint", "Invalid data found"]),
    // A clip begins anew at its end.
    #[cfg(feature = "webcam")]
    ("no frames.y4m", "webcam", &["no frame to paint"]),
];

impl Door {
    /// Whether the file is standard input, and so without a name.
    pub fn is_stdin(&self) -> bool {
        !self.args.iter().any(|arg| arg.ends_with("FILE"))
    }

    /// What the command is to say of a case.
    pub fn says<'a>(&self, case: &str, told: &'a [&'a str]) -> &'a [&'a str] {
        let other = DIFFERENCES.iter().find(|(row, door, _)| *row == case && *door == self.name);
        other.map_or(told, |(_, _, parts)| parts)
    }

    /// The command on a file of the scene.
    ///
    /// # Errors
    /// When standard input is to come from a file that cannot be opened.
    pub fn command(&self, scene: &Scene, file: &Path) -> Result<Command, String> {
        self.tell(scene, scene.impasto(), file)
    }

    /// As [`Door::command`], with a program that runs the command in its own way.
    ///
    /// # Errors
    /// As [`Door::command`].
    pub fn tell(&self, scene: &Scene, mut command: Command, file: &Path) -> Result<Command, String> {
        for arg in self.args {
            let mut told = OsString::from(arg.strip_suffix("FILE").unwrap_or(arg));
            if arg.ends_with("FILE") {
                told.push(file);
            }
            command.arg(told);
        }
        if self.is_stdin() {
            command.stdin(input(&scene.path(file))?);
        } else {
            command.stdin(std::process::Stdio::null());
        }
        Ok(command)
    }
}
