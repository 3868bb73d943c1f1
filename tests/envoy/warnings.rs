//! What Envoy's log says of a configuration that is accepted and can never do what it says.

use serde_json::json;

use crate::rig::bootstrap::Bootstrap;
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::policy::supply;
use crate::rig::turn::Turn;

#[tokio::test(flavor = "multi_thread")]
async fn each_warning_is_logged_once_whatever_the_number_of_workers() {
    let turn = Turn::shared().await;
    let policy = json!({
        "operations": [
            { "name": "orders", "match": { "paths": ["/orders", "/orders/*"] } },
            { "name": "urgent", "match": { "paths": ["/orders/urgent"] } },
        ],
        "limits": [{ "name": "decoration", "tiers": ["P3"], "token_bucket": supply(1) }],
    });
    let listener = Listener::direct().filter(Filter::new(&policy));
    let envoy = turn.start(Bootstrap::new(listener).concurrency(4)).await;
    assert_eq!(envoy.client().admitted("/orders/urgent", 3).await, 3);

    for warning in [
        r#"operations[1].match: no request gets here: operations[0] ("orders") matches them all"#,
        "limits[0]: no request gets here: no operation is of its tiers",
    ] {
        assert_eq!(envoy.log().matches(warning).count(), 1, "{warning}:\n{}", envoy.log());
    }
}

/// Each worker reads both, and so does the one that tries them.
#[tokio::test(flavor = "multi_thread")]
async fn each_of_two_filters_of_one_scope_is_warned_of_once() {
    let turn = Turn::shared().await;
    let limit = json!({ "name": "decoration", "tiers": ["P3"], "token_bucket": supply(1) });
    let one = json!({ "scope": "shop", "limits": [limit] });
    let two = json!({ "scope": "shop", "operations": [{ "name": "stars", "match": { "paths": ["/a*b"] } }] });
    let filter = |name: &str, policy| Filter::new(policy).named(name);
    let listener = Listener::direct().filter(filter("one", &one)).filter(filter("two", &two));
    let envoy = turn.start(Bootstrap::new(listener).concurrency(4)).await;
    assert_eq!(envoy.client().admitted("/", 3).await, 3);

    for warning in
        ["limits[0]: no request gets here", r#"operations[0].match.paths[0]: has a "*" that stands for itself"#]
    {
        assert_eq!(envoy.log().matches(warning).count(), 1, "{warning}:\n{}", envoy.log());
    }
}
