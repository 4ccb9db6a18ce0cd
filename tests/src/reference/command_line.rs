//! Every command with its help, as the programs print it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use crate::program::{clean, mote, run};

/// The programs; one more is one more line.
const PROGRAMS: &[&str] = &["mote", "mote-bench"];

/// What all of them keep to.
const HABITS: &str = "\
Data goes to standard output, all else to standard error; every command that reads takes `--json`.
[Exit codes](errors.md) tell kinds of failures apart.
`NO_COLOR` turns colours off.
";

pub(super) fn body() -> String {
    let mut text = HABITS.to_owned();
    for program in PROGRAMS {
        command(&mut text, program, &[]);
    }
    text
}

/// Writes the help of a command and of those below it.
fn command(text: &mut String, program: &str, words: &[&str]) {
    let help = help(program, words);
    let name = [&[program], words].concat().join(" ");
    let level = "#".repeat(2 + usize::from(!words.is_empty()));
    write!(text, "\n{level} {name}\n\n").unwrap();
    let usage = help.lines().find_map(|line| line.strip_prefix("Usage: "));
    let usage = usage.unwrap_or_else(|| panic!("`{name} --help` has no usage: {help}"));
    if !usage.starts_with(&name) {
        // It becomes another program.
        let other = usage.split(' ').next().unwrap_or_default();
        writeln!(text, "`{name}` is the program [`{other}`](#{other}).").unwrap();
        return;
    }
    write!(text, "```text\n{}\n```\n", help.trim_end()).unwrap();
    for below in commands_of(&help) {
        command(text, program, &[words, &[below.as_str()]].concat());
    }
}

/// The names below `Commands:`, but for `help`, which says the same again.
fn commands_of(help: &str) -> Vec<String> {
    let after = help
        .split_once("\nCommands:\n")
        .map_or("", |(_, rest)| rest);
    let lines = after.lines().take_while(|line| !line.is_empty());
    // The rest of a long description stands further to the right.
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names = names.filter(|name| !name.is_empty() && *name != "help");
    names.map(str::to_owned).collect()
}

fn help(program: &str, words: &[&str]) -> String {
    let mut command = Command::new(built(program));
    clean(&mut command);
    command.args(words).arg("--help");
    run(command, &[]).ok()
}

fn built(program: &str) -> PathBuf {
    match program {
        "mote" => mote(),
        other => mote().with_file_name(other),
    }
}

#[cfg(test)]
mod tests {
    use super::commands_of;

    #[test]
    fn commands_are_found_in_a_help() {
        let help = "About\n\nUsage: x <COMMAND>\n\nCommands:\n  run   Run\n  link  Run a command\n        and more\n  help  Help\n\nOptions:\n  -h\n";
        assert_eq!(commands_of(help), ["run", "link"]);
        assert!(commands_of("Usage: x\n").is_empty());
    }
}
