//! How a document describes fallbacks.

use super::Fallback;
use crate::document::field::NO_MOST;
use crate::document::section::Inside;
use crate::document::shown::Cut;
use crate::document::texts::{ANY, METHODS, NAME, is_token};
use crate::document::{Absence, Kind, ListType, Section, Table, TextType, names, quoted};
use crate::operation::fields::methods;
use crate::reply::cors::Cors;
use crate::reply::template::{Template, UnknownSlot};
use crate::{field, text_type};

/// The most headers of a fallback. More than any client reads; Envoy itself takes no more of a response.
const MOST_HEADERS: usize = 1_000;

/// A fallback.
pub static FALLBACK: Table = Table {
    fields: &[
        field!("name", Kind::Text(&NAME), required, "its name"),
        field!("status", Kind::Whole(200, 599), required, "HTTP status; 204, 205 and 304 have no body"),
        field!(
            "methods",
            Kind::List(&METHODS),
            else "all; if `status` is 2xx, `GET` and `HEAD`",
            "methods of the requests that it may answer; others get the standard refusal, or the failure itself"
        ),
        field!(
            "headers",
            Kind::Texts(MOST_HEADERS),
            else "none",
            "headers to send; not `content-length`, `transfer-encoding`, `connection`, `trailer`, `grpc-status`, `grpc-message` and `x-outrigger-*`"
        ),
        field!(
            "json",
            Kind::Json,
            else "no body",
            "the body, sent as it is written with content type `application/json`, unless `headers` has one; not beside `text`. Istio sorts keys and makes doubles of numbers before the filter sees it: what must not change there goes into `text`. Two equal keys are an error"
        ),
        field!(
            "text",
            Kind::Text(&ANY),
            else "no body",
            "the body, sent with content type `text/plain`, unless `headers` has one; not beside `json`"
        ),
        field!(
            "retry_after",
            Kind::Span(1, NO_MOST),
            else "what the refusal knows; nothing if `status` is 2xx",
            "what `Retry-After` says"
        ),
        field!(
            "grpc_status",
            Kind::Whole(1, 16),
            else "of a limit 8 (`RESOURCE_EXHAUSTED`), otherwise 14 (`UNAVAILABLE`); always 14 if `status` is 2xx, since a gRPC client can't take a page for an answer",
            "status for gRPC requests"
        ),
        field!("cors", Kind::Object(&CORS), else "no CORS headers", "which pages of other origins may read it"),
    ],
};

static CORS: Table = Table {
    fields: &[
        field!(
            "allow_origin",
            Kind::List(&ORIGINS),
            required,
            "pages of which origins may read it: a list of origins such as `https://shop.example.com`, in lower case, or `[\"*\"]` for any"
        ),
        field!(
            "allow_credentials",
            Kind::Bool,
            default Absence::Bool(false),
            "whether they may when the request carried cookies; not with `*`"
        ),
    ],
};

static ORIGINS: ListType = ListType { of: Kind::Text(&ORIGIN), empty: Some("must not be empty") };

/// As browsers send it, or `*`.
static ORIGIN: TextType = text_type!(
    |text| {
        let host = text.split_once("://").map(|(_, host)| host);
        let plain = host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', ' ', '?', '#']));
        let is_origin = plain && text.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase());
        let rule = "must be \"*\" or an origin in lower case such as \"https://shop.example.com\", without a path";
        (text != "*" && !is_origin).then_some(rule)
    },
    "^(\\*|[!-@\\[-~]*://[!\"$-)+-.0->@\\[-~]+)$"
);

/// The fallbacks of the document.
pub fn fallbacks(document: &mut Section<'_>) -> Vec<Fallback> {
    let count = document.count("fallbacks");
    let mut fallbacks = Vec::with_capacity(count);
    for index in 0..count {
        fallbacks.extend(document.entry("fallbacks", index).and_then(|mut section| fallback(&mut section)));
    }
    fallbacks
}

fn fallback(section: &mut Section<'_>) -> Option<Fallback> {
    let mut headers = headers(section);
    if section.has("json") && section.has("text") {
        section.refuse("", format_args!("must not have both json and text"));
        return None;
    }
    let (field, body, content_type) = match (section.json("json"), section.text("text")) {
        (Some(json), _) => ("json", json.to_owned(), Some("application/json")),
        (None, Some(text)) => ("text", text, Some("text/plain; charset=utf-8")),
        (None, None) => ("text", String::new(), None),
    };
    if let Some(content_type) = content_type
        && !headers.iter().any(|(name, _)| name == "content-type")
    {
        headers.push(("content-type".to_owned(), content_type.to_owned()));
    }
    let status = section.whole("status").and_then(|it| u16::try_from(it).ok());
    let template = match Template::parse(&body) {
        Ok(template) => template,
        Err(UnknownSlot(word)) => {
            let rule = "is not one of %REASON%, %OPERATION% and %REQUEST_ID%";
            section.refuse(field, format_args!("\"%{}%\", {rule}", Cut(&word)));
            Template::default()
        }
    };
    if let Some(status @ (204 | 205 | 304)) = status
        && !template.is_empty()
    {
        section.refuse("status", format_args!("{status}, must not have a body"));
    }
    let cors = section.enter("cors").map(|mut section| cors(&mut section));
    if !section.is_good() {
        return None;
    }
    Some(Fallback {
        name: section.text("name")?,
        status: status?,
        methods: methods(section),
        headers,
        body: template,
        retry_after: section.span("retry_after"),
        grpc_status: section.whole("grpc_status"),
        cors,
    })
}

fn cors(section: &mut Section<'_>) -> Cors {
    let allow_origin = section.texts("allow_origin");
    let allow_credentials = section.bool("allow_credentials").unwrap_or(false);
    if allow_origin.iter().any(|origin| origin == "*") {
        if 1 < allow_origin.len() {
            section.refuse("allow_origin", format_args!("must not have \"*\" beside others"));
        }
        // The Fetch standard's rule: any page could read what is a user's.
        if allow_credentials {
            section.refuse("", format_args!("must not allow credentials to any origin (\"*\")"));
        }
    }
    Cors { allow_origin, allow_credentials }
}

/// Headers that the proxy or the filter itself must decide.
const FORBIDDEN_HEADERS: [&str; 6] =
    ["content-length", "transfer-encoding", "connection", "grpc-status", "grpc-message", "trailer"];

fn headers(section: &mut Section<'_>) -> Vec<(String, String)> {
    let given = section.members("headers");
    let mut headers = Vec::with_capacity(given.len());
    for (name, value) in given {
        let lower = name.to_ascii_lowercase();
        let problem = match lower.as_str() {
            it if !is_token(it) => Some("must be the name of a header"),
            it if it.starts_with("x-outrigger-") || FORBIDDEN_HEADERS.contains(&it) => {
                Some("must not be set by a fallback")
            }
            _ => None,
        };
        if let Some(problem) = problem {
            section.refuse("headers", format_args!("{}, {problem}", quoted(name)));
        } else if value.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
            let problem = format_args!("{}, must not contain control characters", quoted(&value));
            section.refuse_inside("headers", Inside::Member(name), problem);
        }
        headers.push((lower, value));
    }
    let names = headers.iter().map(|(name, _)| name.clone()).collect();
    if let Some((name, _)) = names::first_repeated(names).and_then(|index| headers.get(index)) {
        section.refuse("headers", format_args!("{}, is the name of an earlier entry too", quoted(name)));
    }
    headers
}
