//! Kafka's message schemas: JSON with whole-line `//` comments.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::model::Versions;

pub(crate) struct Schema {
    pub(crate) name: String,
    pub(crate) key: Option<i16>,
    pub(crate) is_request: bool,
    pub(crate) versions: Versions,
    pub(crate) flexible: Option<Versions>,
    pub(crate) fields: Vec<SchemaField>,
    /// Structures used by several fields: name and fields.
    pub(crate) common: Vec<(String, Vec<SchemaField>)>,
}

pub(crate) struct SchemaField {
    pub(crate) name: String,
    pub(crate) ty: String,
    pub(crate) versions: Versions,
    pub(crate) nullable: Option<Versions>,
    pub(crate) tag: Option<u32>,
    pub(crate) tagged: Option<Versions>,
    pub(crate) ignorable: bool,
    pub(crate) default: Option<String>,
    pub(crate) fields: Vec<SchemaField>,
}

type Result<T> = std::result::Result<T, String>;

pub(crate) fn read(path: &Path) -> Result<Schema> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let json: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let json: Value = serde_json::from_str(&json).map_err(|error| error.to_string())?;
    let mut versions = versions(&json, "validVersions")?
        .ok_or("the message was removed from Kafka: no version is valid")?;
    if json["latestVersionUnstable"] == true {
        versions.max -= 1;
    }
    let common = match json["commonStructs"].as_array() {
        Some(structs) => structs
            .iter()
            .map(|common| Ok((text_of(common, "name")?, fields(common)?)))
            .collect::<Result<Vec<_>>>()?,
        None => Vec::new(),
    };
    Ok(Schema {
        name: text_of(&json, "name")?,
        key: json["apiKey"].as_i64().and_then(|key| key.try_into().ok()),
        is_request: json["type"] == "request",
        versions,
        flexible: self::versions(&json, "flexibleVersions")?,
        fields: fields(&json)?,
        common,
    })
}

fn fields(json: &Value) -> Result<Vec<SchemaField>> {
    let Some(array) = json["fields"].as_array() else {
        return Ok(Vec::new());
    };
    array.iter().map(field).collect()
}

fn field(json: &Value) -> Result<SchemaField> {
    let name = text_of(json, "name")?;
    if !json["flexibleVersions"].is_null() {
        return Err(format!(
            "{name} has flexible versions of its own, which the definitions cannot say"
        ));
    }
    Ok(SchemaField {
        ty: text_of(json, "type")?,
        versions: versions(json, "versions")?.ok_or_else(|| format!("{name} has no versions"))?,
        nullable: versions(json, "nullableVersions")?,
        tag: json["tag"].as_u64().and_then(|tag| tag.try_into().ok()),
        tagged: versions(json, "taggedVersions")?,
        ignorable: json["ignorable"] == true,
        default: match &json["default"] {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        },
        fields: fields(json)?,
        name,
    })
}

fn text_of(json: &Value, key: &str) -> Result<String> {
    json[key]
        .as_str()
        .map(String::from)
        .ok_or_else(|| format!("`{key}` is missing"))
}

fn versions(json: &Value, key: &str) -> Result<Option<Versions>> {
    match json[key].as_str() {
        None | Some("none") => Ok(None),
        Some(text) => text.parse().map(Some),
    }
}
