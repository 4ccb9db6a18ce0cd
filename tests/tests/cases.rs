//! The same cases over every way to run code and over both doors, from the folders below `tests/cases`.
//!
//! A folder is a test: one function's code in several forms and one list of steps. Each test here
//! is a form: a node, on which every folder is deployed in that form and taken through its steps
//! over HTTP and then over CoAP. All folders run before the failures are told. `MOTE_CASE=echo`
//! runs one of them.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails where it stands, and what it did before that is shown with it"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mote_tests::engine::{self, Engine};
use mote_tests::eventually::eventually;
use mote_tests::node::{Node, Up};
use mote_tests::source::skipped;

#[path = "../cases/case.rs"]
mod case;
#[path = "../cases/doors.rs"]
mod doors;
#[path = "../cases/step.rs"]
mod step;
#[path = "../interop/tools.rs"]
mod tools;

use case::{Case, Form};
use doors::{Door, Observer};
use step::Step;

/// Clients that call while a function is replaced.
const CLIENTS: usize = 2;

#[test]
fn every_folder_says_what_each_form_does() {
    let names: Vec<String> = Case::all().into_iter().map(|case| case.name).collect();
    assert!(names.len() >= 13, "{names:?}");
}

#[test]
fn over_wasm() {
    run(&Up::new().start(), Form::Wasm, None);
}

#[test]
fn over_a_process_for_each_call() {
    run(&Up::new().start(), Form::Stdio, None);
}

#[test]
fn over_python_source() {
    if has_python() {
        run(&Up::new().start(), Form::Zygote, None);
    }
}

#[test]
fn over_a_process_that_serves() {
    if has_python() {
        run(&Up::new().start(), Form::Http, None);
    }
}

#[test]
fn over_an_image_without_an_engine() {
    let node = Node::start();
    if !node.isolates_fully() {
        return;
    }
    if let Some(image) = engine::archive("python") {
        run(&node, Form::Image, Some(&image));
    }
}

#[test]
fn over_containers() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let socket = engine.socket();
    let up = Up::new().flag("--container-socket", socket.to_str().unwrap());
    let mut node = up.start();
    run(&node, Form::Container, None);
    run(&node, Form::Mounted, None);
    node.stop();
    eventually("no container is left", || {
        engine.docker(&["ps", "-aq"]).is_empty()
    });
}

/// Programs in the sandbox see what is there.
fn has_python() -> bool {
    let has = Path::new("/usr/bin/python3").is_file();
    if !has {
        skipped("there is no /usr/bin/python3");
    }
    has
}

/// Every case in one form.
#[track_caller]
fn run(node: &Node, form: Form, image: Option<&Path>) {
    let only = std::env::var("MOTE_CASE").ok();
    let client = tools::program("coap-client-notls");
    let mut failed = Vec::new();
    let mut ran = 0;
    for case in Case::all() {
        if only.as_ref().is_some_and(|only| *only != case.name) {
            continue;
        }
        if let Some(why) = case.refused(form) {
            skipped(&format!("{}: {why}", case.name));
            continue;
        }
        let here = Here {
            node,
            form,
            image,
            client: client.clone(),
            function: case.function(form),
            case: &case,
        };
        ran += 1;
        match catch_unwind(AssertUnwindSafe(|| here.check())) {
            Ok(()) => println!("{}: ok: {}", case.name, case.about()),
            Err(_) => failed.push(case.name),
        }
    }
    assert!(ran > 0, "no case ran over {form}");
    assert!(
        failed.is_empty(),
        "over {form} failed: {}",
        failed.join(", ")
    );
}

/// A case in one form on a node.
struct Here<'a> {
    node: &'a Node,
    form: Form,
    image: Option<&'a Path>,
    client: Option<PathBuf>,
    function: String,
    case: &'a Case,
}

impl Here<'_> {
    #[track_caller]
    fn check(&self) {
        self.deploy(None);
        let mut doors = vec![Door::Http];
        doors.extend(self.client.clone().map(Door::Coap));
        for door in &doors {
            for (number, step) in self.case.steps().iter().enumerate() {
                let label = door.label();
                let place = format!("{}, step {} over {label}", self.function, number + 1);
                match step.refused(self.form.label(), label) {
                    Some(why) => skipped(&format!("{place}: {why}")),
                    None => self.take(door, step, &place),
                }
            }
        }
        let target = format!("/v1/functions/{}", self.function);
        let removed = self.node.ask("DELETE", &target, &[]);
        assert!(removed.status < 300, "{}: {removed:?}", self.function);
    }

    #[track_caller]
    fn deploy(&self, round: Option<u32>) {
        let source = self.case.source(self.form, self.image, round);
        self.node.deploy_source(&source);
    }

    /// Takes a step; `place` says where a failure is.
    #[track_caller]
    fn take(&self, door: &Door, step: &Step, place: &str) {
        let mut observer = None;
        if let (Some([before, _]), Some(client)) = (&step.observed, &self.client) {
            let mut started = Observer::start(client, self.node, &self.function);
            assert_eq!(started.next(), *before, "{place}: observed before the call");
            observer = Some(started);
        }
        let count = |line: &str| self.node.log_of(&self.function).matches(line).count();
        let before = step.once.as_deref().map(count);
        if step.until {
            eventually(place, || self.call(door, step).is_ok());
        } else if let Some(rounds) = step.redeploys {
            self.redeploy(door, step, rounds, place);
        } else {
            thread::scope(|scope| {
                let count = step.at_once.unwrap_or(1);
                let calls: Vec<_> = (0..count)
                    .map(|_| scope.spawn(|| self.call(door, step)))
                    .collect();
                for call in calls {
                    let wrong = call.join().unwrap().err();
                    assert_eq!(wrong, None, "{place}");
                }
            });
        }
        if let (Some([_, after]), Some(observer)) = (&step.observed, &mut observer) {
            assert_eq!(observer.next(), *after, "{place}: observed after the call");
        }
        if let (Some(line), Some(before)) = (&step.once, before) {
            eventually(&format!("{place}: the log holds `{line}`"), || {
                count(line) > before
            });
            assert_eq!(count(line), before + 1, "{place}: times that it ran");
        }
        if let Some(line) = &step.log {
            eventually(&format!("{place}: the log holds `{line}`"), || {
                self.node.log_of(&self.function).contains(line)
            });
        }
    }

    /// Calls go on, and none fails, while the function is replaced.
    #[track_caller]
    fn redeploy(&self, door: &Door, step: &Step, rounds: u32, place: &str) {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            // Whatever fails here: the clients must end, or the scope never does.
            let _end = SetAtEnd(&over);
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    scope.spawn(|| {
                        let mut calls = 0;
                        while !over.load(Ordering::Relaxed) {
                            self.call(door, step)?;
                            calls += 1;
                        }
                        Ok::<u32, String>(calls)
                    })
                })
                .collect();
            for round in 1..=rounds {
                self.deploy(Some(round));
                let mut now = step.clone();
                now.has.push(format!("ROUND={round}"));
                let wrong = self.call(door, &now).err();
                assert_eq!(wrong, None, "{place}: after deploy {round}");
            }
            over.store(true, Ordering::Relaxed);
            for client in clients {
                match client.join().unwrap() {
                    Ok(calls) => assert!(calls > 0, "{place}: a client did not come to call"),
                    Err(wrong) => panic!("{place}: during the deploys: {wrong}"),
                }
            }
        });
    }

    /// Calls once. `Err` says what is not as the step wants it.
    fn call(&self, door: &Door, step: &Step) -> Result<(), String> {
        step.take(door, self.node, &self.function)
    }
}

struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
