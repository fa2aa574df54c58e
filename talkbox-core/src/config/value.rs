//! Values of the configuration: what they look like in text, and how much of one may be shown.

use std::fmt;

use serde_json::Value;

use super::origin::Origin;
use crate::{Error, ErrorKind, Result};

/// A value as it was given, and where.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) given: Given,
    pub(super) origin: Origin,
}

/// A value as it was given: a file says of what type it is, a variable of the environment and a flag do not.
#[derive(Clone)]
pub(super) enum Given {
    Typed(Value),
    Text(String),
}

/// Of what type a value has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    Integer,
    Boolean,
    List,
}

impl Shape {
    /// The shape of a value that was given elsewhere for the same key.
    pub(super) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(_) => Some(Self::Text),
            Value::Number(number) if number.is_i64() || number.is_u64() => Some(Self::Integer),
            Value::Bool(_) => Some(Self::Boolean),
            Value::Array(_) => Some(Self::List),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Text => "a text in quotes",
            Self::Integer => "a whole number",
            Self::Boolean => "true or false",
            Self::List => "a list",
        }
    }
}

impl Setting {
    /// The value in its shape; where the shape is not known, a text that reads as a TOML value is one.
    pub(super) fn value(&self, key: &str, shape: Option<Shape>) -> Result<Value> {
        let wrong = |shape: Shape| invalid(format!("`{key}` takes {}", shape.name()), &self.origin);
        match (&self.given, shape) {
            (Given::Typed(value), Some(shape)) if Shape::of(value) != Some(shape) => Err(wrong(shape)),
            (Given::Typed(value), _) => Ok(value.clone()),
            (Given::Text(text), Some(Shape::Text)) => Ok(Value::String(text.clone())),
            (Given::Text(text), Some(Shape::List)) => match literal(text) {
                Some(list @ Value::Array(_)) => Ok(list),
                _ => Ok(split(text)),
            },
            (Given::Text(text), Some(shape)) => {
                literal(text).filter(|value| Shape::of(value) == Some(shape)).ok_or_else(|| wrong(shape))
            }
            (Given::Text(text), None) => Ok(literal(text).unwrap_or_else(|| Value::String(text.clone()))),
        }
    }

    /// A name, or a list of names.
    pub(super) fn names(&self, key: &str) -> Result<Vec<String>> {
        let wrong = || invalid(format!("`{key}` takes the name of a backend or a list of names"), &self.origin);
        let value = match &self.given {
            Given::Typed(Value::String(name)) => return Ok(vec![name.clone()]),
            _ => self.value(key, Some(Shape::List)).map_err(|_| wrong())?,
        };
        let Value::Array(names) = value else { return Err(wrong()) };
        let names: Option<Vec<_>> = names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
        names.filter(|names| !names.is_empty()).ok_or_else(wrong)
    }
}

impl fmt::Debug for Setting {
    /// The origin alone: a value may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Setting({})", self.origin)
    }
}

/// A text with commas as a list.
pub(super) fn split(text: &str) -> Value {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(|part| Value::String(part.to_owned())).collect()
}

/// What a text means as a TOML value.
fn literal(text: &str) -> Option<Value> {
    let value = toml::de::DeValue::parse(text.trim()).ok()?;
    match from_toml(value.get_ref()) {
        Ok(value @ (Value::Bool(_) | Value::Number(_) | Value::Array(_))) => Some(value),
        Ok(Value::String(quoted)) if text.trim_start().starts_with(['"', '\'']) => Some(Value::String(quoted)),
        _ => None,
    }
}

/// A TOML value in the form that backends are given.
pub(super) fn from_toml(value: &toml::de::DeValue<'_>) -> Result<Value, &'static str> {
    use toml::de::DeValue;
    Ok(match value {
        DeValue::String(text) => Value::String(text.as_ref().to_owned()),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Integer(number) => {
            let number = i64::from_str_radix(number.as_str(), number.radix()).map_err(|_| "the number is too large")?;
            Value::from(number)
        }
        DeValue::Float(number) => number
            .as_str()
            .parse()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map(Value::Number)
            .ok_or("the number is not finite")?,
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| from_toml(item.get_ref())).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => Value::Object(
            table
                .iter()
                .map(|(key, value)| Ok((key.get_ref().as_ref().to_owned(), from_toml(value.get_ref())?)))
                .collect::<Result<_, &'static str>>()?,
        ),
    })
}

/// As much of a value as may be shown: nothing under a key that sounds like a secret, and of a URL neither the user
/// nor the query, since tokens travel in both.
pub(super) fn shown(keys: &[String], value: &Value) -> Value {
    if keys.iter().any(|key| sounds_secret(key)) {
        return Value::String("(hidden)".to_owned());
    }
    match value {
        Value::String(text) => Value::String(without_credentials(text)),
        Value::Array(items) => items.iter().map(|item| shown(&[], item)).collect(),
        Value::Object(table) => {
            let pairs = table.iter().map(|(key, value)| (key.clone(), shown(std::slice::from_ref(key), value)));
            Value::Object(pairs.collect())
        }
        other => other.clone(),
    }
}

/// Whether what stands under a key may be a secret.
pub(crate) fn sounds_secret(key: &str) -> bool {
    const WORDS: [&str; 9] = ["secret", "token", "password", "passphrase", "auth", "key", "seed", "words", "cookie"];
    let key = key.to_lowercase();
    WORDS.iter().any(|word| key.contains(word))
}

pub(super) fn without_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, _)| (rest, "?(hidden)"));
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = host.rsplit_once('@').map_or(host.to_owned(), |(_, host)| format!("(hidden)@{host}"));
    format!("{scheme}://{host}{path}{query}")
}

/// A mistake in the configuration, and where it is.
pub(super) fn invalid(message: impl Into<std::borrow::Cow<'static, str>>, origin: &Origin) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message).with("at", origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Setting {
        Setting { given: Given::Text(text.to_owned()), origin: Origin::Environment { name: "TALKBOX_X".to_owned() } }
    }

    #[test]
    fn a_text_takes_the_shape_of_its_key() {
        let value = |given: &str, shape| text(given).value("x", shape).expect("reads");
        assert_eq!(value("a, b,", Some(Shape::List)), serde_json::json!(["a", "b"]));
        assert_eq!(value("[\"a,b\"]", Some(Shape::List)), serde_json::json!(["a,b"]));
        assert_eq!(value("12", Some(Shape::Integer)), serde_json::json!(12));
        assert_eq!(value("12", Some(Shape::Text)), serde_json::json!("12"));
        assert_eq!(value("12", None), serde_json::json!(12));
        assert_eq!(value("\"12\"", None), serde_json::json!("12"));
        assert_eq!(value("wss://a,wss://b", None), serde_json::json!("wss://a,wss://b"));
        assert_eq!(value("1979-05-27", None), serde_json::json!("1979-05-27"));
        let error = text("two").value("x", Some(Shape::Integer)).expect_err("no number");
        assert_eq!(error.to_string(), "`x` takes a whole number (at: TALKBOX_X)");
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        let shown = |key: &str, value: &str| shown(&[key.to_owned()], &Value::from(value));
        assert_eq!(shown("api_token", "abc"), "(hidden)");
        assert_eq!(shown("relays", "wss://me:pw@relay.example/x?k=1"), "wss://(hidden)@relay.example/x?(hidden)");
        assert_eq!(shown("relays", "wss://relay.example"), "wss://relay.example");
        let nested = serde_json::json!({"pin": {"token": "abc", "url": "https://a.example"}});
        let nested = super::shown(&["pins".to_owned()], &nested);
        assert_eq!(nested, serde_json::json!({"pin": {"token": "(hidden)", "url": "https://a.example"}}));
    }
}
