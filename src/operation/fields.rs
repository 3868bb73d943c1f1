//! How a document describes operations, and which of them a policy is for.

use std::collections::BinaryHeap;

use crate::document::field::LEAVE_OUT;
use crate::document::section::Inside;
use crate::document::texts::{ANY, HEADER, METHODS, NAME, REFERENCE};
use crate::document::{Absence, Field, Kind, ListType, Names, Section, Table, TextType, quoted};
use crate::operation::path::Parameters;
use crate::operation::pattern::{InvalidPath, PathPattern, Pattern};
use crate::operation::selection::{Selected, Selection, Tiers};
use crate::operation::{HeaderMatcher, Matcher, OTHER, Operation, Tier};
use crate::{field, text_type};

const TIER_WORDS: &[&str] = &["P0", "P1", "P2", "P3"];
const PATH_PARAMETERS: &[&str] = &["cut", "keep"];

/// An operation.
pub static OPERATION: Table = Table {
    fields: &[
        field!("name", Kind::Text(&OPERATION_NAME), required, "its name; not `other`"),
        field!(
            "tier",
            Kind::Word(TIER_WORDS),
            default Absence::Word("P1"),
            "`P0` core, must not fail; `P1` tightly bound to it; `P2` loosely bound; `P3` decoration"
        ),
        field!(
            "path_parameters",
            Kind::Word(PATH_PARAMETERS),
            default Absence::Word("cut"),
            "`cut`: `;` in a segment of a path, and what follows it there, is cut off before paths are compared; `keep`: it is a part of the path"
        ),
        field!("match", Kind::Object(&MATCH), required, "which requests: at least one of the conditions below"),
    ],
};

static OPERATION_NAME: TextType = text_type!(
    |text| match text {
        OTHER => Some("is reserved for requests that no operation matches"),
        text => (NAME.check)(text),
    },
    "^(?!other$)[a-z0-9][a-z0-9-]{0,62}$"
);

static MATCH: Table = Table {
    fields: &[
        field!(
            "hosts",
            Kind::List(&HOSTS),
            else "any",
            "hosts: `shop.example.com`, `*.example.com`, `shop.*`, `*`; without port; neither case nor a dot at the end matters"
        ),
        field!("methods", Kind::List(&METHODS), else "any", "methods; case does not matter"),
        field!("paths", Kind::List(&PATHS), else "any", "paths, see below"),
        field!(
            "headers",
            Kind::List(&HEADERS),
            else "any",
            "headers: a `name` and one of `exact`, `prefix`, `suffix`, or `\"present\": true`"
        ),
    ],
};

static HOSTS: ListType = ListType { of: Kind::Text(&HOST_PATTERN), empty: Some(LEAVE_OUT) };
static PATHS: ListType = ListType { of: Kind::Text(&PATH_PATTERN), empty: Some(LEAVE_OUT) };
static HEADERS: ListType = ListType { of: Kind::Object(&HEADER_MATCH), empty: Some(LEAVE_OUT) };

static HEADER_MATCH: Table = Table {
    fields: &[
        field!("name", Kind::Text(&HEADER), required, "the header's name; case does not matter"),
        field!("exact", Kind::Text(&ANY), else "any value", "the whole value, without blanks around it"),
        field!("prefix", Kind::Text(&ANY), else "any value", "how the value begins"),
        field!("suffix", Kind::Text(&ANY), else "any value", "how the value ends"),
        field!("present", Kind::Bool, else "not asked", "`true`: the header is there, whatever its value"),
    ],
};

static HOST_PATTERN: TextType = text_type!(
    // A name that is complete ends in a dot, which requests are compared without.
    |text| (!is_host_pattern(complete(text))).then_some("must be a host without scheme, port and path"),
    "^[^\\s/?#@\\\\]+$"
);

static PATH_PATTERN: TextType = text_type!(path_rule, "^[/*][^\\s?#]*$");

/// Which operations a policy is for, one of the fields that most policies have.
pub const OPERATIONS: Field = field!(
    "operations",
    Kind::List(&NAMES),
    else "every request",
    "names of the operations that it is for; not beside `tiers`. `other` is what matches none"
);
/// Which tiers a policy is for, one of the fields that most policies have.
pub const TIERS: Field = field!(
    "tiers",
    Kind::List(&TIER_LIST),
    else "every request",
    "tiers whose operations it is for; not beside `operations`. `other` is of tier `P1`"
);
/// Which methods a policy is for, one of the fields that most policies have.
pub const METHODS_OF: Field =
    field!("methods", Kind::List(&METHODS), else "all", "narrows that to some methods; case does not matter");

static NAMES: ListType = ListType { of: Kind::Text(&REFERENCE), empty: Some(LEAVE_OUT) };
static TIER_LIST: ListType = ListType { of: Kind::Word(TIER_WORDS), empty: Some(LEAVE_OUT) };

fn complete(text: &str) -> &str {
    text.strip_suffix('.').unwrap_or(text)
}

/// Whether some host can match. A colon stands in brackets only, as part of an IPv6 address.
fn is_host_pattern(text: &str) -> bool {
    let text = text.as_bytes();
    let never = |byte: &u8| byte.is_ascii_whitespace() || byte.is_ascii_control() || b"/?#@\\".contains(byte);
    let bracketed = matches!(text, [b'[', ..] | [.., b']']);
    let has_port = text.windows(2).any(|it| it == b"]:") || (!bracketed && text.contains(&b':'));
    !text.is_empty() && !text.iter().any(never) && !has_port
}

fn path_rule(text: &str) -> Option<&'static str> {
    // What Envoy lets no path have.
    let never = |byte: u8| byte.is_ascii_whitespace() || byte.is_ascii_control() || byte == b'#';
    match PathPattern::parse(text) {
        Ok(_) if text.contains('?') => Some("must not contain a query: paths match up to the \"?\""),
        Ok(_) if text.bytes().any(never) => Some("must be written as in a request: encoded, without blanks and \"#\""),
        Ok(_) => None,
        Err(InvalidPath::NotAbsolute) => Some("must start with \"/\" or \"*\""),
        Err(InvalidPath::StrayBrace) => Some("must use braces only for the segments \"{*}\" and \"{**}\""),
        Err(InvalidPath::StarInTemplate) => Some("must not mix \"*\" with the segments \"{*}\" and \"{**}\""),
        Err(InvalidPath::OperatorAfterMany) => Some("must have \"{**}\" as its last operator"),
    }
}

/// The operations of the document, the last of which is `other`. One that is refused has its place all the same, so that policies
/// that name it are not refused too.
pub fn operations(document: &mut Section<'_>) -> Vec<Operation> {
    let count = document.count("operations");
    let mut operations = Vec::with_capacity(count + 1);
    for index in 0..count {
        let read = document.entry("operations", index).map(|mut section| operation(&mut section));
        operations.push(read.unwrap_or_else(Operation::other));
    }
    operations.push(Operation::other());
    operations
}

fn operation(section: &mut Section<'_>) -> Operation {
    let name = section.text("name").unwrap_or_default();
    let parameters = match section.word("path_parameters") {
        Some("keep") => Parameters::Keep,
        _ => Parameters::Cut,
    };
    let matcher = section.enter("match").map(|mut section| matcher(&mut section, parameters));
    Operation { name, tier: section.word("tier").map_or(Tier::P1, tier), matcher: matcher.unwrap_or_default() }
}

fn tier(word: &str) -> Tier {
    match word {
        "P0" => Tier::P0,
        "P2" => Tier::P2,
        "P3" => Tier::P3,
        _ => Tier::P1,
    }
}

fn matcher(section: &mut Section<'_>, path_parameters: Parameters) -> Matcher {
    if section.is_as_described() && !["hosts", "methods", "paths", "headers"].iter().any(|it| section.has(it)) {
        section.refuse("", format_args!("must have at least one of hosts, methods, paths and headers"));
    }
    let mut headers = Vec::new();
    for index in 0..section.count("headers") {
        headers.extend(section.entry("headers", index).and_then(|mut section| header(&mut section)));
    }
    let hosts = section.texts("hosts");
    let hosts = hosts.iter().map(|it| Pattern::from_wildcard(&complete(it).to_ascii_lowercase())).collect();
    Matcher { hosts, methods: methods(section), paths: paths(section, path_parameters), path_parameters, headers }
}

/// The methods of a section, in capitals.
pub fn methods(section: &Section<'_>) -> Vec<String> {
    let mut methods = section.texts("methods");
    methods.iter_mut().for_each(|it| it.make_ascii_uppercase());
    methods
}

fn paths(section: &mut Section<'_>, parameters: Parameters) -> Vec<PathPattern> {
    let texts = section.texts("paths");
    for (index, text) in texts.iter().enumerate() {
        if parameters == Parameters::Cut && text.contains(';') {
            let rule = "must have no \";\" unless path_parameters of the operation is \"keep\"";
            section.refuse_inside("paths", Inside::Element(index), format_args!("{}, {rule}", quoted(text)));
        }
    }
    texts.iter().filter_map(|it| PathPattern::parse(it).ok()).collect()
}

fn header(section: &mut Section<'_>) -> Option<HeaderMatcher> {
    let given = ["exact", "prefix", "suffix", "present"].iter().filter(|it| section.has(it)).count();
    let pattern = match (section.text("exact"), section.text("prefix"), section.text("suffix"), section.bool("present"))
    {
        (Some(text), None, None, None) => Some(Pattern::Exact(text.into())),
        (None, Some(text), None, None) => Some(Pattern::Prefix(text.into())),
        (None, None, Some(text), None) => Some(Pattern::Suffix(text.into())),
        (None, None, None, Some(true)) => Some(Pattern::Present),
        _ => None,
    };
    let name = section.lower_text("name");
    match pattern {
        Some(pattern) if needs_outer_blank(&pattern) => {
            let rule = "must not begin or end with a blank: values are compared without those around them";
            section.refuse("", format_args!("{rule}"));
            None
        }
        Some(value) if given == 1 => Some(HeaderMatcher { name: name?, value }),
        _ if section.is_as_described() => {
            let rule = "must have exactly one of exact, prefix, suffix and \"present\": true";
            section.refuse("", format_args!("{rule}"));
            None
        }
        _ => None,
    }
}

/// Whether only a value with blanks around it could match.
fn needs_outer_blank(pattern: &Pattern) -> bool {
    match pattern {
        Pattern::Exact(text) => text.trim_ascii().len() < text.len(),
        Pattern::Prefix(text) => text.trim_ascii_start().len() < text.len(),
        Pattern::Suffix(text) => text.trim_ascii_end().len() < text.len(),
        Pattern::Present => false,
    }
}

/// What policies choose from: the operations by name.
#[derive(Debug)]
pub struct Choice {
    names: Names,
    /// The index of `other`, which has no entry.
    other: usize,
}

impl Choice {
    /// Reads the names; `operations` are those of the document.
    pub fn new(document: &mut Section<'_>, operations: &[Operation]) -> Self {
        let names = Names::read(document, "operations", "an operation");
        Self { names, other: operations.len().saturating_sub(1) }
    }

    /// The requests that a policy is for. Tells of operations that there are not.
    pub fn select(&self, section: &mut Section<'_>) -> Selection {
        if section.has("operations") && section.has("tiers") {
            section.refuse("", format_args!("must not have both operations and tiers"));
        }
        let operations = match section.texts("operations") {
            names if names.is_empty() => Selected::OfTiers(match section.texts("tiers") {
                words if words.is_empty() => Tiers::ALL,
                words => Tiers::of(words.iter().map(|it| tier(it))),
            }),
            names => Selected::Named(self.named(&names, section)),
        };
        Selection { operations, methods: methods(section) }
    }

    fn named(&self, names: &[String], section: &mut Section<'_>) -> Vec<usize> {
        let mut chosen = BinaryHeap::with_capacity(names.len());
        for (entry, name) in names.iter().enumerate() {
            let found = match name.as_str() {
                OTHER => Some(self.other),
                name => self.names.find(name),
            };
            if let Some(index) = found {
                chosen.push(index);
            } else if let Some(problem) = self.names.problem(name) {
                section.refuse_inside("operations", Inside::Element(entry), format_args!("{problem}"));
            }
        }
        let mut chosen = chosen.into_sorted_vec();
        chosen.dedup();
        chosen
    }
}
