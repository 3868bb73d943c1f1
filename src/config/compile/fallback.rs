//! Fallbacks.

use super::{Names, list};
use crate::config::document;
use crate::config::error::ConfigError;
use crate::config::problem::{Cut, quoted};
use crate::config::value::is_token;
use crate::degrade::cors::Cors;
use crate::degrade::fallback::Fallback;
use crate::degrade::template::{Template, UnknownSlot};

#[inline(never)]
pub(super) fn fallbacks(given: Vec<document::Fallback>) -> Result<Vec<Fallback>, ConfigError> {
    let mut names = Names::new("fallbacks");
    let mut fallbacks = Vec::with_capacity(given.len());
    for (index, fallback) in given.into_iter().enumerate() {
        names.add(index, &fallback.name.0)?;
        fallbacks.push(self::fallback(fallback, &format!("fallbacks[{index}]"))?);
    }
    Ok(fallbacks)
}

fn fallback(given: document::Fallback, path: &str) -> Result<Fallback, ConfigError> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in given.headers.map(|it| it.0).unwrap_or_default() {
        let header = fallback_header(&name, value, path)?;
        if headers.iter().any(|(earlier, _)| *earlier == header.0) {
            let problem = format!("{}, is the name of an earlier entry too", quoted(&name));
            return Err(ConfigError::at(format!("{path}.headers"), problem));
        }
        headers.push(header);
    }
    let (field, body, content_type) = match (given.json, given.text) {
        (Some(_), Some(_)) => {
            return Err(ConfigError::at(path, "must not have both json and text"));
        }
        (Some(json), None) => ("json", json, Some("application/json")),
        (None, Some(text)) => ("text", text, Some("text/plain; charset=utf-8")),
        (None, None) => ("text", String::new(), None),
    };
    if let Some(content_type) = content_type
        && !headers.iter().any(|(name, _)| name == "content-type")
    {
        headers.push(("content-type".to_owned(), content_type.to_owned()));
    }
    let template = Template::parse(&body).map_err(|UnknownSlot(word)| {
        let rule = "is not one of %REASON%, %OPERATION% and %REQUEST_ID%";
        ConfigError::at(format!("{path}.{field}"), format!("\"%{}%\", {rule}", Cut(&word)))
    })?;
    // From 200 to 599 by its type.
    let status = u16::try_from(given.status.0).unwrap_or(503);
    if matches!(status, 204 | 205 | 304) && !template.is_empty() {
        return Err(ConfigError::at(format!("{path}.status"), format!("{status}, must not have a body")));
    }
    Ok(Fallback {
        name: given.name.0,
        status,
        methods: list(given.methods).into_iter().map(|it| it.0).collect(),
        headers,
        body: template,
        retry_after: given.retry_after.map(|it| it.0),
        grpc_status: given.grpc_status.map(|it| it.0),
        cors: given.cors.map(|cors| self::cors(cors, &format!("{path}.cors"))).transpose()?,
    })
}

fn cors(given: document::Cors, path: &str) -> Result<Cors, ConfigError> {
    let allow_origin: Vec<String> = given.allow_origin.into_iter().map(|it| it.0).collect();
    let allow_credentials = given.allow_credentials.unwrap_or(false);
    let any = allow_origin.iter().any(|origin| origin == "*");
    match (any, allow_origin.len(), allow_credentials) {
        (_, 0, _) => Err(ConfigError::at(format!("{path}.allow_origin"), "[], must not be empty")),
        (true, 2.., _) => Err(ConfigError::at(format!("{path}.allow_origin"), "must not have \"*\" beside others")),
        // The Fetch standard's rule: any page could read what is a user's.
        (true, _, true) => Err(ConfigError::at(path, "must not allow credentials to any origin (\"*\")")),
        _ => Ok(Cors { allow_origin, allow_credentials }),
    }
}

/// Headers that the proxy or the filter itself must decide.
const FORBIDDEN_HEADERS: [&str; 6] =
    ["content-length", "transfer-encoding", "connection", "grpc-status", "grpc-message", "trailer"];

fn fallback_header(name: &str, value: String, path: &str) -> Result<(String, String), ConfigError> {
    let lower = name.to_ascii_lowercase();
    let problem = match lower.as_str() {
        it if !is_token(it) => "must be the name of a header",
        it if it.starts_with("x-outrigger-") || FORBIDDEN_HEADERS.contains(&it) => "must not be set by a fallback",
        _ if value.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) => {
            let problem = format!("{}, must not contain control characters", quoted(&value));
            return Err(ConfigError::at(format!("{path}.headers.{}", Cut(name)), problem));
        }
        _ => return Ok((lower, value)),
    };
    Err(ConfigError::at(format!("{path}.headers"), format!("{}, {problem}", quoted(name))))
}
