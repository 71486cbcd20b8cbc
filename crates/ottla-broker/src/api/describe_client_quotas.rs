//! DescribeClientQuotas: which quotas are noted for whom.

use ottla_wire::ErrorCode;
use ottla_wire::messages::describe_client_quotas::{
    ComponentData, DescribeClientQuotasRequest, DescribeClientQuotasResponse, EntityData,
    EntryData, ValueData,
};

use super::Serve;
use crate::context::Context;
use crate::quotas::{KINDS, Wanted};

impl Serve for DescribeClientQuotasRequest {
    async fn serve(self, context: &Context) -> Option<DescribeClientQuotasResponse> {
        let wanted: Result<Vec<_>, _> = self.components.iter().map(wanted).collect();
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(message) => return Some(failed(ErrorCode::INVALID_REQUEST, &message)),
        };
        let settings = context.shared.settings.lock();
        let entries = settings
            .quotas
            .matching(&wanted, self.strict)
            .map(|(entity, values)| EntryData {
                entity: entity
                    .iter()
                    .map(|(kind, name)| EntityData {
                        entity_type: kind.as_str().into(),
                        entity_name: name.as_deref().map(Into::into),
                        ..Default::default()
                    })
                    .collect(),
                values: values
                    .iter()
                    .map(|(key, value)| ValueData {
                        key: key.as_str().into(),
                        value: *value,
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            })
            .collect();
        Some(DescribeClientQuotasResponse {
            error_message: None,
            entries: Some(entries),
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> DescribeClientQuotasResponse {
        failed(error, error.meaning())
    }
}

fn wanted(component: &ComponentData) -> Result<(String, Wanted), String> {
    let kind = component.entity_type.to_string();
    if !KINDS.contains(&kind.as_str()) {
        return Err(format!("Custom entity type {kind} not supported"));
    }
    let wanted = match (component.match_type, &component.r#match) {
        (EXACT, Some(name)) => Wanted::Named(name.to_string()),
        (EXACT, None) => return Err("Unexpected null match for an exact name".to_owned()),
        (DEFAULT, None) => Wanted::Default,
        (SPECIFIED, None) => Wanted::Any,
        (DEFAULT | SPECIFIED, Some(_)) => {
            return Err("Unexpected non-null match for a type of name".to_owned());
        }
        (other, _) => return Err(format!("Unknown match type {other}")),
    };
    Ok((kind, wanted))
}

fn failed(error_code: ErrorCode, message: &str) -> DescribeClientQuotasResponse {
    DescribeClientQuotasResponse {
        error_code,
        error_message: Some(message.into()),
        entries: None,
        ..Default::default()
    }
}

const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const SPECIFIED: i8 = 2;
