//! The experiment file: machines, links, platforms, tests and a matrix of what changes, in TOML.
//!
//! Text in braces stands for something else: an axis of the matrix, a value, the address of a machine, the answer of a
//! service. Axes and values are put in before the text is read, so that `clients = "{clients}"` is a number; the
//! others are known only when the machine or service is there, and are put in then.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use indexmap::IndexMap;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::fill;
use super::test::Test;
use crate::link::{Choice, Preset};
use crate::results::{Figure, Published, texts};

/// The version of the format.
const VERSION: u32 = 1;
/// Largest experiment file, and most points of all tests together.
const BYTES_MAX: u64 = 1 << 20;
const POINTS_MAX: usize = 100_000;

/// An experiment file at one point of its matrix.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// Of the format.
    #[serde(rename = "version")]
    _version: u32,
    /// For file names.
    pub(super) name: String,
    /// Of the report.
    pub(super) title: String,
    /// What is measured and why, in a few sentences.
    #[serde(default)]
    pub(super) about: String,
    /// The paper that is repeated.
    #[serde(default)]
    pub(super) source: String,
    /// Of everything that is drawn by chance.
    #[serde(default = "one")]
    pub(super) seed: u64,
    /// How often each test is made at each point.
    #[serde(default = "three")]
    pub(super) repetitions: u32,
    /// Files with the numbers of papers, beside this one.
    #[serde(default)]
    pub(super) published: Vec<PathBuf>,
    /// What changes, in the order in which it does.
    #[serde(default)]
    pub(super) matrix: IndexMap<String, Vec<Value>>,
    /// What is the same everywhere, and may be different in a variant.
    #[serde(default)]
    pub(super) values: BTreeMap<String, Value>,
    /// Other values under a name: `--quick` is the variant `quick`.
    #[serde(default)]
    pub(super) variants: BTreeMap<String, Variant>,
    #[serde(default)]
    pub(super) machines: BTreeMap<String, Machine>,
    #[serde(default)]
    pub(super) links: BTreeMap<String, Link>,
    #[serde(default)]
    pub(super) services: BTreeMap<String, Service>,
    #[serde(default)]
    pub(super) platforms: BTreeMap<String, Platform>,
    pub(super) tests: Vec<Test>,
    #[serde(default)]
    pub(super) figures: Vec<Figure>,
}

/// What is different under a name.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Variant {
    /// In what it differs, for the report.
    #[serde(default)]
    pub(super) about: String,
    pub(super) repetitions: Option<u32>,
    #[serde(default)]
    pub(super) matrix: IndexMap<String, Vec<Value>>,
    #[serde(default)]
    pub(super) values: BTreeMap<String, Value>,
}

/// A number or a text.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Value {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

/// Where things run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Machine {
    pub(super) kind: MachineKind,
    /// One of the papers' sizes.
    pub(super) size: Option<Size>,
    /// Processors; more than the size has, or less.
    pub(super) cpus: Option<f64>,
    /// Memory, such as `1 GiB`.
    pub(super) memory: Option<String>,
    /// Of ssh: `user@host`, as its client takes it.
    pub(super) host: Option<String>,
    /// Of ssh: options of its client.
    #[serde(default)]
    pub(super) options: Vec<String>,
    /// Of ssh: where others reach it.
    pub(super) address: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum MachineKind {
    /// Processes of this system, at its loopback address.
    Process,
    /// Processes of this system in a network of their own.
    Namespace,
    /// Another system.
    Ssh,
}

/// The sizes of the BenchFaaS paper (§III-A), and the board of the tinyFaaS thesis and the survey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Size {
    #[serde(rename = "vm.small")]
    Small,
    #[serde(rename = "vm.medium")]
    Medium,
    #[serde(rename = "vm.large")]
    Large,
    /// A Raspberry Pi 4 with 8 GB.
    #[serde(rename = "rpi.metal")]
    Pi4,
    /// A Raspberry Pi 3 with 1 GB.
    #[serde(rename = "rpi3")]
    Pi3,
}

/// An emulated network between two machines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Link {
    pub(super) between: [String; 2],
    /// How it is emulated.
    #[serde(default)]
    pub(super) kind: Choice,
    /// In both directions.
    pub(super) preset: Option<Preset>,
    /// From the first to the second.
    pub(super) there: Option<Preset>,
    /// From the second to the first.
    pub(super) back: Option<Preset>,
    /// These, in both directions, instead of the preset's. Percents are from 0 to 100.
    #[serde(default, deserialize_with = "time")]
    pub(super) delay: Option<Duration>,
    #[serde(default, deserialize_with = "time")]
    pub(super) deviation: Option<Duration>,
    pub(super) correlation: Option<f64>,
    pub(super) loss: Option<f64>,
    pub(super) duplicate: Option<f64>,
    pub(super) reorder: Option<f64>,
    /// Megabits per second.
    pub(super) rate: Option<f64>,
    /// Packets.
    pub(super) queue: Option<usize>,
    #[serde(default)]
    pub(super) in_order: bool,
}

/// Something that has to be there before platforms, such as a container engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    /// Its last line is what the service's name in braces stands for. Exit code 3: it cannot be had here.
    #[serde(deserialize_with = "one_or_more")]
    pub(super) start: Vec<String>,
    /// Run afterwards, one after the other.
    #[serde(default, deserialize_with = "commands")]
    pub(super) then: Vec<Vec<String>>,
    pub(super) stop: Option<Vec<String>>,
    #[serde(default)]
    pub(super) when: When,
}

/// What is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Platform {
    pub(super) kind: PlatformKind,
    /// The machine.
    pub(super) on: String,
    /// Of a command: the program and what it is told. Of Mote: more options of `mote up`.
    #[serde(default, deserialize_with = "one_or_more")]
    pub(super) command: Vec<String>,
    #[serde(default, deserialize_with = "texts")]
    pub(super) env: BTreeMap<String, String>,
    /// When it is ready. A node is anyway when it says where its doors are.
    pub(super) ready: Option<Ready>,
    /// Of Mote: folders to deploy.
    #[serde(default, deserialize_with = "one_or_more")]
    pub(super) functions: Vec<String>,
    /// What other words in braces stand for in tests of this platform, such as the name of a function.
    #[serde(default, deserialize_with = "texts")]
    pub(super) words: BTreeMap<String, String>,
    /// Of Mote: commands after that, without the word `mote`.
    #[serde(default, deserialize_with = "commands")]
    pub(super) then: Vec<Vec<String>>,
    #[serde(default)]
    pub(super) when: When,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PlatformKind {
    /// A node, with its doors at ports 8080 (HTTP) and 5683 (CoAP) of its machine, or any free ones if it shares the
    /// machine's network with others.
    Mote,
    /// Any program.
    Command,
}

/// How it is seen that a program is ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) enum Ready {
    /// It writes a line that begins so.
    Line(String),
    /// Something listens at this TCP port of its machine.
    Port(u16),
    /// Of Mote: functions have so many instances.
    Instances(BTreeMap<String, u64>),
}

/// At which points of the matrix something is there: every axis named has one of these values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct When(BTreeMap<String, OneOf>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct OneOf(#[serde(deserialize_with = "one_or_more")] Vec<String>);

/// A file as it is written, and what of it is needed to fill it in.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// The variant that was asked for.
    pub(super) variant: Option<String>,
    pub(super) matrix: IndexMap<String, Vec<Value>>,
    /// The same with those of other variants.
    all_values: IndexMap<String, Vec<Value>>,
    values: BTreeMap<String, Value>,
    repetitions: Option<u32>,
    pub(super) about_variant: String,
}

/// Where in the matrix.
pub(super) type Point = BTreeMap<String, String>;

/// What can be read before anything is filled in.
#[derive(Deserialize)]
struct Head {
    version: Option<u32>,
    #[serde(default)]
    matrix: IndexMap<String, Vec<Value>>,
    #[serde(default)]
    values: BTreeMap<String, Value>,
    #[serde(default)]
    variants: BTreeMap<String, Variant>,
}

impl Source {
    /// Reads a file. Fails when it is no experiment, or has no such variant.
    pub(super) fn read(path: &Path, variant: Option<&str>) -> Result<Self> {
        let size = std::fs::metadata(path)
            .with_context(|| format!("no experiment file {}", path.display()))?
            .len();
        ensure!(
            size <= BYTES_MAX,
            "{} has {size} bytes, an experiment file at most {BYTES_MAX}",
            path.display()
        );
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let path = path.canonicalize()?;
        Self::parse(&path, text, variant).with_context(|| path.display().to_string())
    }

    pub(super) fn parse(path: &Path, text: String, variant: Option<&str>) -> Result<Self> {
        let head: Head = toml::from_str(&text).map_err(|error| in_one_line(&error, &text))?;
        match head.version {
            Some(VERSION) => {}
            Some(other) => {
                bail!("version {other} of the format is not known, this reads {VERSION}")
            }
            None => bail!("there is no `version`, write version = {VERSION} in its first line"),
        }
        let mut all_values = head.matrix.clone();
        for (axis, more) in head.variants.values().flat_map(|variant| &variant.matrix) {
            all_values
                .entry(axis.clone())
                .or_default()
                .extend(more.iter().cloned());
        }
        let (mut matrix, mut values) = (head.matrix, head.values);
        let (mut repetitions, mut about_variant) = (None, String::new());
        if let Some(name) = variant {
            let known = head.variants.keys().cloned().collect::<Vec<_>>().join(", ");
            let variant = head
                .variants
                .get(name)
                .cloned()
                .ok_or_else(|| anyhow!("there is no variant `{name}`, there are: {known}"))?;
            for (axis, of_variant) in variant.matrix {
                let place = matrix.get_mut(&axis);
                *place.with_context(|| {
                    format!("variant `{name}`: the matrix has no axis `{axis}`")
                })? = of_variant;
            }
            for (key, value) in variant.values {
                let place = values.get_mut(&key);
                *place.with_context(|| format!("variant `{name}`: there is no value `{key}`"))? =
                    value;
            }
            (repetitions, about_variant) = (variant.repetitions, variant.about);
        }
        for (axis, of_axis) in &matrix {
            let texts: BTreeSet<String> = of_axis.iter().map(ToString::to_string).collect();
            ensure!(
                texts.len() == of_axis.len(),
                "axis `{axis}` of the matrix has a value twice"
            );
            ensure!(
                !of_axis.is_empty(),
                "axis `{axis}` of the matrix has no values"
            );
            ensure!(
                !values.contains_key(axis),
                "`{axis}` is an axis and a value"
            );
        }
        Ok(Self {
            path: path.to_owned(),
            text,
            variant: variant.map(str::to_owned),
            matrix,
            all_values,
            values,
            repetitions,
            about_variant,
        })
    }

    /// The file at a point; axes that the point does not have are at `others`, their first value or their last.
    pub(super) fn at(&self, point: &Point, others: Others) -> Result<File> {
        let mut words = BTreeMap::new();
        for (key, value) in &self.values {
            words.insert(key.clone(), value.clone());
        }
        for (axis, values) in &self.matrix {
            let named = point.get(axis);
            let value = match named {
                // A value that a test is at need not be one of the variant's.
                Some(named) => {
                    let all = self.all_values.get(axis).into_iter().flatten();
                    values
                        .iter()
                        .chain(all)
                        .find(|value| value.to_string() == *named)
                }
                None if others == Others::First => values.first(),
                None => values.last(),
            };
            let value = value.with_context(|| format!("axis `{axis}` has no value {named:?}"))?;
            words.insert(axis.clone(), value.clone());
        }
        let text = fill::before_reading(&self.text, &words);
        let mut file: File = toml::from_str(&text).map_err(|error| in_one_line(&error, &text))?;
        if let Some(repetitions) = self.repetitions {
            file.repetitions = repetitions;
        }
        Ok(file)
    }

    /// All values that an axis has in the file, in any variant.
    pub(super) fn axis(&self, name: &str) -> Option<Vec<String>> {
        let values = self.all_values.get(name)?;
        Some(values.iter().map(Value::to_string).collect())
    }

    /// The axes of a test.
    pub(super) fn axes<'a>(&'a self, test: &'a Test) -> Vec<&'a String> {
        let fixed = |axis: &&String| test.at.contains_key(*axis);
        match &test.axes {
            Some(axes) => axes.iter().collect(),
            None => self.matrix.keys().filter(|axis| !fixed(axis)).collect(),
        }
    }

    /// All points of these axes, the last axis changing fastest.
    pub(super) fn points(&self, axes: &[&String]) -> Result<Vec<Point>> {
        let mut points = vec![Point::new()];
        for axis in axes {
            let values = self.matrix.get(*axis);
            let values = values.with_context(|| format!("the matrix has no axis `{axis}`"))?;
            ensure!(
                points.len() * values.len() <= POINTS_MAX,
                "the matrix has more than {POINTS_MAX} points"
            );
            let longer = points.iter().flat_map(|point| {
                values.iter().map(move |value| {
                    let mut longer = point.clone();
                    longer.insert((*axis).clone(), value.to_string());
                    longer
                })
            });
            points = longer.collect();
        }
        Ok(points)
    }

    /// The numbers of papers, from the files that are named.
    pub(super) fn published(&self, file: &File) -> Result<Vec<Published>> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Numbers {
            #[serde(default)]
            published: Vec<Published>,
        }
        let mut all = Vec::new();
        for name in &file.published {
            let path = self.beside(name);
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let numbers: Numbers = toml::from_str(&text)
                .map_err(|error| in_one_line(&error, &text))
                .with_context(|| path.display().to_string())?;
            all.extend(numbers.published);
        }
        Ok(all)
    }

    /// A path that is written in the file, which counts from the file's folder.
    pub(super) fn beside(&self, path: impl AsRef<Path>) -> PathBuf {
        self.folder().join(path)
    }

    /// The file's folder.
    pub(super) fn folder(&self) -> &Path {
        let parent = self.path.parent();
        parent
            .filter(|path| !path.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
    }
}

/// At which value an axis is taken that a test does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    First,
    Last,
}

impl When {
    /// Whether it is there at a point. Fails when it asks for an axis that the point does not have.
    pub(super) fn holds(&self, point: &Point) -> Result<bool> {
        for (axis, values) in &self.0 {
            let value = point.get(axis);
            let value = value.with_context(|| {
                format!("`when` asks for axis `{axis}`, which the test does not have")
            })?;
            if !values.0.contains(value) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The axes and values it names.
    pub(super) fn named(&self) -> impl Iterator<Item = (&String, &String)> {
        let all = self.0.iter();
        all.flat_map(|(axis, values)| values.0.iter().map(move |value| (axis, value)))
    }
}

impl Size {
    /// Processors, and bytes of memory.
    pub(super) const fn limits(self) -> (f64, u64) {
        const GB: u64 = 1 << 30;
        match self {
            Self::Small => (1.0, 2 * GB),
            Self::Medium => (2.0, 4 * GB),
            Self::Large => (4.0, 8 * GB),
            Self::Pi4 => (4.0, 8 * GB),
            Self::Pi3 => (4.0, GB),
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
        }
    }
}

/// What the parser says, with the line, and without the picture of it.
fn in_one_line(error: &toml::de::Error, text: &str) -> anyhow::Error {
    let message = error.message().trim().replace('\n', ", ");
    match error.span() {
        Some(span) => {
            let before = &text.as_bytes()[..span.start.min(text.len())];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            anyhow!("line {line}: {message}")
        }
        None => anyhow!(message),
    }
}

fn one() -> u64 {
    1
}

fn three() -> u32 {
    3
}

/// A time as people write it.
pub(super) fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text: Option<String> = Deserialize::deserialize(from)?;
    let Some(text) = text else { return Ok(None) };
    humantime::parse_duration(&text)
        .map(Some)
        .map_err(|error| de::Error::custom(format!("`{text}` is no time such as 250ms: {error}")))
}

/// Commands, of whose words some may look like numbers.
fn commands<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Vec<String>>, D::Error> {
    let commands: Vec<Vec<Value>> = Deserialize::deserialize(from)?;
    let words = |words: Vec<Value>| words.iter().map(Value::to_string).collect();
    Ok(commands.into_iter().map(words).collect())
}

/// One text or a list of them.
pub(super) fn one_or_more<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        One(Value),
        More(Vec<Value>),
    }
    Ok(match Either::deserialize(from)? {
        Either::One(one) => vec![one.to_string()],
        Either::More(more) => more.iter().map(Value::to_string).collect(),
    })
}
