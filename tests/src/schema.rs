//! As much of JSON Schema as the document of the server API needs: whether a value is what a schema says.
//!
//! A keyword that is not known here fails the test: it would be passed over otherwise.

use serde_json::{Map, Value};

/// Says of a schema what it is, and asks for nothing.
const REMARKS: [&str; 2] = ["description", "format"];

/// A document with schemas in it.
#[derive(Debug)]
pub struct Schemas(pub Value);

impl Schemas {
    /// What is wrong with a value; nothing if it is what `schema` says.
    ///
    /// # Panics
    /// When the schema has a keyword that is not known here, or points nowhere.
    #[track_caller]
    pub fn faults(&self, schema: &Value, value: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        self.look(schema, value, "$", &mut faults);
        faults
    }

    /// The schema that another one points to, or itself.
    ///
    /// # Panics
    /// When it points nowhere.
    #[track_caller]
    pub fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let Some(target) = schema.get("$ref") else {
            return schema;
        };
        let path = target.as_str().unwrap_or_default().trim_start_matches('#');
        match self.0.pointer(path) {
            Some(found) => found,
            None => panic!("{target} points nowhere"),
        }
    }

    fn look(&self, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        let schema = self.resolved(schema);
        let Some(schema) = schema.as_object() else {
            panic!("no schema at {at}: {schema}");
        };
        for (keyword, said) in schema {
            let fault = match (keyword.as_str(), value) {
                ("type", _) => (!is_of_type(said, value)).then(|| format!("is no {said}")),
                ("oneOf", _) => self.one_of(said, value),
                ("minimum", Value::Number(number)) => {
                    (number.as_f64() < said.as_f64()).then(|| format!("is below {said}"))
                }
                ("maximum", Value::Number(number)) => {
                    (number.as_f64() > said.as_f64()).then(|| format!("is over {said}"))
                }
                ("minLength", Value::String(text)) => {
                    is_under(text.len(), said).then(|| "is too short".to_owned())
                }
                ("maxLength", Value::String(text)) => {
                    is_over(text.len(), said).then(|| "is too long".to_owned())
                }
                // The only one: the name of a channel.
                ("pattern", Value::String(text)) => {
                    let fine = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
                    (!text.bytes().all(fine)).then(|| "is no name of a channel".to_owned())
                }
                ("items", Value::Array(items)) => {
                    for (index, item) in items.iter().enumerate() {
                        self.look(said, item, &format!("{at}[{index}]"), faults);
                    }
                    None
                }
                ("minItems", Value::Array(items)) => {
                    is_under(items.len(), said).then(|| "has too few items".to_owned())
                }
                ("maxItems", Value::Array(items)) => {
                    is_over(items.len(), said).then(|| "has too many items".to_owned())
                }
                ("properties", Value::Object(members)) => {
                    for (name, member) in members {
                        if let Some(schema) = said.get(name) {
                            self.look(schema, member, &format!("{at}.{name}"), faults);
                        }
                    }
                    None
                }
                ("additionalProperties", Value::Object(members)) => {
                    self.additional(schema, said, members, at, faults);
                    None
                }
                ("required", Value::Object(members)) => {
                    let names = said.as_array().into_iter().flatten();
                    let missing = names
                        .filter_map(Value::as_str)
                        .find(|it| !members.contains_key(*it));
                    missing.map(|name| format!("has no {name}"))
                }
                ("minProperties", Value::Object(members)) => {
                    is_under(members.len(), said).then(|| "has too few members".to_owned())
                }
                ("maxProperties", Value::Object(members)) => {
                    is_over(members.len(), said).then(|| "has too many members".to_owned())
                }
                (
                    "minimum"
                    | "maximum"
                    | "minLength"
                    | "maxLength"
                    | "pattern"
                    | "items"
                    | "minItems"
                    | "maxItems"
                    | "properties"
                    | "additionalProperties"
                    | "required"
                    | "minProperties"
                    | "maxProperties",
                    _,
                ) => None,
                (remark, _) if REMARKS.contains(&remark) => None,
                (unknown, _) => panic!("the keyword {unknown} at {at} is not known"),
            };
            if let Some(fault) = fault {
                faults.push(format!("{at} {fault}: {value}"));
            }
        }
    }

    fn one_of(&self, schemas: &Value, value: &Value) -> Option<String> {
        let schemas = schemas.as_array().into_iter().flatten();
        let found: Vec<_> = schemas.map(|schema| self.faults(schema, value)).collect();
        let fitting = found.iter().filter(|faults| faults.is_empty()).count();
        (fitting != 1).then(|| format!("fits {fitting} of its schemas, not one ({found:?})"))
    }

    fn additional(
        &self,
        schema: &Map<String, Value>,
        said: &Value,
        members: &Map<String, Value>,
        at: &str,
        faults: &mut Vec<String>,
    ) {
        let known = schema.get("properties").and_then(Value::as_object);
        let is_known = |name: &str| known.is_some_and(|known| known.contains_key(name));
        for (name, member) in members.iter().filter(|(name, _)| !is_known(name)) {
            match said {
                Value::Bool(false) => faults.push(format!("{at} has {name}, which nobody knows")),
                schema => self.look(schema, member, &format!("{at}.{name}"), faults),
            }
        }
    }
}

fn is_of_type(name: &Value, value: &Value) -> bool {
    match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        _ => panic!("the type {name} is not known"),
    }
}

fn is_under(length: usize, bound: &Value) -> bool {
    bound.as_u64().is_none_or(|bound| (length as u64) < bound)
}

fn is_over(length: usize, bound: &Value) -> bool {
    bound.as_u64().is_none_or(|bound| length as u64 > bound)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_as_the_schema_says_is_found() {
        let schemas = Schemas(json!({"s": {
            "a": {"type": "object", "required": ["n"], "additionalProperties": false, "properties": {
                "n": {"type": "integer", "minimum": 1, "description": "a number"},
                "list": {"type": "array", "maxItems": 2, "items": {"$ref": "#/s/text"}},
                "one": {"oneOf": [{"type": "string"}, {"type": "integer"}]},
            }},
            "text": {"type": "string", "maxLength": 3, "pattern": "…"},
        }}));
        let count = |value: Value| schemas.faults(&json!({"$ref": "#/s/a"}), &value).len();
        for fine in [
            json!({"n": 1}),
            json!({"n": 7, "list": ["a", "b"], "one": "x"}),
            json!({"n": 7, "list": [], "one": 3}),
        ] {
            assert_eq!(count(fine.clone()), 0, "{fine}");
        }
        for wrong in [
            json!([]),
            json!({}),
            json!({"n": 0}),
            json!({"n": 1.5}),
            json!({"n": 1, "list": ["a", "b", "c"]}),
            json!({"n": 1, "list": ["long"]}),
            json!({"n": 1, "list": ["a b"]}),
            json!({"n": 1, "list": [1]}),
            json!({"n": 1, "one": true}),
            json!({"n": 1, "unknown": 1}),
        ] {
            assert!(count(wrong.clone()) > 0, "{wrong}");
        }
    }
}
