//! `mote new`: a folder with a function that builds, from a template of ours or of anybody's.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use mote_core::error::{Error, ErrorKind};
use mote_core::name::check_label;

use crate::language;
use crate::new::template::Template;
use crate::report::say;

mod template;

/// Start a function: a folder with its source, ready to build.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The folder to make; its last part is the function's name.
    folder: PathBuf,
    /// The language.
    #[arg(
        short,
        long,
        value_name = "LANGUAGE",
        required_unless_present = "template"
    )]
    lang: Option<String>,
    /// Begin with this folder or git repository instead; {{name}} in it becomes the function's name.
    #[arg(long, value_name = "FOLDER-OR-URL", conflicts_with = "lang")]
    template: Option<String>,
}

impl Options {
    /// Writes the folder, and says how to go on.
    pub(crate) fn run(&self) -> Result<(), Error> {
        let name = self.name()?;
        free(&self.folder)?;
        let template = match (&self.template, &self.lang) {
            (Some(from), _) => Template::fetch(from)?,
            (None, Some(lang)) => Template::of(language::named(lang)?),
            (None, None) => {
                return Err(
                    Error::new(ErrorKind::BadRequest, "neither language nor template")
                        .with_hint("write --lang rust"),
                );
            }
        };
        let files = template.files(name)?;
        for file in &files {
            file.write(&self.folder)?;
        }
        let folder = self.folder.display();
        say(&format!("{folder} has {} files; go on with", files.len()));
        say(&format!("  cd {folder}"));
        say("  mote dev     builds and runs it, again whenever a file is saved");
        say("  mote test    sends the requests in tests/ and compares the replies");
        Ok(())
    }

    fn name(&self) -> Result<&str, Error> {
        let name = self.folder.file_name().and_then(|name| name.to_str());
        let name = name.unwrap_or_default();
        check_label("function name", name)?;
        Ok(name)
    }
}

/// Nothing is written over.
fn free(folder: &Path) -> Result<(), Error> {
    let taken = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    };
    if taken {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("{} is there and not an empty folder", folder.display()),
        )
        .with_hint("choose another name"));
    }
    Ok(())
}
