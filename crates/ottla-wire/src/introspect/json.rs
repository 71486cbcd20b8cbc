//! Kafka's JSON form of messages, as its `JsonConverter` classes write it.

use serde_json::{Map, Value as Json};

use super::{FieldInfo, Fields, Value, Visit};
use crate::TaggedFields;

/// A structure: the fields of that version, tagged ones only if they differ from their default, no unknown ones.
pub(super) fn object<T: Fields>(value: &mut T, version: i16) -> Json {
    let mut object = Object {
        version,
        members: Map::new(),
    };
    value.visit_fields(&mut object);
    Json::Object(object.members)
}

struct Object {
    version: i16,
    members: Map<String, Json>,
}

impl Visit for Object {
    fn field(&mut self, info: &FieldInfo, value: &mut dyn Value, is_default: bool) {
        if info.exists_in(self.version) && !(info.tagged && is_default) {
            self.members
                .insert(info.name.to_string(), value.json(self.version));
        }
    }

    fn unknown_tagged_fields(&mut self, _: &mut TaggedFields) {}
}

/// Padded standard base64.
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let group = u32::from_be_bytes(group);
        for i in 0..4 {
            if i <= chunk.len() {
                text.push(char::from(
                    ALPHABET[(group >> (18 - 6 * i)) as usize & 0x3f],
                ));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::introspect::AnyMessage;
    use crate::messages::fetch::{FetchRequest, FetchTopic};

    #[test]
    fn base64_pads() {
        let texts = ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes()));
        assert_eq!(texts, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
    }

    #[test]
    fn only_the_fields_of_the_version() {
        let request = FetchRequest {
            topics: vec![FetchTopic {
                topic: "t".into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let (old, new) = (request.json(12), request.json(13));
        assert_eq!(old["topics"][0]["topic"], "t");
        assert_eq!(new["topics"][0].get("topic"), None);
        assert_eq!(new["topics"][0]["topicId"], "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(old.get("clusterId"), None, "a tagged field at its default");
    }
}
