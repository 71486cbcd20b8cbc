//! Reads definitions back from their source.

use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::{Attribute, Expr, Fields, Ident, Item, ItemStruct, Lit, LitInt, LitStr, Result, Token};

use super::model::{Default, Field, Message, Module, Struct, Versions, camel_case};

/// The definitions in a module's source; its other items are left alone.
pub(crate) fn parse(text: &str) -> Result<Module> {
    let mut module = Module {
        messages: Vec::new(),
        structs: Vec::new(),
    };
    for item in syn::parse_file(text)?.items {
        let Item::Struct(item) = item else { continue };
        let derives = |name: &str| {
            item.attrs
                .iter()
                .any(|a| a.path().is_ident("derive") && mentions(a, name))
        };
        if derives("Message") {
            module.messages.push(message(&item)?);
        } else if !derives("Struct") {
            continue;
        }
        module.structs.push(structure(&item)?);
    }
    Ok(module)
}

fn mentions(attribute: &Attribute, name: &str) -> bool {
    attribute
        .meta
        .to_token_stream()
        .to_string()
        .split(|c: char| !c.is_alphanumeric())
        .any(|word| word == name)
}

fn message(item: &ItemStruct) -> Result<Message> {
    let mut message = Message {
        name: item.ident.to_string(),
        key: None,
        versions: Versions::ALL,
        flexible: None,
    };
    for attribute in kafka(&item.attrs) {
        attribute.parse_args_with(|input: ParseStream<'_>| {
            each(input, |name, input| {
                input.parse::<Token![=]>()?;
                match name.to_string().as_str() {
                    "key" => message.key = Some(input.parse::<LitInt>()?.base10_parse()?),
                    "versions" => message.versions = versions(input)?,
                    "flexible" => message.flexible = Some(versions(input)?.min),
                    other => return Err(input.error(format!("unknown attribute {other}"))),
                }
                Ok(())
            })
        })?;
    }
    Ok(message)
}

fn structure(item: &ItemStruct) -> Result<Struct> {
    let Fields::Named(named) = &item.fields else {
        return Err(syn::Error::new_spanned(
            item,
            "a definition has named fields",
        ));
    };
    let mut fields = Vec::new();
    for field in &named.named {
        let name = field
            .ident
            .as_ref()
            .map(|ident| ident.unraw().to_string())
            .unwrap_or_default();
        if name == "unknown_tagged_fields" {
            continue;
        }
        let mut parsed = Field {
            kafka_name: camel_case(&name),
            name,
            ty: field.ty.to_token_stream().to_string().replace(' ', ""),
            versions: Versions::ALL,
            tag: None,
            ignorable: false,
            nullable: None,
            default: Default::Zero,
        };
        for attribute in kafka(&field.attrs) {
            attribute
                .parse_args_with(|input: ParseStream<'_>| field_attributes(input, &mut parsed))?;
        }
        fields.push(parsed);
    }
    Ok(Struct {
        name: item.ident.to_string(),
        used_by: None,
        fields,
    })
}

fn field_attributes(input: ParseStream<'_>, field: &mut Field) -> Result<()> {
    if input.peek(LitStr) {
        field.versions = versions(input)?;
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
    }
    each(input, |name, input| {
        let name = name.to_string();
        if !matches!(name.as_str(), "ignorable" | "secret") {
            input.parse::<Token![=]>()?;
        }
        match name.as_str() {
            "ignorable" => field.ignorable = true,
            "secret" => {}
            "tag" => field.tag = Some(input.parse::<LitInt>()?.base10_parse()?),
            "nullable" => field.nullable = Some(versions(input)?),
            "default" => field.default = default(&input.parse()?)?,
            "name" => field.kafka_name = input.parse::<LitStr>()?.value(),
            other => return Err(input.error(format!("unknown attribute {other}"))),
        }
        Ok(())
    })
}

fn default(expr: &Expr) -> Result<Default> {
    let unknown = || syn::Error::new_spanned(expr, "a default is a number, `true`, \"\" or []");
    let text = expr.to_token_stream().to_string().replace(' ', "");
    Ok(match expr {
        Expr::Array(array) if array.elems.is_empty() => Default::Empty,
        Expr::Lit(literal) if matches!(&literal.lit, Lit::Str(text) if text.value().is_empty()) => {
            Default::Empty
        }
        _ if text == "true" => Default::True,
        _ => Default::Number(match text.as_str() {
            "i32::MIN" => i32::MIN.into(),
            "i32::MAX" => i32::MAX.into(),
            "i64::MIN" => i64::MIN,
            "i64::MAX" => i64::MAX,
            number => number.parse().map_err(|_| unknown())?,
        }),
    })
}

fn kafka(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("kafka"))
}

fn versions(input: ParseStream<'_>) -> Result<Versions> {
    let literal: LitStr = input.parse()?;
    literal
        .value()
        .parse()
        .map_err(|error| syn::Error::new(literal.span(), error))
}

fn each(
    input: ParseStream<'_>,
    mut parse: impl FnMut(Ident, ParseStream<'_>) -> Result<()>,
) -> Result<()> {
    while !input.is_empty() {
        parse(input.call(Ident::parse_any)?, input)?;
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFINITION: &str = r#"
        /// Versions 4-18, flexible from 12.
        #[derive(Clone, PartialEq, Message)]
        #[kafka(key = 1, versions = "4-18", flexible = "12+")]
        pub struct FetchRequest {
            #[kafka("12+", tag = 0, ignorable)]
            pub cluster_id: Option<Str>,
            #[kafka(nullable = "5+", default = [])]
            pub topics: Option<Vec<FetchTopic>>,
            #[kafka(default = i32::MAX)]
            pub max_bytes: i32,
            pub unknown_tagged_fields: TaggedFields,
        }

        #[derive(Clone, PartialEq, Struct)]
        pub struct FetchTopic {
            #[kafka(secret)]
            pub topic: Str,
            pub unknown_tagged_fields: TaggedFields,
        }

        impl FetchTopic {}
    "#;

    #[test]
    fn a_definition_agrees_with_itself() {
        let module = parse(DEFINITION).unwrap();
        assert_eq!(module.messages.len(), 1);
        assert_eq!(module.structs.len(), 2);
        assert_eq!(module.differences(&parse(DEFINITION).unwrap()), [""; 0]);
        // Not part of the schema.
        let changed = DEFINITION.replace("#[kafka(secret)]", "");
        assert_eq!(module.differences(&parse(&changed).unwrap()), [""; 0]);
    }

    #[test]
    fn every_change_is_found() {
        let expected = parse(DEFINITION).unwrap();
        for (from, to, place) in [
            ("versions = \"4-18\"", "versions = \"4-17\"", "FetchRequest"),
            ("flexible = \"12+\"", "flexible = \"11+\"", "FetchRequest"),
            ("key = 1", "key = 2", "FetchRequest"),
            ("tag = 0", "tag = 1", "FetchRequest::cluster_id"),
            (", ignorable", "", "FetchRequest::cluster_id"),
            ("(\"12+\"", "(\"13+\"", "FetchRequest::cluster_id"),
            ("Option<Str>", "Str", "FetchRequest::cluster_id"),
            ("nullable = \"5+\", ", "", "FetchRequest::topics"),
            (", default = []", "", "FetchRequest::topics"),
            ("i32::MAX", "i32::MIN", "FetchRequest::max_bytes"),
            (
                "max_bytes: i32",
                "max_bytes: i64",
                "FetchRequest::max_bytes",
            ),
            (
                "max_bytes",
                "min_bytes",
                "FetchRequest should have the fields",
            ),
            (
                "struct FetchTopic",
                "struct Topic",
                "struct FetchTopic is missing",
            ),
            ("pub topic: Str,", "", "FetchTopic should have the fields"),
        ] {
            let changed = DEFINITION.replacen(from, to, 1);
            assert_ne!(changed, DEFINITION, "{from} is there");
            let differences = expected.differences(&parse(&changed).unwrap());
            assert!(
                differences.iter().any(|d| d.contains(place)),
                "{from} -> {to}: {differences:?}"
            );
        }
    }

    #[test]
    fn order_of_fields_counts() {
        let expected = parse("#[derive(Struct)] struct S { a: i32, b: i32 }").unwrap();
        let swapped = parse("#[derive(Struct)] struct S { b: i32, a: i32 }").unwrap();
        assert_eq!(expected.differences(&swapped).len(), 1);
    }
}
