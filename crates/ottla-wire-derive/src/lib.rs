//! Derives the codec of a Kafka message from its definition.
//!
//! A definition is a plain struct. `#[derive(Message)]` stands on a request, a response or another structure with versions
//! of its own, `#[derive(Struct)]` on the structures inside it. Both expand to impls of the traits in `ottla_wire::wire`,
//! as little code as possible: all logic is in generic functions there. They also implement `Default` (with the schema's
//! defaults) and `Debug` (byte fields as their length, secret ones not at all).
//!
//! ```ignore
//! #[derive(Clone, PartialEq, Message)]
//! #[kafka(key = 1, versions = "4-18", flexible = "12+")]
//! pub struct FetchRequest {
//!     #[kafka("12+", tag = 0, ignorable)]
//!     pub cluster_id: Option<Str>,
//!     #[kafka("4-14", default = -1)]
//!     pub replica_id: i32,
//!     pub max_wait_ms: i32,
//!     pub unknown_tagged_fields: TaggedFields,
//! }
//! ```
//!
//! On the struct:
//! - `versions = "4-18"`: those it has, in Kafka's notation (`4-18`, `0`).
//! - `flexible = "12+"`: those with compact lengths and tagged fields; absent if none.
//! - `key = 1`: the number of the API, on requests.
//!
//! On a field, all optional:
//! - `"13+"`, `"4-14"`: the versions that have the field; all, if absent.
//! - `tag = 0`: it is a tagged field.
//! - `ignorable`: a version without the field leaves its value out in silence, where it would otherwise be an error.
//! - `nullable = "2+"`: the versions that allow null, if not all that have the field; the type is an `Option`.
//! - `default = -1`: the default, if not zero, empty or (for an `Option`) `None`. `""` and `[]` stand for "not null, empty".
//! - `secret`: not shown by `Debug`.
//! - `name = "isKRaft"`: Kafka's name of the field, where it is not the camel case of ours.
//!
//! The last field is `unknown_tagged_fields: TaggedFields`.

#![forbid(unsafe_code)]

mod definition;
mod expand;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Derives the codec of a request, response or other structure with versions of its own; see the [crate docs](crate).
#[proc_macro_derive(Message, attributes(kafka))]
pub fn derive_message(input: TokenStream) -> TokenStream {
    derive(parse_macro_input!(input as DeriveInput), true)
}

/// Derives the codec of a structure inside a message; see the [crate docs](crate).
#[proc_macro_derive(Struct, attributes(kafka))]
pub fn derive_struct(input: TokenStream) -> TokenStream {
    derive(parse_macro_input!(input as DeriveInput), false)
}

fn derive(input: DeriveInput, is_message: bool) -> TokenStream {
    definition::Definition::parse(&input, is_message)
        .map_or_else(syn::Error::into_compile_error, |definition| {
            expand::expand(&definition)
        })
        .into()
}
