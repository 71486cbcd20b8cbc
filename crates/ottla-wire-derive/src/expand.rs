//! The impls a definition expands to.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Expr, Ident};

use crate::definition::{Definition, Field, MessageAttributes, Versions};

pub(crate) fn expand(definition: &Definition<'_>) -> TokenStream {
    let struct_impl = struct_impl(definition);
    let default_impl = default_impl(definition);
    let debug_impl = debug_impl(definition);
    let introspect_impl = introspect_impl(definition);
    let message_impl = definition
        .message
        .as_ref()
        .map(|message| message_impl(definition, message));
    quote! {
        const _: () = {
            use ::ottla_wire::wire;
            #struct_impl
            #default_impl
            #debug_impl
            #message_impl
            #introspect_impl
        };
    }
}

fn message_impl(definition: &Definition<'_>, message: &MessageAttributes) -> TokenStream {
    let ident = definition.ident;
    let name = ident.to_string();
    let throttle = definition
        .fields
        .iter()
        .any(|field| field.ident == "throttle_time_ms")
        .then(|| {
            quote! {
                fn throttle_time_ms(&self) -> i32 {
                    self.throttle_time_ms
                }
            }
        });
    let Versions { min, max } = message.versions;
    let flexible_from = message.flexible_from;
    let request = message.is_request.then(|| {
        let api = name.trim_end_matches("Request");
        let (key, response) = (plain_ident(api), plain_ident(&format!("{api}Response")));
        quote! {
            impl ::ottla_wire::Request for #ident {
                const KEY: ::ottla_wire::ApiKey = ::ottla_wire::ApiKey::#key;
                type Response = #response;
            }
        }
    });
    quote! {
        impl ::ottla_wire::Message for #ident {
            const NAME: &'static str = #name;
            const VERSIONS: ::ottla_wire::VersionRange = ::ottla_wire::VersionRange::new(#min, #max);
            const FLEXIBLE_FROM: i16 = #flexible_from;
            #throttle
        }
        #request
    }
}

fn struct_impl(definition: &Definition<'_>) -> TokenStream {
    let ident = definition.ident;
    let untagged = || {
        definition
            .fields
            .iter()
            .filter(|field| field.attributes.tag.is_none())
    };
    let mut tagged: Vec<_> = definition
        .fields
        .iter()
        .filter(|field| field.attributes.tag.is_some())
        .collect();
    tagged.sort_by_key(|field| field.attributes.tag);
    let writes = untagged().map(write_field);
    let reads = untagged().map(read_field);
    let sizes = untagged().map(|field| {
        let ty = field.ty;
        when(
            field.attributes.versions,
            quote!(size += <#ty as wire::Wire>::min_size(v);),
        )
    });
    let write_tags = if tagged.is_empty() {
        quote!(self.unknown_tagged_fields.write(w, v))
    } else {
        let pushes = tagged.iter().map(|field| write_tagged_field(field));
        quote! {
            let mut tags = wire::KnownTags::default();
            #(#pushes)*
            *at = "unknown_tagged_fields";
            tags.write(&self.unknown_tagged_fields, w, v)
        }
    };
    let arms = tagged.iter().map(|field| {
        let (tag, name, ident) = (field.attributes.tag, field.plain_name(), field.ident);
        let condition = field
            .attributes
            .versions
            .condition()
            .map(|condition| quote!(if #condition));
        let null_check = null_after_read(field);
        quote! {
            #tag #condition => {
                *at = #name;
                wire::Wire::read(&mut self.#ident, r, v)?;
                #null_check
                Ok(true)
            }
        }
    });
    let read_tags = if tagged.is_empty() {
        quote!(self.unknown_tagged_fields.read(r, v, &mut |_, _| Ok(false)))
    } else {
        quote! {
            self.unknown_tagged_fields.read(r, v, &mut |tag, r| match tag {
                #(#arms)*
                _ => {
                    *at = "unknown_tagged_fields";
                    Ok(false)
                }
            })
        }
    };
    quote! {
        impl wire::Struct for #ident {
            fn write_fields(
                &self,
                w: &mut ::ottla_wire::Writer,
                v: wire::Version,
                at: &mut &'static str,
            ) -> ::core::result::Result<(), ::ottla_wire::EncodeError> {
                #(#writes)*
                *at = "unknown_tagged_fields";
                #write_tags
            }

            fn read_fields(
                &mut self,
                r: &mut ::ottla_wire::Reader,
                v: wire::Version,
                at: &mut &'static str,
            ) -> ::core::result::Result<(), ::ottla_wire::DecodeError> {
                #(#reads)*
                *at = "unknown_tagged_fields";
                #read_tags
            }

            fn min_size(v: wire::Version) -> usize {
                let mut size = usize::from(v.is_flexible());
                #(#sizes)*
                size
            }
        }
    }
}

fn write_field(field: &Field<'_>) -> TokenStream {
    let (ident, name) = (field.ident, field.plain_name());
    let null_check = nulls_refused(field).map(|condition| {
        quote! {
            if self.#ident.is_none() && #condition {
                return Err(wire::null_field());
            }
        }
    });
    let write = quote! {
        *at = #name;
        #null_check
        wire::Wire::write(&self.#ident, w, v)?;
    };
    present_or_default(field, write)
}

fn write_tagged_field(field: &Field<'_>) -> TokenStream {
    let (ident, name, tag) = (field.ident, field.plain_name(), field.attributes.tag);
    let is_default = is_default(field);
    let write = quote! {
        if !(#is_default) {
            *at = #name;
            tags.push(#tag, &self.#ident, v)?;
        }
    };
    present_or_default(field, write)
}

/// `write` at the versions that have the field; at the others, an error if the value may not be left out.
fn present_or_default(field: &Field<'_>, write: TokenStream) -> TokenStream {
    let Some(condition) = field.attributes.versions.condition() else {
        return write;
    };
    if field.attributes.ignorable {
        return quote!(if #condition { #write });
    }
    let (name, is_default) = (field.plain_name(), is_default(field));
    quote! {
        if #condition {
            #write
        } else if !(#is_default) {
            *at = #name;
            return Err(wire::unsupported_field());
        }
    }
}

fn read_field(field: &Field<'_>) -> TokenStream {
    let (ident, name) = (field.ident, field.plain_name());
    let null_check = null_after_read(field);
    let read = quote! {
        *at = #name;
        wire::Wire::read(&mut self.#ident, r, v)?;
        #null_check
    };
    when(field.attributes.versions, read)
}

fn null_after_read(field: &Field<'_>) -> Option<TokenStream> {
    let ident = field.ident;
    nulls_refused(field).map(|condition| {
        quote! {
            if self.#ident.is_none() && #condition {
                return Err(wire::unexpected_null(r));
            }
        }
    })
}

/// The condition under which an `Option` may not be null although the field exists.
fn nulls_refused(field: &Field<'_>) -> Option<TokenStream> {
    let condition = field.attributes.nullable?.condition()?;
    Some(quote!(!(#condition)))
}

fn when(versions: Versions, body: TokenStream) -> TokenStream {
    match versions.condition() {
        Some(condition) => quote!(if #condition { #body }),
        None => body,
    }
}

fn default_impl(definition: &Definition<'_>) -> TokenStream {
    let ident = definition.ident;
    let fields = definition.fields.iter().map(|field| {
        let (ident, default) = (field.ident, default_value(field));
        quote!(#ident: #default,)
    });
    quote! {
        impl ::core::default::Default for #ident {
            fn default() -> Self {
                Self { #(#fields)* unknown_tagged_fields: ::core::default::Default::default() }
            }
        }
    }
}

fn default_value(field: &Field<'_>) -> TokenStream {
    match &field.attributes.default {
        None => quote!(::core::default::Default::default()),
        Some(default) if is_empty_literal(default) && field.is_option() => {
            quote!(::core::option::Option::Some(
                ::core::default::Default::default()
            ))
        }
        Some(default) if field.type_name() == "ErrorCode" => {
            quote!(::ottla_wire::ErrorCode(#default))
        }
        Some(default) => quote!(#default),
    }
}

fn is_default(field: &Field<'_>) -> TokenStream {
    let ident = field.ident;
    match &field.attributes.default {
        None if field.type_name() == "bool" => quote!(!self.#ident),
        Some(_) if field.type_name() == "bool" => quote!(self.#ident),
        None if field.is_option() => quote!(self.#ident.is_none()),
        None if matches!(field.type_name().as_str(), "Vec" | "Str" | "Bytes") => {
            quote!(self.#ident.is_empty())
        }
        None => {
            let ty = field.ty;
            quote!(self.#ident == <#ty as ::core::default::Default>::default())
        }
        Some(_) => {
            let default = default_value(field);
            quote!(self.#ident == #default)
        }
    }
}

/// `""` or `[]`: not null, but empty.
fn is_empty_literal(default: &Expr) -> bool {
    match default {
        Expr::Array(array) => array.elems.is_empty(),
        Expr::Lit(literal) => {
            matches!(&literal.lit, syn::Lit::Str(text) if text.value().is_empty())
        }
        _ => false,
    }
}

fn debug_impl(definition: &Definition<'_>) -> TokenStream {
    let (ident, name) = (definition.ident, definition.ident.to_string());
    let fields = definition.fields.iter().map(|field| {
        let (ident, name) = (field.ident, field.plain_name());
        let value = if field.attributes.secret {
            quote!(&wire::Hidden)
        } else if field.is_bytes() && field.is_option() {
            quote!(&self.#ident.as_ref().map(wire::Length::of))
        } else if field.is_bytes() {
            quote!(&wire::Length::of(&self.#ident))
        } else {
            quote!(&self.#ident)
        };
        quote!(debug.field(#name, #value);)
    });
    quote! {
        impl ::core::fmt::Debug for #ident {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                let mut debug = f.debug_struct(#name);
                #(#fields)*
                if !self.unknown_tagged_fields.is_empty() {
                    debug.field("unknown_tagged_fields", &self.unknown_tagged_fields);
                }
                debug.finish()
            }
        }
    }
}

fn introspect_impl(definition: &Definition<'_>) -> TokenStream {
    let ident = definition.ident;
    let fields = definition.fields.iter().map(|field| {
        let ident = field.ident;
        let name = field.attributes.name.clone().unwrap_or_else(|| camel_case(&field.plain_name()));
        let Versions { min, max } = field.attributes.versions;
        let tagged = field.attributes.tag.is_some();
        let nullable = if field.is_option() {
            let Versions { min, max } = field.attributes.nullable.unwrap_or_default();
            quote!(::core::option::Option::Some((#min, #max)))
        } else {
            quote!(::core::option::Option::None)
        };
        let is_default = is_default(field);
        quote! {
            let is_default = #is_default;
            visit.field(
                &FieldInfo { name: #name, versions: (#min, #max), nullable: #nullable, tagged: #tagged },
                &mut self.#ident,
                is_default,
            );
        }
    });
    quote! {
        #[cfg(feature = "introspect")]
        impl ::ottla_wire::introspect::Fields for #ident {
            fn visit_fields(&mut self, visit: &mut dyn ::ottla_wire::introspect::Visit) {
                use ::ottla_wire::introspect::FieldInfo;
                #(#fields)*
                visit.unknown_tagged_fields(&mut self.unknown_tagged_fields);
            }
        }
    }
}

fn camel_case(snake: &str) -> String {
    let mut camel = String::with_capacity(snake.len());
    let mut upper = false;
    for c in snake.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                camel.push(c.to_ascii_uppercase());
                upper = false;
            }
            c => camel.push(c),
        }
    }
    camel
}

fn plain_ident(name: &str) -> Ident {
    Ident::new(name, Span::call_site())
}
