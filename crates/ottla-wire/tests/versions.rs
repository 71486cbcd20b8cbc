//! What a version cannot carry: refused, left out in silence or read as the default, as the definition says.

use ottla_wire::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterableConfig,
};
use ottla_wire::messages::fetch::{FetchRequest, FetchTopic, ForgottenTopic, ReplicaState};
use ottla_wire::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use ottla_wire::messages::sasl_authenticate::SaslAuthenticateRequest;
use ottla_wire::messages::sasl_handshake::SaslHandshakeRequest;
use ottla_wire::{
    Bytes, DecodeErrorKind, EncodeError, EncodeErrorKind, Message, Reader, Request, Uuid,
    VersionRange, Writer,
};

fn encode<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut out = Writer::new();
    message.encode(version, &mut out)?;
    Ok(out.into_bytes())
}

fn through<M: Message>(message: &M, version: i16) -> M {
    let bytes = encode(message, version).expect("it can be written");
    M::decode(version, &mut Reader::new(bytes)).expect("it can be read")
}

#[test]
fn a_field_the_version_lacks_is_refused_unless_default() {
    let request = FetchRequest {
        forgotten_topics_data: vec![ForgottenTopic {
            topic: "t".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let error = encode(&request, 6).unwrap_err();
    assert_eq!(*error.kind(), EncodeErrorKind::FieldNotSupported);
    assert_eq!(
        (error.path().as_str(), error.message()),
        ("forgotten_topics_data", Some("FetchRequest"))
    );
    assert!(error.to_string().contains("version 6"), "{error}");
    assert_eq!(through(&request, 7), request);
    assert!(encode(&FetchRequest::default(), 6).is_ok());
}

#[test]
fn a_tagged_field_is_refused_below_its_version_too() {
    let replica_state = ReplicaState {
        replica_id: 1,
        ..Default::default()
    };
    let request = FetchRequest {
        replica_state,
        ..Default::default()
    };
    assert_eq!(encode(&request, 14).unwrap_err().path(), "replica_state");
    assert_eq!(through(&request, 15), request);
}

#[test]
fn an_ignorable_field_is_left_out_in_silence_and_read_as_the_default() {
    let topic = FetchTopic {
        topic: "t".into(),
        topic_id: Uuid([1; 16]),
        ..Default::default()
    };
    let request = FetchRequest {
        topics: vec![topic],
        session_epoch: 5,
        ..Default::default()
    };
    let old = &through(&request, 4);
    assert_eq!(
        (
            &*old.topics[0].topic,
            old.topics[0].topic_id,
            old.session_epoch
        ),
        ("t", Uuid::ZERO, -1)
    );
    let new = &through(&request, 18);
    assert_eq!(
        (
            &*new.topics[0].topic,
            new.topics[0].topic_id,
            new.session_epoch
        ),
        ("", Uuid([1; 16]), 5)
    );
}

#[test]
fn null_is_refused_where_the_version_has_none() {
    let all = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    let error = encode(&all, 0).unwrap_err();
    assert_eq!(
        (error.kind(), error.path().as_str()),
        (&EncodeErrorKind::NullNotAllowed, "topics")
    );
    assert_eq!(through(&all, 1), all);

    let by_id = MetadataRequestTopic {
        topic_id: Uuid([2; 16]),
        name: None,
        ..Default::default()
    };
    let by_id = MetadataRequest {
        topics: Some(vec![by_id]),
        ..Default::default()
    };
    let error = encode(&by_id, 9).unwrap_err();
    assert_eq!(
        (error.kind(), error.path().as_str()),
        (&EncodeErrorKind::NullNotAllowed, "topics[0].name")
    );
    assert_eq!(through(&by_id, 12), by_id);

    // A topic whose name is null, in a response of version 9, which has no null there.
    let mut bytes = encode(&MetadataResponse::default(), 9).unwrap().to_vec();
    assert_eq!(bytes[..11], [0, 0, 0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 1]);
    // One topic: error, null name, not internal, no partitions, operations, no tagged fields.
    bytes.splice(10..11, [2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
    let error = MetadataResponse::decode(9, &mut Reader::new(bytes.into())).unwrap_err();
    assert_eq!(
        (error.kind(), error.path().as_str()),
        (&DecodeErrorKind::UnexpectedNull, "topics[0].name")
    );
}

#[test]
fn versions_outside_the_range_are_refused_both_ways() {
    let range = VersionRange::new(4, 18);
    for version in [-1, 3, 19] {
        let error = encode(&FetchRequest::default(), version).unwrap_err();
        assert_eq!(*error.kind(), EncodeErrorKind::UnsupportedVersion(range));
        let error = FetchRequest::decode(version, &mut Reader::new(Bytes::new())).unwrap_err();
        assert_eq!(*error.kind(), DecodeErrorKind::UnsupportedVersion(range));
        assert!(error.to_string().contains("4-18"), "{error}");
    }
}

#[test]
fn tagged_fields_are_refused_where_there_are_none() {
    let mut request = SaslHandshakeRequest {
        mechanism: "PLAIN".into(),
        ..Default::default()
    };
    request
        .unknown_tagged_fields
        .insert(200, Bytes::from_static(b"x"));
    let error = encode(&request, 1).unwrap_err();
    assert_eq!(*error.kind(), EncodeErrorKind::TagsNotSupported);
}

#[test]
fn a_tagged_field_unknown_at_a_version_survives_it() {
    // Tag 1 of a Fetch request is known from version 15 on; at 12 it is anyone's.
    let mut request = FetchRequest::default();
    request
        .unknown_tagged_fields
        .insert(1, Bytes::from_static(b"later"));
    assert_eq!(through(&request, 12), request);
    let error = encode(
        &FetchRequest {
            replica_state: ReplicaState {
                replica_id: 3,
                ..Default::default()
            },
            ..request
        },
        15,
    );
    assert_eq!(*error.unwrap_err().kind(), EncodeErrorKind::TagConflict(1));
}

#[test]
fn secrets_and_payloads_stay_out_of_debug() {
    let auth = SaslAuthenticateRequest {
        auth_bytes: Bytes::from_static(b"hunter2"),
        ..Default::default()
    };
    assert_eq!(
        format!("{auth:?}"),
        "SaslAuthenticateRequest { auth_bytes: (7 bytes) }"
    );
    let config = AlterableConfig {
        name: "ssl.key".into(),
        value: Some("hunter2".into()),
        ..Default::default()
    };
    let resource = AlterConfigsResource {
        configs: vec![config],
        ..Default::default()
    };
    let text = format!(
        "{:?}",
        AlterConfigsRequest {
            resources: vec![resource],
            ..Default::default()
        }
    );
    assert!(
        text.contains("ssl.key") && text.contains("(hidden)") && !text.contains("hunter2"),
        "{text}"
    );
}

#[test]
fn a_response_has_its_requests_versions() {
    fn check<R: Request>() {
        assert_eq!(R::VERSIONS, <R::Response as Message>::VERSIONS);
        assert_eq!(R::FLEXIBLE_FROM, <R::Response as Message>::FLEXIBLE_FROM);
        assert_eq!(R::KEY.versions(), R::VERSIONS);
    }
    check::<FetchRequest>();
    check::<MetadataRequest>();
    check::<SaslHandshakeRequest>();
    for info in ottla_wire::introspect::messages() {
        let Some(api) = info.name.strip_suffix("Response") else {
            continue;
        };
        let api = ottla_wire::ApiKey::ALL
            .iter()
            .find(|key| key.name() == api)
            .unwrap();
        assert_eq!(
            (api.versions(), api.flexible_from()),
            (info.versions, info.flexible_from),
            "{api}"
        );
    }
}
