//! Images: found, pulled or loaded at deploy, and then known by what they are, not by their names.
//!
//! A version of a function keeps the image that it was deployed with, wherever a tag moves later.
//! Images that came from an archive have no other name than the one given here, by which they are
//! removed again; images that people keep in the engine are never removed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::models::ImageInspect;
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ImportImageOptionsBuilder, ListImagesOptionsBuilder,
    RemoveImageOptions, TagImageOptionsBuilder,
};
use futures_util::{StreamExt as _, TryStreamExt as _};
use mote_core::digest::Digest;
use mote_core::error::{Error, ErrorKind};
use mote_core::runtime::{Artifact, Image};
use mote_core::spec::Program;
use tokio::time::Instant;

use super::archive::{Archive, Source, check_reference};
use super::engine::{Connected, Engine, status};

/// Longest pull or load.
const TRANSFER_MAX: Duration = Duration::from_secs(600);
/// How long a loaded image that nobody uses is kept: the deploy that loaded it may be under way.
const GRACE: Duration = Duration::from_secs(3600);

/// The images of archives that this node loaded.
#[derive(Debug)]
pub(super) struct Images {
    /// The repository of our names: `mote-NODE`.
    repository: String,
    /// File names of images, and since when they are kept without being used.
    own: Mutex<BTreeMap<String, Option<Instant>>>,
}

/// An image that is ready, and what it says of itself.
#[derive(Debug)]
pub(super) struct Ready {
    /// What is recorded.
    pub(super) image: Image,
    /// Its name in the engine: `sha256:…`.
    pub(super) id: String,
    /// What the engine knows of it.
    pub(super) inspect: ImageInspect,
}

impl Images {
    pub(super) fn new(node: &str) -> Self {
        Self {
            repository: format!("mote-{node}"),
            own: Mutex::default(),
        }
    }

    /// The image of an artifact. Cancel-safe: what was loaded is swept later.
    pub(super) async fn ready(
        &self,
        engine: &Engine,
        connected: &Connected,
        artifact: &Artifact,
        program: &Program,
    ) -> Result<Ready, Error> {
        let recorded = artifact
            .image
            .as_ref()
            .and_then(|image| image_id(&image.file));
        if let Some(id) = &recorded
            && let Some(inspect) = inspect(engine, connected, id).await?
        {
            return checked(id, inspect, connected);
        }
        let source = match &program.image {
            Some(reference) => Source::Reference(check_reference(reference)?),
            None => {
                let (path, architecture) = (artifact.path.clone(), connected.architecture.clone());
                let read = move || Source::read(&path, &architecture);
                let source = tokio::task::spawn_blocking(read).await;
                source.map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))??
            }
        };
        let (name, found) = match &source {
            Source::Reference(reference) => {
                let found = self
                    .refer(engine, connected, reference, program.pull)
                    .await?;
                (reference.clone(), found)
            }
            Source::Archive(archive) => {
                let found = self.load(engine, connected, archive).await?;
                ("the image archive".to_owned(), found)
            }
        };
        let ready = checked(&name, found, connected)?;
        if let Some(recorded) = recorded.filter(|recorded| *recorded != ready.id) {
            let message = format!(
                "the image {recorded} of this version is gone from the container engine, and {name} is now {}",
                ready.id
            );
            return Err(Error::new(ErrorKind::Conflict, message)
                .with_hint("deploy the function again to use the new image"));
        }
        Ok(ready)
    }

    /// An image of the engine, or of a registry.
    async fn refer(
        &self,
        engine: &Engine,
        connected: &Connected,
        reference: &str,
        pull: bool,
    ) -> Result<ImageInspect, Error> {
        if let Some(found) = inspect(engine, connected, reference).await? {
            return Ok(found);
        }
        let missing = |why: &str| {
            let message = format!("image `{reference}` is not in the container engine{why}");
            Error::new(ErrorKind::NotFound, message)
        };
        if !pull {
            return Err(missing("").with_hint(format!(
                "write pull = true, run `docker pull {reference}`, or deploy the tar that `docker save` writes"
            )));
        }
        let docker = connected.docker.clone().with_timeout(TRANSFER_MAX);
        let tagged = reference.contains('@')
            || reference
                .rsplit('/')
                .next()
                .is_some_and(|last| last.contains(':'));
        let options = CreateImageOptionsBuilder::new().from_image(reference);
        // Without a tag an engine may pull every one there is.
        let options = if tagged {
            options
        } else {
            options.tag("latest")
        }
        .build();
        let pulled = docker
            .create_image(Some(options), None, None)
            .try_for_each(|_| std::future::ready(Ok(())));
        let pulled = tokio::time::timeout(TRANSFER_MAX, pulled).await;
        match pulled {
            Ok(Ok(())) => inspect(engine, connected, reference)
                .await?
                .ok_or_else(|| missing(", also after it was pulled")),
            Ok(Err(error)) => {
                let why = engine.failed("pull it", &error);
                Err(missing(&format!(", and the engine {}", why.message()))
                    .with_hint("check the name, and whether this node reaches the registry"))
            }
            Err(_) => Err(missing(&format!(
                ", and pulling took longer than {} s",
                TRANSFER_MAX.as_secs()
            ))),
        }
    }

    /// The image of an archive, under our name for it.
    async fn load(
        &self,
        engine: &Engine,
        connected: &Connected,
        archive: &Archive,
    ) -> Result<ImageInspect, Error> {
        let docker = connected.docker.clone().with_timeout(TRANSFER_MAX);
        let options = ImportImageOptionsBuilder::new().quiet(true).build();
        let body = bollard::body_try_stream(archive.stream());
        let answers = docker.import_image(options, body, None);
        let loaded = tokio::time::timeout(TRANSFER_MAX, loaded_id(answers)).await;
        let loaded = loaded.map_err(|_| {
            let message = format!(
                "loading the image took longer than {} s",
                TRANSFER_MAX.as_secs()
            );
            Error::new(ErrorKind::Timeout, message)
        })?;
        let id = loaded.map_err(|error| {
            let failed = engine.failed("load the image archive", &error);
            // What the engine has to say about an archive is about the archive, unless it is full.
            match failed.kind() {
                ErrorKind::Internal => {
                    Error::new(ErrorKind::BadRequest, failed.message().to_owned())
                }
                _ => failed,
            }
        })?;
        let id = id.ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                "the container engine does not say what it loaded",
            )
        })?;
        if let Some(file) = file_name(&id) {
            self.lock().insert(file, Some(Instant::now()));
        }
        let tag = TagImageOptionsBuilder::new()
            .repo(&self.repository)
            .tag(id.trim_start_matches("sha256:"))
            .build();
        let tagged = docker.tag_image(&id, Some(tag)).await;
        tagged.map_err(|error| engine.failed("name the image", &error))?;
        inspect(engine, connected, &id).await?.ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                format!("the image {id} is gone after it was loaded"),
            )
        })
    }

    /// Finds the images that an earlier run loaded.
    pub(super) async fn find(&self, connected: &Connected) {
        let filters = HashMap::from([("reference", vec![self.repository.as_str()])]);
        let options = ListImagesOptionsBuilder::new().filters(&filters).build();
        match connected.docker.list_images(Some(options)).await {
            Ok(images) => {
                let prefix = format!("{}:", self.repository);
                let tags = images.into_iter().flat_map(|image| image.repo_tags);
                let mut own = self.lock();
                own.extend(
                    tags.filter_map(|tag| Some((file_name(tag.strip_prefix(&prefix)?)?, None))),
                );
            }
            Err(error) => tracing::warn!(%error, "could not list the images of this node"),
        }
    }

    /// Removes what is neither used nor new. Which images go is decided at once; the engine is
    /// asked for it afterwards.
    pub(super) fn sweep(&self, engine: &std::sync::Arc<Engine>, used: &dyn Fn(&str) -> bool) {
        let mut gone = Vec::new();
        self.lock().retain(|file, since| {
            let keep = used(file) || since.is_some_and(|since| since.elapsed() < GRACE);
            if !keep {
                gone.push(file.clone());
            }
            keep
        });
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if gone.is_empty() {
            return;
        }
        let (engine, repository) = (std::sync::Arc::clone(engine), self.repository.clone());
        runtime.spawn(async move {
            let Ok(connected) = engine.connect().await else {
                return;
            };
            for file in gone {
                remove(&connected.docker, &repository, &file).await;
            }
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Option<Instant>>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes our name, and with it the image when it has no other.
async fn remove(docker: &Docker, repository: &str, file: &str) {
    let name = format!("{repository}:{}", file.trim_start_matches("sha256-"));
    let removed = docker
        .remove_image(&name, None::<RemoveImageOptions>, None)
        .await;
    match removed {
        Ok(_) => tracing::debug!(image = name, "removed an image that is not used"),
        Err(error) => tracing::warn!(image = name, %error, "could not remove an image"),
    }
}

async fn inspect(
    engine: &Engine,
    connected: &Connected,
    name: &str,
) -> Result<Option<ImageInspect>, Error> {
    match connected.docker.inspect_image(name).await {
        Ok(inspect) => Ok(Some(inspect)),
        Err(error) if status(&error) == Some(404) => Ok(None),
        Err(error) => Err(engine.failed("look for the image", &error)),
    }
}

/// Checks that an image runs on this machine.
fn checked(name: &str, inspect: ImageInspect, connected: &Connected) -> Result<Ready, Error> {
    let id = inspect.id.clone().unwrap_or_default();
    let (file, digest) = file_name(&id).zip(digest(&id)).ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            format!("the container engine names an image `{id}`"),
        )
    })?;
    let (os, architecture) = (
        inspect.os.as_deref().unwrap_or("linux"),
        inspect.architecture.as_deref().unwrap_or_default(),
    );
    let fits = architecture.is_empty()
        || connected.architecture.is_empty()
        || architecture == connected.architecture;
    if os != "linux" || !fits {
        let message = format!(
            "exec format error: {name} is for {os}/{architecture}, the container engine runs linux/{}",
            connected.architecture
        );
        return Err(Error::new(ErrorKind::BadRequest, message)
            .with_hint("build the image for this machine: docker build --platform"));
    }
    let bytes = inspect
        .size
        .and_then(|size| u64::try_from(size).ok())
        .unwrap_or(0);
    Ok(Ready {
        image: Image {
            file,
            digest,
            bytes,
        },
        id,
        inspect,
    })
}

/// Reads the answers to a load: the id stands in the last line, after words that differ.
async fn loaded_id(
    answers: impl futures_util::Stream<
        Item = Result<bollard::models::BuildInfo, bollard::errors::Error>,
    >,
) -> Result<Option<String>, bollard::errors::Error> {
    let mut id = None;
    let mut answers = std::pin::pin!(answers);
    while let Some(answer) = answers.next().await {
        let text = answer?.stream.unwrap_or_default();
        if let Some(at) = text.find("sha256:") {
            id = text
                .get(at..at + "sha256:".len() + 64)
                .map(str::to_owned)
                .or(id);
        }
    }
    Ok(id)
}

/// What an image is recorded under: `sha256-…`.
fn file_name(id: &str) -> Option<String> {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    digest(hex).map(|_| format!("sha256-{hex}"))
}

/// The name in the engine of what was recorded.
fn image_id(file: &str) -> Option<String> {
    let hex = file.strip_prefix("sha256-")?;
    digest(hex).map(|_| format!("sha256:{hex}"))
}

fn digest(id: &str) -> Option<Digest> {
    id.strip_prefix("sha256:").unwrap_or(id).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_names_the_image() {
        let id = format!("sha256:{}", "0a".repeat(32));
        let file = file_name(&id).unwrap();
        assert_eq!(image_id(&file), Some(id));
        for other in ["sha256:short", "latest", "sha512:00"] {
            assert_eq!(file_name(other), None);
            assert_eq!(image_id(other), None);
        }
    }
}
