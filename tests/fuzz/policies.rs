//! Valid documents by chance, with every section of the document and small numbers, so that much happens in few requests. Times are at
//! most a minute.

use serde_json::{Map, Value, json};

use crate::common::Random;

/// Makes documents.
pub struct Policies<'r>(pub &'r mut Random);

type Object = Map<String, Value>;

const TIERS: [&str; 4] = ["P0", "P1", "P2", "P3"];
const METHODS: [&str; 5] = ["GET", "HEAD", "POST", "PUT", "DELETE"];
const KEYS: [&str; 8] =
    ["client_ip", "method", "path", "host", "operation", "header:x-user", "cookie:session", "query:q"];
const FAILURES: [&str; 6] = ["5xx", "4xx", "!501", "503", "429", "!404"];
const RETRY_ON: [&str; 6] = ["5xx", "gateway-error", "reset", "connect-failure", "unavailable", "internal"];
const FALLBACKS: [&str; 3] = ["sorry", "plain", "empty"];

impl Policies<'_> {
    /// A whole document.
    pub fn document(&mut self) -> Value {
        let operations = self.operations();
        let names: Vec<String> = operations
            .iter()
            .map(|it| it["name"].as_str().unwrap_or_default().to_owned())
            .chain(["other".to_owned()])
            .collect();
        let mut document = json!({ "operations": operations, "fallbacks": fallbacks() });
        if self.chance(3) {
            document["version"] = json!("v1.2");
        }
        if self.chance(6) {
            document["scope"] = json!("shop");
        }
        if self.chance(2) {
            document["client_ip"] =
                json!({ "header": "x-forwarded-for", "trusted_hops": self.from(0, 2) + 1, "ipv6_prefix": 56 });
        }
        document["limits"] = self.list(4, |it, index| it.limit(index, &names));
        document["switches"] = self.list(2, |it, index| it.switch(index, &names));
        document["breakers"] = self.list(2, |it, index| it.breaker(index, &names));
        document["on_failure"] = self.list(3, |it, _| it.on_failure(&names));
        document["retries"] = self.list(2, |it, _| it.retry(&names));
        document["deadlines"] = self.list(2, |it, _| it.deadline(&names));
        document["monitor"] = json!({
            "access_log": self.chance(2), "reason_header": !self.chance(4), "outcomes": self.chance(2),
            "ratelimit_headers": self.one(&["ietf", "x-ratelimit", "none"]),
            "ratelimit_headers_on_success": self.chance(2),
        });
        document
    }

    fn operations(&mut self) -> Vec<Value> {
        let all = [
            json!({ "name": "read", "tier": "P0",
                    "match": { "paths": ["/read/*", "/read"], "methods": ["GET", "HEAD"] } }),
            json!({ "name": "write", "match": { "methods": ["POST", "put"], "paths": ["/write", "/write/{*}"] } }),
            json!({ "name": "web", "tier": "P2", "path_parameters": "keep",
                    "match": { "hosts": ["*.example.com"], "headers": [{ "name": "x-app", "prefix": "web" }] } }),
            json!({ "name": "rpc", "tier": "P1", "match": { "paths": ["/shop.Orders/*"] } }),
        ];
        all.into_iter().filter(|_| !self.chance(3)).collect()
    }

    fn limit(&mut self, index: u64, names: &[String]) -> Object {
        let mut limit = self.policy(names);
        limit.insert("name".to_owned(), json!(format!("limit-{index}")));
        let (some, span) = (self.from(1, 8), self.span());
        match self.from(0, 3) {
            0 => limit.insert(
                "token_bucket".to_owned(),
                json!({ "max_tokens": some, "tokens_per_fill": self.from(1, 3), "fill_interval": span }),
            ),
            1 => limit.insert(
                "leaky_bucket".to_owned(),
                json!({ "capacity": some - 1, "drain": self.from(1, 3), "drain_interval": span }),
            ),
            2 => limit.insert("window".to_owned(), json!({ "max_requests": some, "interval": span })),
            _ => limit.insert("concurrency".to_owned(), json!({ "max_in_flight": some })),
        };
        if self.chance(2) {
            limit.insert("key".to_owned(), self.some(&KEYS));
            self.maybe(&mut limit, "max_keys", |it| json!(it.from(1, 40)));
            self.maybe(&mut limit, "missing", |it| json!(it.one(&["shared", "skip"])));
        }
        self.maybe(&mut limit, "cost", |it| if it.chance(2) { json!(1) } else { json!("header:x-cost") });
        self.maybe(&mut limit, "enforced", |it| json!(it.chance(2)));
        self.maybe(&mut limit, "failure_mode", |it| json!(it.one(&["allow", "deny"])));
        self.maybe(&mut limit, "fallback", |it| json!(it.one(&FALLBACKS)));
        limit
    }

    fn switch(&mut self, index: u64, names: &[String]) -> Object {
        let mut switch = self.policy(names);
        switch.insert("name".to_owned(), json!(format!("switch-{index}")));
        switch.insert("active".to_owned(), json!(self.chance(5)));
        self.maybe(&mut switch, "fallback", |it| json!(it.one(&FALLBACKS)));
        switch
    }

    fn breaker(&mut self, index: u64, names: &[String]) -> Object {
        let mut breaker = self.policy(names);
        breaker.insert("name".to_owned(), json!(format!("breaker-{index}")));
        let ratio = json!({ "failure_ratio": 0.5, "min_requests": self.from(1, 5), "window": "10s" });
        let slow = json!({ "slow_ratio": 0.5, "slow_after": "500ms", "min_requests": 2, "window": "5s" });
        let run = json!({ "consecutive_failures": self.from(1, 4) });
        breaker.insert("trip".to_owned(), [ratio, slow, run][self.from(0, 2) as usize].clone());
        breaker.insert("open_for".to_owned(), json!("5s"));
        breaker.insert("max_open_for".to_owned(), json!("20s"));
        self.maybe(&mut breaker, "probes", |it| json!(it.from(1, 4)));
        self.maybe(&mut breaker, "failures", |it| it.failures());
        self.maybe(&mut breaker, "fallback", |it| json!(it.one(&FALLBACKS)));
        breaker
    }

    fn on_failure(&mut self, names: &[String]) -> Object {
        let mut rule = self.policy(names);
        let kept = self.chance(2);
        if kept {
            let mut stale = json!({ "max_age": "30s", "max_bytes": 4096 << self.from(0, 4) });
            if self.chance(3) {
                stale["key"] = self.some(&KEYS);
            }
            rule.insert("stale".to_owned(), stale);
        }
        if !kept || self.chance(2) {
            rule.insert("fallback".to_owned(), json!(self.one(&FALLBACKS)));
        }
        self.maybe(&mut rule, "failures", |it| it.failures());
        rule
    }

    fn retry(&mut self, names: &[String]) -> Object {
        let mut rule = self.policy(names);
        rule.insert("max_attempts".to_owned(), json!(self.from(1, 4)));
        self.maybe(&mut rule, "retry_on", |it| it.some(&RETRY_ON));
        self.maybe(&mut rule, "per_try_timeout", |_| json!("300ms"));
        self.maybe(&mut rule, "timeout", |_| json!("2s"));
        self.maybe(&mut rule, "idempotency_key", |_| json!("idempotency-key"));
        self.maybe(&mut rule, "grpc_methods", |_| json!(["/shop.Orders/Get"]));
        self.maybe(&mut rule, "max_body_bytes", |it| json!(it.from(0, 2000)));
        self.maybe(&mut rule, "failures", |it| it.failures());
        if rule.contains_key("per_try_timeout") {
            self.maybe(&mut rule, "hedge", |it| json!(it.chance(2)));
        }
        self.maybe(&mut rule, "budget", |it| json!({ "ratio": 0.5, "min_per_second": it.from(1, 3), "ttl": "5s" }));
        rule
    }

    fn deadline(&mut self, names: &[String]) -> Object {
        let mut rule = self.policy(names);
        self.maybe(&mut rule, "header", |_| json!("x-time-left"));
        self.maybe(&mut rule, "default", |it| json!(it.one(&["1s", "5s", "30s"])));
        self.maybe(&mut rule, "cut_responses", |it| json!(it.chance(2)));
        rule
    }

    /// What every policy has: which requests it is for.
    fn policy(&mut self, names: &[String]) -> Object {
        let mut policy = Map::new();
        match self.from(0, 3) {
            0 => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                policy.insert("operations".to_owned(), self.some(&names));
            }
            1 => {
                policy.insert("tiers".to_owned(), self.some(&TIERS));
            }
            _ => {}
        }
        if self.chance(4) {
            policy.insert("methods".to_owned(), self.some(&METHODS));
        }
        policy
    }

    fn failures(&mut self) -> Value {
        json!([["5xx"].as_slice(), &[self.one(&FAILURES)]].concat())
    }

    fn span(&mut self) -> String {
        self.one(&["100ms", "1s", "1.5s", "10s", "1m"]).to_owned()
    }

    fn list(&mut self, most: u64, mut entry: impl FnMut(&mut Self, u64) -> Object) -> Value {
        (0..self.from(0, most)).map(|index| Value::Object(entry(self, index))).collect()
    }

    fn maybe(&mut self, object: &mut Object, field: &str, value: impl FnOnce(&mut Self) -> Value) {
        if self.chance(3) {
            let value = value(self);
            object.insert(field.to_owned(), value);
        }
    }

    /// At least one of them.
    fn some(&mut self, all: &[&str]) -> Value {
        let mut some: Vec<&str> = all.iter().copied().filter(|_| self.chance(3)).collect();
        if some.is_empty() {
            some.push(self.one(all));
        }
        json!(some)
    }

    fn one<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.0.below(all.len() as u64) as usize]
    }

    fn from(&mut self, least: u64, most: u64) -> u64 {
        least + self.0.below(most - least + 1)
    }

    /// One time in so many.
    fn chance(&mut self, one_in: u64) -> bool {
        self.0.below(one_in) == 0
    }
}

fn fallbacks() -> Value {
    json!([
        { "name": "sorry", "status": 503, "json": { "reason": "%REASON%", "id": ["%REQUEST_ID%", 1] },
          "grpc_status": 14, "retry_after": "5s",
          "cors": { "allow_origin": ["https://shop.example.com"], "allow_credentials": true } },
        { "name": "plain", "status": 200, "text": "later: %OPERATION%", "headers": { "x-kind": "plain" },
          "methods": ["GET", "HEAD"] },
        { "name": "empty", "status": 204 },
    ])
}
