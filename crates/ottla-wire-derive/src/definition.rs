//! A definition as parsed from the struct and its attributes; says in errors what is wrong where.

use proc_macro2::TokenStream;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Data, DeriveInput, Expr, Fields, Ident, LitInt, LitStr, Result, Token, Type};

pub(crate) struct Definition<'a> {
    pub(crate) ident: &'a Ident,
    /// Only for structures with versions of their own.
    pub(crate) message: Option<MessageAttributes>,
    /// Without `unknown_tagged_fields`, in wire order.
    pub(crate) fields: Vec<Field<'a>>,
}

pub(crate) struct MessageAttributes {
    pub(crate) is_request: bool,
    pub(crate) versions: Versions,
    pub(crate) flexible_from: i16,
}

pub(crate) struct Field<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) ty: &'a Type,
    pub(crate) attributes: FieldAttributes,
}

#[derive(Default)]
pub(crate) struct FieldAttributes {
    pub(crate) versions: Versions,
    pub(crate) tag: Option<u32>,
    pub(crate) ignorable: bool,
    pub(crate) nullable: Option<Versions>,
    pub(crate) default: Option<Expr>,
    pub(crate) secret: bool,
    pub(crate) name: Option<String>,
}

/// A range of versions; `max` is `i16::MAX` for an open one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) min: i16,
    pub(crate) max: i16,
}

impl Default for Versions {
    fn default() -> Self {
        Self {
            min: 0,
            max: i16::MAX,
        }
    }
}

impl<'a> Definition<'a> {
    pub(crate) fn parse(input: &'a DeriveInput, is_message: bool) -> Result<Self> {
        let ident = &input.ident;
        let Data::Struct(data) = &input.data else {
            return Err(syn::Error::new_spanned(ident, "a message is a struct"));
        };
        let Fields::Named(named) = &data.fields else {
            return Err(syn::Error::new_spanned(ident, "a message has named fields"));
        };
        let message = match kafka_attribute(&input.attrs)? {
            Some(attribute) if is_message => Some(attribute.parse_args::<MessageAttributes>()?),
            None if !is_message => None,
            Some(attribute) => {
                return Err(syn::Error::new_spanned(
                    attribute,
                    "versions belong on a struct that derives Message",
                ));
            }
            None => {
                return Err(syn::Error::new_spanned(
                    ident,
                    "a message needs #[kafka(versions = \"…\")]",
                ));
            }
        };
        let mut fields = Vec::new();
        let mut has_tagged_fields = false;
        for field in &named.named {
            let Some(ident) = &field.ident else { continue };
            if has_tagged_fields {
                return Err(syn::Error::new_spanned(
                    ident,
                    "unknown_tagged_fields comes last",
                ));
            }
            if ident == "unknown_tagged_fields" {
                has_tagged_fields = true;
                continue;
            }
            let attributes = match kafka_attribute(&field.attrs)? {
                Some(attribute) => attribute.parse_args()?,
                None => FieldAttributes::default(),
            };
            fields.push(Field {
                ident,
                ty: &field.ty,
                attributes,
            });
        }
        if !has_tagged_fields {
            return Err(syn::Error::new_spanned(
                ident,
                "the last field is `unknown_tagged_fields: TaggedFields`",
            ));
        }
        Ok(Self {
            ident,
            message,
            fields,
        })
    }
}

impl Field<'_> {
    /// The type's last path segment, such as `Option` or `Bytes`.
    pub(crate) fn type_name(&self) -> String {
        last_segment(self.ty).unwrap_or_default()
    }

    pub(crate) fn is_option(&self) -> bool {
        self.type_name() == "Option"
    }

    /// Whether it is `Bytes` or `Option<Bytes>`.
    pub(crate) fn is_bytes(&self) -> bool {
        let inner = option_inner(self.ty).unwrap_or(self.ty);
        last_segment(inner).is_some_and(|name| name == "Bytes")
    }

    /// The field's name without `r#`.
    pub(crate) fn plain_name(&self) -> String {
        self.ident.unraw().to_string()
    }
}

fn last_segment(ty: &Type) -> Option<String> {
    match ty {
        Type::Path(path) => path
            .path
            .segments
            .last()
            .map(|segment| segment.ident.to_string()),
        _ => None,
    }
}

fn option_inner(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let segment = path.path.segments.last()?;
    let syn::PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return None;
    };
    match arguments.args.first()? {
        syn::GenericArgument::Type(inner) if segment.ident == "Option" => Some(inner),
        _ => None,
    }
}

fn kafka_attribute(attributes: &[Attribute]) -> Result<Option<&Attribute>> {
    let mut found = attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("kafka"));
    let first = found.next();
    match found.next() {
        Some(second) => Err(syn::Error::new_spanned(
            second,
            "only one #[kafka(…)] is allowed",
        )),
        None => Ok(first),
    }
}

impl Parse for MessageAttributes {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let (mut is_request, mut versions, mut flexible_from) = (false, None, i16::MAX);
        each_attribute(input, |name, input| {
            input.parse::<Token![=]>()?;
            match name.to_string().as_str() {
                "key" => {
                    input.parse::<LitInt>()?.base10_parse::<i16>()?;
                    is_request = true;
                }
                "versions" => versions = Some(input.parse::<Versions>()?),
                "flexible" => flexible_from = input.parse::<Versions>()?.min,
                _ => return Err(unknown(name)),
            }
            Ok(())
        })?;
        let versions = versions.ok_or_else(|| input.error("`versions` is missing"))?;
        Ok(Self {
            is_request,
            versions,
            flexible_from,
        })
    }
}

impl Parse for FieldAttributes {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut attributes = Self::default();
        if input.peek(LitStr) {
            attributes.versions = input.parse()?;
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        each_attribute(input, |name, input| {
            match name.to_string().as_str() {
                "ignorable" => attributes.ignorable = true,
                "secret" => attributes.secret = true,
                "tag" => attributes.tag = Some(value::<LitInt>(input)?.base10_parse()?),
                "nullable" => attributes.nullable = Some(value(input)?),
                "default" => attributes.default = Some(value(input)?),
                "name" => attributes.name = Some(value::<LitStr>(input)?.value()),
                _ => return Err(unknown(name)),
            }
            Ok(())
        })?;
        Ok(attributes)
    }
}

impl Parse for Versions {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let literal: LitStr = input.parse()?;
        let text = literal.value();
        let range = match (text.strip_suffix('+'), text.split_once('-')) {
            (Some(min), _) => (min.parse(), Ok(i16::MAX)),
            (None, Some((min, max))) => (min.parse(), max.parse()),
            (None, None) => (text.parse(), text.parse()),
        };
        match range {
            (Ok(min), Ok(max)) if 0 <= min && min <= max => Ok(Self { min, max }),
            _ => Err(syn::Error::new(
                literal.span(),
                "versions are written \"3\", \"3-5\" or \"3+\"",
            )),
        }
    }
}

fn each_attribute(
    input: ParseStream<'_>,
    mut parse: impl FnMut(&Ident, ParseStream<'_>) -> Result<()>,
) -> Result<()> {
    while !input.is_empty() {
        let name = input.call(Ident::parse_any)?;
        parse(&name, input)?;
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
    }
    Ok(())
}

fn value<T: Parse>(input: ParseStream<'_>) -> Result<T> {
    input.parse::<Token![=]>()?;
    input.parse()
}

fn unknown(name: &Ident) -> syn::Error {
    syn::Error::new(
        name.span(),
        "unknown attribute; see the documentation of ottla-wire-derive",
    )
}

impl Versions {
    /// A condition on `v: Version`; `None` if it always holds.
    pub(crate) fn condition(self) -> Option<TokenStream> {
        let Self { min, max } = self;
        match (min, max) {
            (0, i16::MAX) => None,
            (min, i16::MAX) => Some(quote::quote!(v.number() >= #min)),
            (0, max) => Some(quote::quote!(v.number() <= #max)),
            (min, max) => Some(quote::quote!(v.within(#min, #max))),
        }
    }
}
