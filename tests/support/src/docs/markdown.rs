//! A page of Markdown, taken apart: fenced blocks, commands, links, anchors, each with its line.

use std::fs;

use crate::repository;

/// A page of Markdown.
pub struct Page {
    /// Its path below the repository: `docs/serve.md`.
    pub name: String,
    /// All of it.
    pub text: String,
}

/// A fenced block: what stands between two lines of three backticks.
pub struct Block {
    /// The word behind the opening fence.
    pub language: String,
    /// Number of its first line.
    pub line: usize,
    /// Its lines, each with its end.
    pub text: String,
}

/// A command of an `sh` block, lines that end in a backslash joined.
pub struct Command {
    /// Number of its first line.
    pub line: usize,
    /// All of it, on one line.
    pub text: String,
}

/// A link or a picture: where it points.
pub struct Link {
    /// Number of its line.
    pub line: usize,
    /// What stands in its parentheses.
    pub target: String,
}

/// README and everything in docs/: the pages whose commands and snippets run.
///
/// # Panics
/// When they cannot be read: a broken checkout.
pub fn pages() -> Vec<Page> {
    let mut names = vec!["README.md".to_owned()];
    for entry in fs::read_dir(repository("docs")).expect("docs/").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") {
            names.push(format!("docs/{name}"));
        }
    }
    names[1..].sort();
    names.iter().map(|name| page(name)).collect()
}

/// One page, by its path below the repository.
///
/// # Panics
/// When it cannot be read.
pub fn page(name: &str) -> Page {
    let text = fs::read_to_string(repository(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    Page { name: name.to_owned(), text }
}

impl Page {
    /// Its fenced blocks, in order.
    ///
    /// # Panics
    /// When one is not closed.
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
    ///
    /// # Panics
    /// As [`Page::blocks`].
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

    /// What stands in the text as `code`, with the number of its line.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that sees less than a person would find nothing wrong anywhere.
    #[test]
    fn pages_are_read_as_they_are_meant() {
        let text = "# A `b` (c)\n## A b c\n[one](x.md#y) and ![two](z.png) `[no](t)`\n```sh\n# a comment\nls \\\n  -l  # all\n\
                    impasto a | b\n```\n```rust\nlet x = 1;\n```\n";
        let page = Page { name: "a.md".to_owned(), text: text.to_owned() };
        let commands: Vec<_> =
            page.commands().into_iter().map(|command| (command.line, command.text)).collect();
        assert_eq!(commands, [(6, "ls -l  # all".to_owned()), (8, "impasto a | b".to_owned())]);
        let links: Vec<_> = page.links().into_iter().map(|link| (link.line, link.target)).collect();
        assert_eq!(links, [(3, "x.md#y".to_owned()), (3, "z.png".to_owned())]);
        assert_eq!(page.code(), [(1, "b".to_owned()), (3, "[no](t)".to_owned())]);
        assert_eq!(page.anchors(), ["a-b-c", "a-b-c-1"]);
        assert_eq!(page.blocks()[1].language, "rust");
    }
}
