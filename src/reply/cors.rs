//! What a page of another origin needs to be allowed to read a fallback.
//!
//! A refusal comes before Envoy's CORS filter has seen the request, so the fields that it would have added to the response
//! are ours to add: without them a browser hides the fallback from the page behind a network error (Fetch standard, CORS
//! protocol).

use crate::reply::Reply;

/// Which origins may read a fallback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Origins such as `https://shop.example.com`, compared byte for byte, or the one entry `*` for any.
    pub allow_origin: Vec<String>,
    /// Whether requests with cookies may.
    pub allow_credentials: bool,
}

impl Cors {
    /// Whether pages of the origin may.
    pub fn allows(&self, origin: &str) -> bool {
        self.allow_origin.iter().any(|allowed| allowed == origin || allowed == "*")
    }

    /// Adds the fields for a request of that origin.
    pub fn apply(&self, origin: Option<&str>, reply: &mut Reply) {
        // Also for requests without an origin: what a cache keeps of them is not for every origin.
        vary_by_origin(reply);
        let Some(origin) = origin else {
            return;
        };
        if !self.allows(origin) {
            return;
        }
        reply.add_missing_header("access-control-allow-origin", origin.to_owned());
        if self.allow_credentials {
            reply.add_missing_header("access-control-allow-credentials", "true".to_owned());
        }
        // What a page may need to know of a refusal and is not shown otherwise.
        reply.add_missing_header("access-control-expose-headers", "retry-after,x-outrigger-reason".to_owned());
    }
}

fn vary_by_origin(reply: &mut Reply) {
    match reply.headers.iter_mut().find(|(name, _)| name == "vary") {
        Some((_, value)) if value.split(',').any(|it| it.trim().eq_ignore_ascii_case("origin") || it.trim() == "*") => {
        }
        Some((_, value)) => value.push_str(", origin"),
        None => reply.headers.push(("vary".into(), "origin".to_owned())),
    }
}
