//! `cargo xtask ci`: the one entry that decides whether a change is good, for people and machines alike.
//!
//! Stages run in order, the fast ones first, and the first failure ends the run.
//! The last line is always `N passed, M failed`, with the tests that `cargo test` reported; a stage that fails
//! without a failed test to show counts as one failure, so that a red run never ends in `0 failed`.

mod count;
mod stages;

use anyhow::Result;
use clap::{Args, ValueEnum};
use count::Count;
use std::path::Path;
use std::time::{Duration, Instant};

/// What `cargo xtask ci` takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Run only this stage; may be given more than once.
    #[arg(long, value_enum, value_name = "STAGE")]
    only: Vec<Stage>,
    /// Leave this stage out; may be given more than once.
    #[arg(long, value_enum, value_name = "STAGE")]
    skip: Vec<Stage>,
    /// How long each fuzz target runs; 0 only replays the seeds.
    #[arg(long, default_value_t = 30, value_name = "N")]
    fuzz_seconds: u32,
}

/// One stage, in the order they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// The format of every Rust file.
    Fmt,
    /// The rules of the house.
    Tidy,
    /// The pages as a site, with links that lead somewhere.
    Site,
    /// Checked-in guests are what their sources build to.
    Guests,
    /// Lints of every target, warnings denied.
    Clippy,
    /// Every test, end-to-end ones included.
    Test,
    /// The API documentation, warnings denied.
    Doc,
    /// Licences, duplicates and sources of dependencies.
    Deny,
    /// Every parser, fuzzed for a moment.
    Fuzz,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Tidy => "tidy",
            Self::Site => "site",
            Self::Guests => "guests",
            Self::Clippy => "clippy",
            Self::Test => "test",
            Self::Doc => "doc",
            Self::Deny => "deny",
            Self::Fuzz => "fuzz",
        }
    }

    fn run(self, root: &Path, options: &Options) -> Result<Count> {
        match self {
            Self::Fmt => stages::fmt(root),
            Self::Tidy => stages::tidy(root),
            Self::Site => stages::site(root),
            Self::Guests => stages::guests(root),
            Self::Clippy => stages::clippy(root),
            Self::Test => stages::test(root),
            Self::Doc => stages::doc(root),
            Self::Deny => stages::deny(root),
            Self::Fuzz => stages::fuzz(root, options.fuzz_seconds),
        }
    }
}

/// Runs the chosen stages and says whether all of them passed.
pub(crate) fn run(root: &Path, options: &Options) -> bool {
    let mut total = Count::default();
    let mut good = true;
    for stage in chosen(options) {
        println!("{:<8} starts", stage.name());
        let start = Instant::now();
        let result = stage.run(root, options);
        good = report(stage, &result, start.elapsed());
        total.add(&counted(result));
        if !good {
            break;
        }
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    good
}

fn chosen(options: &Options) -> impl Iterator<Item = Stage> {
    let wanted = |stage: &Stage| options.only.is_empty() || options.only.contains(stage);
    let all = Stage::value_variants().iter().copied();
    all.filter(wanted)
        .filter(|stage| !options.skip.contains(stage))
}

fn report(stage: Stage, result: &Result<Count>, time: Duration) -> bool {
    let seconds = time.as_secs_f64();
    let name = stage.name();
    match result {
        Ok(count) if count.failed == 0 => {
            let ignored = if count.ignored > 0 {
                format!(" ({} tests ignored)", count.ignored)
            } else {
                String::new()
            };
            println!("{name:<8} ok      {seconds:>7.1} s{ignored}");
            true
        }
        Ok(_) => {
            println!("{name:<8} failed  {seconds:>7.1} s");
            false
        }
        Err(error) => {
            println!("{name:<8} failed  {seconds:>7.1} s: {error:#}");
            false
        }
    }
}

fn counted(result: Result<Count>) -> Count {
    result.unwrap_or(Count {
        failed: 1,
        ..Count::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[track_caller]
    fn check_stages(arguments: &[&str], expect: &str) {
        let line = std::iter::once(&"ci").chain(arguments);
        let options = Line::try_parse_from(line).unwrap().options;
        let names: Vec<&str> = chosen(&options).map(Stage::name).collect();
        assert_eq!(names.join(" "), expect);
    }

    #[test]
    fn stages_run_in_order_whatever_the_order_of_flags() {
        check_stages(&[], "fmt tidy site guests clippy test doc deny fuzz");
        check_stages(&["--only", "test", "--only", "fmt"], "fmt test");
        check_stages(
            &["--skip", "fuzz", "--skip", "guests"],
            "fmt tidy site clippy test doc deny",
        );
        check_stages(&["--only", "fmt", "--skip", "fmt"], "");
    }

    #[test]
    fn a_stage_that_could_not_run_is_a_failure() {
        let result = Err(anyhow::anyhow!("no such tool"));
        assert!(!report(Stage::Deny, &result, Duration::ZERO));
        assert_eq!(counted(result).failed, 1);
    }
}
