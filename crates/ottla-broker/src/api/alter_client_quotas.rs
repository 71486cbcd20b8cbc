//! AlterClientQuotas: quotas are noted; nobody is held to any.

use ottla_wire::ErrorCode;
use ottla_wire::messages::alter_client_quotas::{
    AlterClientQuotasRequest, AlterClientQuotasRequestEntryData, AlterClientQuotasResponse,
    AlterClientQuotasResponseEntryData,
};

use super::Serve;
use crate::context::Context;
use crate::error::Refused;
use crate::quotas::{Entity, Quotas};

impl Serve for AlterClientQuotasRequest {
    async fn serve(self, context: &Context) -> Option<AlterClientQuotasResponse> {
        // Written once for all: each entry is changed as a whole, or not at all.
        let mut refusals = Vec::with_capacity(self.entries.len());
        let kept = context
            .shared
            .change_settings(self.validate_only, |settings| {
                let changes = self.entries.iter();
                refusals.extend(changes.map(|entry| change(&mut settings.quotas, entry).err()));
                Ok(())
            });
        let kept = kept.err();
        let entries = self.entries.iter().zip(refusals);
        Some(AlterClientQuotasResponse {
            entries: entries
                .map(|(entry, refused)| answer(entry, refused.or_else(|| kept.clone())))
                .collect(),
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> AlterClientQuotasResponse {
        let message = error.meaning().to_owned();
        let refused = Refused { error, message };
        let entries = self.entries.iter();
        AlterClientQuotasResponse {
            entries: entries
                .map(|entry| answer(entry, Some(refused.clone())))
                .collect(),
            ..Default::default()
        }
    }
}

fn change(quotas: &mut Quotas, entry: &AlterClientQuotasRequestEntryData) -> Result<(), Refused> {
    let mut entity = Entity::new();
    for part in &entry.entity {
        let name = part.entity_name.as_deref().map(str::to_owned);
        if entity.insert(part.entity_type.to_string(), name).is_some() {
            return Err(Refused {
                error: ErrorCode::INVALID_REQUEST,
                message: format!("Duplicate entity type {}", part.entity_type),
            });
        }
    }
    let changes = entry
        .ops
        .iter()
        .map(|op| (op.key.to_string(), (!op.remove).then_some(op.value)));
    quotas.change(entity, changes)
}

fn answer(
    entry: &AlterClientQuotasRequestEntryData,
    refused: Option<Refused>,
) -> AlterClientQuotasResponseEntryData {
    let (error_code, error_message) = match refused {
        Some(refused) => (refused.error, Some(refused.message.into())),
        None => (ErrorCode::NONE, None),
    };
    AlterClientQuotasResponseEntryData {
        error_code,
        error_message,
        entity: entry.entity.clone(),
        ..Default::default()
    }
}
