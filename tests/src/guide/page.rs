//! A page of the guide: its blocks of commands, and what its comments say about them.
//!
//! A ` ```console ` block has commands behind `$ ` (and `> ` where one goes on), each with the
//! lines that it says; a ` ```sh ` block is a script. Comments, which a reader does not see, stand
//! in the lines above a block:
//!
//! | comment | meaning |
//! | --- | --- |
//! | `<!-- not run: why -->` | it cannot be run in a test |
//! | `<!-- needs: go, zig -->` | it is run where these programs are installed |
//! | `<!-- file: greet/handler.py -->` | the block is the text of this file |
//! | `<!-- another terminal -->` | it goes on while the rest of the page is run |
//! | `<!-- the other terminal shows -->` | what that has said next |
//! | `<!-- network -->` | it needs the system's network, and not the node |
//!
//! Two stand anywhere: `<!-- node -->`, a node runs from the beginning; `<!-- clone -->`, the
//! reader is in a clone of the repository that was built.

/// A page.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its path in the repository.
    pub name: String,
    /// Whether a node runs from the beginning.
    pub node: bool,
    /// Whether it is read in a clone of the repository.
    pub clone: bool,
    /// Its blocks that mean something to a test, in order.
    pub blocks: Vec<Block>,
    /// Its manifests, which every reader may copy: line and text.
    pub manifests: Vec<(usize, String)>,
}

/// One fenced block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The line of its fence.
    pub line: usize,
    /// What is in it.
    pub content: Content,
    /// How it is run.
    pub how: How,
    /// Programs without which it is not run.
    pub needs: Vec<String>,
}

/// What is in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A script.
    Script(String),
    /// Commands with what they say.
    Commands(Vec<Command>),
    /// The text of a file.
    File(String, String),
    /// What another terminal shows.
    Output(Vec<String>),
}

/// One command of a console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its line.
    pub line: usize,
    /// What is typed.
    pub text: String,
    /// What is shown; nothing when the page says nothing about it.
    pub shown: Vec<String>,
}

/// How a block is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// In the page's shell.
    Here,
    /// In another one, while this one goes on.
    AnotherTerminal,
    /// With the system's network.
    Network,
    /// Not at all, for this reason.
    NotRun(String),
}

impl Block {
    /// The line and the reason, when it is not run here.
    pub fn reason_not_to_run(&self) -> Option<(usize, String)> {
        if let How::NotRun(why) = &self.how {
            return Some((self.line, why.clone()));
        }
        let missing = self.needs.iter().find(|program| !installed(program))?;
        Some((self.line, format!("{missing} is not installed")))
    }
}

impl Command {
    /// Whether it is left running.
    pub fn goes_on(&self) -> bool {
        self.text.ends_with('&') && !self.text.ends_with("&&")
    }

    /// Whether the page shows that it fails.
    pub fn fails(&self) -> bool {
        self.shown
            .first()
            .is_some_and(|line| line.starts_with("error: "))
    }
}

impl Page {
    /// Reads a page. What a test could misunderstand is an error that names its line.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut page = Self {
            name: name.to_owned(),
            node: false,
            clone: false,
            blocks: Vec::new(),
            manifests: Vec::new(),
        };
        let mut above: Vec<String> = Vec::new();
        let mut lines = text.lines().zip(1..);
        while let Some((line, number)) = lines.next() {
            let line = line.trim();
            if let Some(comment) = comment(line) {
                match comment {
                    "node" => page.node = true,
                    "clone" => page.clone = true,
                    _ => above.push(comment.to_owned()),
                }
                continue;
            }
            let Some(kind) = line.strip_prefix("```") else {
                if !line.is_empty() {
                    above.clear();
                }
                continue;
            };
            let inside: Vec<&str> = lines
                .by_ref()
                .map(|(line, _)| line)
                .take_while(|line| line.trim() != "```")
                .collect();
            let comments = std::mem::take(&mut above);
            page.block(number, kind, &inside, &comments)
                .map_err(|wrong| format!("{name}:{number}: {wrong}"))?;
        }
        Ok(page)
    }

    fn block(
        &mut self,
        line: usize,
        kind: &str,
        inside: &[&str],
        comments: &[String],
    ) -> Result<(), String> {
        let text = inside.join("\n");
        if kind == "toml" && text.lines().any(|line| line.starts_with("[function.")) {
            self.manifests.push((line, text.clone()));
        }
        let mut how = How::Here;
        let mut needs = Vec::new();
        let mut content = match kind {
            "sh" => Some(Content::Script(text.clone())),
            "console" => Some(Content::Commands(commands(line, inside)?)),
            "bash" | "shell" | "zsh" | "shell-session" => {
                return Err(format!("`{kind}` is not run; write `sh` or `console`"));
            }
            _ if inside.first().is_some_and(|line| line.starts_with("$ ")) => {
                return Err("a block of commands is marked `console`".to_owned());
            }
            _ => None,
        };
        for comment in comments {
            let (word, rest) = comment.split_once(':').unwrap_or((comment, ""));
            let rest = rest.trim();
            match word {
                "not run" if !rest.is_empty() => how = How::NotRun(rest.to_owned()),
                "needs" if !rest.is_empty() => {
                    needs.extend(rest.split(',').map(|one| one.trim().to_owned()));
                }
                "file" if !rest.is_empty() => {
                    content = Some(Content::File(rest.to_owned(), format!("{text}\n")));
                }
                "another terminal" => how = How::AnotherTerminal,
                "the other terminal shows" => {
                    content = Some(Content::Output(
                        inside.iter().map(|line| (*line).to_owned()).collect(),
                    ));
                }
                "network" => how = How::Network,
                _ => return Err(format!("`{comment}` above it means nothing")),
            }
        }
        let Some(content) = content else {
            return if comments.is_empty() {
                Ok(())
            } else {
                Err(format!("a `{kind}` block is not run"))
            };
        };
        check(&content, &how)?;
        self.blocks.push(Block {
            line,
            content,
            how,
            needs,
        });
        Ok(())
    }
}

/// What would make a test guess.
fn check(content: &Content, how: &How) -> Result<(), String> {
    match content {
        Content::Script(text) if text.lines().any(|line| line.trim_end().ends_with(" &")) => Err(
            "a command that goes on belongs into a `console` block that shows what it says"
                .to_owned(),
        ),
        Content::Script(_) if *how == How::AnotherTerminal => Err(
            "what another terminal runs is a `console` block that shows what it says".to_owned(),
        ),
        Content::Commands(commands) => {
            let shows = commands.iter().any(|one| !one.shown.is_empty());
            if *how == How::AnotherTerminal && !shows {
                return Err("what another terminal runs says nothing here: show a line".to_owned());
            }
            let silent = |one: &&Command| one.goes_on() && one.shown.is_empty();
            match commands.iter().find(silent) {
                Some(one) if !matches!(how, How::NotRun(_)) => Err(format!(
                    "`{}` goes on, and nothing shows when it is ready: show a line that it says",
                    one.text
                )),
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Commands with what follows them.
fn commands(line: usize, inside: &[&str]) -> Result<Vec<Command>, String> {
    let mut found: Vec<Command> = Vec::new();
    for (text, line) in inside.iter().zip(line + 1..) {
        if let Some(text) = text.strip_prefix("$ ") {
            found.push(Command {
                line,
                text: text.to_owned(),
                shown: Vec::new(),
            });
            continue;
        }
        let Some(last) = found.last_mut() else {
            return Err("a console begins with a command behind `$ `".to_owned());
        };
        match text.strip_prefix("> ") {
            Some(more) if last.shown.is_empty() => {
                last.text.push('\n');
                last.text.push_str(more);
            }
            _ => last.shown.push((*text).to_owned()),
        }
    }
    Ok(found)
}

fn comment(line: &str) -> Option<&str> {
    let inside = line.strip_prefix("<!--")?.strip_suffix("-->")?;
    Some(inside.trim())
}

/// Whether there is such a program in `PATH`.
fn installed(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}
