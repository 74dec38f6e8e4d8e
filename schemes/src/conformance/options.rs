//! Promises of the schema of a scheme's options, and the options that the suite takes from it.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::error::Broken;
use crate::registry::MakeScheme;
use crate::{Format, Registration, Scheme};

/// A set of options to try.
pub(super) struct Variant {
    pub(super) options: Value,
    /// The option of which this set tries one value, which may be refused.
    pub(super) tries: Option<String>,
}

impl Variant {
    /// Makes the schemes of these options: one for each format, or a single one where a value is tried.
    pub(super) fn make(&self, make: MakeScheme) -> Result<Vec<Box<dyn Scheme>>, Broken> {
        let made = [Format::CompressedTensors, Format::Fp8].map(|format| make(self.options.clone(), format));
        if let [Err(error), Err(_)] = &made {
            return match error.option {
                Some(option) if self.tries.as_deref() == Some(option) => Ok(Vec::new()),
                _ => Err(Broken::Options(error.clone())),
            };
        }
        let mut schemes: Vec<_> = made.into_iter().flatten().collect();
        if self.tries.is_some() {
            schemes.truncate(1);
        }
        Ok(schemes)
    }
}

/// Checks that the options are a closed object, each with a description.
pub(super) fn check_schema(registration: &Registration) -> Result<(), Broken> {
    let schema = schema(registration);
    if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
        return Err(Broken::OpenOptions);
    }
    for (property, schema) in properties(&schema) {
        if schema.get("description").is_none() {
            return Err(Broken::NoDescription { property: property.clone() });
        }
    }
    Ok(())
}

/// Checks that an unknown option is refused beside known ones.
pub(super) fn check_unknown(make: MakeScheme, variants: &[Variant]) -> Result<(), Broken> {
    let unknown = "no_scheme_has_an_option_of_this_name";
    let mut options = variants.first().and_then(|variant| variant.options.as_object()).cloned().unwrap_or_default();
    options.insert(unknown.to_owned(), 1.into());
    match make(options.into(), Format::CompressedTensors) {
        Ok(_) => Err(Broken::UnknownOption(unknown)),
        Err(_) => Ok(()),
    }
}

/// Checks that the options that the scheme answers to its own arguments make a scheme of the same arguments. It need
/// not answer.
pub(super) fn check_arguments(
    registration: &Registration,
    make: MakeScheme,
    scheme: &dyn Scheme,
) -> Result<(), Broken> {
    let arguments = |scheme: &dyn Scheme| (scheme.weights(), scheme.input_activations());
    let asked = arguments(scheme);
    let Some(options) = (registration.from_arguments)(&asked.0, asked.1.as_ref()) else { return Ok(()) };
    match make(options.clone(), Format::CompressedTensors) {
        Ok(made) if arguments(&*made) == asked => Ok(()),
        _ => Err(Broken::Arguments { asked: Box::new(asked.0), options }),
    }
}

/// Returns the fewest options that the scheme can do with: the first value that its schema offers for each that it requires.
///
/// # Errors
/// The schema offers none for one of them.
///
/// # Examples
/// ```
/// use qwen_fp8_schemes::{conformance::fewest_options, find};
///
/// let fewest = |name| fewest_options(find(name).expect("this crate registers it"));
/// assert_eq!(fewest("NVFP4")?, serde_json::json!({ "input_scale": 1.0 }));
/// assert_eq!(fewest("NVFP4A16")?, serde_json::json!({}));
/// # Ok::<(), qwen_fp8_schemes::conformance::Broken>(())
/// ```
pub fn fewest_options(registration: &Registration) -> Result<Value, Broken> {
    least(&schema(registration)).map(Value::Object)
}

fn least(schema: &Value) -> Result<Map<String, Value>, Broken> {
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    let option = |property: &str| {
        let offered = properties(schema).find(|(name, _)| *name == property).map(|(_, schema)| offered(schema));
        let value = offered.into_iter().flatten().next();
        let value = value.ok_or_else(|| Broken::NoExample { property: property.to_owned() })?;
        Ok((property.to_owned(), value))
    };
    required.filter_map(Value::as_str).map(option).collect()
}

/// Returns the fewest options that the scheme can do with, then each value that the schema offers for an option.
pub(super) fn variants(registration: &Registration) -> Result<Vec<Variant>, Broken> {
    let schema = schema(registration);
    let least = least(&schema)?;
    let mut variants = vec![Variant { options: least.clone().into(), tries: None }];
    for (property, schema) in properties(&schema) {
        let values = offered(schema);
        if values.is_empty() && schema.get("default").is_none() {
            return Err(Broken::NoExample { property: property.clone() });
        }
        for value in values {
            if Some(&value) == least.get(property).or(schema.get("default")) {
                continue;
            }
            let mut options = least.clone();
            options.insert(property.clone(), value);
            variants.push(Variant { options: options.into(), tries: Some(property.clone()) });
        }
    }
    Ok(variants)
}

fn schema(registration: &Registration) -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    (registration.options)(&mut settings.into_generator()).to_value()
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

/// Returns the values that a schema names: its examples and choices, and those of its alternatives; both values of a
/// boolean.
fn offered(schema: &Value) -> Vec<Value> {
    let mut values: Vec<Value> = Vec::new();
    let mut offer = |value: &Value| {
        if !values.contains(value) {
            values.push(value.clone());
        }
    };
    for list in ["examples", "enum"] {
        schema.get(list).and_then(Value::as_array).into_iter().flatten().for_each(&mut offer);
    }
    schema.get("const").into_iter().for_each(&mut offer);
    if schema.get("type").is_some_and(|kind| kind == "boolean") {
        [false, true].map(Value::from).iter().for_each(&mut offer);
    }
    for list in ["oneOf", "anyOf"] {
        for alternative in schema.get(list).and_then(Value::as_array).into_iter().flatten() {
            offered(alternative).iter().for_each(&mut offer);
        }
    }
    values
}
