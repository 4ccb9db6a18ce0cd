//! The guide as a reader follows it: every block of commands of a page is run, in the order of the
//! page, and what the page shows is compared with what was said.
//!
//! A page runs in a folder and a network of its own, so `mote up` has its usual ports, and nothing
//! that a page says is rewritten. How a page is written is told in CONTRIBUTING.md and
//! [`page`]; `MOTE_GUIDE=start` runs the pages whose path contains that.

pub mod page;

pub mod shown;

pub mod session;

use std::path::PathBuf;

use crate::program::repository;
use page::{Block, Content, How, Page};
use session::{End, Ended, Session};

/// What became of a page.
#[derive(Debug)]
pub struct Report {
    /// The page, by its path in the repository.
    pub page: String,
    /// Blocks that were run, and did what the page says.
    pub run: usize,
    /// Lines of blocks that were not run, with the reason.
    pub not_run: Vec<(usize, String)>,
    /// What went wrong; the rest of the page was not run then.
    pub failure: Option<String>,
}

/// Every page with commands that people are to type, in reading order.
pub fn pages() -> Vec<Page> {
    let root = repository();
    let mut paths = vec![PathBuf::from("README.md")];
    for (folder, below) in [("docs/guide", false), ("examples", true)] {
        let entries = std::fs::read_dir(root.join(folder)).unwrap();
        let mut found: Vec<PathBuf> = entries
            .map(|entry| PathBuf::from(folder).join(entry.unwrap().file_name()))
            .map(|path| if below { path.join("README.md") } else { path })
            .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
            .filter(|path| root.join(path).is_file())
            .collect();
        found.sort();
        paths.extend(found);
    }
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(root.join(path)).unwrap();
        Page::parse(&path.to_string_lossy(), &text).unwrap_or_else(|wrong| panic!("{wrong}"))
    };
    paths.iter().map(read).collect()
}

/// Runs a page from its first block to its last, or to the first that does not do what it says.
pub fn run(page: &Page) -> Report {
    let mut report = Report {
        page: page.name.clone(),
        run: 0,
        not_run: Vec::new(),
        failure: None,
    };
    if let Err(failure) = blocks(page, &mut report) {
        report.failure = Some(failure);
    }
    report
}

fn blocks(page: &Page, report: &mut Report) -> Result<(), String> {
    if page
        .blocks
        .iter()
        .all(|block| matches!(block.how, How::NotRun(_)))
    {
        let reasons = page.blocks.iter().filter_map(Block::reason_not_to_run);
        report.not_run.extend(reasons);
        return Ok(());
    }
    let mut session = Session::start(page.clone)?;
    if page.node {
        let shown = ["token …".to_owned()];
        let at = format!("{}: the node of the page", page.name);
        session.elsewhere("mote up", &shown, &at)?;
    }
    for block in &page.blocks {
        if let Some(reason) = block.reason_not_to_run() {
            report.not_run.push(reason);
            continue;
        }
        one(page, block, &mut session)?;
        report.run += 1;
    }
    Ok(())
}

fn one(page: &Page, block: &Block, session: &mut Session) -> Result<(), String> {
    let at = |line: usize| format!("{}:{line}", page.name);
    match (&block.content, &block.how) {
        (Content::File(path, text), _) => session.write(path, text),
        (Content::Output(shown), _) => session.other_shows(shown, &at(block.line)),
        (Content::Script(text), How::Network) => {
            let ended = session.with_network(text);
            succeeded(&ended, text, &at(block.line))
        }
        (Content::Script(text), _) => {
            let ended = session.script(text);
            succeeded(&ended, text, &at(block.line))
        }
        (Content::Commands(commands), How::AnotherTerminal) => {
            let texts: Vec<&str> = commands.iter().map(|one| one.text.as_str()).collect();
            let shown: Vec<String> = commands.iter().flat_map(|one| one.shown.clone()).collect();
            session.elsewhere(&texts.join("\n"), &shown, &at(block.line))
        }
        (Content::Commands(commands), how) => {
            for command in commands {
                let at = at(command.line);
                if command.goes_on() {
                    session.background(&command.text, &command.shown, &at)?;
                    continue;
                }
                let ended = match how {
                    How::Network => session.with_network(&command.text),
                    _ => session.command(&command.text),
                };
                if command.fails() {
                    failed(&ended, &command.text, &at)?;
                } else {
                    succeeded(&ended, &command.text, &at)?;
                }
                shown::compare(&command.shown, &ended.output)
                    .map_err(|wrong| format!("{at}: $ {}\n{wrong}", command.text))?;
            }
            Ok(())
        }
    }
}

fn succeeded(ended: &Ended, text: &str, at: &str) -> Result<(), String> {
    let how = match ended.end {
        End::Status(0) => return Ok(()),
        End::Status(status) => format!("ended with status {status}"),
        End::Shell => "failed and ended the shell".to_owned(),
        End::Late => format!("did not end within {:?}", session::PATIENCE),
    };
    Err(format!("{at}: $ {text}\n{how} and said\n{}", ended.output))
}

fn failed(ended: &Ended, text: &str, at: &str) -> Result<(), String> {
    match ended.end {
        End::Status(0) => Err(format!(
            "{at}: $ {text}\nthe page shows an error, and it succeeded and said\n{}",
            ended.output
        )),
        End::Status(_) => Ok(()),
        End::Shell | End::Late => succeeded(ended, text, at),
    }
}
