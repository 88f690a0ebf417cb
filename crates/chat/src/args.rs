//! What a method is called with. Slack takes arguments from the query, a form, JSON and multipart alike, and ignores what it does not know.

use std::collections::BTreeMap;

use axum::{
    body::Bytes,
    extract::{FromRequest, Multipart, RawForm, Request},
    http::{Method as HttpMethod, header},
};
use serde_json::Value;

use crate::{
    failure::Failure,
    id::{Id, Kind},
    ts::Ts,
};

/// Most arguments of a call.
const ARGS_MAX: usize = 100;

/// The arguments of a call. Those of the body win over those of the query.
#[derive(Debug, Clone, Default)]
pub(crate) struct Args(BTreeMap<String, Value>);

impl Args {
    /// Reads them from a request, whose body is bounded by its route.
    ///
    /// # Errors
    /// `invalid_json`, `json_not_object`, `invalid_form_data`, `invalid_post_type`: Slack's words for bodies that cannot be read.
    pub(crate) async fn read(request: Request) -> Result<Self, Failure> {
        let mut args = Self::default();
        let query = request.uri().query().unwrap_or_default().to_owned();
        args.add_form(query.as_bytes())?;
        if matches!(*request.method(), HttpMethod::GET | HttpMethod::HEAD) {
            return Ok(args);
        }
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let kind = content_type.unwrap_or_default().split(';').next();
        match kind
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
            .as_str()
        {
            "application/json" => args.add_json(&body(request).await?)?,
            "application/x-www-form-urlencoded" => {
                let form = RawForm::from_request(request, &()).await;
                let RawForm(form) = form.map_err(|_| Failure::new("invalid_form_data"))?;
                args.add_form(&form)?;
            }
            "multipart/form-data" => args.add_multipart(request).await?,
            "" => {}
            _ => return Err(Failure::new("invalid_post_type")),
        }
        Ok(args)
    }

    fn add(&mut self, name: String, value: Value) -> Result<(), Failure> {
        if self.0.len() >= ARGS_MAX {
            return Err(Failure::new("invalid_form_data"));
        }
        // Nothing keeps a NUL.
        if value.as_str().is_some_and(|text| text.contains('\0')) {
            return Err(Failure::argument(&name, "holds a NUL"));
        }
        self.0.insert(name, value);
        Ok(())
    }

    fn add_form(&mut self, form: &[u8]) -> Result<(), Failure> {
        form_urlencoded::parse(form).try_for_each(|(name, value)| {
            self.add(name.into_owned(), Value::String(value.into_owned()))
        })
    }

    fn add_json(&mut self, text: &[u8]) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        let value = serde_json::from_slice(text).map_err(|_| Failure::new("invalid_json"))?;
        let Value::Object(fields) = value else {
            return Err(Failure::new("json_not_object"));
        };
        fields
            .into_iter()
            .try_for_each(|(name, value)| self.add(name, value))
    }

    async fn add_multipart(&mut self, request: Request) -> Result<(), Failure> {
        let refused = || Failure::new("invalid_form_data");
        let multipart = Multipart::from_request(request, &()).await;
        let mut multipart = multipart.map_err(|_| refused())?;
        while let Some(field) = multipart.next_field().await.map_err(|_| refused())? {
            let Some(name) = field.name().map(str::to_owned) else {
                continue;
            };
            let text = field.text().await.map_err(|_| refused())?;
            self.add(name, Value::String(text))?;
        }
        Ok(())
    }

    /// A text, if it is there and not empty. Numbers are taken for their text.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::String(text) if text.is_empty() => None,
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// A text that must be there.
    pub(crate) fn need(&self, name: &str) -> Result<String, Failure> {
        self.text(name)
            .ok_or_else(|| Failure::argument(name, &format!("missing required field: {name}")))
    }

    /// `true`, `1`, or one of them as text.
    pub(crate) fn flag(&self, name: &str) -> bool {
        match self.0.get(name) {
            Some(Value::Bool(value)) => *value,
            Some(Value::Number(value)) => value.as_i64() == Some(1),
            Some(Value::String(text)) => matches!(text.as_str(), "1" | "true" | "True"),
            _ => false,
        }
    }

    /// A whole number, if it is there.
    pub(crate) fn int(&self, name: &str) -> Result<Option<i64>, Failure> {
        let wrong = || Failure::argument(name, "must be a number");
        self.text(name)
            .map(|text| text.parse().map_err(|_| wrong()))
            .transpose()
    }

    /// Structured data, as itself or as a text of JSON.
    pub(crate) fn json(&self, name: &str) -> Result<Option<Value>, Failure> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => serde_json::from_str(text)
                .map(Some)
                .map_err(|_| Failure::argument(name, "must be JSON")),
            Some(value) => Ok(Some(value.clone())),
        }
    }

    /// A list: separated by commas, or JSON.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let of_json = |items: &[Value]| {
            let texts = items.iter().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        match self.0.get(name) {
            Some(Value::Array(items)) => of_json(items),
            Some(Value::String(text)) => match serde_json::from_str(text) {
                Ok(Value::Array(items)) => of_json(&items),
                _ => {
                    let items = text.split(',').map(str::trim);
                    items
                        .filter(|it| !it.is_empty())
                        .map(str::to_owned)
                        .collect()
                }
            },
            _ => Vec::new(),
        }
    }

    /// The id of a conversation that must be there; what cannot be one is not found.
    pub(crate) fn conversation(&self) -> Result<Id, Failure> {
        let text = self.need("channel")?;
        Id::parse_conversation(&text).ok_or_else(|| Failure::new("channel_not_found"))
    }

    /// The id of a user that must be there; what cannot be one is not found.
    pub(crate) fn user(&self) -> Result<Id, Failure> {
        let text = self.need("user")?;
        Id::parse(Kind::User, &text).ok_or_else(|| Failure::new("user_not_found"))
    }

    /// A `ts` that must be there.
    pub(crate) fn ts(&self, name: &str, wrong: &'static str) -> Result<Ts, Failure> {
        Ts::parse(&self.need(name)?).ok_or_else(|| Failure::new(wrong))
    }
}

async fn body(request: Request) -> Result<Bytes, Failure> {
    let body = Bytes::from_request(request, &()).await;
    body.map_err(|_| Failure::new("invalid_form_data"))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use serde_json::json;

    use super::*;

    async fn read(
        method: &str,
        uri: &str,
        kind: &str,
        body: &'static str,
    ) -> Result<Args, Failure> {
        let request = Request::builder().method(method).uri(uri);
        let request = request.header("content-type", kind).body(Body::from(body));
        Args::read(request.unwrap()).await
    }

    #[tokio::test]
    async fn all_ways_of_saying_it_say_the_same() {
        const FORM: &str = "application/x-www-form-urlencoded";
        const MULTIPART: &str = "multipart/form-data; boundary=x";
        let multipart = "--x\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\na&b\r\n--x\r\n\
             Content-Disposition: form-data; name=\"limit\"\r\n\r\n5\r\n--x\r\n\
             Content-Disposition: form-data; name=\"ok\"\r\n\r\ntrue\r\n--x--\r\n";
        for (method, uri, kind, body) in [
            ("GET", "/?text=a%26b&limit=5&ok=1", "", ""),
            ("POST", "/", FORM, "text=a%26b&limit=5&ok=true"),
            (
                "POST",
                "/?text=no",
                "application/json; charset=utf-8",
                "{\"text\":\"a&b\",\"limit\":5,\"ok\":true}",
            ),
            ("POST", "/", MULTIPART, multipart),
        ] {
            let args = read(method, uri, kind, body).await.unwrap();
            assert_eq!(args.text("text").as_deref(), Some("a&b"), "{kind}");
            assert_eq!(args.int("limit").unwrap(), Some(5));
            assert!(args.flag("ok") && !args.flag("not"));
        }
    }

    #[tokio::test]
    async fn lists_and_structures_come_as_json_or_as_text() {
        let body = "{\"users\":\"U1, U2\",\"more\":[\"a\"],\"text\":\"[\\\"b\\\"]\",\"blocks\":\"[{\\\"type\\\":1}]\"}";
        let args = read("POST", "/", "application/json", body).await.unwrap();
        assert_eq!(args.list("users"), ["U1", "U2"]);
        assert_eq!(args.list("more"), ["a"]);
        assert_eq!(args.list("text"), ["b"]);
        assert_eq!(args.json("blocks").unwrap(), Some(json!([{ "type": 1 }])));
        assert!(args.json("users").unwrap_err().is("invalid_arguments"));
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_refused() {
        let code = |result: Result<Args, Failure>| result.unwrap_err().code.into_owned();
        assert_eq!(
            code(read("POST", "/", "application/json", "{").await),
            "invalid_json"
        );
        assert_eq!(
            code(read("POST", "/", "application/json", "[]").await),
            "json_not_object"
        );
        assert_eq!(
            code(read("POST", "/", "text/plain", "x").await),
            "invalid_post_type"
        );
        assert_eq!(
            code(read("POST", "/", "multipart/form-data", "x").await),
            "invalid_form_data"
        );
        assert_eq!(
            code(read("GET", "/?text=%00", "", "").await),
            "invalid_arguments"
        );
    }
}
