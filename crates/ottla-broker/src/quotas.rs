//! Quotas of users, clients and addresses (KIP-546). Nobody is held to them; they are kept so that tools find what
//! they set.

use std::collections::BTreeMap;

use ottla_wire::ErrorCode;
use serde::{Deserialize, Serialize};

use crate::error::Refused;

/// Whom a quota is for: one name for each type of entity, `None` for the default of that type.
pub(crate) type Entity = BTreeMap<String, Option<String>>;

/// All quotas.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Kept", into = "Kept")]
pub(crate) struct Quotas {
    by_entity: BTreeMap<Entity, Values>,
}

type Values = BTreeMap<String, f64>;

/// Quotas in a file: a list, for JSON has no objects as keys.
#[derive(Serialize, Deserialize)]
struct Kept {
    by_entity: Vec<(Entity, Values)>,
}

impl From<Kept> for Quotas {
    fn from(kept: Kept) -> Self {
        let by_entity = kept.by_entity.into_iter().collect();
        Self { by_entity }
    }
}

impl From<Quotas> for Kept {
    fn from(quotas: Quotas) -> Self {
        let by_entity = quotas.by_entity.into_iter().collect();
        Self { by_entity }
    }
}

/// Which entities DescribeClientQuotas asks for, of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Named(String),
    Default,
    Any,
}

impl Quotas {
    /// Sets quotas of an entity, or removes those without a value; all or none.
    pub(crate) fn change(
        &mut self,
        entity: Entity,
        changes: impl IntoIterator<Item = (String, Option<f64>)>,
    ) -> Result<(), Refused> {
        check_entity(&entity)?;
        let known = self.by_entity.get(&entity);
        if known.is_none() && self.by_entity.len() >= ENTITIES_MAX {
            return Err(Refused {
                error: ErrorCode::POLICY_VIOLATION,
                message: format!("This broker keeps quotas of {ENTITIES_MAX} entities at most."),
            });
        }
        let mut values = known.cloned().unwrap_or_default();
        for (key, value) in changes {
            check_quota(&entity, &key, value)?;
            match value {
                Some(value) => values.insert(key, value),
                None => values.remove(&key),
            };
        }
        if values.is_empty() {
            self.by_entity.remove(&entity);
        } else {
            self.by_entity.insert(entity, values);
        }
        Ok(())
    }

    /// The quotas of entities that have each of the `wanted` types; with `strict`, no others.
    pub(crate) fn matching<'a>(
        &'a self,
        wanted: &'a [(String, Wanted)],
        strict: bool,
    ) -> impl Iterator<Item = (&'a Entity, &'a Values)> {
        self.by_entity.iter().filter(move |(entity, _)| {
            (!strict || entity.len() == wanted.len())
                && wanted
                    .iter()
                    .all(|(kind, wanted)| match (entity.get(kind), wanted) {
                        (None, _) => false,
                        (Some(_), Wanted::Any) | (Some(None), Wanted::Default) => true,
                        (Some(name), Wanted::Named(wanted)) => name.as_ref() == Some(wanted),
                        (Some(Some(_)), Wanted::Default) => false,
                    })
        })
    }
}

/// Whoever may set quotas may not fill the memory with them.
const ENTITIES_MAX: usize = 10_000;

fn check_entity(entity: &Entity) -> Result<(), Refused> {
    let is = |kinds: &[&str]| entity.keys().map(String::as_str).eq(kinds.iter().copied());
    if is(&["user"]) || is(&["client-id"]) || is(&["client-id", "user"]) || is(&["ip"]) {
        if let Some(Some(ip)) = entity.get("ip")
            && ip.parse::<std::net::IpAddr>().is_err()
        {
            return Err(invalid(format!("{ip} is not a valid IP address.")));
        }
        if entity.values().flatten().any(String::is_empty) {
            return Err(invalid("Invalid empty name of a quota's entity".to_owned()));
        }
        return Ok(());
    }
    if entity.is_empty() {
        return Err(invalid("Invalid empty client quota entity".to_owned()));
    }
    if let Some(kind) = entity.keys().find(|kind| !KINDS.contains(&kind.as_str())) {
        return Err(invalid(format!(
            "Unhandled client quota entity type: {kind}"
        )));
    }
    Err(invalid(
        "Invalid quota entity combination, IP entity should not be used with User or ClientId"
            .to_owned(),
    ))
}

fn check_quota(entity: &Entity, key: &str, value: Option<f64>) -> Result<(), Refused> {
    let for_address = entity.contains_key("ip");
    let known = if for_address {
        &OF_ADDRESSES[..]
    } else {
        &OF_CLIENTS[..]
    };
    let Some((_, whole)) = known.iter().find(|(name, _)| *name == key) else {
        return Err(invalid(format!("Invalid configuration key {key}")));
    };
    let Some(value) = value else { return Ok(()) };
    if !value.is_finite() || value <= 0.0 && !(for_address && value == 0.0) {
        return Err(invalid(format!("Quota {key} must be greater than 0")));
    }
    if *whole && value.fract() != 0.0 {
        return Err(invalid(format!(
            "Configuration {key} must be a whole number"
        )));
    }
    Ok(())
}

fn invalid(message: String) -> Refused {
    Refused {
        error: ErrorCode::INVALID_REQUEST,
        message,
    }
}

/// Types of entities.
pub(crate) const KINDS: [&str; 3] = ["client-id", "ip", "user"];

/// Names of quotas, and whether they are whole numbers.
const OF_CLIENTS: [(&str, bool); 4] = [
    ("producer_byte_rate", true),
    ("consumer_byte_rate", true),
    ("request_percentage", false),
    ("controller_mutation_rate", false),
];
const OF_ADDRESSES: [(&str, bool); 1] = [("connection_creation_rate", true)];

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(parts: &[(&str, Option<&str>)]) -> Entity {
        let owned =
            |(kind, name): &(&str, Option<&str>)| ((*kind).to_owned(), name.map(str::to_owned));
        parts.iter().map(owned).collect()
    }

    fn set(
        quotas: &mut Quotas,
        parts: &[(&str, Option<&str>)],
        key: &str,
        value: Option<f64>,
    ) -> bool {
        let change = [(key.to_owned(), value)];
        quotas.change(entity(parts), change).is_ok()
    }

    #[test]
    fn quotas_are_found_by_whom_they_are_for() {
        let mut quotas = Quotas::default();
        let (alice, all) = (("user", Some("alice")), ("user", None));
        assert!(set(&mut quotas, &[alice], "producer_byte_rate", Some(10.0)));
        assert!(set(
            &mut quotas,
            &[alice, ("client-id", Some("c"))],
            "request_percentage",
            Some(0.5)
        ));
        assert!(set(&mut quotas, &[all], "consumer_byte_rate", Some(7.0)));
        let count = |wanted: Wanted, strict| {
            quotas
                .matching(&[("user".to_owned(), wanted)], strict)
                .count()
        };
        assert_eq!(count(Wanted::Any, false), 3);
        assert_eq!(count(Wanted::Any, true), 2);
        assert_eq!(count(Wanted::Named("alice".to_owned()), true), 1);
        assert_eq!(count(Wanted::Default, false), 1);
        assert_eq!(quotas.matching(&[], false).count(), 3);
        assert_eq!(quotas.matching(&[], true).count(), 0);
    }

    #[test]
    fn there_is_room_for_so_many_entities_and_no_more() {
        let mut quotas = Quotas::default();
        let mut add = |name: &str| {
            set(
                &mut quotas,
                &[("user", Some(name))],
                "producer_byte_rate",
                Some(1.0),
            )
        };
        for number in 0..ENTITIES_MAX {
            assert!(add(&number.to_string()));
        }
        assert!(!add("one too many"));
        assert!(add("0"), "that one is known");
    }

    #[test]
    fn quotas_are_read_as_they_were_written() {
        let mut quotas = Quotas::default();
        assert!(set(
            &mut quotas,
            &[("user", None)],
            "producer_byte_rate",
            Some(1.0)
        ));
        let text = r#"{"by_entity":[[{"user":null},{"producer_byte_rate":1.0}]]}"#;
        assert_eq!(serde_json::to_string(&quotas).unwrap(), text);
        assert_eq!(serde_json::from_str::<Quotas>(text).unwrap(), quotas);
    }

    #[test]
    fn a_quota_that_is_removed_leaves_nothing_behind() {
        let mut quotas = Quotas::default();
        let ip = [("ip", Some("127.0.0.1"))];
        assert!(set(&mut quotas, &ip, "connection_creation_rate", Some(0.0)));
        assert!(set(&mut quotas, &ip, "connection_creation_rate", None));
        assert_eq!(quotas, Quotas::default());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut quotas = Quotas::default();
        let user = ("user", Some("u"));
        assert!(!set(&mut quotas, &[], "producer_byte_rate", Some(1.0)));
        assert!(!set(
            &mut quotas,
            &[("tenant", Some("t"))],
            "producer_byte_rate",
            Some(1.0)
        ));
        assert!(!set(
            &mut quotas,
            &[user, ("ip", None)],
            "producer_byte_rate",
            Some(1.0)
        ));
        assert!(!set(
            &mut quotas,
            &[("ip", Some("nowhere"))],
            "connection_creation_rate",
            Some(1.0)
        ));
        assert!(!set(
            &mut quotas,
            &[user],
            "connection_creation_rate",
            Some(1.0)
        ));
        assert!(!set(&mut quotas, &[user], "producer_byte_rate", Some(0.5)));
        assert!(!set(&mut quotas, &[user], "producer_byte_rate", Some(0.0)));
        assert!(!set(
            &mut quotas,
            &[user],
            "request_percentage",
            Some(f64::NAN)
        ));
        assert_eq!(quotas, Quotas::default());
    }
}
