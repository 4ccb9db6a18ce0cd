//! The first call of plain source where its environment waits already, beside one where it does not.

use anyhow::Result;

use super::rounds::one_call;
use super::stage::{PLAIN, Stage, Staged, on_system};
use super::table::{Beside, Row, Rows};
use crate::compare::{Limit, median};

/// Short, so that a round does not take long.
const IDLE: &str = "500ms";
/// What the first call of JavaScript may take.
const JAVASCRIPT_MS_MAX: f64 = 100.0;

/// A node on which one instance of each environment waits, and one on which none does.
pub(super) fn first_calls(stage: &Stage, rows: &mut Rows<'_>) -> Result<()> {
    for (language, program, _) in PLAIN {
        let name =
            format!("first call of {language} source, its environment warm, beside cold: p50");
        if on_system(program).is_none() {
            let why = format!("there is no {program} in /usr/local/bin or /usr/bin");
            rows.skipped(&name, &why)?;
            continue;
        }
        let warm = stage.node_that_waits()?;
        let cold = stage.node()?;
        let manifest = format!(
            "[function.hello]\nruntime = \"process\"\nsource = \"{program}\"\nscale = {{ idle = \"{IDLE}\" }}\n"
        );
        stage.deploy(&warm, &manifest)?;
        stage.deploy(&cold, &manifest)?;
        let (ours, theirs) = in_turn(stage, &warm, &cold)?;
        let isolation = warm.isolation("hello")?;
        rows.add(
            Row::measured(
                name,
                "ms",
                (ours, Beside::Ratio(theirs)),
                Limit::AtMost(0.5),
            )
            .note(isolation),
        )?;
        if program == "node" {
            let name = "first call of JavaScript source, its environment warm: p50";
            let limit = Limit::AtMost(JAVASCRIPT_MS_MAX);
            rows.add(Row::measured(name, "ms", (ours, Beside::Nothing), limit))?;
        }
    }
    Ok(())
}

/// The medians of both, in milliseconds.
fn in_turn(stage: &Stage, warm: &Staged, cold: &Staged) -> Result<(f64, f64)> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // The first of each reads files that were never read, which is not what cold means.
    for _ in 0..=stage.settings.rounds {
        warm.wait_for_warm("hello")?;
        ours.push(one_call(&warm.target("hello"))?);
        cold.wait_for_zero("hello")?;
        theirs.push(one_call(&cold.target("hello"))?);
    }
    Ok((median(&ours[1..]), median(&theirs[1..])))
}
