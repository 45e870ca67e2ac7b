//! Placement constraints against agents. An agent without the field fails every operator but UNLIKE.

use std::collections::BTreeMap;

use model::AgentId;
use regex::Regex;

use crate::core::node::{Link, Node};
use crate::spec::constraint::pattern;
use crate::{App, Operator};

/// One constraint with what is known of its field's values.
struct Rule {
    field: String,
    operator: Operator,
    value: Option<String>,
    /// LIKE and UNLIKE. `None` there is a pattern that was refused when the app came: no agent matches it.
    pattern: Option<Regex>,
    /// Instances of the app by value.
    counts: BTreeMap<String, u32>,
}

impl Rule {
    fn number(&self) -> u32 {
        self.value.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// GROUP_BY: the least that any group has. Groups without an instance count too, as far as agents of them are known.
    fn least(&self) -> u32 {
        let known = u32::try_from(self.counts.len()).unwrap_or(u32::MAX);
        if known < self.number() {
            0
        } else {
            self.counts.values().copied().min().unwrap_or(0)
        }
    }

    /// Whether one more instance may be on an agent with this value, GROUP_BY left to the classes.
    fn holds(&self, value: Option<&str>) -> bool {
        let matches = |value: &str| self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(value));
        let Some(value) = value else {
            return self.operator == Operator::Unlike;
        };
        let here = || self.counts.get(value).copied().unwrap_or(0);
        match self.operator {
            Operator::Unique => here() == 0,
            Operator::MaxPer => here() < self.number(),
            Operator::Is => self.value.as_deref() == Some(value),
            Operator::Cluster => match self.value.as_deref() {
                Some(wanted) => wanted == value,
                None => self.counts.values().all(|count| *count == 0) || here() > 0,
            },
            Operator::Like => matches(value),
            Operator::Unlike => self.pattern.is_some() && !matches(value),
            Operator::GroupBy => true,
        }
    }
}

/// All constraints of an app.
pub(super) struct Rules(Vec<Rule>);

impl Rules {
    pub(super) fn new(app: &App, nodes: &BTreeMap<AgentId, Node>, placed: &BTreeMap<AgentId, u32>) -> Self {
        let rule = |constraint: &crate::Constraint| {
            let field = constraint.field.as_str();
            let mut counts: BTreeMap<String, u32> = BTreeMap::new();
            for (agent, count) in placed {
                if let Some(group) = nodes.get(agent).and_then(|node| node.field(field)) {
                    *counts.entry(group.to_owned()).or_default() += count;
                }
            }
            if constraint.operator == Operator::GroupBy {
                for node in nodes.values().filter(|node| node.link == Link::Connected) {
                    if let Some(group) = node.field(field)
                        && !counts.contains_key(group)
                    {
                        counts.insert(group.to_owned(), 0);
                    }
                }
            }
            let text = constraint.value.as_deref().unwrap_or_default();
            let takes_pattern = matches!(constraint.operator, Operator::Like | Operator::Unlike);
            Rule {
                field: field.to_owned(),
                operator: constraint.operator,
                value: constraint.value.clone(),
                pattern: takes_pattern.then(|| pattern(text).ok()).flatten(),
                counts,
            }
        };
        Self(app.constraints.iter().map(rule).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold, the even spread aside.
    pub(super) fn hold(&self, node: &Node) -> bool {
        self.0.iter().all(|rule| rule.holds(node.field(&rule.field)))
    }

    fn spreads(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter().filter(|rule| rule.operator == Operator::GroupBy)
    }

    /// The agent's values of all GROUP_BY fields.
    pub(super) fn class(&self, node: &Node) -> Vec<String> {
        let value = |rule: &Rule| node.field(&rule.field).unwrap_or_default().to_owned();
        self.spreads().map(value).collect()
    }

    /// Whether no other group has fewer.
    pub(super) fn class_is_open(&self, class: &[String]) -> bool {
        self.spreads()
            .zip(class)
            .all(|(rule, value)| rule.counts.get(value).copied().unwrap_or(0) <= rule.least())
    }

    /// Notes one more instance.
    pub(super) fn placed(&mut self, node: &Node) {
        for rule in &mut self.0 {
            if let Some(value) = node.field(&rule.field) {
                *rule.counts.entry(value.to_owned()).or_default() += 1;
            }
        }
    }
}
