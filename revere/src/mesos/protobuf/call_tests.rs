//! Operator calls as another implementation writes them: numbers and names from Mesos 1.11's `master.proto`.

use std::collections::BTreeMap;

use prost::Message as _;
use serde_json::{Value, json};

use super::{CALL, to_json};

#[derive(Clone, PartialEq, prost::Message)]
struct Id {
    #[prost(string, required, tag = "1")]
    value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Duration {
    #[prost(int64, optional, tag = "1")]
    seconds: Option<i64>,
    #[prost(int32, optional, tag = "2")]
    nanos: Option<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DrainAgent {
    #[prost(message, required, tag = "1")]
    agent_id: Id,
    #[prost(message, optional, tag = "2")]
    max_grace_period: Option<Duration>,
    #[prost(bool, optional, tag = "3")]
    mark_gone: Option<bool>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OfId {
    #[prost(message, required, tag = "1")]
    id: Id,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WeightInfo {
    #[prost(double, required, tag = "1")]
    weight: f64,
    #[prost(string, optional, tag = "2")]
    role: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct UpdateWeights {
    #[prost(message, repeated, tag = "1")]
    weight_infos: Vec<WeightInfo>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Scalar {
    #[prost(double, required, tag = "1")]
    value: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct QuotaConfig {
    #[prost(string, required, tag = "1")]
    role: String,
    #[prost(btree_map = "string, message", tag = "2")]
    guarantees: BTreeMap<String, Scalar>,
    #[prost(btree_map = "string, message", tag = "3")]
    limits: BTreeMap<String, Scalar>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct UpdateQuota {
    #[prost(bool, optional, tag = "1")]
    force: Option<bool>,
    #[prost(message, repeated, tag = "2")]
    quota_configs: Vec<QuotaConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct QuotaStatus {
    #[prost(message, repeated, tag = "2")]
    configs: Vec<QuotaConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GetQuota {
    #[prost(message, required, tag = "1")]
    status: QuotaStatus,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(int32, optional, tag = "1")]
    kind: Option<i32>,
    #[prost(message, optional, tag = "19")]
    get_quota: Option<GetQuota>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Call {
    #[prost(int32, optional, tag = "1")]
    kind: Option<i32>,
    #[prost(message, optional, tag = "6")]
    update_weights: Option<UpdateWeights>,
    #[prost(message, optional, tag = "16")]
    teardown: Option<OfId>,
    #[prost(message, optional, tag = "17")]
    mark_agent_gone: Option<OfId>,
    #[prost(message, optional, tag = "20")]
    update_quota: Option<UpdateQuota>,
    #[prost(message, optional, tag = "21")]
    drain_agent: Option<DrainAgent>,
    #[prost(message, optional, tag = "22")]
    deactivate_agent: Option<OfId>,
    #[prost(message, optional, tag = "23")]
    reactivate_agent: Option<OfId>,
}

fn read(call: &Call) -> Value {
    let mut rejects = Vec::new();
    let value = to_json(&CALL, &call.encode_to_vec(), &mut rejects).expect("whole");
    assert!(rejects.is_empty(), "{rejects:?}");
    value
}

#[test]
fn calls_of_another_implementation_are_read() {
    let id = || Id { value: "S1".to_owned() };
    let of_agent = || Some(OfId { id: id() });
    let shown = json!({"value": "S1"});
    let cases = [
        (
            Call {
                kind: Some(38),
                deactivate_agent: of_agent(),
                ..Call::default()
            },
            json!({"type": "DEACTIVATE_AGENT", "deactivate_agent": {"agent_id": shown}}),
        ),
        (
            Call {
                kind: Some(39),
                reactivate_agent: of_agent(),
                ..Call::default()
            },
            json!({"type": "REACTIVATE_AGENT", "reactivate_agent": {"agent_id": shown}}),
        ),
        (
            Call {
                kind: Some(32),
                mark_agent_gone: of_agent(),
                ..Call::default()
            },
            json!({"type": "MARK_AGENT_GONE", "mark_agent_gone": {"agent_id": shown}}),
        ),
        (
            Call {
                kind: Some(31),
                teardown: of_agent(),
                ..Call::default()
            },
            json!({"type": "TEARDOWN", "teardown": {"framework_id": shown}}),
        ),
        (
            Call {
                kind: Some(16),
                update_weights: Some(UpdateWeights {
                    weight_infos: vec![WeightInfo {
                        weight: 2.5,
                        role: Some("dev".to_owned()),
                    }],
                }),
                ..Call::default()
            },
            json!({"type": "UPDATE_WEIGHTS", "update_weights": {"weight_infos": [{"weight": 2.5, "role": "dev"}]}}),
        ),
    ];
    for (call, wanted) in cases {
        assert_eq!(read(&call), wanted);
    }
}

#[test]
fn quotas_of_another_implementation_are_read_and_written() {
    let amounts = |value| {
        BTreeMap::from([
            ("cpus".to_owned(), Scalar { value }),
            ("mem".to_owned(), Scalar { value: 64.0 }),
        ])
    };
    let config = QuotaConfig {
        role: "dev".to_owned(),
        guarantees: BTreeMap::new(),
        limits: amounts(0.5),
    };
    let shown = json!({"role": "dev", "limits": {"cpus": {"value": 0.5}, "mem": {"value": 64.0}}});
    let call = Call {
        kind: Some(36),
        update_quota: Some(UpdateQuota {
            force: Some(true),
            quota_configs: vec![config.clone()],
        }),
        ..Call::default()
    };
    let wanted = json!({"type": "UPDATE_QUOTA", "update_quota": {"force": true, "quota_configs": [shown]}});
    assert_eq!(read(&call), wanted);
    let told = json!({"type": "GET_QUOTA", "get_quota": {"status": {"configs": [shown]}}});
    let bytes = super::from_json(&super::RESPONSE, &told);
    let response = Response {
        kind: Some(18),
        get_quota: Some(GetQuota {
            status: QuotaStatus { configs: vec![config] },
        }),
    };
    assert_eq!(Response::decode(bytes.as_slice()), Ok(response));
    // One whose limits are cut short is not one with fewer limits.
    let mut cut = call.encode_to_vec();
    cut.pop();
    assert!(to_json(&CALL, &cut, &mut Vec::new()).is_err());
}

#[test]
fn kinds_of_calls_have_their_numbers() {
    for (number, name) in [
        (9, "GET_STATE"),
        (18, "SUBSCRIBE"),
        (28, "GET_QUOTA"),
        (33, "GET_OPERATIONS"),
        (36, "UPDATE_QUOTA"),
    ] {
        let call = Call {
            kind: Some(number),
            ..Call::default()
        };
        assert_eq!(read(&call), json!({"type": name}));
    }
}
