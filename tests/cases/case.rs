//! What a case folder says: `case.toml`, and one function's code in several forms.
//!
//! | file | form |
//! | --- | --- |
//! | `wasm = "…"` in `case.toml` | `wasm`: a component below the repository, a guest's code in the text format (`guest.wat`, see `mote_tests::guest::component_of_world`) or a whole module (`command.wat`) |
//! | `fn.sh` | `stdio`: a process for each call |
//! | `handler.py` | `zygote`: plain Python source; `mounted`: the same in a container |
//! | `handler.py` and the shared `serve.py` | `http`: a server; `image`: the same in an image without an engine; `container`: in an engine |
//!
//! A form or a door that cannot do something is named with the reason, in `cannot` or in a step's
//! `not`; nothing is left out in silence.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use mote_tests::guest;
use mote_tests::program::repository;
use mote_tests::source::Source;
use serde::Deserialize;

use super::step::Step;

/// A way to run the code of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Form {
    Wasm,
    Stdio,
    Zygote,
    Http,
    Image,
    Container,
    Mounted,
}

impl Form {
    pub(crate) const ALL: [Self; 7] = [
        Self::Wasm,
        Self::Stdio,
        Self::Zygote,
        Self::Http,
        Self::Image,
        Self::Container,
        Self::Mounted,
    ];

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Stdio => "stdio",
            Self::Zygote => "zygote",
            Self::Http => "http",
            Self::Image => "image",
            Self::Container => "container",
            Self::Mounted => "mounted",
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A folder below `tests/cases`.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    folder: PathBuf,
    file: File,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// What holds, in words.
    about: String,
    /// Keys of the function's manifest, the same for every form.
    #[serde(default)]
    spec: toml::Table,
    wasm: Option<String>,
    /// Forms that cannot do it, and why.
    #[serde(default)]
    cannot: BTreeMap<Form, String>,
    step: Vec<Step>,
}

impl Case {
    /// Every folder, in the order of their names.
    #[track_caller]
    pub(crate) fn all() -> Vec<Self> {
        let entries = fs::read_dir(cases()).unwrap();
        let folders: BTreeSet<_> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir())
            .collect();
        folders.into_iter().map(Self::read).collect()
    }

    #[track_caller]
    fn read(folder: PathBuf) -> Self {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(folder.join("case.toml"))
            .unwrap_or_else(|error| panic!("{name}/case.toml: {error}"));
        let file =
            toml::from_str(&text).unwrap_or_else(|error| panic!("{name}/case.toml: {error}"));
        let case = Self { name, folder, file };
        case.check();
        case
    }

    /// What the types do not say: each form either has its code or says why not.
    #[track_caller]
    fn check(&self) {
        let Self { name, file, .. } = self;
        assert!(!file.about.is_empty() && !file.step.is_empty(), "{name}");
        for form in Form::ALL {
            let code = match form {
                Form::Wasm => file.wasm.is_some(),
                Form::Stdio => self.has("fn.sh"),
                Form::Zygote | Form::Http | Form::Image | Form::Container | Form::Mounted => {
                    self.has("handler.py")
                }
            };
            let excused = file.cannot.contains_key(&form);
            assert!(
                code != excused,
                "{name}: {form} has code: {code}, is excused: {excused}"
            );
        }
        for (number, step) in file.step.iter().enumerate() {
            let excused = step.not.contains_key("coap");
            assert!(
                step.coap.is_some() != excused,
                "{name}, step {number}: `coap` or `not.coap`"
            );
            let known =
                |word: &String| word == "coap" || Form::ALL.iter().any(|form| form.label() == word);
            assert!(
                step.not.keys().all(known),
                "{name}, step {number}: {:?}",
                step.not
            );
        }
    }

    fn has(&self, file: &str) -> bool {
        self.folder.join(file).is_file()
    }

    pub(crate) fn about(&self) -> &str {
        &self.file.about
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.file.step
    }

    /// Why a form cannot do this at all.
    pub(crate) fn refused(&self, form: Form) -> Option<&str> {
        self.file.cannot.get(&form).map(String::as_str)
    }

    /// The name under which a form of it is deployed: the forms are functions of one app.
    pub(crate) fn function(&self, form: Form) -> String {
        format!("{form}.{}", self.name)
    }

    /// A folder to deploy. `image` is the archive for the form of that name; `round` replaces the variable.
    #[track_caller]
    pub(crate) fn source(&self, form: Form, image: Option<&Path>, round: Option<u32>) -> Source {
        let mut spec = self.file.spec.clone();
        if let Some(round) = round {
            let env = spec.entry("env").or_insert(toml::Table::new().into());
            let env = env.as_table_mut().unwrap();
            env.insert("ROUND".to_owned(), round.to_string().into());
        }
        let mut set = |key: &str, value: toml::Value| {
            spec.insert(key.to_owned(), value);
        };
        let words = |words: &[&str]| -> toml::Value {
            let values: Vec<toml::Value> = words.iter().map(|word| (*word).into()).collect();
            values.into()
        };
        let runtime = match form {
            Form::Wasm => "wasm",
            Form::Stdio | Form::Zygote | Form::Http | Form::Image => "process",
            Form::Container | Form::Mounted => "container",
        };
        set("runtime", runtime.into());
        let source = Source::new();
        let source = match form {
            Form::Wasm => {
                set("source", "code.wasm".into());
                source.file("code.wasm", self.wasm())
            }
            Form::Stdio => {
                set("source", ".".into());
                source.file("fn.sh", self.text("fn.sh"))
            }
            Form::Zygote | Form::Mounted => {
                if form == Form::Mounted {
                    set("image", "mote-test/python".into());
                }
                set("source", ".".into());
                source.file("handler.py", self.text("handler.py"))
            }
            Form::Http => {
                set("source", ".".into());
                set("contract", "http".into());
                set("command", words(&["python3", "-u", "server.py"]));
                source.file("server.py", self.server())
            }
            Form::Image => {
                set("image", "image.tar".into());
                set("contract", "http".into());
                set("command", words(&["python3", "-u", "-c", &self.server()]));
                let place = source.path().join("image.tar");
                let image = image.expect("the form `image` has an image");
                // A second name is quicker, where both are on one file system.
                if fs::hard_link(image, &place).is_err() {
                    fs::copy(image, &place).unwrap();
                }
                source
            }
            Form::Container => {
                set("image", "mote-test/python".into());
                set("contract", "http".into());
                set("command", words(&["python3", "-u", "-c", &self.server()]));
                source
            }
        };
        let function = toml::Table::from_iter([(form.label().to_owned(), spec.into())]);
        let manifest = toml::Table::from_iter([
            ("version".to_owned(), 1.into()),
            ("app".to_owned(), self.name.as_str().into()),
            ("function".to_owned(), function.into()),
        ]);
        source.file("mote.toml", toml::to_string(&manifest).unwrap())
    }

    #[track_caller]
    fn wasm(&self) -> Vec<u8> {
        let name = self.file.wasm.as_deref().unwrap();
        match name {
            "guest.wat" => guest::component_of_world(&self.text(name)),
            "command.wat" => guest::parse(&self.text(name)),
            _ => {
                fs::read(repository().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
            }
        }
    }

    /// The handler with the server around it, as one program.
    #[track_caller]
    fn server(&self) -> String {
        let serve = fs::read_to_string(cases().join("serve.py")).unwrap();
        format!("{}\n\n{serve}", self.text("handler.py"))
    }

    #[track_caller]
    fn text(&self, file: &str) -> String {
        let path = self.folder.join(file);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

fn cases() -> PathBuf {
    repository().join("tests/cases")
}
