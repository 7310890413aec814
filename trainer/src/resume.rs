//! The command that goes on with a run, as a person types it.

use std::path::Path;

use crate::config::TrainConfig;

/// `impasto-train -o my.safetensors --resume`, with the folder of the checkpoints where that is not beside the output;
/// the other settings come from the checkpoint.
pub fn resume_command(config: &TrainConfig) -> String {
    let mut command = format!("impasto-train -o {}", quoted(&config.output));
    if let Some(folder) = &config.checkpoint_dir {
        command.push_str(&format!(" --checkpoint-dir {}", quoted(folder)));
    }
    command + " --resume"
}

/// A path as a shell reads it back.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/\\._-+=:,@%".contains(c);
    // A backslash is Windows's separator, and elsewhere a shell's own sign.
    if !text.is_empty() && text.chars().all(plain) && (cfg!(windows) || !text.contains('\\')) {
        text
    } else if cfg!(windows) {
        format!("\"{text}\"") // no name can have such a quote in it there
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets::Preset;

    #[test]
    fn it_says_where_the_checkpoints_are_if_they_are_elsewhere() {
        let mut config = Preset::Cpu.config();
        config.output = "out/a.safetensors".into();
        assert_eq!(resume_command(&config), "impasto-train -o out/a.safetensors --resume");
        config.checkpoint_dir = Some("/mnt/big/a".into());
        let expected = "impasto-train -o out/a.safetensors --checkpoint-dir /mnt/big/a --resume";
        assert_eq!(resume_command(&config), expected);
    }

    #[cfg(unix)]
    #[test]
    fn a_shell_reads_the_paths_back() {
        for name in
            ["my style.safetensors", "it's.safetensors", "$HOME;.safetensors", "a\\b", "夜.safetensors"]
        {
            let command = format!("printf %s {}", quoted(Path::new(name)));
            let output = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), name);
        }
    }
}
