//! `impasto completions`: a script that completes commands, options and the shipped styles' names in a shell.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use clap::{Args, Command, CommandFactory};
use clap_complete::{Generator, Shell};
use impasto::checkpoints::shipped;

use crate::args::Cli;
use crate::say::print;

/// Where a shell looks for the script, for those who ask for help.
const AFTER_HELP: &str = "Examples:
  impasto completions bash > ~/.local/share/bash-completion/completions/impasto
  impasto completions zsh > ~/.zfunc/_impasto            (a folder of your $fpath)
  impasto completions fish > ~/.config/fish/completions/impasto.fish";

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct CompletionsArgs {
    /// Whose script
    pub shell: Shell,
}

pub fn run(args: CompletionsArgs) -> Result<ExitCode> {
    let mut command = with_style_names(Cli::command());
    command.set_bin_name("impasto");
    command.build();
    let mut script = Vec::new();
    args.shell.try_generate(&command, &mut script).context("cannot write the script")?;
    print(String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Tells clap what `--style NAME` can be. The commands themselves leave that to the engine, whose error says more.
fn with_style_names(command: Command) -> Command {
    let takes_name = command.get_arguments().any(|argument| {
        argument.get_id() == "style" && argument.get_value_names().is_some_and(|names| names == ["NAME"])
    });
    let command = if takes_name {
        command
            .mut_arg("style", |argument| argument.value_parser(PossibleValuesParser::new(shipped::names())))
    } else {
        command
    };
    command.mut_subcommands(with_style_names)
}
