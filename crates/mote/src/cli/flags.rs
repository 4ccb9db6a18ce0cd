//! A flag for every key of the configuration, made from the one list of keys.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};

use crate::config::{Flags, KEYS};

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.file = matches.get_one::<PathBuf>("config").cloned();
        for key in KEYS {
            if let Some(text) = matches.get_one::<String>(key.name) {
                self.values.insert(key.name, text.clone());
            }
        }
        Ok(())
    }
}

impl clap::Args for Flags {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("A file with any of these keys; by default node.toml in the data directory [env: MOTE_CONFIG]");
        KEYS.iter().fold(command.arg(file), |command, key| {
            let default = match key.default_shown() {
                nothing if nothing.is_empty() => nothing,
                default => format!(" [default: {default}]"),
            };
            let doc = key.doc.trim().trim_end_matches('.');
            command.arg(
                Arg::new(key.name)
                    .long(key.flag())
                    .value_name("VALUE")
                    .hide_short_help(!key.common)
                    .help(format!("{doc}{default} [env: {}]", key.variable())),
            )
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
