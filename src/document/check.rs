//! Holds a tree against tables, and tells of every place that is not as they say.

use std::borrow::Cow;
use std::fmt::{self, Display, Write};

use super::duration;
use super::error::ConfigErrors;
use super::field::{Absence, Kind, ListType, MOST_ELEMENTS, NO_MOST, Table, TextType};
use super::names;
use super::node::{Member, Node, Value};
use super::number;
use super::place::Place;
use super::shown::{Cut, quoted};
use super::suggestion::nearest;

/// Whether the value is of the kind. One that is not is [bad](Node::bad), and so is all around it.
pub fn check(node: &mut Node<'_>, kind: &Kind, place: &Place<'_>, errors: &mut ConfigErrors) -> bool {
    let good = match kind {
        Kind::Object(table) => object(node, table, place, errors),
        Kind::List(list) => self::list(node, list, place, errors),
        Kind::Texts(most) => texts(node, *most, place, errors),
        Kind::Json => json(node, place, errors),
        scalar => match self::scalar(node, scalar) {
            Ok(()) => true,
            Err(problem) => {
                errors.add(node.at, place, format_args!("{problem}"));
                false
            }
        },
    };
    node.bad = !good;
    good
}

fn object(node: &mut Node<'_>, table: &'static Table, place: &Place<'_>, errors: &mut ConfigErrors) -> bool {
    let at = node.at;
    let Value::Object(members) = &mut node.value else {
        errors.add(at, place, format_args!("{}", of_type(node, "an object")));
        return false;
    };
    let (mut good, mut all_known) = (true, true);
    // By place in the table; no table has more fields.
    let mut seen = 0_u64;
    for Member { name, node } in members.iter_mut() {
        let inside = place.member(name);
        let Some(index) = table.fields.iter().position(|it| it.name == *name) else {
            errors.add(node.at, &inside, format_args!("{}", Unknown { name, table }));
            node.bad = true;
            all_known = false;
            continue;
        };
        let bit = 1_u64.checked_shl(u32::try_from(index).unwrap_or(u32::MAX)).unwrap_or(0);
        if seen & bit != 0 {
            errors.add(node.at, place, format_args!("duplicate field `{}`", Cut(name)));
            node.bad = true;
            good = false;
            continue;
        }
        seen |= bit;
        let Some(field) = table.fields.get(index) else {
            continue;
        };
        let may_be_null = !matches!(field.absence, Absence::Required);
        if may_be_null && matches!(node.value, Value::Null) {
            continue;
        }
        good &= check(node, &field.kind, &inside, errors);
    }
    if !all_known || !good {
        // What was refused is looked at by nobody any more: thousands of unknown fields are no work for each that is read.
        let mut kept = 0_u64;
        members.retain(|it| {
            let index = table.fields.iter().position(|field| field.name == it.name);
            let bit = index.and_then(|it| 1_u64.checked_shl(u32::try_from(it).ok()?)).unwrap_or(0);
            let is_first = bit & !kept != 0;
            kept |= bit;
            is_first
        });
    }
    for (index, field) in table.fields.iter().enumerate() {
        let was_seen = u32::try_from(index).is_ok_and(|index| seen.checked_shr(index).unwrap_or(0) & 1 != 0);
        // An unknown field may be the missing one, misspelt.
        if matches!(field.absence, Absence::Required) && !was_seen && all_known {
            errors.add(at, place, format_args!("missing field `{}`", field.name));
            good = false;
        }
    }
    good && all_known
}

fn list(node: &mut Node<'_>, list: &ListType, place: &Place<'_>, errors: &mut ConfigErrors) -> bool {
    let at = node.at;
    let Value::Array(elements) = &mut node.value else {
        errors.add(at, place, format_args!("{}", of_type(node, "a list")));
        return false;
    };
    if let Some(rule) = list.empty
        && elements.is_empty()
    {
        errors.add(at, place, format_args!("[], {rule}"));
        return false;
    }
    if MOST_ELEMENTS < elements.len() {
        errors.add(at, place, format_args!("{} entries, must be at most {MOST_ELEMENTS}", elements.len()));
        return false;
    }
    let mut good = true;
    for (index, element) in elements.iter_mut().enumerate() {
        good &= check(element, &list.of, &place.element(index), errors);
    }
    good
}

fn texts(node: &mut Node<'_>, most: usize, place: &Place<'_>, errors: &mut ConfigErrors) -> bool {
    let at = node.at;
    let Value::Object(members) = &mut node.value else {
        errors.add(at, place, format_args!("{}", of_type(node, "an object")));
        return false;
    };
    if most < members.len() {
        errors.add(at, place, format_args!("{} entries, must be at most {most}", members.len()));
        return false;
    }
    let mut good = true;
    for Member { name, node } in members {
        good &= check(node, &Kind::Text(&super::texts::ANY), &place.member(name), errors);
    }
    good
}

/// Refuses objects with two members of one name: whoever reads them drops one, and nobody knows which.
fn json(node: &Node<'_>, place: &Place<'_>, errors: &mut ConfigErrors) -> bool {
    match &node.value {
        Value::Array(elements) => {
            elements.iter().enumerate().all(|(index, element)| json(element, &place.element(index), errors))
        }
        Value::Object(members) => {
            let names = members.iter().map(|it| it.name.to_string()).collect();
            if let Some(member) = names::first_repeated(names).and_then(|index| members.get(index)) {
                let problem = format_args!("{}, is the name of an earlier field too", quoted(&member.name));
                errors.add(member.node.at, &place.member(&member.name), problem);
                return false;
            }
            members.iter().all(|Member { name, node }| json(node, &place.member(name), errors))
        }
        _ => true,
    }
}

fn scalar(node: &Node<'_>, kind: &Kind) -> Result<(), String> {
    match (kind, &node.value) {
        (Kind::Whole(least, most) | Kind::WholeOr(least, most, _), Value::Number) => whole(node.raw, *least, *most),
        (Kind::Whole(least, most), _) => Err(of_type(node, &format!("a whole number from {least} to {most}"))),
        (Kind::WholeOr(_, _, text), Value::Text(given)) => of_rule(given, (text.check)(given)),
        (Kind::WholeOr(..), _) => Err(of_type(node, "a number or \"header:NAME\"")),
        (Kind::Ratio, Value::Number) => {
            let number = number::double(node.raw);
            of_number(node.raw, 0.0 < number && number <= 1.0, format_args!("above 0 and at most 1"))
        }
        (Kind::Number(least, most), Value::Number) => {
            let number = number::double(node.raw);
            // Bounds are whole, so that no floating point is written.
            let (least_shown, most_shown) = (*least as u32, *most as u32);
            let is_within = *least <= number && number <= *most;
            of_number(node.raw, is_within, format_args!("from {least_shown} to {most_shown}"))
        }
        (Kind::Ratio | Kind::Number(..), _) => Err(of_type(node, "a number")),
        (Kind::Span(least, most), _) => span(node, *least, *most),
        (Kind::Bool | Kind::BoolOr(_), Value::Bool(_)) => Ok(()),
        (Kind::BoolOr(words), Value::Text(given)) if words.contains(&&**given) => Ok(()),
        (Kind::BoolOr(words), Value::Text(given)) => {
            Err(format!("{}, must be true, false or {}", quoted(given), OneOf(words)))
        }
        (Kind::BoolOr(words), _) => Err(of_type(node, &format!("true, false or {}", OneOf(words)))),
        (Kind::Bool, _) => Err(of_type(node, "a boolean")),
        (Kind::Word(words), _) => {
            let given = as_text(node, false)?;
            match words.contains(&&*given) {
                true => Ok(()),
                false => Err(format!("{}, must be {}", quoted(&given), OneOf(words))),
            }
        }
        (Kind::Text(TextType { check, takes_fractions, .. }), _) => {
            let given = as_text(node, *takes_fractions)?;
            of_rule(&given, check(&given))
        }
        (Kind::List(_) | Kind::Object(_) | Kind::Texts(_) | Kind::Json, _) => Ok(()),
    }
}

fn whole(text: &str, least: u32, most: u32) -> Result<(), String> {
    let is_within = number::whole(text).is_some_and(|number| least <= number && number <= most);
    of_number(text, is_within, format_args!("a whole number from {least} to {most}"))
}

fn of_number(text: &str, is_within: bool, rule: fmt::Arguments<'_>) -> Result<(), String> {
    if is_within { Ok(()) } else { Err(format!("{}, must be {rule}", Cut(text))) }
}

fn of_rule(text: &str, broken: Option<&'static str>) -> Result<(), String> {
    broken.map_or(Ok(()), |rule| Err(format!("{}, {rule}", quoted(text))))
}

const DURATION: &str = r#"a duration such as "250ms", "1m30s" or "1d""#;

fn span(node: &Node<'_>, least: u64, most: u64) -> Result<(), String> {
    let given = match &node.value {
        Value::Text(text) => quoted(text).to_string(),
        Value::Number => Cut(node.raw).to_string(),
        _ => return Err(of_type(node, DURATION)),
    };
    let duration = match &node.value {
        Value::Text(text) => duration::parse(text),
        _ => None,
    };
    let Some(duration) = duration else {
        return Err(format!("{given}, must be {DURATION} (units: ms, s, m, h, d)"));
    };
    let (shortest, longest) = (duration::text(least), duration::text(most));
    let millis = duration.as_millis();
    let is_short = millis < u128::from(least);
    // What is a fraction of a millisecond too long is too long.
    let is_long = most != NO_MOST && std::time::Duration::from_millis(most) < duration;
    match (is_short, is_long, least) {
        (false, false, _) => Ok(()),
        (true, _, 1) => Err(format!("{given}, must be at least {shortest}")),
        (_, true, 1) => Err(format!("{given}, must be at most {longest}")),
        _ => Err(format!("{given}, must be from {shortest} to {longest}")),
    }
}

/// The text that the node is, or was before YAML read it.
///
/// Most people write the document as YAML, where a text needs quotes only if it looks like something else, and readers of YAML 1.1
/// (kubectl, Helm, Argo CD) hand that something else on. A whole number is the text of its digits. Of others nobody can tell what
/// was written: `true` may have been `on`, `yes` or `true`, and `1.5` may have been `1.50`.
///
/// # Errors
///
/// It is something else, or what was written is lost.
pub(super) fn as_text<'n>(node: &'n Node<'_>, takes_fractions: bool) -> Result<Cow<'n, str>, String> {
    match &node.value {
        Value::Text(text) => Ok(Cow::Borrowed(text)),
        Value::Number => match number::digits(node.raw) {
            Some(digits) => Ok(Cow::Owned(digits)),
            None if takes_fractions => Ok(Cow::Borrowed(node.raw)),
            None => {
                Err(format!("{}, must be a text: write it in quotes, or YAML takes it for a number", Cut(node.raw)))
            }
        },
        Value::Bool(value) => {
            let words = if *value { "on, yes and true" } else { "off, no and false" };
            Err(format!("{value}, must be a text: write it in quotes, or YAML takes {words} for {value}"))
        }
        Value::Null | Value::Array(_) | Value::Object(_) => Err(of_type(node, "a string")),
    }
}

/// What is wrong with a value of another type.
fn of_type(node: &Node<'_>, expected: &str) -> String {
    let given = match &node.value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => format!("boolean `{value}`"),
        Value::Number if number::is_integer(node.raw) => format!("integer `{}`", Cut(node.raw)),
        Value::Number => format!("floating point `{}`", Cut(node.raw)),
        Value::Text(text) => format!("string {}", quoted(text)),
        Value::Array(_) => "list".to_owned(),
        Value::Object(_) => "object".to_owned(),
    };
    format!("invalid type: {given}, expected {expected}")
}

/// What is wrong with a field that the table does not have.
struct Unknown<'e> {
    name: &'e str,
    table: &'static Table,
}

impl Display for Unknown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known: Vec<&str> = self.table.fields.iter().filter(|it| !it.hidden).map(|it| it.name).collect();
        write!(f, "unknown field `{}`, ", Cut(self.name))?;
        match nearest(self.name, &known) {
            Some(meant) => write!(f, "did you mean `{meant}`? It may be ")?,
            None => f.write_str("expected ")?,
        }
        for (index, name) in known.iter().enumerate() {
            f.write_str(if index == 0 { "one of `" } else { ", `" })?;
            f.write_str(name)?;
            f.write_char('`')?;
        }
        Ok(())
    }
}

/// Words to choose from: `"a", "b" or "c"`.
struct OneOf(&'static [&'static str]);

impl Display for OneOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.0.iter().enumerate() {
            let before = match index {
                0 => "",
                last if last + 1 == self.0.len() => " or ",
                _ => ", ",
            };
            write!(f, "{before}\"{word}\"")?;
        }
        Ok(())
    }
}
