//! README, docs/ and CONTRIBUTING as a test sees them: fenced blocks, commands, links, anchors, each with its line.

#![allow(dead_code)] // of the two tests that share this, each uses a part

use std::fs;
use std::path::{Path, PathBuf};

/// A page of Markdown.
pub struct Page {
    /// Its path below the repository: `docs/serve.md`.
    pub name: String,
    pub text: String,
}

/// A fenced block: what stands between two lines of three backticks.
pub struct Block {
    /// The word behind the opening fence.
    pub language: String,
    /// Number of its first line.
    pub line: usize,
    pub text: String,
}

/// A command of an `sh` block, lines that end in a backslash joined.
pub struct Command {
    pub line: usize,
    pub text: String,
}

/// A link or a picture: where it points.
pub struct Link {
    pub line: usize,
    pub target: String,
}

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// README and everything in docs/: the pages whose commands and snippets run.
pub fn pages() -> Vec<Page> {
    let mut names = vec!["README.md".to_owned()];
    for entry in fs::read_dir(repository().join("docs")).expect("docs/").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") {
            names.push(format!("docs/{name}"));
        }
    }
    names[1..].sort();
    names.iter().map(|name| page(name)).collect()
}

/// One page.
pub fn page(name: &str) -> Page {
    let text = fs::read_to_string(repository().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    Page { name: name.to_owned(), text }
}

impl Page {
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        for (number, line) in self.text.lines().enumerate() {
            match (line.trim_start().strip_prefix("```"), open.take()) {
                (Some(language), None) => {
                    let language = language.trim().to_owned();
                    open = Some(Block { language, line: number + 2, text: String::new() });
                }
                (Some(_), Some(block)) => blocks.push(block),
                (None, Some(mut block)) => {
                    block.text += line;
                    block.text.push('\n');
                    open = Some(block);
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a fenced block is not closed", self.name);
        blocks
    }

    /// The commands of all `sh` blocks, in order.
    pub fn commands(&self) -> Vec<Command> {
        let mut commands: Vec<Command> = Vec::new();
        for block in self.blocks().iter().filter(|block| block.language == "sh") {
            let mut goes_on = false;
            for (number, line) in block.text.lines().enumerate() {
                let text = line.trim();
                match commands.last_mut() {
                    Some(last) if goes_on => last.text = format!("{} {text}", last.text),
                    _ if text.is_empty() || text.starts_with('#') => continue,
                    _ => commands.push(Command { line: block.line + number, text: text.to_owned() }),
                }
                let last = commands.last_mut().expect("one is there");
                goes_on = last.text.ends_with('\\');
                last.text = last.text.trim_end_matches('\\').trim_end().to_owned();
            }
        }
        commands
    }

    /// Lines outside of fenced blocks, numbered from 1, `code` in them left out.
    fn prose(&self) -> Vec<(usize, String)> {
        let mut fenced = false;
        let mut lines = Vec::new();
        for (number, line) in self.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            } else if !fenced {
                let plain: Vec<&str> = line.split('`').step_by(2).collect();
                lines.push((number + 1, plain.concat()));
            }
        }
        lines
    }

    /// What stands in the text as `code`.
    pub fn code(&self) -> Vec<(usize, String)> {
        let mut spans = Vec::new();
        let mut fenced = false;
        for (number, line) in self.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            } else if !fenced {
                spans.extend(line.split('`').skip(1).step_by(2).map(|code| (number + 1, code.to_owned())));
            }
        }
        spans
    }

    /// Links and pictures.
    pub fn links(&self) -> Vec<Link> {
        let mut links = Vec::new();
        for (line, text) in self.prose() {
            for part in text.split("](").skip(1) {
                let target = part.split(')').next().unwrap_or_default();
                links.push(Link { line, target: target.to_owned() });
            }
        }
        links
    }

    /// What a link may name behind `#`: its headings as GitHub turns them into anchors.
    pub fn anchors(&self) -> Vec<String> {
        let mut fenced = false;
        let mut anchors: Vec<String> = Vec::new();
        for line in self.text.lines() {
            fenced ^= line.starts_with("```");
            if fenced || !line.starts_with('#') {
                continue;
            }
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            let anchor = kept.collect::<String>().replace(' ', "-");
            let before = anchors.iter().filter(|known| **known == anchor).count();
            anchors.push(if before == 0 { anchor } else { format!("{anchor}-{before}") });
        }
        anchors
    }
}
