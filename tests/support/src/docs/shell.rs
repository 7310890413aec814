//! A page's command, run in a scratch folder by a rule that says what is changed and how it ends; or looked at, where it
//! is not run.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::repository;

/// How long a command may take; the slowest takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is done with the commands that begin with a text.
pub struct Rule {
    /// The command's beginning; of the rules that fit, the first one counts.
    pub begins: &'static str,
    /// Texts in the command that are replaced, so that it takes seconds and needs no hardware.
    pub replace: &'static [(&'static str, &'static str)],
    /// What is written behind it, likewise.
    pub add: &'static str,
    /// How it ends.
    pub ends: Ends,
}

impl Rule {
    /// A command that is not run, and why.
    pub const fn not_run(begins: &'static str, why: &'static str) -> Self {
        Rule { begins, ends: Ends::NotRun(why), ..AS_IT_STANDS }
    }

    /// A command that ends well with something written behind it.
    pub const fn add(begins: &'static str, add: &'static str) -> Self {
        Rule { begins, add, ..AS_IT_STANDS }
    }

    /// A command that ends well with texts in it replaced.
    pub const fn replace(begins: &'static str, replace: &'static [(&'static str, &'static str)]) -> Self {
        Rule { begins, replace, ..AS_IT_STANDS }
    }
}

/// How a command is expected to end.
pub enum Ends {
    /// Well.
    Well,
    /// After Ctrl-C, pressed when it has printed this.
    Interrupted(&'static str),
    /// With exit code 1 and this in what it prints: what it needs is not on a machine that tests.
    Failing(&'static str),
    /// It is not run; why.
    NotRun(&'static str),
}

/// A command that runs as it stands.
pub const AS_IT_STANDS: Rule = Rule { begins: "", replace: &[], add: "", ends: Ends::Well };

/// Runs one command in a folder, with more variables.
///
/// # Errors
/// What went wrong, with what was run and what it printed.
pub fn run(folder: &Path, command: &str, rule: &Rule, variables: &[(&str, &str)]) -> Result<(), String> {
    let mut text = without_comment(command).to_owned();
    for (from, to) in rule.replace {
        if !text.contains(from) {
            return Err(format!("its rule replaces `{from}`, which is not in it"));
        }
        text = text.replace(from, to);
    }
    if !rule.add.is_empty() {
        text = format!("{text} {}", rule.add);
    }
    make_room(folder, &text);
    let (out, err) = (folder.join(".stdout"), folder.join(".stderr"));
    let create = |path: &Path| fs::File::create(path).map_err(|error| error.to_string());
    let mut child = std::process::Command::new("sh")
        // `exec`, so that the process that Ctrl-C is sent to is the command; `env` takes variables set before it.
        .args(["-c", &format!("exec env {text}")])
        .current_dir(folder)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(create(&out)?)
        .stderr(create(&err)?)
        .spawn()
        .map_err(|error| error.to_string())?;
    let said = || {
        let read = |path: &Path| {
            let mut bytes = Vec::new();
            let _ = fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (out, err) = (read(&out), read(&err));
        format!("{err}{}", out.get(..2000).unwrap_or(&out))
    };
    let fault = |what: &str| format!("{what}\n  ran: {text}\n  {}", said().trim().replace('\n', "\n  "));
    if let Ends::Interrupted(sign) = rule.ends {
        if !until(&mut child, || said().contains(sign)) || !said().contains(sign) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(fault(&format!("it did not print `{sign}`")));
        }
        interrupt(&child);
    }
    let mut code = None;
    if !until(&mut child, || false) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(fault("it did not end"));
    }
    if let Ok(Some(status)) = child.try_wait() {
        code = status.code();
    }
    let fits = match rule.ends {
        Ends::Well | Ends::NotRun(_) => code == Some(0),
        // A job that Ctrl-C cuts off ends with 130, a server that it stops ends well.
        Ends::Interrupted(_) => code == Some(130) || code == Some(0),
        Ends::Failing(sign) => code == Some(1) && said().contains(sign),
    };
    if fits { Ok(()) } else { Err(fault(&format!("exit code {code:?}"))) }
}

/// Waits until the child has ended or `seen`, which is looked at now and then; false when neither came.
fn until(child: &mut Child, seen: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if matches!(child.try_wait(), Ok(Some(_))) || seen() {
            return true;
        }
        if started.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn interrupt(child: &Child) {
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "a signal sent");
}

/// The command without the comment behind it.
pub fn without_comment(command: &str) -> &str {
    command.split("  #").next().unwrap_or(command).split(" # ").next().unwrap_or(command).trim_end()
}

/// Pages show alternatives that write the same file; a reader who tries them all is told that it exists already.
fn make_room(folder: &Path, command: &str) {
    if command.contains("--resume") || command.contains("--overwrite") {
        return;
    }
    let mut words = command.split_whitespace();
    while let Some(word) = words.next() {
        let Some(target) = words.clone().next().filter(|_| matches!(word, "-o" | "--output")) else {
            continue;
        };
        let path = folder.join(target);
        if target.contains("..") || !path.starts_with(folder) {
            continue;
        }
        // A training leaves its checkpoints beside the model.
        for path in [path.with_extension("checkpoints"), path] {
            if path.is_dir() {
                let _ = fs::remove_dir_all(&path);
            } else {
                let _ = fs::remove_file(&path);
            }
        }
    }
}

/// What can be seen of a command that is not run: that its package has the features it names, that its script or
/// example is there.
///
/// # Errors
/// What is missing.
pub fn look_at(command: &str) -> Result<(), String> {
    let words: Vec<&str> = without_comment(command).split_whitespace().collect();
    let behind =
        |flag: &str| words.iter().position(|word| *word == flag).and_then(|at| words.get(at + 1)).copied();
    if words.starts_with(&["cargo", "install"]) && words.len() > 2 {
        let package = behind("--path").ok_or("no --path")?;
        let manifest = repository(package).join("Cargo.toml");
        let manifest =
            fs::read_to_string(&manifest).map_err(|error| format!("{package}/Cargo.toml: {error}"))?;
        for feature in behind("--features").into_iter().flat_map(|features| features.split(',')) {
            if !manifest.lines().any(|line| line.starts_with(&format!("{feature} = ["))) {
                return Err(format!("{package} has no feature `{feature}`"));
            }
        }
    }
    if let Some(example) = behind("--example") {
        let package = behind("-p").ok_or("no -p")?.replace("impasto-", "");
        let folder = repository(&package).join("examples");
        if !folder.join(format!("{example}.rs")).is_file() && !folder.join(example).join("main.rs").is_file()
        {
            return Err(format!("there is no example `{example}`"));
        }
    }
    if let Some(script) = words.first().filter(|word| word.starts_with("scripts/"))
        && !repository(script).is_file()
    {
        return Err(format!("{script} is not there"));
    }
    Ok(())
}

/// A command without the variables set before it.
pub fn without_variables(command: &str) -> &str {
    let mut rest = command;
    while let Some((word, behind)) = rest.split_once(' ') {
        let Some((name, _)) = word.split_once('=') else { break };
        if !name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_') {
            break;
        }
        rest = behind.trim_start();
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_variables_are_told_from_the_command() {
        assert_eq!(without_comment("ls -l  # all"), "ls -l");
        assert_eq!(without_variables("A=1 B_C=x.y ls a=b"), "ls a=b");
    }

    #[test]
    fn what_is_looked_at_must_be_there() {
        assert!(look_at("cargo install --path runtime --features webcam,serve").is_ok());
        assert!(look_at("cargo install --path runtime --features webcam,serv").is_err());
        assert!(look_at("scripts/nothing").is_err());
        assert!(look_at("cargo run --release -p impasto-benches --example smooth").is_ok());
        assert!(look_at("cargo run --release -p impasto-benches --example smoot").is_err());
    }

    /// A runner that takes every ending for the right one would find nothing wrong.
    #[test]
    fn only_the_ending_that_the_rule_says_will_do() {
        let folder = tempfile::tempdir().unwrap();
        let run = |command, rule: &Rule| run(folder.path(), command, rule, &[]);
        let failing = |sign| Rule { ends: Ends::Failing(sign), ..AS_IT_STANDS };
        let until = |sign| Rule { ends: Ends::Interrupted(sign), ..AS_IT_STANDS };
        assert_eq!(run("true", &AS_IT_STANDS), Ok(()));
        assert!(run("false", &AS_IT_STANDS).unwrap_err().contains("ran: false"));
        assert_eq!(run("sh -c 'echo no such file >&2; exit 1'", &failing("no such file")), Ok(()));
        assert!(run("sh -c 'echo no such file >&2; exit 1'", &failing("another reason")).is_err());
        assert!(run("sh -c 'exit 2'", &failing("")).is_err());
        // A shell cannot trap what was ignored when it began, as it is where the tests themselves run in the background.
        let endless =
            "env --default-signal=INT sh -c 'trap \"exit 130\" INT; echo ready; while :; do sleep 0.1; done'";
        assert_eq!(run(endless, &until("ready")), Ok(()));
        assert!(run("echo done", &until("ready")).unwrap_err().contains("it did not print `ready`"));
        assert_eq!(run("echo a", &Rule::replace("echo", &[("a", "b")])), Ok(()));
        assert!(run("echo a", &Rule::replace("echo", &[("z", "b")])).unwrap_err().contains("not in it"));
        assert_eq!(run("test -e", &Rule::add("test", ".")), Ok(()));
        assert!(run("test -e", &Rule::add("test", "nothing")).is_err());
    }
}
