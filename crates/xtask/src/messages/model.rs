//! A module of definitions in the form in which schema and source are compared.
//!
//! Versions are normalised: a bound that a field shares with the structure around it is left out, so that a field without
//! bounds is in every version of its structure.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::schema::{Schema, SchemaField};

/// The definitions of one API: its request and response, or one structure with versions of its own.
pub(crate) struct Module {
    pub(crate) messages: Vec<Message>,
    /// By name, in order of first use: messages and the structures in them.
    pub(crate) structs: Vec<Struct>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Message {
    pub(crate) name: String,
    /// Only on requests.
    pub(crate) key: Option<i16>,
    pub(crate) versions: Versions,
    /// First flexible version.
    pub(crate) flexible: Option<i16>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Struct {
    pub(crate) name: String,
    /// Where it is used: `FetchRequest::topics`. Not compared.
    pub(crate) used_by: Option<(String, String)>,
    pub(crate) fields: Vec<Field>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    /// In snake case, without `r#`.
    pub(crate) name: String,
    /// Kafka's name, in camel case.
    pub(crate) kafka_name: String,
    /// As in Rust source: `Option<Vec<FetchTopic>>`.
    pub(crate) ty: String,
    pub(crate) versions: Versions,
    pub(crate) tag: Option<u32>,
    pub(crate) ignorable: bool,
    /// If not every version that has the field allows null.
    pub(crate) nullable: Option<Versions>,
    pub(crate) default: Default,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Default {
    /// Zero, empty, or null for an `Option`.
    Zero,
    /// Not null, but empty: `""` or `[]`.
    Empty,
    True,
    Number(i64),
}

/// `min..=max`; `i16::MAX` if open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) min: i16,
    pub(crate) max: i16,
}

impl Versions {
    pub(crate) const ALL: Self = Self {
        min: 0,
        max: i16::MAX,
    };

    fn intersect(self, other: Self) -> Option<Self> {
        let (min, max) = (self.min.max(other.min), self.max.min(other.max));
        (min <= max).then_some(Self { min, max })
    }

    fn hull(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    /// Leaves out the bounds shared with `outer`.
    fn relative_to(self, outer: Self) -> Self {
        Self {
            min: if self.min <= outer.min { 0 } else { self.min },
            max: if self.max >= outer.max {
                i16::MAX
            } else {
                self.max
            },
        }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.min, self.max) {
            (min, i16::MAX) => write!(f, "{min}+"),
            (min, max) if min == max => write!(f, "{min}"),
            (min, max) => write!(f, "{min}-{max}"),
        }
    }
}

impl FromStr for Versions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = match (text.strip_suffix('+'), text.split_once('-')) {
            (Some(min), _) => (min.parse(), Ok(i16::MAX)),
            (None, Some((min, max))) => (min.parse(), max.parse()),
            (None, None) => (text.parse(), text.parse()),
        };
        match (min, max) {
            (Ok(min), Ok(max)) => Ok(Self { min, max }),
            _ => Err(format!("`{text}` is not a range of versions")),
        }
    }
}

impl Module {
    /// Structures that request and response define alike become one; those that differ get their message's name in front.
    pub(crate) fn from_schemas(mut schemas: Vec<Schema>) -> Result<Self, String> {
        // Only the request says that its latest version is not stable yet.
        if let [request, response] = &mut schemas[..] {
            response.versions = response
                .versions
                .intersect(request.versions)
                .ok_or("request and response have no version in common")?;
        }
        let mut messages = Vec::new();
        let mut per_message = Vec::new();
        for schema in &schemas {
            messages.push(Message {
                name: schema.name.clone(),
                key: schema.key.filter(|_| schema.is_request),
                versions: schema.versions,
                flexible: schema.flexible.map(|flexible| flexible.min),
            });
            per_message.push(structs_of(schema)?);
        }
        if let [request, response] = &mut per_message[..] {
            separate(request, response);
            let shared: Vec<_> = request.iter().map(|s| s.name.clone()).collect();
            response.retain(|s| !shared.contains(&s.name));
        }
        Ok(Self {
            messages,
            structs: per_message.into_iter().flatten().collect(),
        })
    }

    /// What is different in `found`, for a person to read.
    pub(crate) fn differences(&self, found: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        for message in &self.messages {
            match found
                .messages
                .iter()
                .find(|other| other.name == message.name)
            {
                None => differences.push(format!("{} is missing", message.name)),
                Some(other) if other != message => {
                    differences.push(format!(
                        "{} should be {message:?}, is {other:?}",
                        message.name
                    ));
                }
                Some(_) => {}
            }
        }
        for expected in &self.structs {
            let name = &expected.name;
            let Some(other) = found.structs.iter().find(|other| other.name == *name) else {
                differences.push(format!("struct {name} is missing"));
                continue;
            };
            let names = |s: &Struct| {
                s.fields
                    .iter()
                    .map(|field| field.name.clone())
                    .collect::<Vec<_>>()
            };
            if names(expected) != names(other) {
                differences.push(format!(
                    "{name} should have the fields {:?}, has {:?}",
                    names(expected),
                    names(other)
                ));
                continue;
            }
            for (expected, other) in expected
                .fields
                .iter()
                .zip(&other.fields)
                .filter(|(a, b)| a != b)
            {
                differences.push(format!(
                    "{name}::{} should be {expected:?}, is {other:?}",
                    expected.name
                ));
            }
        }
        for other in &found.structs {
            if !self
                .structs
                .iter()
                .any(|expected| expected.name == other.name)
            {
                differences.push(format!("struct {} is not in the schema", other.name));
            }
        }
        differences
    }
}

fn structs_of(schema: &Schema) -> Result<Vec<Struct>, String> {
    let mut uses = BTreeMap::new();
    collect_uses(schema, &schema.fields, schema.versions, &mut uses);
    let mut structs = Vec::new();
    add_struct(
        schema,
        &schema.name,
        &schema.fields,
        None,
        &uses,
        &mut structs,
    )?;
    Ok(structs)
}

/// For each structure, the versions in which any field uses it.
fn collect_uses(
    schema: &Schema,
    fields: &[SchemaField],
    outer: Versions,
    uses: &mut BTreeMap<String, Versions>,
) {
    for field in fields {
        let (Some(inner), Some(name)) = (field.versions.intersect(outer), struct_name(&field.ty))
        else {
            continue;
        };
        uses.entry(name.to_string())
            .and_modify(|versions| *versions = versions.hull(inner))
            .or_insert(inner);
        collect_uses(schema, fields_of(schema, field), inner, uses);
    }
}

fn add_struct(
    schema: &Schema,
    name: &str,
    schema_fields: &[SchemaField],
    used_by: Option<(String, String)>,
    uses: &BTreeMap<String, Versions>,
    structs: &mut Vec<Struct>,
) -> Result<(), String> {
    if structs.iter().any(|s| s.name == name) {
        return Ok(());
    }
    let outer = uses.get(name).copied().unwrap_or(schema.versions);
    let fields = schema_fields
        .iter()
        .filter_map(|field| translate_field(field, outer).transpose());
    let fields = fields.collect::<Result<Vec<_>, _>>()?;
    structs.push(Struct {
        name: name.to_string(),
        used_by,
        fields,
    });
    for field in schema_fields {
        if let (Some(inner), Some(_)) = (struct_name(&field.ty), field.versions.intersect(outer)) {
            let used_by = Some((name.to_string(), snake_case(&field.name)));
            add_struct(
                schema,
                inner,
                fields_of(schema, field),
                used_by,
                uses,
                structs,
            )?;
        }
    }
    Ok(())
}

fn fields_of<'a>(schema: &'a Schema, field: &'a SchemaField) -> &'a [SchemaField] {
    if !field.fields.is_empty() {
        return &field.fields;
    }
    let name = struct_name(&field.ty);
    schema
        .common
        .iter()
        .find(|(common, _)| Some(common.as_str()) == name)
        .map_or(&[], |(_, fields)| fields)
}

/// `None` if no valid version has the field.
fn translate_field(field: &SchemaField, outer: Versions) -> Result<Option<Field>, String> {
    let Some(versions) = field.versions.intersect(outer) else {
        return Ok(None);
    };
    if field
        .tagged
        .is_some_and(|tagged| tagged.intersect(outer) != Some(versions))
    {
        return Err(format!("{} is tagged in some versions only", field.name));
    }
    let nullable = field
        .nullable
        .and_then(|nullable| nullable.intersect(versions));
    let base = rust_type(&field.ty, &field.name)?;
    let relative = versions.relative_to(outer);
    Ok(Some(Field {
        name: snake_case(&field.name),
        kafka_name: lower_first(&field.name),
        ty: if nullable.is_some() {
            format!("Option<{base}>")
        } else {
            base
        },
        versions: relative,
        tag: field.tag,
        ignorable: field.ignorable && relative != Versions::ALL,
        nullable: nullable
            .map(|nullable| nullable.relative_to(versions))
            .filter(|&nullable| nullable != Versions::ALL),
        default: default(
            field.default.as_deref(),
            nullable.is_some(),
            field.ty.starts_with(char::is_uppercase),
        )
        .ok_or_else(|| {
            format!(
                "{} has the default {:?}, which is not understood",
                field.name, field.default
            )
        })?,
    }))
}

fn default(text: Option<&str>, nullable: bool, is_struct: bool) -> Option<Default> {
    Some(match text {
        Some("null") | Some("") if !nullable => Default::Zero,
        Some("null") => Default::Zero,
        None | Some("") if nullable && !is_struct => Default::Empty,
        // A structure that may be null but is not by default would need a word of its own; Kafka has none.
        None if nullable => return None,
        None | Some("false") => Default::Zero,
        Some("true") => Default::True,
        Some(number) => {
            let value = match number.strip_prefix("0x") {
                Some(hex) => i64::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            if value == 0 {
                Default::Zero
            } else {
                Default::Number(value)
            }
        }
    })
}

fn struct_name(ty: &str) -> Option<&str> {
    let element = ty.strip_prefix("[]").unwrap_or(ty);
    element.starts_with(char::is_uppercase).then_some(element)
}

fn rust_type(ty: &str, field: &str) -> Result<String, String> {
    if let Some(element) = ty.strip_prefix("[]") {
        return Ok(format!("Vec<{}>", rust_type(element, field)?));
    }
    let rust = match ty {
        "bool" => "bool",
        "int8" => "i8",
        "int16" if field.ends_with("ErrorCode") => "ErrorCode",
        "int16" => "i16",
        "uint16" => "u16",
        "int32" => "i32",
        "uint32" => "u32",
        "int64" => "i64",
        "float64" => "f64",
        "uuid" => "Uuid",
        "string" => "Str",
        "bytes" | "records" => "Bytes",
        name if name.starts_with(char::is_uppercase) => name,
        other => return Err(format!("{field} has the unknown type {other}")),
    };
    Ok(rust.to_string())
}

/// Gives structures of one name that differ between request and response their message's name as a prefix. A structure
/// differs if its fields do, or if a structure inside it does.
fn separate(request: &mut [Struct], response: &mut [Struct]) {
    let mut conflicts: Vec<String> = Vec::new();
    loop {
        let found = request.iter().skip(1).find(|a| {
            !conflicts.contains(&a.name)
                && response
                    .iter()
                    .any(|b| b.name == a.name && (b.fields != a.fields || uses_any(b, &conflicts)))
        });
        match found {
            Some(conflict) => conflicts.push(conflict.name.clone()),
            None => break,
        }
    }
    for structs in [request, response] {
        let message = structs[0].name.clone();
        for s in structs {
            if let Some((user, _)) = s
                .used_by
                .as_mut()
                .filter(|(user, _)| conflicts.contains(user))
            {
                *user = format!("{message}{user}");
            }
            if conflicts.contains(&s.name) {
                s.name = format!("{message}{}", s.name);
            }
            for field in &mut s.fields {
                for conflict in &conflicts {
                    field.ty = replace_type(&field.ty, conflict, &format!("{message}{conflict}"));
                }
            }
        }
    }
}

fn uses_any(s: &Struct, names: &[String]) -> bool {
    s.fields
        .iter()
        .any(|field| names.iter().any(|name| inner_type(&field.ty) == name))
}

fn replace_type(ty: &str, from: &str, to: &str) -> String {
    if inner_type(ty) == from {
        ty.replace(from, to)
    } else {
        ty.to_string()
    }
}

/// The type inside `Option` and `Vec`.
fn inner_type(ty: &str) -> &str {
    ty.trim_start_matches("Option<")
        .trim_start_matches("Vec<")
        .trim_end_matches('>')
}

pub(crate) fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    let chars: Vec<char> = name.chars().collect();
    for (i, &c) in chars.iter().enumerate() {
        if c.is_uppercase() {
            let after_lower = i > 0 && !chars[i - 1].is_uppercase();
            let before_lower = i > 0 && chars.get(i + 1).is_some_and(|next| next.is_lowercase());
            if after_lower || before_lower {
                snake.push('_');
            }
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// The derive macro's inverse of [`snake_case`], which is not exact for names such as `isKRaft`.
pub(crate) fn camel_case(snake: &str) -> String {
    let mut words = snake.split('_');
    let first = words.next().unwrap_or_default().to_string();
    words.fold(first, |mut camel, word| {
        let mut chars = word.chars();
        camel.extend(chars.next().map(|c| c.to_ascii_uppercase()));
        camel.push_str(chars.as_str());
        camel
    })
}

fn lower_first(name: &str) -> String {
    let mut chars = name.chars();
    chars
        .next()
        .map(|c| c.to_ascii_lowercase())
        .into_iter()
        .chain(chars)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for name in ["throttleTimeMs", "topics", "v3AndBelowTopics"] {
            assert_eq!(camel_case(&snake_case(name)), name);
        }
        assert_eq!(snake_case("IsKRaftVersion"), "is_k_raft_version");
        assert_eq!(snake_case("MetadataRequest"), "metadata_request");
    }

    #[test]
    fn versions_shared_with_the_structure_around_are_left_out() {
        let v = |text: &str| text.parse::<Versions>().unwrap();
        assert_eq!(
            v("3+").intersect(v("4-18")).unwrap().relative_to(v("4-18")),
            Versions::ALL
        );
        assert_eq!(
            v("0-12")
                .intersect(v("4-18"))
                .unwrap()
                .relative_to(v("4-18"))
                .to_string(),
            "0-12"
        );
        assert_eq!(
            v("13+")
                .intersect(v("4-18"))
                .unwrap()
                .relative_to(v("4-18"))
                .to_string(),
            "13+"
        );
        assert_eq!(
            v("7-12")
                .intersect(v("7-18"))
                .unwrap()
                .relative_to(v("7-18"))
                .to_string(),
            "0-12"
        );
    }
}
