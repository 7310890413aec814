//! Runs a command on a case in a folder of its own, within a limit of time, and checks what must hold for every case.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{scope, sleep, spawn};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The longest that a case may take; those that hang are found by it. Each takes well under a second on a machine
/// with nothing else to do.
const LIMIT: Duration = Duration::from_secs(60);
/// Cases at a time.
const THREADS: usize = 4;

/// What a case came to: nothing, or what is wrong with it.
pub type Verdict = Result<(), String>;

/// A folder for one case. Scratch and temporary files go below it too, so that none can be left unseen.
pub struct Scene {
    folder: TempDir,
}

/// What lies in a folder: the bytes of the files, nothing for folders, pipes and links that lead nowhere.
pub type State = BTreeMap<PathBuf, Option<Vec<u8>>>;

impl Scene {
    /// A folder with a style model `style.safetensors` in it.
    pub fn new() -> Self {
        let scene = Scene { folder: tempfile::tempdir().expect("a temporary folder") };
        fs::create_dir(scene.path("scratch")).expect("made");
        super::support::small_model().save(scene.path("style.safetensors")).expect("the model saved");
        scene
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `impasto` in this folder.
    pub fn impasto(&self) -> Command {
        self.program(env!("CARGO_BIN_EXE_impasto"))
    }

    /// A program in this folder.
    pub fn program(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        let scratch = self.path("scratch");
        command.current_dir(self.folder.path()).env("TMPDIR", &scratch).env("IMPASTO_SCRATCH", &scratch);
        command.env("XDG_CACHE_HOME", &scratch);
        command
    }

    /// Everything below the folder.
    pub fn state(&self) -> State {
        fn below(folder: &Path, root: &Path, state: &mut State) {
            for entry in fs::read_dir(folder).expect("a folder").flatten() {
                let path = entry.path();
                let kind = entry.file_type().expect("a kind");
                let bytes = if kind.is_file() { fs::read(&path).ok() } else { None };
                state.insert(path.strip_prefix(root).expect("below").to_path_buf(), bytes);
                if kind.is_dir() {
                    below(&path, root, state);
                }
            }
        }
        let mut state = State::new();
        below(self.folder.path(), self.folder.path(), &mut state);
        state
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

/// Runs a command to its end. One that takes longer than [`LIMIT`] is killed with all that it started, and is an error.
pub fn run(mut command: Command) -> Result<Ended, String> {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("not started: {error}"))?;
    let (stdout, stderr) = (child.stdout.take().map(drain), child.stderr.take().map(drain));
    let begun = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if begun.elapsed() > LIMIT => {
                let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status();
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("not done after {} s: killed", LIMIT.as_secs()));
            }
            None => sleep(Duration::from_millis(3)),
        }
    };
    let told = |thread: Option<std::thread::JoinHandle<Vec<u8>>>| {
        thread.and_then(|thread| thread.join().ok()).unwrap_or_default()
    };
    let stderr = String::from_utf8(told(stderr)).map_err(|_| "stderr is not UTF-8".to_string())?;
    if stderr.contains("panicked") || stderr.contains("RUST_BACKTRACE") {
        return Err(format!("panicked: {stderr}"));
    }
    if let Some(odd) = stderr.chars().find(|c| c.is_control() && *c != '\n') {
        return Err(format!("the control character {odd:?} on stderr: {stderr:?}"));
    }
    Ok(Ended { code: status.code(), stdout: told(stdout), stderr })
}

fn drain(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// Whether a command succeeded.
pub fn succeeded(ended: &Ended) -> Verdict {
    if ended.code == Some(0) { Ok(()) } else { Err(format!("exit code {:?}: {}", ended.code, ended.stderr)) }
}

/// Whether a command failed as it must: exit code 1, nothing on stdout, one line with all of `parts` on stderr, and
/// everything in the folder as it was before.
pub fn refused(scene: &Scene, command: Command, parts: &[&str]) -> Verdict {
    let before = scene.state();
    let ended = run(command)?;
    let line = ended.stderr.trim_end_matches('\n');
    if ended.code != Some(1) {
        return Err(format!("exit code {:?}, expected 1: {}", ended.code, ended.stderr));
    }
    if !ended.stdout.is_empty() {
        return Err(format!("{} bytes on stdout, expected none: {line}", ended.stdout.len()));
    }
    if line.contains('\n') || !line.starts_with("impasto: ") || !ended.stderr.ends_with('\n') {
        return Err(format!("expected one line `impasto: …`: {:?}", ended.stderr));
    }
    says(line, parts)?;
    unchanged(&before, &scene.state(), &[])
}

/// Whether a line says all of `parts`.
pub fn says(line: &str, parts: &[&str]) -> Verdict {
    match parts.iter().find(|part| !line.contains(**part)) {
        Some(part) => Err(format!("expected `{part}` in: {line}")),
        None => Ok(()),
    }
}

/// Whether a folder is as it was, but for `fresh`, which must be there now and was not before; `out/…` is a folder with
/// whatever is in it.
pub fn unchanged(before: &State, after: &State, fresh: &[&str]) -> Verdict {
    let mut after = after.clone();
    for name in fresh {
        let folder = name.strip_suffix("/…");
        if let Some(folder) = folder {
            after.retain(|path, _| !path.starts_with(folder) || path == Path::new(folder));
        }
        let name = folder.unwrap_or(name);
        if before.contains_key(Path::new(name)) || after.remove(Path::new(name)).is_none() {
            return Err(format!("expected a new file `{name}`"));
        }
    }
    if let Some(name) = before.keys().find(|name| before.get(*name) != after.get(*name)) {
        return Err(format!("{} is not what it was", name.display()));
    }
    match after.keys().find(|name| !before.contains_key(*name)) {
        Some(name) => Err(format!("{} is left", name.display())),
        None => Ok(()),
    }
}

/// A file opened to be a command's standard input.
pub fn input(path: &Path) -> Result<Stdio, String> {
    File::open(path).map(Stdio::from).map_err(|error| format!("{}: {error}", path.display()))
}

/// Checks every row, some at a time, and fails with all that is wrong. A check gives a verdict for each thing it tried,
/// with its name.
pub fn check_all<Row: Sync>(rows: &[Row], check: impl Fn(&Row) -> Vec<(String, Verdict)> + Sync) {
    let (next, checked) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let wrong = Mutex::new(Vec::new());
    scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for (name, verdict) in check(row) {
                        checked.fetch_add(1, Ordering::Relaxed);
                        if let Err(reason) = verdict {
                            wrong.lock().expect("a list").push(format!("{name}: {reason}"));
                        }
                    }
                }
            });
        }
    });
    let (wrong, checked) = (wrong.into_inner().expect("a list"), checked.into_inner());
    assert!(wrong.is_empty(), "{} of {checked} wrong:\n{}", wrong.len(), wrong.join("\n"));
    println!("{} rows, {checked} runs", rows.len());
}
