//! Random messages: every field that the version has, nulls where allowed, sometimes the default, sometimes an extreme.

use bytes::Bytes;

use super::{FieldInfo, Fields, Value, Visit};
use crate::{ErrorCode, Str, TaggedFields, Uuid};

/// A source of random messages of one version.
#[derive(Debug)]
pub struct Random {
    rng: fastrand::Rng,
    version: i16,
    /// Whether structures also get tagged fields that nobody knows.
    unknown_tags: bool,
    /// Longest array, shrinking with depth so that messages stay small.
    max_elements: usize,
    words: Vec<Str>,
    blobs: Vec<Bytes>,
}

impl Random {
    /// The same seed gives the same messages.
    pub fn new(seed: u64, version: i16) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(seed),
            version,
            unknown_tags: false,
            max_elements: 3,
            words: Vec::new(),
            blobs: Vec::new(),
        }
    }

    /// Takes half of the strings and byte fields from these, so that they mean something to who reads the message.
    #[must_use]
    pub fn with_words(mut self, words: &[&'static str], blobs: &[Bytes]) -> Self {
        self.words = words.iter().map(|word| Str::from_static(word)).collect();
        self.blobs = blobs.to_vec();
        self
    }

    /// Adds unknown tagged fields to structures; only for flexible versions.
    #[must_use]
    pub fn with_unknown_tags(mut self) -> Self {
        self.unknown_tags = true;
        self
    }

    fn number(&mut self) -> i64 {
        match self.rng.u8(..8) {
            0 => 0,
            1 => -1,
            2 => i64::MAX,
            3 => i64::MIN,
            4 => self.rng.i64(..),
            _ => self.rng.i64(0..1000),
        }
    }

    fn text(&mut self) -> Str {
        if !self.words.is_empty() && self.rng.bool() {
            return self.words[self.rng.usize(..self.words.len())].clone();
        }
        let mut text: String = (0..self.rng.usize(..12))
            .map(|_| self.rng.alphanumeric())
            .collect();
        match self.rng.u8(..12) {
            0 => text.push('ü'),
            1 => text.push('→'),
            2 => text.push('🦀'),
            3 => text.push_str("\"\\\n\t"),
            // Two length bytes in the compact form.
            4 => text.push_str(&"long".repeat(40)),
            _ => {}
        }
        text.into()
    }

    fn bytes(&mut self) -> Bytes {
        if !self.blobs.is_empty() && self.rng.bool() {
            return self.blobs[self.rng.usize(..self.blobs.len())].clone();
        }
        // Past 1 KiB the writer shares instead of copying.
        let len = if self.rng.u8(..16) == 0 {
            1500
        } else {
            self.rng.usize(..20)
        };
        (0..len).map(|_| self.rng.u8(..)).collect::<Vec<_>>().into()
    }

    fn elements<T: Value + Default>(&mut self) -> Vec<T> {
        let max = self.max_elements;
        let len = self.rng.usize(..=max);
        self.max_elements = (max - 1).max(1);
        let elements = (0..len)
            .map(|_| {
                let mut element = T::default();
                element.fill(self, false);
                element
            })
            .collect();
        self.max_elements = max;
        elements
    }

    fn option<T>(&mut self, nullable: bool, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (!nullable || self.rng.u8(..4) > 0).then(|| value(self))
    }
}

impl<T: Fields> Value for T {
    fn fill(&mut self, random: &mut Random, _: bool) {
        *self = T::default();
        self.visit_fields(&mut Fill(random));
    }

    fn json(&mut self, version: i16) -> serde_json::Value {
        super::json::object(self, version)
    }
}

struct Fill<'a>(&'a mut Random);

impl Visit for Fill<'_> {
    fn field(&mut self, info: &FieldInfo, value: &mut dyn Value, _: bool) {
        let nullable = info.is_nullable_in(self.0.version);
        // A default of null, at a version that has the field but not null, would not be a valid message.
        let may_keep_default = info.nullable.is_none() || nullable;
        if info.exists_in(self.0.version) && !(may_keep_default && self.0.rng.u8(..6) == 0) {
            value.fill(self.0, nullable);
        }
    }

    fn unknown_tagged_fields(&mut self, fields: &mut TaggedFields) {
        if self.0.unknown_tags {
            for _ in 0..self.0.rng.usize(..3) {
                // Tags of Kafka's own fields are small.
                let tag = self.0.rng.u32(100..20_000);
                let bytes = self.0.bytes();
                fields.insert(tag, bytes);
            }
        }
    }
}

macro_rules! simple_values {
    ($($ty:ty, |$random:ident| $make:expr, |$value:ident| $json:expr;)*) => {$(
        impl Value for $ty {
            fn fill(&mut self, $random: &mut Random, _: bool) {
                *self = $make;
            }

            fn json(&mut self, _: i16) -> serde_json::Value {
                let $value = self;
                $json
            }
        }

        )*};
}

simple_values! {
    bool, |r| r.rng.bool(), |value| (*value).into();
    i8, |r| r.number() as i8, |value| (*value).into();
    i16, |r| r.number() as i16, |value| (*value).into();
    u16, |r| r.number() as u16, |value| (*value).into();
    i32, |r| r.number() as i32, |value| (*value).into();
    u32, |r| r.number() as u32, |value| (*value).into();
    i64, |r| r.number(), |value| (*value).into();
    f64, |r| r.rng.i32(..) as f64 / 8.0, |value| (*value).into();
    ErrorCode, |r| Self(r.rng.i16(-1..140)), |value| value.0.into();
    Uuid, |r| Self(r.rng.u128(..).to_be_bytes()), |value| value.to_string().into();
    Str, |r| r.text(), |value| value.to_string().into();
    Bytes, |r| r.bytes(), |value| super::json::base64(value).into();
}

macro_rules! optional_values {
    ($($ty:ty),*) => {$(
        impl Value for Option<$ty> {
            fn fill(&mut self, random: &mut Random, nullable: bool) {
                *self = random.option(nullable, |random| {
                    let mut value = <$ty>::default();
                    value.fill(random, false);
                    value
                });
            }

            fn json(&mut self, version: i16) -> serde_json::Value {
                self.as_mut().map_or(serde_json::Value::Null, |value| value.json(version))
            }
        }
    )*};
}

optional_values!(Str, Bytes);

impl<T: Fields> Value for Option<T> {
    fn fill(&mut self, random: &mut Random, nullable: bool) {
        *self = random.option(nullable, |random| {
            let mut value = T::default();
            value.fill(random, false);
            value
        });
    }

    fn json(&mut self, version: i16) -> serde_json::Value {
        self.as_mut()
            .map_or(serde_json::Value::Null, |value| value.json(version))
    }
}

impl<T: Value + Default> Value for Vec<T> {
    fn fill(&mut self, random: &mut Random, _: bool) {
        *self = random.elements();
    }

    fn json(&mut self, version: i16) -> serde_json::Value {
        self.iter_mut()
            .map(|element| element.json(version))
            .collect()
    }
}

impl<T: Value + Default> Value for Option<Vec<T>> {
    fn fill(&mut self, random: &mut Random, nullable: bool) {
        *self = random.option(nullable, Random::elements);
    }

    fn json(&mut self, version: i16) -> serde_json::Value {
        self.as_mut()
            .map_or(serde_json::Value::Null, |elements| elements.json(version))
    }
}
