//! A world of an SDK's own, for languages whose toolchain makes every import of a world one of the component.
//!
//! The world lists all that the SDK can use, a line for each interface; what a function does not use is left out, so
//! that a node and `mote build` see what it really needs.

use std::fs;
use std::path::{Path, PathBuf};

use mote_core::error::{Error, ErrorKind};

use super::Job;

/// The folder for a world, with this file of the SDK and the worlds it is made of; of its imports those stay that are
/// wanted, by their names: `wasi:keyvalue/store`.
pub(super) fn assemble(
    job: &Job<'_>,
    file: &str,
    wanted: impl Fn(&str) -> bool,
) -> Result<PathBuf, Error> {
    let folder = job.work.join("wit");
    write(job, &folder, file, wanted).map_err(|error| {
        Error::new(
            ErrorKind::BadRequest,
            format!("cannot write {}: {error}", folder.display()),
        )
        .with_hint("check disk and owner")
    })?;
    Ok(folder)
}

fn write(
    job: &Job<'_>,
    folder: &Path,
    file: &str,
    wanted: impl Fn(&str) -> bool,
) -> std::io::Result<()> {
    let world = fs::read_to_string(job.sdk.join(file))?;
    let deps = folder.join("deps");
    fs::create_dir_all(&deps)?;
    fs::write(folder.join(file), without(&world, wanted))?;
    fs::copy(job.wit.join("function.wit"), deps.join("function.wit"))?;
    for entry in fs::read_dir(job.wit.join("deps"))? {
        let entry = entry?;
        fs::copy(entry.path(), deps.join(entry.file_name()))?;
    }
    Ok(())
}

/// A world without the imports that are not wanted.
fn without(world: &str, wanted: impl Fn(&str) -> bool) -> String {
    let stays = |line: &&str| {
        let import = line.trim_start().strip_prefix("import ");
        import
            .and_then(|rest| rest.split('@').next())
            .is_none_or(&wanted)
    };
    world
        .lines()
        .filter(stays)
        .map(|line| format!("{line}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_wanted_is_left_out() {
        let world = "package a:b;\nworld w {\n    import c:d/e@1.0.0;\n    import c:d/f@1.0.0;\n    export g: func();\n}\n";
        let left = without(world, |name| name == "c:d/f");
        assert_eq!(
            left,
            "package a:b;\nworld w {\n    import c:d/f@1.0.0;\n    export g: func();\n}\n"
        );
    }
}
