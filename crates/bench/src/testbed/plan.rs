//! From an experiment file to the runs that it takes, in order: a pure function, checked before anything starts.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::file::{
    File, Link, Machine, Others, Platform, PlatformKind, Point, Ready, Service, Source,
};
use super::machine;
use super::test::Test;
use crate::results::{Figure, Published};

/// Most runs of an experiment.
const RUNS_MAX: usize = 1_000_000;

/// All that an experiment takes.
#[derive(Debug)]
pub(super) struct Plan {
    /// What the report has to know.
    pub(super) outline: Outline,
    /// Tests at their points, those with the same set-up together.
    pub(super) groups: Vec<Group>,
    pub(super) repetitions: u32,
    pub(super) seed: u64,
}

/// What an experiment is, as it is kept beside its runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outline {
    /// For file names.
    pub name: String,
    /// Of the report.
    pub title: String,
    /// What is measured and why.
    pub about: String,
    /// The paper that is repeated.
    pub source: String,
    /// Of everything that was drawn by chance.
    pub seed: u64,
    /// The variant of the file, and in what it differs.
    pub variant: Option<(String, String)>,
    /// How often each test is made at each point.
    pub repetitions: u32,
    /// The matrix, in the order of the file.
    pub axes: Vec<(String, Vec<String>)>,
    /// Names of tests, in the order of the file.
    pub tests: Vec<String>,
    /// Figures of the report.
    pub figures: Vec<Figure>,
    /// Numbers of the paper.
    pub published: Vec<Published>,
    /// Runs of the whole experiment.
    pub runs: usize,
    /// What a reader must know, such as what of the machines this system could not give.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Cases with the same set-up.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) setup: Setup,
    pub(super) cases: Vec<Case>,
}

/// A test at a point.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) test: Test,
    pub(super) point: Point,
}

/// What has to be there for a case.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Setup {
    pub(super) machines: BTreeMap<String, Machine>,
    pub(super) links: BTreeMap<String, Link>,
    pub(super) services: BTreeMap<String, Service>,
    pub(super) platforms: BTreeMap<String, Platform>,
}

impl Plan {
    /// Makes the plan, or says what is wrong in the file.
    pub(super) fn new(source: &Source) -> Result<Self> {
        let base = source.at(&Point::new(), Others::First)?;
        check(&base, source)?;
        let mut groups: Vec<Group> = Vec::new();
        for (index, test) in base.tests.iter().enumerate() {
            let context = || format!("test `{}`", test.name);
            let axes = source.axes(test);
            for (place, axis) in axes.iter().enumerate() {
                let twice = axes[..place].contains(axis) || test.at.contains_key(*axis);
                ensure!(!twice, "test `{}` names axis `{axis}` twice", test.name);
            }
            for mut point in source.points(&axes).with_context(context)? {
                for (axis, value) in &test.at {
                    ensure!(
                        source
                            .axis(axis)
                            .is_some_and(|values| values.contains(value)),
                        "test `{}` is at {axis} = \"{value}\", which the matrix does not have",
                        test.name
                    );
                    point.insert(axis.clone(), value.clone());
                }
                let Some((setup, test)) = case(source, &point, index).with_context(context)? else {
                    continue;
                };
                let case = Case { test, point };
                match groups.iter_mut().find(|group| group.setup == setup) {
                    Some(group) => group.cases.push(case),
                    None => groups.push(Group {
                        setup,
                        cases: vec![case],
                    }),
                }
            }
        }
        let cases: usize = groups.iter().map(|group| group.cases.len()).sum();
        ensure!(cases > 0, "no test is made at any point");
        ensure!(
            cases.saturating_mul(base.repetitions as usize) <= RUNS_MAX,
            "{} repetitions of {cases} tests are more than {RUNS_MAX} runs",
            base.repetitions
        );
        let mut notes: Vec<String> = Vec::new();
        for (name, settings) in groups.iter().flat_map(|group| &group.setup.machines) {
            notes.extend(machine::note(name, settings)?.filter(|note| !notes.contains(note)));
        }
        let repetitions = base.repetitions;
        let text = |values: &[super::file::Value]| values.iter().map(ToString::to_string).collect();
        let axes = source
            .matrix
            .iter()
            .map(|(axis, values)| (axis.clone(), text(values)));
        let outline = Outline {
            name: base.name.clone(),
            title: base.title.clone(),
            about: base.about.trim().to_owned(),
            source: base.source.clone(),
            seed: base.seed,
            variant: source
                .variant
                .clone()
                .map(|name| (name, source.about_variant.clone())),
            repetitions,
            axes: axes.collect(),
            tests: base.tests.iter().map(|test| test.name.clone()).collect(),
            figures: base.figures.clone(),
            published: source.published(&base)?,
            runs: cases * repetitions as usize,
            notes,
        };
        Ok(Self {
            outline,
            groups,
            repetitions,
            seed: base.seed,
        })
    }
}

/// A test of the file at a point with what it needs, or nothing when it is not made there.
fn case(source: &Source, point: &Point, index: usize) -> Result<Option<(Setup, Test)>> {
    let at = |others| -> Result<Option<(Setup, Test)>> {
        let mut file = source.at(point, others)?;
        let test = file.tests.swap_remove(index);
        if !test.when.holds(point)? {
            return Ok(None);
        }
        test.check()?;
        let setup = Setup::of(file, point)?;
        setup.check(&test)?;
        Ok(Some((setup, test)))
    };
    let found = at(Others::First)?;
    let Some((_, test)) = &found else {
        return Ok(None);
    };
    if found != at(Others::Last)? {
        let axes = source.axes(test);
        let missing: Vec<_> = source
            .matrix
            .keys()
            .filter(|axis| !axes.contains(axis))
            .cloned()
            .collect();
        bail!(
            "it or what it needs depends on an axis that it does not name, one of {}: add it to its `axes`",
            missing.join(", ")
        );
    }
    Ok(found)
}

impl Setup {
    fn of(file: File, point: &Point) -> Result<Self> {
        let mut services = file.services;
        let mut platforms = file.platforms;
        let mut there = Vec::new();
        for (name, service) in &services {
            if service
                .when
                .holds(point)
                .with_context(|| format!("service `{name}`"))?
            {
                there.push(name.clone());
            }
        }
        services.retain(|name, _| there.contains(name));
        there.clear();
        for (name, platform) in &platforms {
            if platform
                .when
                .holds(point)
                .with_context(|| format!("platform `{name}`"))?
            {
                there.push(name.clone());
            }
        }
        platforms.retain(|name, _| there.contains(name));
        Ok(Self {
            machines: file.machines,
            links: file.links,
            services,
            platforms,
        })
    }
}

impl Setup {
    /// Whether it can be set up as it is written, and has what a test needs.
    fn check(&self, test: &Test) -> Result<()> {
        machine::check(&self.machines, &self.links)?;
        for (name, platform) in &self.platforms {
            let is_mote = platform.kind == PlatformKind::Mote;
            ensure!(
                is_mote || (platform.functions.is_empty() && platform.then.is_empty()),
                "platform `{name}`: only one of kind \"mote\" has `functions` and `then`"
            );
            ensure!(
                is_mote || !platform.command.is_empty(),
                "platform `{name}`: kind = \"command\" needs a `command`"
            );
            let of_node = matches!(platform.ready, Some(Ready::Instances(_)));
            ensure!(
                platform.ready.is_none() || of_node == is_mote,
                "platform `{name}`: `ready` is a line or port of a command, or instances of a node"
            );
        }
        if let Some(name) = &test.platform {
            let platform = self.platforms.get(name).with_context(|| {
                let known: Vec<_> = self.platforms.keys().cloned().collect();
                format!("platform `{name}` is not there, only {}", known.join(", "))
            })?;
            ensure!(
                test.observe.is_none() || platform.kind == PlatformKind::Mote,
                "`observe` counts instances of a node, and platform `{name}` is none"
            );
        }
        Ok(())
    }
}

/// What can be seen to be wrong without any point.
fn check(file: &File, source: &Source) -> Result<()> {
    let fit = |name: &str| {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !name.is_empty() && name.len() <= 64 && name.chars().all(fits)
    };
    ensure!(
        fit(&file.name),
        "name = \"{}\" is not of small letters, digits and hyphens: it is the name of a folder",
        file.name
    );
    ensure!(file.repetitions > 0, "repetitions = 0 measures nothing");
    let machines = file.machines.keys();
    let named = machines
        .chain(file.links.keys())
        .chain(file.services.keys());
    let named = named
        .chain(file.platforms.keys())
        .chain(source.matrix.keys())
        .chain(file.values.keys());
    for name in named.chain(
        file.platforms
            .values()
            .flat_map(|platform| platform.words.keys()),
    ) {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        ensure!(
            name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.chars().all(fits)
                && !name.contains(".."),
            "`{name}` is no name: small letters, digits, `-`, `_` and `.`, a letter first"
        );
    }
    let machine = |name: &String| file.machines.contains_key(name);
    for (name, platform) in &file.platforms {
        ensure!(
            machine(&platform.on),
            "platform `{name}` is on `{}`, which is no machine",
            platform.on
        );
    }
    let mut names = Vec::new();
    for test in &file.tests {
        ensure!(
            !names.contains(&&test.name),
            "there are two tests `{}`",
            test.name
        );
        ensure!(
            machine(&test.from),
            "test `{}` is from `{}`, which is no machine",
            test.name,
            test.from
        );
        names.push(&test.name);
    }
    let whens = file.platforms.values().map(|platform| &platform.when);
    let whens = whens.chain(file.services.values().map(|service| &service.when));
    for (axis, value) in whens
        .chain(file.tests.iter().map(|test| &test.when))
        .flat_map(super::file::When::named)
    {
        let values = source.axis(axis);
        let values = values
            .with_context(|| format!("`when` names `{axis}`, which is no axis of the matrix"))?;
        ensure!(
            values.contains(value),
            "`when` names {axis} = \"{value}\", which the matrix does not have"
        );
    }
    let axis = |name: &String| name == "test" || source.matrix.contains_key(name);
    for figure in &file.figures {
        let named = figure
            .each
            .iter()
            .chain(&figure.series)
            .chain(&figure.x)
            .chain(figure.only.keys());
        for name in named {
            ensure!(
                axis(name),
                "figure `{}` names `{name}`, which is no axis of the matrix",
                figure.title
            );
        }
        for test in &figure.tests {
            ensure!(
                names.contains(&test),
                "figure `{}` names `{test}`, which is no test",
                figure.title
            );
        }
    }
    Ok(())
}
