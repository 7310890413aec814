//! The table of videos, most of them made with ffmpeg.

use std::path::Path;
use std::process::Command;

use super::files::link;
use super::fixtures::fixture_bytes;
use super::pictures::{Bad, bad, place};

/// A video that is painted.
pub struct GoodVideo {
    pub name: &'static str,
    /// Makes it under this name.
    pub make: fn(&Path),
    /// Width, height and frames of what comes out.
    pub size: (usize, usize, usize),
    /// What is said of it besides.
    pub says: &'static [&'static str],
}

const fn good(
    name: &'static str,
    make: fn(&Path),
    size: (usize, usize, usize),
    says: &'static [&'static str],
) -> GoodVideo {
    GoodVideo { name, make, size, says }
}

pub const GOOD_VIDEOS: &[GoodVideo] = &[
    // name, how it is made, width, height and frames, what is said
    good("clip.y4m", |path| std::fs::write(path, y4m(3)).expect("written"), (32, 16, 3), &[]),
    good("h264.mp4", |path| film(path, "-c:v libx264"), (48, 32, 5), &[]),
    good("sound.mkv", |path| film(path, "-f lavfi -i sine=d=1 -c:v libx264 -c:a aac"), (48, 32, 5), &[]),
    good("turned.mp4", turned, (32, 48, 5), &[]),
    good("odd.webm", |path| film(path, "-vf scale=33:17 -c:v libvpx-vp9 -cpu-used 8"), (34, 18, 5), &[]),
    good(
        "deep.mkv",
        |path| film(path, "-c:v ffv1 -pix_fmt yuv420p10le"),
        (48, 32, 5),
        &["more than 8 bits a colour"],
    ),
    good("animated.gif", |path| film(path, ""), (48, 32, 5), &[]),
    good(
        "picture.png",
        |path| std::fs::write(path, fixture_bytes("icc.png")).expect("written"),
        (24, 16, 1),
        &[],
    ),
    good("cut.mp4", cut_film, (48, 32, 0), &["ffmpeg complained while it decoded"]),
    good("-y.mp4", |path| film(path, "-c:v libx264"), (48, 32, 5), &[]),
    good("a film %d 'x' [0].mp4", |path| film(path, "-c:v libx264"), (48, 32, 5), &[]),
    good("http:film.mp4", |path| film(path, "-c:v libx264"), (48, 32, 5), &[]),
];

const NO_VIDEO: &[&str] = &["no video that ffmpeg can read"];

pub const BAD_VIDEOS: &[Bad] = &[
    // name, how it is made, what is said
    bad("empty.mp4", Vec::new, &["the file is empty; expected a video"]),
    bad("letter.mp4", || b"Dear film, I am a letter and nothing moves in me.\n".to_vec(), NO_VIDEO),
    bad("zeros.mp4", || vec![0; 100_000], NO_VIDEO),
    bad("model.mp4", super::models::good, NO_VIDEO),
    bad("\u{1b}[31mletter\n\u{7}.mp4", || b"Dear film, I am a letter.\n".to_vec(), NO_VIDEO),
    bad(
        "playlist.m3u8",
        || b"#EXTM3U\n#EXTINF:1,\nhttp://localhost:1/a.ts\n#EXT-X-ENDLIST\n".to_vec(),
        NO_VIDEO,
    ),
    bad("no frames.y4m", || y4m(0), &["no frame to paint; expected one or more"]),
    bad("no size.y4m", || b"YUV4MPEG2 F25:1\n".to_vec(), NO_VIDEO),
    place("half.mp4", half_film, &["no video that ffmpeg can read", "moov atom not found"]),
    place("head.mp4", |path| shortened(path, |_| 40), NO_VIDEO),
    place(
        "sound.m4a",
        |path| ffmpeg(path, "-f lavfi -i sine=d=0.2 -c:a aac"),
        &["holds no video (only audio)"],
    ),
    place("cover.m4a", sound_with_cover, &["holds no video (only audio, video)"]),
    place("missing.mp4", |_| (), &["No such file"]),
    place(
        "folder.mp4",
        |path| std::fs::create_dir(path).expect("made"),
        &["is a folder; expected a video file"],
    ),
    place("loop.mp4", |path| link("loop.mp4", path), &["Too many levels of symbolic links"]),
    place(
        "endless.mp4",
        |path| link("/dev/zero", path),
        &["is a pipe or a device", "expected a video file", "hint"],
    ),
];

/// 32×16 grey frames, not compressed: a video without ffmpeg.
pub fn y4m(frames: usize) -> Vec<u8> {
    let frame = [&b"FRAME\n"[..], &[128; 32 * 16 * 3 / 2]].concat();
    [&b"YUV4MPEG2 W32 H16 F25:1 C420jpeg\n"[..], &frame.repeat(frames)].concat()
}

/// Runs ffmpeg, its arguments as on a command line without quotes, to a file.
pub fn ffmpeg(path: &Path, arguments: &str) {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-v", "error", "-y"]).args(arguments.split_whitespace());
    let mut name = std::ffi::OsString::from("file:");
    name.push(path);
    let output = command.arg(name).output().expect("ffmpeg ran");
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Five frames of 48×32.
fn film(path: &Path, more: &str) {
    ffmpeg(path, &format!("-f lavfi -i testsrc=s=48x32:r=10:d=0.5 {more} -t 0.5"));
}

/// A film whose display matrix turns it by a quarter.
fn turned(path: &Path) {
    let plain = path.with_extension("plain.mp4");
    film(&plain, "-c:v libx264");
    ffmpeg(path, &format!("-i {} -c copy -metadata:s:v:0 rotate=90", plain.display()));
    std::fs::remove_file(plain).expect("removed");
}

/// Sound whose only picture is its cover.
fn sound_with_cover(path: &Path) {
    let sound = path.with_extension("plain.m4a");
    let cover = path.with_extension("png");
    ffmpeg(&sound, "-f lavfi -i sine=d=0.2 -c:a aac");
    std::fs::write(&cover, fixture_bytes("icc.png")).expect("written");
    let (sound_name, cover_name) = (sound.display(), cover.display());
    let streams = "-map 0 -map 1 -c copy -c:v mjpeg -disposition:v attached_pic";
    ffmpeg(path, &format!("-i {sound_name} -i {cover_name} {streams}"));
    for used in [sound, cover] {
        std::fs::remove_file(used).expect("removed");
    }
}

/// A film without its end, which held the index.
fn half_film(path: &Path) {
    shortened(path, |length| length / 2);
}

fn shortened(path: &Path, length: fn(usize) -> usize) {
    film(path, "-c:v libx264");
    let bytes = std::fs::read(path).expect("a film");
    std::fs::write(path, &bytes[..length(bytes.len())]).expect("written");
}

/// A film that breaks off; its index is at the beginning.
fn cut_film(path: &Path) {
    ffmpeg(path, "-f lavfi -i testsrc=s=48x32:r=10:d=4 -c:v libx264 -g 5 -movflags +faststart");
    let bytes = std::fs::read(path).expect("a film");
    std::fs::write(path, &bytes[..bytes.len() * 2 / 3]).expect("written");
}
