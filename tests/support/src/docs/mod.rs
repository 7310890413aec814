//! README and docs/ as tests see them: `markdown` reads the pages, `shell` runs a command by a rule, `studio` is the
//! folder it runs in; here, all of a program's commands are run.

mod markdown;
mod shell;
mod studio;

use std::path::Path;

use tempfile::TempDir;

pub use markdown::{Block, Command, Link, Page, page, pages};
pub use shell::{AS_IT_STANDS, Ends, Rule, look_at, run, without_comment, without_variables};
pub use studio::studio;

/// The commands of a program on all pages, and how they are run.
pub struct Commands<'a> {
    /// The binary; the others on the PATH come behind its folder.
    pub program: &'a str,
    /// What cannot run as it stands. The first rule that fits a command counts; one that fits none is a fault.
    pub rules: &'a [Rule],
    /// What lies in the folder that a page's commands run in, one after the other: each page has a copy.
    pub studio: &'a TempDir,
}

impl Commands<'_> {
    /// Runs them all. Of each command `ours` gives what is run, or `None` where it is another program's; then, by its
    /// rule, it is run or looked at. `prepare` may change it, or give `None` where this machine or this build has not
    /// what it needs.
    ///
    /// # Panics
    /// When a command does not end as it should, a rule is not used, or fewer than `least` commands were run.
    pub fn check(
        &self,
        least: usize,
        ours: impl Fn(&str) -> Option<String>,
        mut prepare: impl FnMut(String) -> Option<String>,
    ) {
        let (mut faults, mut used, mut ran) = (Vec::new(), vec![false; self.rules.len()], 0);
        let path = path_with(self.program);
        for page in pages() {
            let folder = tempfile::tempdir().expect("a folder");
            copy(self.studio.path(), folder.path());
            let cache = folder.path().join("cache").display().to_string();
            let variables = [("PATH", path.as_str()), ("XDG_CACHE_HOME", &cache), ("NO_COLOR", "1")];
            for command in page.commands() {
                let Some(text) = ours(&command.text) else { continue };
                let bare = without_variables(&text);
                let place = self.rules.iter().position(|rule| bare.starts_with(rule.begins));
                let rule = place.map_or(&AS_IT_STANDS, |place| &self.rules[place]);
                if let Some(place) = place {
                    used[place] = true;
                }
                let done = if let Ends::NotRun(why) = rule.ends {
                    assert!(!why.is_empty(), "`{}`: no reason why it is not run", rule.begins);
                    look_at(bare)
                } else {
                    let Some(text) = prepare(text) else { continue };
                    ran += 1;
                    run(folder.path(), &text, rule, &variables)
                };
                if let Err(fault) = done {
                    faults.push(format!("{}:{}: `{}`: {fault}", page.name, command.line, command.text));
                }
            }
        }
        assert!(ran >= least, "only {ran} commands were run");
        for (rule, used) in self.rules.iter().zip(used) {
            if !used {
                faults.push(format!("RULES: no command begins with `{}`", rule.begins));
            }
        }
        assert!(faults.is_empty(), "{} of {ran} commands:\n\n{}\n", faults.len(), faults.join("\n\n"));
    }
}

/// The PATH with a binary's folder before the others.
///
/// # Panics
/// When it lies in no folder.
pub fn path_with(program: &str) -> String {
    let folder = Path::new(program).parent().expect("a folder");
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default())
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir_all(&target).expect("made");
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}
