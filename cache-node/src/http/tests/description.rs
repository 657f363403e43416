//! Holds answers to the API's description: operation, status, and every member of the body.

use axum::http::{Method, StatusCode};
use serde_json::Value;

/// `/openapi.json`, as it is served.
pub(super) struct Description(Value);

impl Description {
    pub(super) fn new() -> Description {
        Description(serde_json::from_str(super::OPENAPI).expect("the description is JSON"))
    }

    /// Every operation, as method and path.
    pub(super) fn operations(&self) -> Vec<(Method, String)> {
        let mut out = Vec::new();
        for (path, item) in self.0["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("operations") {
                // `parameters` stand beside the methods.
                if operation.is_object() {
                    let method = Method::from_bytes(method.to_uppercase().as_bytes());
                    out.push((method.expect("a method"), path.clone()));
                }
            }
        }
        out
    }

    /// Panics unless the description says that this may be answered.
    pub(super) fn check(&self, method: &Method, path: &str, status: StatusCode, body: &str) {
        let request = format!("{method} {path}: {status} {body}");
        let Some(operation) = self.operation(method, path) else {
            let nothing = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
            assert!(nothing.contains(&status), "served, and not described: {request}");
            return;
        };
        let response = self.resolve(&operation["responses"][status.as_str()]);
        assert!(response.is_object(), "a status that is not described: {request}");
        let schema = &response["content"]["application/json"]["schema"];
        if schema.is_object() {
            let body = serde_json::from_str(body).unwrap_or_else(|_| panic!("no JSON: {request}"));
            if let Err(wrong) = self.holds(schema, &body, "the body") {
                panic!("{wrong}: {request}");
            }
        }
    }

    fn operation(&self, method: &Method, path: &str) -> Option<&Value> {
        let path = path.split('?').next().unwrap_or(path);
        let template = match path.strip_prefix("/cache/") {
            Some("batch") | None => path,
            Some(_) => "/cache/{key}",
        };
        self.0["paths"].get(template)?.get(method.as_str().to_lowercase())
    }

    /// What a `$ref` leads to.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let Some(reference) = value["$ref"].as_str() else { return value };
        let pointer = reference.strip_prefix('#').expect("a reference within the file");
        self.0.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"))
    }

    /// Whether `value` has the described form: nothing missing, and nothing that is not named.
    fn holds(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let schema = self.resolve(schema);
        if let Some(names) = schema["enum"].as_array() {
            return names
                .contains(value)
                .then_some(())
                .ok_or(format!("{at}: {value} is no choice"));
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
            one => one.as_str().into_iter().collect(),
        };
        let own = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_u64() => "integer",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        if !types.contains(&own) {
            return Err(format!("{at}: {value} is none of {types:?}"));
        }
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            self.holds(&schema["items"], item, &format!("{at}[{index}]"))?;
        }
        let Some(members) = value.as_object() else { return Ok(()) };
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !members.contains_key(name) {
                return Err(format!("{at}: there is no {name}"));
            }
        }
        for (name, member) in members {
            let named = schema["properties"].get(name).or(schema.get("additionalProperties"));
            let named = named.ok_or_else(|| format!("{at}: {name} is not described"))?;
            self.holds(named, member, &format!("{at}.{name}"))?;
        }
        Ok(())
    }
}
