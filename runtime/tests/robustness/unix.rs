//! What only Unix has: files that one may not read, pipes, devices.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::{scene, titled};
use super::doors::{Door, IMPORT_DOORS, MODEL_DOORS, MODEL_DOORS_OF_VIDEO, PICTURE_DOORS, VIDEO_DOORS};
use super::fixtures::fixture_bytes;
use super::media::ffmpeg_is_there;
use super::runner::{Scene, Verdict, check_all, refused, run, says, succeeded, unchanged};

/// A file without permissions, as a user who is not root.
#[test]
fn unreadable_files_through_every_command() {
    let mut doors: Vec<(&str, &Door)> = Vec::new();
    doors.extend(PICTURE_DOORS.iter().filter(|door| !door.is_stdin()).map(|door| ("closed.png", door)));
    doors.extend(MODEL_DOORS.iter().map(|door| ("closed.safetensors", door)));
    doors.extend(IMPORT_DOORS.iter().map(|door| ("closed.pth", door)));
    if ffmpeg_is_there("unreadable videos") {
        doors.extend(MODEL_DOORS_OF_VIDEO.iter().map(|door| ("closed.safetensors", door)));
        doors.extend(VIDEO_DOORS.iter().map(|door| ("closed.mp4", door)));
    }
    // Root reads everything, so the command runs as nobody, from a copy that nobody can reach.
    let programs = tempfile::tempdir().unwrap();
    let copy = programs.path().join("impasto");
    std::fs::copy(env!("CARGO_BIN_EXE_impasto"), &copy).unwrap();
    allow(programs.path(), 0o755);
    check_all(&doors, |(name, door)| vec![(titled(name, door), unreadable(name, door, &copy))]);
}

fn unreadable(name: &str, door: &Door, program: &Path) -> Verdict {
    let scene = scene();
    std::fs::write(scene.path(name), b"secret").unwrap();
    allow(&scene.path(name), 0o000);
    allow(&scene.path(""), 0o777);
    allow(&scene.path("scratch"), 0o777);
    let command = if std::fs::read(scene.path(name)).is_err() {
        door.command(&scene, Path::new(name))?
    } else {
        let mut command = scene.program("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
        door.tell(&scene, command, Path::new(name))?
    };
    refused(&scene, command, &[name, "Permission denied"])
}

fn allow(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

/// A pipe is read to its end, as `<(command)` of a shell gives one.
#[test]
fn pipes_are_read_to_their_end() {
    let whole = || fixture_bytes("icc.png");
    let empty = Vec::new;
    // What is written into it, and what is said of it: nothing of what is good.
    type Row = (&'static str, &'static Door, fn() -> Vec<u8>, Result<(), &'static [&'static str]>);
    let rows: [Row; 5] = [
        ("pipe.png", &PICTURE_DOORS[0], whole, Ok(())),
        ("pipe.png", &PICTURE_DOORS[0], empty, Err(&["pipe.png", "the file is empty"])),
        ("pipe.png", &PICTURE_DOORS[0], || vec![0; 1 << 20], Err(&["pipe.png", "not a picture"])),
        ("pipe.safetensors", &MODEL_DOORS[0], super::models::good, Ok(())),
        ("pipe.safetensors", &MODEL_DOORS[0], empty, Err(&["pipe.safetensors", "the file is empty"])),
    ];
    check_all(&rows, |(name, door, bytes, expected)| {
        let scene = scene();
        let pipe = pipe(&scene, name);
        // Opening it waits for the reader; a reader that leaves early is no fault of this end.
        let bytes = bytes();
        let writer = std::thread::spawn(move || std::fs::write(pipe, bytes));
        let verdict = || {
            let before = scene.state();
            let command = door.command(&scene, Path::new(name))?;
            match expected {
                Ok(()) => {
                    succeeded(&run(command)?)?;
                    unchanged(&before, &scene.state(), door.makes)
                }
                Err(parts) => refused(&scene, command, parts),
            }
        };
        let verdict = verdict();
        drop(writer); // left to itself should the command never have opened the pipe
        vec![(titled(name, door), verdict)]
    });
}

/// Where a pipe would be waited for, or read more often than it can be, it is refused.
#[test]
fn pipes_are_refused_where_they_would_be_waited_for() {
    let scene = scene();
    std::fs::create_dir(scene.path("in")).unwrap();
    pipe(&scene, "in/pipe.png");
    let mut folder = scene.impasto();
    folder.args(["stylize", "in", "-o", "out.d", "--model", "style.safetensors"]);
    let before = scene.state();
    let ended = run(folder).unwrap();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    says(&ended.stderr, &["impasto: in/pipe.png: neither a file nor a folder", "0 painted, 1 failed"])
        .unwrap();
    unchanged(&before, &scene.state(), &[]).unwrap();
    if ffmpeg_is_there("videos from pipes") {
        pipe(&scene, "pipe.mp4");
        let command = VIDEO_DOORS[0].command(&scene, Path::new("pipe.mp4")).unwrap();
        refused(&scene, command, &["pipe.mp4", "expected a video file", "hint"]).unwrap();
    }
}

/// Standard input that never ends is not waited for: what it begins with is no picture.
#[test]
fn endless_standard_input_is_refused() {
    let scene = scene();
    let mut command = scene.impasto();
    command.args(["stylize", "-", "-o", "out.png", "--model", "style.safetensors"]);
    command.stdin(Stdio::from(std::fs::File::open("/dev/zero").unwrap()));
    refused(&scene, command, &["standard input: not a picture", "expected a JPEG"]).unwrap();
}

fn pipe(scene: &Scene, name: &str) -> PathBuf {
    let path = scene.path(name);
    assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo ran").success());
    path
}
