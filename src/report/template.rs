//! HTML pages from templates.

use anyhow::{Context, Result};
use minijinja::{Environment, UndefinedBehavior, Value};
use serde::Serialize;

/// Head of a page: encoding, width, and the style that pages share. A template includes it as `head.html`.
const HEAD: &str = include_str!("head.html");

/// A template with its variables filled in. Texts are escaped where `name` ends in .html.
///
/// # Errors
/// A template that names a variable which does not exist.
pub fn filled(name: &str, template: &str, variables: &impl Serialize) -> Result<String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_template("head.html", HEAD).context("the template head.html")?;
    environment.add_template(name, template).with_context(|| format!("the template {name}"))?;
    let variables = value(serde_json::to_value(variables)?);
    let page = environment.get_template(name).and_then(|template| template.render(variables));
    page.with_context(|| format!("cannot fill the template {name}"))
}

/// JSON values for the template.
fn value(json: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::from(()),
        Json::Bool(flag) => flag.into(),
        Json::Number(number) => match number.as_u64() {
            Some(whole) => whole.into(),
            None => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Json::String(text) => text.into(),
        Json::Array(items) => items.into_iter().map(value).collect::<Vec<_>>().into(),
        Json::Object(map) => Value::from_pairs(map.into_iter().map(|(key, item)| (key, value(item)))),
    }
}
