//! Robustness as one table: every format, orientation and bad file through every command that takes a picture, a model
//! or a video.
//!
//! A row is a file and what comes of it (`robustness/pictures.rs`, `models.rs`, `videos.rs`); `doors.rs` has the commands
//! and where one of them says something else. Of each run it is checked that it ends in time, does not panic, leaves its
//! input and everything else as it was and nothing half-written; of each refusal, that it is exit code 1 and one line
//! (`runner.rs`).

#![allow(clippy::unwrap_used, reason = "in helpers of tests too, a failed unwrap is a failed test")]

#[path = "pictures/fixtures.rs"]
mod fixtures;
#[path = "cli/media.rs"]
#[allow(dead_code, reason = "shared with the tests of the command")]
mod media;
#[cfg(feature = "serve")]
#[path = "serve/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the server")]
mod serve_support;
#[path = "cli/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the command")]
mod support;

mod robustness {
    pub mod doors;
    pub mod files;
    pub mod models;
    pub mod pictures;
    pub mod runner;
    #[cfg(feature = "serve")]
    pub mod server;
    #[cfg(unix)]
    pub mod unix;
    pub mod videos;

    #[cfg(feature = "serve")]
    use super::serve_support;
    use super::{fixtures, media, support};
}

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use impasto::Frame;
use impasto::picture::{DecodeOptions, EncodeOptions, Picture};

use robustness::doors::{
    Door, IMPORT_DOORS, MODEL_DOORS, MODEL_DOORS_OF_VIDEO, PICTURE_DOORS, Shows, VIDEO_DOORS,
};
use robustness::models::{BAD_FOREIGN_MODELS, BAD_MODELS, good as good_model, legacy};
use robustness::pictures::{BAD, Bad, GOOD, Good, Make};
use robustness::runner::{Scene, Verdict, check_all, refused, run, says, succeeded, unchanged};
use robustness::videos::{BAD_VIDEOS, GOOD_VIDEOS, y4m};

#[test]
fn good_pictures_through_every_command() {
    check_all(GOOD, |row| {
        let shown = (row.shows)();
        let doors = PICTURE_DOORS.iter().filter(|door| door.least <= shown.width().min(shown.height()));
        doors.map(|door| (titled(row.name, door), painted(row, door))).collect()
    });
}

fn painted(row: &Good, door: &Door) -> Verdict {
    let (scene, file) = (scene(), file_name(row.name));
    std::fs::write(scene.path(&file), (row.bytes)()).map_err(|error| error.to_string())?;
    let before = scene.state();
    let ended = run(door.command(&scene, &file)?)?;
    succeeded(&ended)?;
    unchanged(&before, &scene.state(), door.makes)?;
    let read = |bytes: &[u8]| Picture::from_bytes(bytes, "the result", &DecodeOptions::default());
    let shown = match door.shows {
        Shows::File => read(&std::fs::read(scene.path(door.makes[0])).map_err(|error| error.to_string())?),
        Shows::Stdout => read(&ended.stdout),
        Shows::Nothing => return Ok(()),
    };
    same(&shown.map_err(|error| error.to_string())?.frame, &(row.shows)(), row.within)
}

/// At full strength, all of them by one command: each result has its picture's size, in the format of its name.
#[test]
fn a_folder_of_all_good_pictures() {
    let scene = scene();
    std::fs::create_dir(scene.path("in")).unwrap();
    for row in GOOD {
        std::fs::write(scene.path("in").join(file_name(row.name)), (row.bytes)()).unwrap();
    }
    let mut command = scene.impasto();
    command.args(["stylize", "in", "-o", "out", "--model", "style.safetensors", "--json", "-v"]);
    let ended = run(command).unwrap();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let report: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(report["painted"].as_array().map(Vec::len), Some(GOOD.len()));
    for row in GOOD {
        let mut path = scene.path("out").join(file_name(row.name));
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("bmp" | "gif") => _ = path.set_extension("png"),
            Some("heic") => _ = path.set_extension("jpg"),
            _ => {}
        }
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (expected, magic) = ((row.shows)(), magic(&path));
        assert!(bytes.starts_with(magic), "{}: not in the format of its name", path.display());
        let got = Picture::from_bytes(&bytes, row.name, &DecodeOptions::default()).unwrap().frame;
        assert_eq!((got.width(), got.height()), (expected.width(), expected.height()), "{}", row.name);
    }
}

#[test]
fn bad_pictures_through_every_command() {
    check_all(BAD, |row| {
        PICTURE_DOORS.iter().map(|door| (titled(row.name, door), refusal(row, door))).collect()
    });
}

/// A line for each of them; the good one among them is painted.
#[test]
fn a_folder_of_all_bad_pictures() {
    let scene = scene();
    std::fs::create_dir(scene.path("in")).unwrap();
    let rows: Vec<&Bad> =
        BAD.iter().filter(|row| !["missing.png", "folder.png"].contains(&row.name)).collect();
    for row in &rows {
        put(&scene, &Path::new("in").join(file_name(row.name)), &row.make);
    }
    std::fs::copy(scene.path("painting.png"), scene.path("in/good.png")).unwrap();
    let before = scene.state();
    let mut command = scene.impasto();
    command.args(["stylize", "in", "-o", "out", "--model", "style.safetensors"]);
    let ended = run(command).unwrap();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(lines.len(), rows.len() + 1, "{}", ended.stderr);
    assert!(lines[rows.len()].contains(&format!("1 painted, {} failed", rows.len())), "{}", ended.stderr);
    for row in rows {
        let name = format!("impasto: in/{}: ", shown(row.name));
        let line = lines.iter().find(|line| line.starts_with(&name));
        let line = line.unwrap_or_else(|| panic!("no line for {name:?}: {}", ended.stderr));
        // What is no file at all is told apart before it is opened.
        let parts = if row.name == "endless.png" { &["neither a file nor a folder"][..] } else { row.says };
        says(line, parts).unwrap();
    }
    unchanged(&before, &scene.state(), &["out", "out/good.png"]).unwrap();
}

#[test]
fn models_through_every_command() {
    check_all(BAD_MODELS, |row| {
        MODEL_DOORS.iter().map(|door| (titled(row.name, door), refusal(row, door))).collect()
    });
    let good = Bad { name: "good.safetensors", make: Make::Bytes(good_model), says: &[] };
    check_all(&MODEL_DOORS[..3], |door| vec![(titled(good.name, door), accepted(&good, door))]);
    if media::ffmpeg_is_there("models of videos") {
        check_all(BAD_MODELS, |row| {
            MODEL_DOORS_OF_VIDEO.iter().map(|door| (titled(row.name, door), refusal(row, door))).collect()
        });
        check_all(MODEL_DOORS_OF_VIDEO, |door| vec![(titled(good.name, door), accepted(&good, door))]);
    }
}

#[test]
fn foreign_models_through_every_import() {
    check_all(BAD_FOREIGN_MODELS, |row| {
        IMPORT_DOORS.iter().map(|door| (titled(row.name, door), refusal(row, door))).collect()
    });
    let good = Bad { name: "good.pth", make: Make::Bytes(legacy), says: &[] };
    check_all(IMPORT_DOORS, |door| vec![(titled(good.name, door), accepted(&good, door))]);
}

#[test]
fn videos_through_every_command() {
    if !media::ffmpeg_is_there("the table of videos") {
        return;
    }
    check_all(BAD_VIDEOS, |row| {
        VIDEO_DOORS.iter().map(|door| (titled(row.name, door), refusal(row, door))).collect()
    });
    check_all(GOOD_VIDEOS, |row| {
        let film = |door: &Door| {
            let scene = scene();
            (row.make)(&scene.path(file_name(row.name)));
            let before = scene.state();
            let ended = run(door.command(&scene, &file_name(row.name))?)?;
            succeeded(&ended)?;
            unchanged(&before, &scene.state(), door.makes)?;
            if door.name != "video" {
                return Ok(());
            }
            says(&ended.stderr, row.says)?;
            let told = media::probe(&scene.path("out.mp4"), "stream=width,height");
            let size = (&told["streams"][0]["width"], &told["streams"][0]["height"]);
            if size != (&row.size.0.into(), &row.size.1.into()) {
                return Err(format!("{told}, expected {:?}", row.size));
            }
            let frames = media::shown(&scene.path("out.mp4")).times.len();
            match row.size.2 {
                0 if frames > 0 => Ok(()), // of a film that breaks off, what there is
                expected if frames == expected => Ok(()),
                expected => Err(format!("{frames} frames, expected {expected}")),
            }
        };
        VIDEO_DOORS.iter().map(|door| (titled(row.name, door), film(door))).collect()
    });
}

/// A scene with what the commands want beside the file in question.
fn scene() -> Scene {
    let scene = Scene::new();
    let painting = Picture::from(impasto::quality::test_chart(40, 32));
    painting.save(scene.path("painting.png"), &EncodeOptions::default()).expect("saved");
    std::fs::write(scene.path("clip.y4m"), y4m(2)).expect("written");
    #[cfg(feature = "reference")]
    support::trained_model().save(scene.path("trained.safetensors")).expect("saved");
    scene
}

/// Whether a command refuses a row's file with the row's line, which names the file.
fn refusal(row: &Bad, door: &Door) -> Verdict {
    let (scene, file) = (scene(), file_name(row.name));
    put(&scene, &file, &row.make);
    let name = if door.is_stdin() { "standard input".to_string() } else { shown(row.name) };
    if door.is_stdin() && !std::fs::metadata(scene.path(&file)).is_ok_and(|metadata| !metadata.is_dir()) {
        return Ok(()); // a shell cannot open it either
    }
    let parts = [&[name.as_str()], door.says(row.name, row.says)].concat();
    refused(&scene, door.command(&scene, &file)?, &parts)
}

/// Whether a command takes a file and leaves nothing but what it makes.
fn accepted(row: &Bad, door: &Door) -> Verdict {
    let (scene, file) = (scene(), file_name(row.name));
    put(&scene, &file, &row.make);
    let before = scene.state();
    succeeded(&run(door.command(&scene, &file)?)?)?;
    unchanged(&before, &scene.state(), door.makes)
}

fn put(scene: &Scene, name: &Path, make: &Make) {
    match make {
        Make::Bytes(bytes) => std::fs::write(scene.path(name), bytes()).expect("written"),
        Make::Place(put) => put(&scene.path(name)),
    }
}

fn titled(row: &str, door: &Door) -> String {
    format!("{row:?} through `{}`", door.name)
}

/// A row's name as the file's: `\u{FFFD}` stands for a byte that is not UTF-8, where names may have one.
fn file_name(name: &str) -> PathBuf {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt;
        let mut bytes = Vec::new();
        for c in name.chars() {
            if c == '\u{FFFD}' { bytes.push(0xFF) } else { bytes.extend(c.to_string().into_bytes()) }
        }
        OsString::from_vec(bytes).into()
    }
    #[cfg(not(unix))]
    OsString::from(name).into()
}

/// A name as a line on a terminal shows it: on one line, no control characters.
fn shown(name: &str) -> String {
    name.replace('\n', " ").replace(|c: char| c.is_control(), "\u{FFFD}")
}

fn same(got: &Frame, expected: &Frame, within: u8) -> Verdict {
    if (got.width(), got.height()) != (expected.width(), expected.height()) {
        let sizes = (got.width(), got.height(), expected.width(), expected.height());
        return Err(format!("{}×{}, expected {}×{}", sizes.0, sizes.1, sizes.2, sizes.3));
    }
    let off =
        got.rgb().iter().zip(expected.rgb()).position(|(got, expected)| got.abs_diff(*expected) > within);
    off.map_or(Ok(()), |at| {
        let (x, y) = (at / 3 % got.width(), at / 3 / got.width());
        let (got, expected) = (got.rgb()[at], expected.rgb()[at]);
        Err(format!("{got} at ({x}, {y}), channel {}; expected {expected} ± {within}", at % 3))
    })
}

/// How files begin in the format that a name asks for.
fn magic(path: &Path) -> &'static [u8] {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("jpg") => b"\xFF\xD8",
        Some("webp") => b"RIFF",
        Some("tiff") => b"II*\0",
        _ => b"\x89PNG",
    }
}
