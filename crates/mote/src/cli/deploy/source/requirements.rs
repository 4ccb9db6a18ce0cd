//! The list that pip is given: what a `requirements.txt` says, in words that cannot run code.
//!
//! `--only-binary :all:` holds for packages of an index alone: of a folder, an archive or a repository
//! pip runs the build, whatever it was told, and a line may take the option back. So a line is a
//! package by name, or an option that is known to be harmless, and pip reads the list that was checked,
//! written anew: quotes, comments, continued lines and encodings mean nothing else to it than to us.

use std::fs;
use std::path::Path;

use mote_core::error::{Error, ErrorKind};

/// Largest list.
const BYTES_MAX: u64 = 1 << 20;

/// Options that do not have pip run code of a package.
const OPTIONS: &[&str] = &[
    "-i",
    "--index-url",
    "--extra-index-url",
    "--no-index",
    "-f",
    "--find-links",
    "--pre",
    "--prefer-binary",
    "--require-hashes",
    "--trusted-host",
    "--hash",
];

/// Ends of names that pip takes for a file.
const ARCHIVES: &[&str] = &[
    ".whl", ".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz", ".xz", ".txz", ".lz", ".tlz", ".lzma",
];

/// What separates a name, its extras and its versions.
const MARKS: &str = "._-[],<>=!~*+() ";

/// Reads the list in a file and returns the one for pip. Fails with the line that could have code run.
pub(super) fn checked(path: &Path) -> Result<String, Error> {
    let unreadable = |why: String| {
        let message = format!("cannot read {}: {why}", path.display());
        Error::new(ErrorKind::BadRequest, message)
            .with_hint("write one package on each line, as UTF-8")
    };
    let about = fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
    if about.len() > BYTES_MAX {
        return Err(unreadable(format!("it is larger than {BYTES_MAX} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    let mut list = String::new();
    for (number, line) in logical_lines(text.trim_start_matches('\u{feff}')) {
        if !is_harmless(&line) {
            let shown: String = line.chars().take(80).collect();
            let message = format!(
                "requirements.txt, line {number}: `{}` is not a package by its name",
                shown.escape_debug()
            );
            return Err(Error::new(ErrorKind::BadRequest, message).with_hint(
                "install what has to be built into `packages/` yourself, or name a folder of wheels with --find-links, and deploy again",
            ));
        }
        list.push_str(&line);
        list.push('\n');
    }
    Ok(list)
}

/// Lines with the ones that continue them, without comments, and the number of the first.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (number, line) in text.lines().enumerate() {
        let comment = line.match_indices('#').find(|(at, _)| {
            line[..*at]
                .chars()
                .next_back()
                .is_none_or(char::is_whitespace)
        });
        let line = comment.map_or(line, |(at, _)| &line[..at]);
        let part = line.strip_suffix('\\');
        match lines.last_mut() {
            Some((_, last)) if goes_on => last.push_str(part.unwrap_or(line)),
            _ => lines.push((number + 1, part.unwrap_or(line).to_owned())),
        }
        goes_on = part.is_some();
    }
    lines
        .into_iter()
        .map(|(number, line)| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (number, words.join(" "))
        })
        .filter(|(_, line)| !line.is_empty())
        .collect()
}

/// Whether a line, of words with one space between them, has nothing built.
fn is_harmless(line: &str) -> bool {
    // Backslashes and variables would become something else; so would a second encoding.
    if !line.bytes().all(|byte| matches!(byte, b' '..=b'~')) || line.contains(['\\', '$']) {
        return false;
    }
    let (package, options) = match line.strip_prefix('-') {
        Some(_) => ("", line),
        None => match line.find(" -") {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, ""),
        },
    };
    is_package(package) && are_options(options)
}

/// A name with versions, and a condition after a semicolon; or nothing.
fn is_package(text: &str) -> bool {
    let what = text.split(';').next().unwrap_or_default().trim_end();
    let name = what.split('[').next().unwrap_or_default().trim_end();
    let is_file = |text: &str| {
        let text = text.to_ascii_lowercase();
        ARCHIVES.iter().any(|ending| text.ends_with(ending))
    };
    what.is_empty() && text.is_empty()
        || what.starts_with(|first: char| first.is_ascii_alphanumeric())
            && what
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || MARKS.contains(c))
            && !is_file(what)
            && !is_file(name)
}

/// Known ones, with values. Quotes are refused, since they can hide another option.
fn are_options(text: &str) -> bool {
    !text.contains(['\'', '"'])
        && text
            .split(' ')
            .filter(|word| word.starts_with('-'))
            .all(|word| {
                let name = word.split('=').next().unwrap_or_default();
                OPTIONS.contains(&name)
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u8]) -> Result<String, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("requirements.txt");
        fs::write(&path, text).unwrap();
        checked(&path)
    }

    #[test]
    fn packages_by_name_are_passed_on() {
        let text = "\u{feff}# coding: utf-7\r\n\r\nsix\r\nNumPy >= 1.2, < 2 ; python_version > '3' # why not\n\
            a_b.c[x,y]==1.0+local.1 \\\n  --hash=sha256:00 \\\n  --hash=sha256:11\n\
            (see) #x\n";
        assert!(check(text.as_bytes()).is_err(), "`(see)` is no name");
        let text = text.replace("(see) #x\n", "-i https://example.org/simple --pre\nlast\\");
        assert_eq!(
            check(text.as_bytes()).unwrap(),
            "six\nNumPy >= 1.2, < 2 ; python_version > '3'\n\
             a_b.c[x,y]==1.0+local.1 --hash=sha256:00 --hash=sha256:11\n\
             -i https://example.org/simple --pre\nlast\n"
        );
        assert_eq!(check(b"# nothing\n\n").unwrap(), "");
    }

    #[test]
    fn what_could_be_built_is_refused_by_its_line() {
        for line in [
            "-e lib",
            "--editable=lib",
            "./lib",
            "lib/",
            ".",
            "..",
            "lib.tar.gz",
            "lib.ZIP",
            "lib.zip[extra]",
            "lib.zip ; python_version > '3'",
            "x.whl",
            "file:lib",
            "git+https://example.org/x",
            "git+https:\\\n//example.org/x",
            "x @ git+https://example.org/x",
            "x@file:///lib",
            "https://example.org/x.tar.gz",
            "-r other.txt",
            "-c other.txt",
            "-rother.txt",
            "--no-binary :all:",
            "--no-bin :all:",
            "--pre --no-binary=:all:",
            "--pre --no-bin\\\nary :all:",
            "--pre '--no-binary' :all:",
            "six --config-settings=a=b",
            "six --pre \"--no-binary\" :all:",
            "${PLACE}",
            "six\u{2028}./lib",
            "six\u{b}./lib",
            "six\r./lib",
            "s\u{ed}x",
            "; python_version > '3'",
        ] {
            let error = check(format!("six\n{line}\n").as_bytes()).expect_err(line);
            assert!(
                error.message().starts_with("requirements.txt, line 2: "),
                "{line}: {error}"
            );
        }
        assert!(check(b"\xff\xfes\0i\0x\0").is_err());
        let long = vec![b'a'; usize::try_from(BYTES_MAX).unwrap() + 1];
        assert!(check(&long).unwrap_err().message().contains("larger than"));
    }
}
