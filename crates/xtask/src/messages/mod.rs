//! Message definitions: translated from Kafka's schemas once, then held against them for ever.
//!
//! [`schema`] reads Kafka's JSON, [`model`] is what both sides are compared as, [`render`] writes a definition's source,
//! [`source`] reads it back. Only names, types, versions and defaults are taken from the schemas, never their prose.

mod apis;
mod jar;
mod model;
mod render;
mod schema;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use self::apis::{Api, MODULES};
use self::model::Module;
use crate::Result;

/// Fails if a definition differs from its schema, or one is missing.
pub(crate) fn check() -> Result<()> {
    let schemas = jar::schemas()?;
    let mut differences = Vec::new();
    let mut messages = 0;
    for api in MODULES {
        let expected = expected(api, &schemas)?;
        let path = directory().join(format!("{}.rs", api.module()));
        let found = match fs::read_to_string(&path) {
            Ok(text) => {
                source::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?
            }
            Err(error) => {
                differences.push(format!("{}: {error}", path.display()));
                continue;
            }
        };
        messages += expected.messages.len();
        differences.extend(
            expected
                .differences(&found)
                .into_iter()
                .map(|d| format!("{}.rs: {d}", api.module())),
        );
    }
    let key_table = fs::read_to_string(directory().join("../api_key.rs"))?;
    for api in MODULES {
        let Some(key) = api.key(&schemas)? else {
            continue;
        };
        let row = format!("{} = {key} {}::{}Request", api.name, api.module(), api.name);
        if !key_table.contains(&row) {
            differences.push(format!("api_key.rs: no row `{row}`"));
        }
    }
    if differences.is_empty() {
        println!(
            "{messages} messages match the schemas of Kafka {}",
            jar::KAFKA_VERSION
        );
        return Ok(());
    }
    Err(format!(
        "definitions differ from Kafka {}:\n  {}",
        jar::KAFKA_VERSION,
        differences.join("\n  ")
    )
    .into())
}

/// Writes every definition, and the list of modules, anew.
pub(crate) fn translate() -> Result<()> {
    let schemas = jar::schemas()?;
    let mut rows = Vec::new();
    for api in MODULES {
        let module = expected(api, &schemas)?;
        fs::write(
            directory().join(format!("{}.rs", api.module())),
            render::module(api, &module),
        )?;
        if let Some(key) = api.key(&schemas)? {
            rows.push((
                key,
                format!(
                    "    {} = {key} {}::{}Request,",
                    api.name,
                    api.module(),
                    api.name
                ),
            ));
        }
    }
    fs::write(directory().join("mod.rs"), render::index(MODULES))?;
    rows.sort();
    println!(
        "wrote {} modules; the rows of api_key.rs are:",
        MODULES.len()
    );
    for (_, row) in rows {
        println!("{row}");
    }
    println!("run `cargo fmt -p ottla-wire` now");
    Ok(())
}

fn expected(api: &Api, schemas: &Path) -> Result<Module> {
    let messages = api
        .schemas()
        .iter()
        .map(|name| {
            schema::read(&schemas.join(format!("{name}.json")))
                .map_err(|error| format!("{name}: {error}"))
        })
        .collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(Module::from_schemas(messages)?)
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ottla-wire/src/messages")
}
