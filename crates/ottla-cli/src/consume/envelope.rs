//! `-J`: one JSON object per record and line, with kcat's field names.
//!
//! `headers` is a flat list of names and values, as in kcat. JSON text is Unicode: bytes that are not
//! UTF-8 appear in base64, under the field's name followed by `_base64`, and in `headers` as an
//! object `{"base64": "…"}`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::fields::Fields;

/// Appends one record and a line feed to `out`.
pub(crate) fn write(record: &Fields<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"topic\":");
    string(record.topic, out);
    let tstype = match (record.timestamp, record.log_append_time) {
        (-1, _) => "unknown",
        (_, true) => "logappend",
        (_, false) => "create",
    };
    let numbers = format!(
        ",\"partition\":{},\"offset\":{},\"tstype\":\"{tstype}\",\"ts\":{}",
        record.partition, record.offset, record.timestamp,
    );
    out.extend_from_slice(numbers.as_bytes());
    if !record.headers.is_empty() {
        out.extend_from_slice(b",\"headers\":[");
        for (i, (name, value)) in record.headers.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            element(Some(name), out);
            out.push(b',');
            element(*value, out);
        }
        out.push(b']');
    }
    field("key", record.key, out);
    field("payload", record.value, out);
    out.extend_from_slice(b"}\n");
}

fn field(name: &str, bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    match bytes.map(|b| (b, std::str::from_utf8(b))) {
        None => out.extend_from_slice(b"\":null"),
        Some((_, Ok(text))) => {
            out.extend_from_slice(b"\":");
            string(text, out);
        }
        Some((binary, Err(_))) => {
            out.extend_from_slice(b"_base64\":");
            base64(binary, out);
        }
    }
}

fn element(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes.map(|b| (b, std::str::from_utf8(b))) {
        None => out.extend_from_slice(b"null"),
        Some((_, Ok(text))) => string(text, out),
        Some((binary, Err(_))) => {
            out.extend_from_slice(b"{\"base64\":");
            base64(binary, out);
            out.push(b'}');
        }
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    // Neither a string nor a vector can fail to serialize.
    let _ = serde_json::to_writer(out, text);
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(record: &Fields<'_>) -> serde_json::Value {
        let mut out = Vec::new();
        write(record, &mut out);
        assert_eq!(out.pop(), Some(b'\n'));
        assert!(!out.contains(&b'\n'));
        serde_json::from_slice(&out).unwrap()
    }

    fn record() -> Fields<'static> {
        Fields {
            topic: "clicks",
            partition: 3,
            offset: 42,
            timestamp: 17,
            log_append_time: false,
            key: None,
            value: Some("line\nbreak \"é\"".as_bytes()),
            headers: vec![],
        }
    }

    #[test]
    fn kcats_fields() {
        assert_eq!(
            written(&record()),
            json!({
                "topic": "clicks", "partition": 3, "offset": 42, "tstype": "create", "ts": 17,
                "key": null, "payload": "line\nbreak \"é\""
            })
        );
    }

    #[test]
    fn timestamps_say_who_set_them() {
        let appended = Fields {
            log_append_time: true,
            ..record()
        };
        assert_eq!(written(&appended)["tstype"], "logappend");
        let without = Fields {
            timestamp: -1,
            ..record()
        };
        assert_eq!(written(&without)["tstype"], "unknown");
    }

    #[test]
    fn bytes_that_are_no_text_survive() {
        let record = Fields {
            key: Some(b"\xff\0"),
            value: Some(b""),
            headers: vec![(b"n", None), (b"\xfe", Some(b"\xfd")), (b"n", Some(b"v"))],
            ..record()
        };
        let written = written(&record);
        assert_eq!(written["key_base64"], "/wA=");
        assert_eq!(written.get("key"), None);
        assert_eq!(written["payload"], "");
        assert_eq!(
            written["headers"],
            json!(["n", null, {"base64": "/g=="}, {"base64": "/Q=="}, "n", "v"])
        );
    }
}
