//! Placement constraints as written: `[field, operator, value]`.

use regex::{Regex, RegexBuilder};

use crate::{Constraint, Operator};

use super::Faults;

/// Most memory that one pattern may need once it is compiled.
const PATTERN_SIZE: usize = 128 * 1024;

/// Most constraints of one app: each is looked at for every agent.
const MOST: usize = 100;

/// Fields that begin with `@` and mean something.
const PLACES: [&str; 3] = ["@hostname", "@region", "@zone"];

/// Checks all constraints.
pub(super) fn check(constraints: &[Vec<String>], faults: &mut Faults) -> Vec<Constraint> {
    if constraints.len() > MOST {
        let error = format!("at most {MOST} constraints are taken, not {}", constraints.len());
        faults.add("/constraints", error);
        return Vec::new();
    }
    let mut checked = Vec::new();
    for (index, words) in constraints.iter().enumerate() {
        match one(words) {
            Ok(constraint) => checked.push(constraint),
            Err(error) => faults.add(format!("/constraints({index})"), error),
        }
    }
    checked
}

/// The compiled form of a pattern, which must match a whole value. The engine takes linear time whatever the pattern,
/// and its size is bounded; look-around and back-references do not exist.
pub(crate) fn pattern(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(&format!("^(?:{text})$"))
        .size_limit(PATTERN_SIZE)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "the pattern is too large once compiled: write a simpler one".to_owned(),
            other => {
                let text = other.to_string();
                format!(
                    "the pattern is no regular expression: {}",
                    text.lines().last().unwrap_or_default()
                )
            }
        })
}

fn one(words: &[String]) -> Result<Constraint, String> {
    let (field, operator, value) = match words {
        [field, operator] => (field, operator, None),
        [field, operator, value] => (field, operator, Some(value.clone())),
        _ => return Err("a constraint has two or three words: field, operator and, where needed, a value".to_owned()),
    };
    if field.is_empty() {
        return Err("the field must not be empty: write hostname or an attribute's name".to_owned());
    }
    if field.starts_with('@') && !PLACES.contains(&field.as_str()) {
        return Err(format!(
            "there is no field {field}: write @hostname, @region, @zone or an attribute's name"
        ));
    }
    let operator = match operator.as_str() {
        "UNIQUE" => Operator::Unique,
        "CLUSTER" => Operator::Cluster,
        "GROUP_BY" => Operator::GroupBy,
        "MAX_PER" => Operator::MaxPer,
        "IS" => Operator::Is,
        "LIKE" => Operator::Like,
        "UNLIKE" => Operator::Unlike,
        other => {
            return Err(format!(
                "{other} is no operator: write UNIQUE, CLUSTER, GROUP_BY, LIKE, UNLIKE, MAX_PER or IS"
            ));
        }
    };
    let is_count = |value: &Option<String>| {
        value
            .as_ref()
            .is_some_and(|text| text.parse::<u32>().is_ok_and(|n| n > 0))
    };
    let constraint = |value| {
        Ok(Constraint {
            field: field.clone(),
            operator,
            value,
        })
    };
    match operator {
        Operator::Unique if value.is_some() => Err("UNIQUE takes no value; remove it".to_owned()),
        Operator::MaxPer if !is_count(&value) => Err("MAX_PER needs a value: a whole number above 0".to_owned()),
        Operator::GroupBy if value.is_some() && !is_count(&value) => {
            Err("the value of GROUP_BY must be a whole number above 0".to_owned())
        }
        Operator::Is if value.is_none() => Err("IS needs a value".to_owned()),
        Operator::Like | Operator::Unlike => match value {
            Some(text) => pattern(&text).and_then(|_| constraint(Some(text))),
            None => Err("LIKE and UNLIKE need a value: a regular expression".to_owned()),
        },
        _ => constraint(value),
    }
}
