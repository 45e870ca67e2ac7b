//! Placement constraints as written: `[field, operator, value]`.

use crate::{Constraint, Operator};

use super::Faults;

/// Checks all constraints.
pub(super) fn check(constraints: &[Vec<String>], faults: &mut Faults) -> Vec<Constraint> {
    let mut checked = Vec::new();
    for (index, words) in constraints.iter().enumerate() {
        match one(words) {
            Ok(constraint) => checked.push(constraint),
            Err(error) => faults.add(format!("/constraints({index})"), error),
        }
    }
    checked
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
    if field.starts_with('@') && field != "@hostname" {
        return Err(format!(
            "the field {field} is not carried out by this version of Revere; remove it"
        ));
    }
    let operator = match operator.as_str() {
        "UNIQUE" => Operator::Unique,
        "CLUSTER" => Operator::Cluster,
        "GROUP_BY" => Operator::GroupBy,
        "MAX_PER" => Operator::MaxPer,
        "IS" => Operator::Is,
        "LIKE" | "UNLIKE" => {
            return Err(format!(
                "the operator {operator} is not carried out by this version of Revere; remove it"
            ));
        }
        other => {
            return Err(format!(
                "{other} is no operator: write UNIQUE, CLUSTER, GROUP_BY, MAX_PER or IS"
            ));
        }
    };
    let is_count = |value: &Option<String>| {
        value
            .as_ref()
            .is_some_and(|text| text.parse::<u32>().is_ok_and(|n| n > 0))
    };
    match operator {
        Operator::Unique if value.is_some() => Err("UNIQUE takes no value; remove it".to_owned()),
        Operator::MaxPer if !is_count(&value) => Err("MAX_PER needs a value: a whole number above 0".to_owned()),
        Operator::GroupBy if value.is_some() && !is_count(&value) => {
            Err("the value of GROUP_BY must be a whole number above 0".to_owned())
        }
        Operator::Is if value.is_none() => Err("IS needs a value".to_owned()),
        _ => Ok(Constraint {
            field: field.clone(),
            operator,
            value,
        }),
    }
}
