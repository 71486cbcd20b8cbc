//! What a verifiable consumer printed, so that two runs can be compared: how much comes with one call is a matter of
//! chance, and so is the order of partitions in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

/// Of one run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// The names of the events, each once where several come one after the other, or take turns as the calls for records
    /// do. Lines that are no events stand as they are.
    pub(crate) course: Vec<String>,
    /// The fields that events of each name have, in their order, and of what kind they are.
    shapes: BTreeMap<String, BTreeSet<String>>,
    /// By partition: the offsets consumed and how many they were, in all.
    pub(crate) consumed: BTreeMap<i64, Consumed>,
    /// By partition, the latest offset committed.
    pub(crate) committed: BTreeMap<i64, i64>,
    /// By partition.
    pub(crate) acknowledged: BTreeMap<i64, BTreeSet<i64>>,
    /// Key, value, partition and offset of records, in order.
    records: Vec<String>,
    /// What was said about success.
    successes: BTreeSet<(String, bool)>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Consumed {
    pub(crate) count: i64,
    pub(crate) offsets: BTreeSet<i64>,
}

impl Told {
    /// `topic` is the only one there is.
    pub(crate) fn of(printed: &str, topic: &str) -> Self {
        let mut told = Self::default();
        for line in printed.lines() {
            match serde_json::from_str(line) {
                Ok(event @ Value::Object(_)) => told.hear(line, &event, topic),
                _ => told.course.push(line.to_owned()),
            }
        }
        told.records.sort();
        told
    }

    fn hear(&mut self, line: &str, event: &Value, topic: &str) {
        let name = text(event, "name");
        assert!(number(event, "timestamp") > 1_600_000_000_000, "{line}");
        let shape: Shape = serde_json::from_str(line).unwrap();
        // Words differ, kinds do not.
        self.shapes.entry(name.clone()).or_default().insert(shape.0);
        if let Some(success) = event["success"].as_bool() {
            self.successes.insert((name.clone(), success));
        }
        let partitions = event["partitions"].as_array().into_iter().flatten();
        for partition in partitions.chain(event["offsets"].as_array().into_iter().flatten()) {
            assert_eq!(partition["topic"], topic, "{line}");
        }
        match &*name {
            "records_consumed" => self.hear_of_records(event),
            "offsets_committed" if event["success"] == true => {
                for offset in event["offsets"].as_array().unwrap() {
                    let (partition, offset) =
                        (number(offset, "partition"), number(offset, "offset"));
                    let before = self.committed.insert(partition, offset);
                    assert!(before <= Some(offset), "{line} after {before:?}");
                }
            }
            "offsets_acknowledged" if event["success"] == true => {
                for of in event["partitions"].as_array().unwrap() {
                    let all = self.acknowledged.entry(number(of, "partition"));
                    all.or_default().extend(offsets(of));
                }
            }
            "record_data" => {
                let fields = ["key", "value", "partition", "offset"];
                let fields = fields.map(|field| event[field].to_string());
                self.records.push(fields.join(" "));
            }
            _ => {}
        }
        // Calls for records take turns with what comes of them.
        let of_calls = ["record_data", "records_consumed", "offsets_committed"];
        let of_calls = [&of_calls[..], &["offsets_acknowledged"]].concat();
        let calls = self.course.iter().rev();
        let mut calls = calls.take_while(|before| of_calls.contains(&before.as_str()));
        if !calls.any(|before| *before == name) {
            self.course.push(name);
        }
    }

    fn hear_of_records(&mut self, event: &Value) {
        for of in event["partitions"].as_array().unwrap() {
            let consumed = self.consumed.entry(number(of, "partition")).or_default();
            consumed.count += number(of, "count");
            let new: BTreeSet<_> = match of.get("offsets") {
                Some(_) => offsets(of),
                None => (number(of, "minOffset")..=number(of, "maxOffset")).collect(),
            };
            assert_eq!(new.len() as i64, number(of, "count"), "{event}");
            consumed.offsets.extend(new);
        }
    }
}

fn offsets(of: &Value) -> BTreeSet<i64> {
    let offsets = of["offsets"].as_array().unwrap().iter();
    offsets.map(|offset| offset.as_i64().unwrap()).collect()
}

fn number(event: &Value, field: &str) -> i64 {
    let value = event[field].as_i64();
    value.unwrap_or_else(|| panic!("no number {field} in {event}"))
}

fn text(event: &Value, field: &str) -> String {
    let value = event[field].as_str();
    value
        .unwrap_or_else(|| panic!("no text {field} in {event}"))
        .to_owned()
}

/// The names of fields in their order, and the kinds of their values; of a list the kinds that occur in it.
struct Shape(String);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ShapeOf)
    }
}

struct ShapeOf;

impl<'de> Visitor<'de> for ShapeOf {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, Shape(value))) = map.next_entry::<String, _>()? {
            fields.push(format!("{name}: {value}"));
        }
        Ok(Shape(format!("{{{}}}", fields.join(", "))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
        let mut kinds = BTreeSet::new();
        while let Some(Shape(kind)) = list.next_element()? {
            kinds.insert(kind);
        }
        let kinds: Vec<_> = kinds.into_iter().collect();
        Ok(Shape(format!("[{}]", kinds.join(" | "))))
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape("text".to_owned()))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape("number".to_owned()))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape("number".to_owned()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape("fraction".to_owned()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape("flag".to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape("null".to_owned()))
    }
}
