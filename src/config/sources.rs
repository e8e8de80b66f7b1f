//! Where settings come from: built-in defaults, then a file, then the environment, then the command line.

use std::path::{Path, PathBuf};

use config::{Config, File, FileFormat, Map, Value};

use super::reader::{Fault, Reader};

/// The commented defaults of all settings.
pub const DEFAULTS: &str = include_str!("../config.default.toml");
/// The file that is read when `--config` names none.
pub const DEFAULT_FILE: &str = "order-relay.toml";
const ENV_PREFIX: &str = "ORDER_RELAY__";
const FILE_SUFFIX: &str = "_FILE";

/// Which file is read.
#[derive(Debug, Clone, Copy)]
pub enum SettingsFile<'a> {
    /// This one; it must be there.
    Named(&'a Path),
    /// `order-relay.toml`, if there is one.
    IfThere,
    None,
}

/// The file and the command line's own values, kept to read everything again.
#[derive(Debug, Clone)]
pub struct Sources {
    file: Option<PathBuf>,
    overrides: Vec<(String, String)>,
}

impl Sources {
    pub(super) fn new(file: SettingsFile<'_>, overrides: &[(&str, &str)]) -> Self {
        let file = match file {
            SettingsFile::Named(path) => Some(path),
            SettingsFile::IfThere => Some(Path::new(DEFAULT_FILE)).filter(|path| path.exists()),
            SettingsFile::None => None,
        };
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Self { file: file.map(Path::to_owned), overrides: overrides.iter().map(owned).collect() }
    }

    /// A reader of everything as it is now, and the faults of the environment.
    pub(super) fn open(
        &self,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<(Reader, Vec<Fault>), Vec<Fault>> {
        let defaults = collect(Config::builder().add_source(built_in()), "config.default.toml")?;
        let mut builder = Config::builder().add_source(built_in());
        let file = self.file.as_deref();
        if let Some(path) = file {
            builder = builder.add_source(File::from(path).format(FileFormat::Toml).required(true));
        }
        let name = file.unwrap_or(Path::new(DEFAULT_FILE)).display().to_string();
        let (values, faults) = from_environment(environment, &defaults);
        let mut merged = collect(builder, &name)?;
        for (key, value) in values {
            set(&mut merged, &key, value);
        }
        let origin = "the command line".to_owned();
        for (key, value) in &self.overrides {
            set(&mut merged, key, Value::new(Some(&origin), value.clone()));
        }
        Ok((Reader::new(merged, defaults), faults))
    }
}

fn built_in() -> File<config::FileSourceString, FileFormat> {
    File::from_str(DEFAULTS, FileFormat::Toml)
}

fn collect(
    builder: config::ConfigBuilder<config::builder::DefaultState>,
    name: &str,
) -> Result<Map<String, Value>, Vec<Fault>> {
    use config::Source;
    builder.build().and_then(|config| config.collect()).map_err(|error| {
        vec![Fault {
            key: name.to_owned(),
            detail: error.to_string().trim().to_owned(),
            origin: None,
        }]
    })
}

/// Sets `key` (with dots) in nested tables.
fn set(table: &mut Map<String, Value>, key: &str, value: Value) {
    let Some((first, rest)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return;
    };
    let below = table
        .entry(first.to_owned())
        .or_insert_with(|| Value::new(None, config::ValueKind::Table(Map::new())));
    if !matches!(below.kind, config::ValueKind::Table(_)) {
        // A key below one that holds a value: it stays visible, and is reported as unknown.
        below.kind = config::ValueKind::Table(Map::new());
    }
    if let config::ValueKind::Table(below) = &mut below.kind {
        set(below, rest, value);
    }
}

/// `ORDER_RELAY__A__B=x` sets `a.b`; `ORDER_RELAY__A__B_FILE=path` sets it to what the file holds.
fn from_environment(
    environment: impl Iterator<Item = (String, String)>,
    defaults: &Map<String, Value>,
) -> (Vec<(String, Value)>, Vec<Fault>) {
    let (mut values, mut faults) = (Vec::new(), Vec::new());
    for (name, text) in environment {
        let Some(path) = name.strip_prefix(ENV_PREFIX) else { continue };
        let origin = Some(format!("the environment, {name}"));
        let key = |path: &str| path.replace("__", ".").to_ascii_lowercase();
        let file = path.strip_suffix(FILE_SUFFIX).filter(|_| !has(defaults, &key(path)));
        match file {
            None => values.push((key(path), Value::new(origin.as_ref(), text))),
            Some(path) => match std::fs::read_to_string(&text) {
                Ok(secret) => {
                    let secret = secret.trim_end_matches(['\r', '\n']).to_owned();
                    values.push((key(path), Value::new(origin.as_ref(), secret)));
                }
                Err(error) => faults.push(Fault {
                    key: key(path),
                    detail: format!("{text} cannot be read: {error}"),
                    origin,
                }),
            },
        }
    }
    (values, faults)
}

fn has(table: &Map<String, Value>, key: &str) -> bool {
    match key.split_once('.') {
        None => table.contains_key(key),
        Some((first, rest)) => match table.get(first).map(|value| &value.kind) {
            Some(config::ValueKind::Table(below)) => has(below, rest),
            _ => false,
        },
    }
}
