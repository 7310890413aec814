//! `impasto man`: the manual, one page a command.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::builder::Resettable;
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use impasto::checkpoints::write_atomically;

use crate::args::Cli;
use crate::files::refuse_existing;
use crate::interrupt;
use crate::say::Say;

#[derive(Args)]
pub struct ManArgs {
    /// Folder for the pages: impasto.1, impasto-stylize.1, …
    #[arg(long, short, value_name = "DIR")]
    pub output: PathBuf,
    /// Replace pages that exist
    #[arg(long)]
    pub overwrite: bool,
}

/// A page: its file's name and its text in roff.
type Page = (String, String);

pub fn run(args: ManArgs, say: Say) -> Result<ExitCode> {
    let pages = pages()?;
    let folder = &args.output;
    fs::create_dir_all(folder).with_context(|| format!("{}: cannot make the folder", folder.display()))?;
    for (name, _) in &pages {
        refuse_existing(&folder.join(name), args.overwrite)?;
    }
    for (name, text) in &pages {
        let path = folder.join(name);
        let _guard = interrupt::writing();
        write_atomically(&path, |out| out.write_all(text.as_bytes()))
            .with_context(|| format!("{}: cannot write", path.display()))?;
    }
    say.note(&format!(
        "{} pages; man -l {} shows the first",
        pages.len(),
        folder.join("impasto.1").display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// The command's own page, then those of the commands below it.
fn pages() -> Result<Vec<Page>> {
    // What this machine is does not belong into a manual: the version stays one line.
    let mut command = Cli::command().disable_help_subcommand(true).long_version(Resettable::Reset);
    command.build();
    let mut pages = Vec::new();
    collect(&command, &mut pages)?;
    Ok(pages)
}

fn collect(command: &Command, pages: &mut Vec<Page>) -> Result<()> {
    let man = Man::new(command.clone()).source(concat!("impasto ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    man.render(&mut text).context("cannot render the manual")?;
    pages.push((man.get_filename(), in_ascii(&String::from_utf8(text)?)));
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        collect(below, pages)?;
    }
    Ok(())
}

/// Letters beyond ASCII as roff names them, since not every reader of manuals takes UTF-8; an ellipsis has no name that
/// plain terminals know.
fn in_ascii(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '…' => escaped.push_str("..."),
            letter if letter.is_ascii() => escaped.push(letter),
            letter => escaped.push_str(&format!("\\[u{:04X}]", u32::from(letter))),
        }
    }
    escaped
}
