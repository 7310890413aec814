//! ffmpeg and ffprobe as programs: found, checked, started so that Ctrl-C reaches only us, and listened to.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::error::VideoError;
use crate::lock::lock;

/// The oldest FFmpeg that knows the options in use (`-fps_mode`, the filter `setts`'s durations); Debian 12 has it.
pub const OLDEST: &str = "5.1";
const OLDEST_NUMBERS: (u32, u32) = (5, 1);

/// Lines of standard error that are kept for an error message.
const KEPT_LINES: usize = 4;
/// Bytes of such a line that are kept.
const KEPT_BYTES: usize = 200;

#[cfg(target_os = "macos")]
const HINT: &str = "brew install ffmpeg";
#[cfg(windows)]
const HINT: &str = "winget install ffmpeg";
#[cfg(not(any(windows, target_os = "macos")))]
const HINT: &str = "apt install ffmpeg (or dnf, pacman, …)";

/// The two programs, checked.
#[derive(Debug, Clone)]
pub struct Tools {
    ffmpeg: PathBuf,
    ffprobe: PathBuf,
    version: String,
}

impl Tools {
    /// Finds `ffmpeg` and `ffprobe` on the PATH and asks them for their version.
    ///
    /// # Errors
    /// [`VideoError::Missing`] and [`VideoError::Unusable`], with how to install them.
    pub fn find() -> Result<Self, VideoError> {
        let (ffmpeg, version) = find("ffmpeg")?;
        let (ffprobe, _) = find("ffprobe")?;
        Ok(Tools { ffmpeg, ffprobe, version })
    }

    /// Where ffmpeg is.
    pub fn path(&self) -> &Path {
        &self.ffmpeg
    }

    /// ffmpeg's own word for its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether this ffmpeg was built with an encoder.
    ///
    /// # Errors
    /// [`VideoError::Unusable`] when it does not answer.
    pub(super) fn has_encoder(&self, name: &str) -> Result<bool, VideoError> {
        let output = command(&self.ffmpeg).args(["-hide_banner", "-v", "error", "-encoders"]).output();
        let output = output.map_err(|error| unusable("ffmpeg", error.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().any(|line| line.split_whitespace().nth(1) == Some(name)))
    }

    /// ffmpeg, quiet but for warnings, not reading from a terminal.
    pub(super) fn ffmpeg(&self) -> Command {
        let mut command = command(&self.ffmpeg);
        command.args(["-hide_banner", "-nostdin", "-nostats", "-v", "warning"]);
        command
    }

    /// ffprobe, quiet but for errors.
    pub(super) fn ffprobe(&self) -> Command {
        let mut command = command(&self.ffprobe);
        command.args(["-hide_banner", "-v", "error"]);
        command
    }
}

/// A file's name as ffmpeg takes it for nothing else: neither an option nor an address.
pub(super) fn file_argument(path: &Path) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from("file:");
    argument.push(path);
    argument
}

/// What an input may open besides itself: playlists name other files, never the network.
pub(super) const INPUT_PROTOCOLS: [&str; 2] = ["-protocol_whitelist", "file,crypto,data"];

fn find(program: &'static str) -> Result<(PathBuf, String), VideoError> {
    let path = on_path(program).ok_or(VideoError::Missing { program, hint: HINT })?;
    let output = command(&path).arg("-version").output();
    let output = output.map_err(|error| unusable(program, format!("cannot be run ({error})")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let first = text.lines().next().unwrap_or_default();
    let version = first.strip_prefix(program).and_then(|rest| rest.trim_start().strip_prefix("version "));
    let Some(version) = version.and_then(|rest| rest.split_whitespace().next()) else {
        return Err(unusable(program, "does not say its version".to_string()));
    };
    match release(version) {
        // A build from the repository has a date or a hash instead of a release; these are newer than ours.
        None => Ok((path, version.to_string())),
        Some(release) if release >= OLDEST_NUMBERS => Ok((path, version.to_string())),
        Some(_) => Err(unusable(program, format!("found version {version}"))),
    }
}

fn unusable(program: &'static str, found: String) -> VideoError {
    VideoError::Unusable { program, found, hint: HINT }
}

/// `5.1.9-0+deb12u1` and `n7.1` as (5, 1) and (7, 1); nothing for `N-118193-g5f38c8`.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim_start_matches('n').split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next().and_then(|minor| minor.parse().ok()).unwrap_or(0);
    // `2024-05-20-git-…` is a date.
    if major > 1000 { None } else { Some((major, minor)) }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let name = format!("{program}{}", std::env::consts::EXE_SUFFIX);
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(&name)).find(|path| is_program(path))
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}

/// A program in a process group of its own, so that Ctrl-C on the terminal does not reach it: what is in the pipes
/// is to be written out first.
fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        command.process_group(0);
    }
    #[cfg(windows)]
    {
        use std::os::windows::process::CommandExt;
        const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
        command.creation_flags(CREATE_NEW_PROCESS_GROUP);
    }
    command
}

/// A program that is running; dropped, it is killed.
#[derive(Debug)]
pub(super) struct Running {
    child: Mutex<Child>,
    words: Arc<Mutex<VecDeque<String>>>,
    listener: Mutex<Option<JoinHandle<()>>>,
}

/// How a program ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub status: ExitStatus,
    /// Its last lines on standard error, in one line; empty when it said nothing.
    pub last_words: String,
    /// Processor seconds that it took; `None` where the system does not tell.
    pub cpu_seconds: Option<f64>,
}

impl Running {
    /// Starts a program, its standard error drained from now on.
    pub fn start(mut command: Command) -> std::io::Result<Self> {
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        let words = Arc::new(Mutex::new(VecDeque::new()));
        let listener = child.stderr.take().map(|stderr| {
            let words = Arc::clone(&words);
            std::thread::spawn(move || listen(stderr, &words))
        });
        Ok(Running { child: Mutex::new(child), words, listener: Mutex::new(listener) })
    }

    /// Its standard output, once.
    pub fn take_stdout(&self) -> Option<ChildStdout> {
        lock(&self.child).stdout.take()
    }

    /// Its standard input, once.
    pub fn take_stdin(&self) -> Option<ChildStdin> {
        lock(&self.child).stdin.take()
    }

    /// Ends it at once; no harm when it has ended.
    pub fn kill(&self) {
        let _ = lock(&self.child).kill();
    }

    /// Waits for its end. Another thread may [`kill`](Self::kill) it meanwhile.
    pub fn wait(&self) -> std::io::Result<Ended> {
        let mut pause = Duration::from_micros(500);
        let (status, cpu_seconds) = loop {
            let before = children_cpu_seconds();
            if let Some(status) = lock(&self.child).try_wait()? {
                let cpu = before.zip(children_cpu_seconds()).map(|(before, after)| after - before);
                break (status, cpu);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        if let Some(listener) = lock(&self.listener).take() {
            let _ = listener.join();
        }
        Ok(Ended { status, last_words: self.last_words(), cpu_seconds })
    }

    /// What it said last.
    fn last_words(&self) -> String {
        lock(&self.words).iter().map(String::as_str).collect::<Vec<_>>().join("; ")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !matches!(child.try_wait(), Ok(Some(_))) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Ended {
    /// What to tell of it: its last words, or that it had none.
    pub fn told(&self) -> String {
        if self.last_words.is_empty() { "it said nothing".to_string() } else { self.last_words.clone() }
    }
}

/// Reads lines until the end, whatever their length, and keeps the last ones.
fn listen(stderr: impl Read, words: &Mutex<VecDeque<String>>) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(1 << 16).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = tidy(&String::from_utf8_lossy(&line));
        if text.is_empty() || says_nothing(&text) {
            continue;
        }
        let mut words = lock(words);
        if words.back() == Some(&text) {
            continue;
        }
        if words.len() == KEPT_LINES {
            words.pop_front();
        }
        words.push_back(text);
    }
}

/// What is no reason for anything: said of any failure after its reason, of any such source however whole it is, or
/// with advice on options that are ours.
fn says_nothing(line: &str) -> bool {
    const NOTHING: [&str; 8] = [
        "Output file is empty, nothing was encoded",
        "Thread message queue blocking", // the first painting takes longer than the sound
        "Guessed Channel Layout",        // .mov and .avi do not name the loudspeakers
        "Estimating duration from bitrate", // we count the frames
        "deprecated pixel format used",  // full range (yuvj420p), as phones record
        "No accelerated colorspace conversion", // of the processor, not of the file
        "timescale not set",             // a cover's
        "upload a sample of this file",
    ];
    line == "Conversion failed!" || NOTHING.iter().any(|known| line.contains(known))
}

/// `[mov @ 0x55d8]  moov atom not found` as `[mov] moov atom not found`, cut to a bearable length.
fn tidy(line: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    let mut parts = line.split_whitespace().peekable();
    while let Some(part) = parts.next() {
        if part == "@" && parts.peek().is_some_and(|next| next.starts_with("0x")) {
            // The address goes, the bracket after it stays.
            if parts.next().is_some_and(|next| next.ends_with(']')) {
                words.push("]");
            }
            continue;
        }
        words.push(part);
    }
    let mut text: String = words.join(" ").replace(" ]", "]").chars().filter(|c| !c.is_control()).collect();
    if let Some((at, _)) = text.char_indices().find(|(at, _)| *at >= KEPT_BYTES) {
        text.truncate(at);
        text.push('…');
    }
    text
}

/// Processor seconds of all children that have ended.
#[cfg(unix)]
fn children_cpu_seconds() -> Option<f64> {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok()?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Some(seconds(usage.user_time()) + seconds(usage.system_time()))
}

#[cfg(not(unix))]
fn children_cpu_seconds() -> Option<f64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(release("5.1.9-0+deb12u1"), Some((5, 1)));
        assert_eq!(release("n7.1"), Some((7, 1)));
        assert_eq!(release("8"), Some((8, 0)));
        assert_eq!(release("4.4.2-0ubuntu0.22.04.1"), Some((4, 4)));
        for build in ["N-118193-g5f38c8", "2024-05-20-git-127ded5078", "git-2020"] {
            assert_eq!(release(build), None, "{build}");
        }
    }

    #[test]
    fn last_words_are_tidy_and_few() {
        assert_eq!(tidy("[mov,mp4 @ 0x55d8ab]  moov atom not found\r\n"), "[mov,mp4] moov atom not found");
        assert_eq!(tidy("a @ home\x1b"), "a @ home");
        let words = Mutex::new(VecDeque::new());
        let said = format!(
            "one\n{}\n\ntwo\ntwo\nthree\nConversion failed!\nOutput file is empty, nothing was encoded (check -ss)\n\
             [nut @ 0x1] Thread message queue blocking; consider raising the size\nfour\nfive",
            "x".repeat(300_000)
        );
        listen(said.as_bytes(), &words);
        let words: Vec<String> = words.into_inner().unwrap().into();
        assert_eq!(words, ["two", "three", "four", "five"]);
        assert!(tidy(&"é".repeat(5000)).len() <= KEPT_BYTES + 4);
    }
}
