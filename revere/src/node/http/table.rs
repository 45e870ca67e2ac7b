//! Routes as data: one table makes the router and the OpenAPI document, so that neither can know a path the other lacks.

use axum::Router;
use axum::routing::MethodRouter;
use serde_json::{Map, Value, json};

/// One path.
pub(super) struct Route<S: 'static> {
    /// Parameters in braces.
    pub(super) path: &'static str,
    /// One sentence.
    pub(super) about: &'static str,
    pub(super) answer: Answer,
    /// Makes the handler of its GET.
    pub(super) handler: fn() -> MethodRouter<S>,
}

/// What a path answers with.
pub(super) enum Answer {
    /// JSON; the example shows every field.
    Json(&'static str),
    /// Text of that content type.
    Text(&'static str),
    /// Server-sent events, each with JSON like the example.
    Events(&'static str),
    /// Never anything: the original did not carry it out either.
    NotImplemented,
}

/// The router of a table.
pub(super) fn router<S: Clone + Send + Sync + 'static>(routes: &[Route<S>]) -> Router<S> {
    routes.iter().fold(Router::new(), |router, route| {
        router.route(route.path, (route.handler)())
    })
}

/// The OpenAPI document of a table.
pub(super) fn document<S>(title: &str, routes: &[Route<S>]) -> Value {
    let mut paths = Map::new();
    for route in routes {
        let names = route
            .path
            .split('/')
            .filter_map(|piece| piece.strip_prefix('{')?.strip_suffix('}'));
        let parameters: Vec<Value> = names
            .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
            .collect();
        let operation = json!({
            "summary": route.about,
            "operationId": operation(route.path),
            "parameters": parameters,
            "responses": responses(&route.answer),
        });
        paths.insert(route.path.to_owned(), json!({"get": operation}));
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": title, "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
    })
}

/// `/v1/hosts/{host}` is `v1_hosts_host`.
fn operation(path: &str) -> String {
    let pieces = path.split(['/', '{', '}', '.']).filter(|piece| !piece.is_empty());
    pieces.collect::<Vec<_>>().join("_")
}

fn responses(answer: &Answer) -> Value {
    let good = |kind: &str, content: Value| json!({"200": {"description": "OK", "content": {kind: content}}});
    match answer {
        Answer::Json(example) => good("application/json", like(example)),
        Answer::Events(example) => good("text/event-stream", like(example)),
        Answer::Text(kind) => good(kind, json!({"schema": {"type": "string"}})),
        Answer::NotImplemented => json!({"501": {"description": "not carried out"}}),
    }
}

fn like(example: &str) -> Value {
    let example: Value = serde_json::from_str(example).unwrap_or_default();
    json!({"schema": schema(&example), "example": example})
}

/// The schema that an example shows.
fn schema(example: &Value) -> Value {
    match example {
        // Shown as absent: of whatever kind.
        Value::Null => json!({}),
        Value::Bool(_) => json!({"type": "boolean"}),
        Value::Number(number) if number.is_f64() => json!({"type": "number"}),
        Value::Number(_) => json!({"type": "integer"}),
        Value::String(_) => json!({"type": "string"}),
        Value::Array(items) => {
            json!({"type": "array", "items": items.first().map(schema).unwrap_or_else(|| json!({}))})
        }
        Value::Object(fields) => {
            let properties: Map<String, Value> = fields
                .iter()
                .map(|(name, value)| (name.clone(), schema(value)))
                .collect();
            json!({"type": "object", "properties": properties})
        }
    }
}
