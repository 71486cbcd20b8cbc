//! Writes the source of definitions. The layout of lines is left to rustfmt.

use std::fmt::Write;

use super::apis::{Api, SECRET};
use super::model::{Default, Field, Message, Module, Struct, Versions, camel_case};

/// The source of a module.
pub(crate) fn module(api: &Api, module: &Module) -> String {
    let mut out = String::new();
    let first = &module.messages[0];
    match first.key {
        Some(key) => writeln!(out, "//! {}, API {key}: {}.\n", api.name, api.purpose),
        None => writeln!(out, "//! {}: {}.\n", api.name, api.purpose),
    }
    .ok();
    let derives = match module.structs.len() > module.messages.len() {
        true => "{Message, Struct}",
        false => "Message",
    };
    let mut imports: Vec<_> = ["Bytes", "ErrorCode", "Str", "Uuid"]
        .into_iter()
        .filter(|ty| uses_type(module, ty))
        .collect();
    imports.push("TaggedFields");
    imports.sort_unstable();
    writeln!(
        out,
        "use ottla_wire_derive::{derives};\n\nuse crate::{{{}}};",
        imports.join(", ")
    )
    .ok();
    for s in &module.structs {
        out.push('\n');
        structure(&mut out, s, module);
    }
    out
}

/// The source of `messages/mod.rs`.
pub(crate) fn index(apis: &[Api]) -> String {
    let mut modules: Vec<_> = apis.iter().map(Api::module).collect();
    modules.sort();
    let mut out = String::from(INDEX_HEAD);
    for module in modules {
        writeln!(out, "pub mod {module};").ok();
    }
    let mut visit: Vec<_> = apis
        .iter()
        .flat_map(|api| {
            api.schemas()
                .into_iter()
                .map(|name| format!("{}::{name}", api.module()))
        })
        .collect();
    visit.sort();
    write!(out, "{INDEX_MIDDLE}").ok();
    for path in visit {
        writeln!(out, "            {path},").ok();
    }
    out.push_str(INDEX_TAIL);
    out
}

fn structure(out: &mut String, s: &Struct, module: &Module) {
    let message = module
        .messages
        .iter()
        .find(|message| message.name == s.name);
    match message {
        Some(message) => message_head(out, message),
        None => {
            let (user, field) = s
                .used_by
                .as_ref()
                .map_or(("", ""), |(user, field)| (user, field));
            writeln!(
                out,
                "/// Of [`{user}::{field}`].\n#[derive(Clone, PartialEq, Struct)]"
            )
            .ok();
        }
    }
    writeln!(out, "pub struct {} {{", s.name).ok();
    for field in &s.fields {
        let attributes = attributes(
            field,
            SECRET.contains(&(s.name.as_str(), field.name.as_str())),
        );
        if !attributes.is_empty() {
            writeln!(out, "    #[kafka({})]", attributes.join(", ")).ok();
        }
        writeln!(out, "    pub {}: {},", rust_name(&field.name), field.ty).ok();
    }
    writeln!(out, "    pub unknown_tagged_fields: TaggedFields,\n}}").ok();
}

fn message_head(out: &mut String, message: &Message) {
    let versions = range(message.versions);
    let plural = if message.versions.min == message.versions.max {
        "Version"
    } else {
        "Versions"
    };
    let flexible_text = match message.flexible {
        Some(flexible) if flexible <= message.versions.min => ", flexible".to_string(),
        Some(flexible) => format!(", flexible from {flexible}"),
        None => ", never flexible".to_string(),
    };
    writeln!(
        out,
        "/// {plural} {versions}{flexible_text}.\n#[derive(Clone, PartialEq, Message)]"
    )
    .ok();
    let key = message
        .key
        .map_or(String::new(), |key| format!("key = {key}, "));
    let flexible = message.flexible.map_or(String::new(), |flexible| {
        format!(", flexible = \"{flexible}+\"")
    });
    writeln!(out, "#[kafka({key}versions = \"{versions}\"{flexible})]").ok();
}

fn attributes(field: &Field, secret: bool) -> Vec<String> {
    let mut attributes = Vec::new();
    if field.versions != Versions::ALL {
        attributes.push(format!("\"{}\"", field.versions));
    }
    attributes.extend(field.tag.map(|tag| format!("tag = {tag}")));
    attributes.extend(
        field
            .nullable
            .map(|nullable| format!("nullable = \"{nullable}\"")),
    );
    match field.default {
        Default::Zero => {}
        Default::Empty if field.ty.contains("Str") => attributes.push("default = \"\"".into()),
        Default::Empty => attributes.push("default = []".into()),
        Default::True => attributes.push("default = true".into()),
        Default::Number(value) => {
            attributes.push(format!("default = {}", number(value, &field.ty)));
        }
    }
    if field.ignorable {
        attributes.push("ignorable".into());
    }
    if secret {
        attributes.push("secret".into());
    }
    if camel_case(&field.name) != field.kafka_name {
        attributes.push(format!("name = \"{}\"", field.kafka_name));
    }
    attributes
}

fn number(value: i64, ty: &str) -> String {
    let extremes = [
        ("i32", i64::from(i32::MIN), i64::from(i32::MAX)),
        ("i64", i64::MIN, i64::MAX),
    ];
    for (name, min, max) in extremes.into_iter().filter(|(name, ..)| *name == ty) {
        if value == min {
            return format!("{name}::MIN");
        }
        if value == max {
            return format!("{name}::MAX");
        }
    }
    value.to_string()
}

fn range(versions: Versions) -> String {
    versions.to_string()
}

fn uses_type(module: &Module, ty: &str) -> bool {
    let is_it = |field: &Field| field.ty.split(['<', '>']).any(|part| part == ty);
    module.structs.iter().any(|s| s.fields.iter().any(is_it))
}

fn rust_name(name: &str) -> String {
    if ["type", "match", "move", "ref", "final"].contains(&name) {
        format!("r#{name}")
    } else {
        name.to_string()
    }
}

const INDEX_HEAD: &str = "\
//! The messages of Kafka's protocol, one module per API, each with its request and response.
//!
//! Type and field names are Kafka's. The definitions are plain structs; `ottla-wire-derive` documents their attributes and
//! makes the codec. They were translated from the schemas of Kafka 4.3.1 and `cargo run -p xtask -- check-schemas` fails
//! when they differ from those. Fields that a version does not have keep their default when decoded.

#![allow(missing_docs, reason = \"fields are Kafka's, by Kafka's names; the protocol's documentation explains them\")]

";

const INDEX_MIDDLE: &str = "
/// Calls a macro with the paths of all messages below this module.
#[cfg(feature = \"introspect\")]
macro_rules! with_all_messages {
    ($callback:ident) => {
        $callback! {
";

const INDEX_TAIL: &str = "        }
    };
}
#[cfg(feature = \"introspect\")]
pub(crate) use with_all_messages;
";
