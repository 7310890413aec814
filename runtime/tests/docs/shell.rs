//! Runs the commands of the pages in a scratch folder, by a table of rules for those that cannot run as they stand.

#![allow(dead_code)] // of the two tests that share this, each uses a part

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::markdown::{Command, Page};

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
    pub ends: Ends,
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

/// The rule of a command, and its place in the table.
pub fn rule<'a>(rules: &'a [Rule], command: &str) -> Option<(usize, &'a Rule)> {
    rules.iter().enumerate().find(|(_, rule)| command.starts_with(rule.begins))
}

/// Runs one command in a folder, with more variables; says what went wrong, if it did.
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

/// A fault with its place.
pub fn at(page: &Page, command: &Command, fault: &str) -> String {
    format!("{}:{}: `{}`: {fault}", page.name, command.line, command.text)
}
