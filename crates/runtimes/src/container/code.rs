//! Plain source in a container: the code and its environment, mounted into an image that has the
//! language.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mote_core::error::{Error, ErrorKind};
use mote_core::runtime::Artifact;
use mote_core::spec::{Contract, Program};

use super::Config;
use crate::environment::{APP, ENVIRONMENT, Serving};
use crate::trees::Hold;

/// Code, and how it is run. Keeps its files.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) command: Vec<String>,
    pub(super) contract: Contract,
    /// The path that answers when it is ready.
    pub(super) ready: Option<String>,
    /// Folders of the node, and where the container finds them.
    pub(super) mounts: Vec<(PathBuf, &'static str)>,
    _tree: Arc<Hold>,
}

impl Code {
    /// The code of an artifact: run by the function's own command, or by the environment that knows it.
    pub(super) async fn of(
        config: &Config,
        program: &Program,
        artifact: &Artifact,
    ) -> Result<Self, Error> {
        let hold = config.trees.hold(artifact);
        let (folder, tree) = config.trees.unpacked(artifact, &hold).await?;
        if tree.image.is_some() {
            return Err(Error::new(
                ErrorKind::BadRequest,
                "the artifact is an image, and `image` names another",
            )
            .with_hint("write source = \".\" for code, or take `image` away"));
        }
        let mut code = Self {
            command: program.command.clone(),
            contract: program.contract.unwrap_or(Contract::Http),
            ready: None,
            mounts: vec![(folder.clone(), APP)],
            _tree: hold,
        };
        if code.command.is_empty() {
            code.serve_by_environment(config, program, &folder)?;
        }
        Ok(code)
    }

    fn serve_by_environment(
        &mut self,
        config: &Config,
        program: &Program,
        folder: &Path,
    ) -> Result<(), Error> {
        let has = |file: &str| folder.join(file).is_file();
        let name = program.environment.as_deref();
        let (environment, handler) = config.environments.for_code(name, has)?;
        self.contract = match environment.serving {
            // Where nothing forks for it, its loader serves HTTP.
            Serving::Zygote => Contract::Http,
            Serving::Program(Contract::Stdio) => {
                let message = format!(
                    "environment `{}` starts a process for each call, which is not for containers",
                    environment.name
                );
                return Err(Error::new(ErrorKind::BadRequest, message)
                    .with_hint("write runtime = \"process\", or a command that listens on $PORT"));
            }
            Serving::Program(contract) => contract,
        };
        self.command = environment.command_for(&handler);
        self.ready = match environment.serving {
            Serving::Zygote => Some(READY.to_owned()),
            Serving::Program(_) => environment.ready,
        };
        self.mounts.push((environment.folder, ENVIRONMENT));
        Ok(())
    }
}

/// Where a loader answers that can also fork.
const READY: &str = "/.mote/ready";
