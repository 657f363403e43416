//! The API, request by request; every answer is held to the description that is served.

mod description;

use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use expect_test::{Expect, expect};
use serde_json::Value;
use tower::ServiceExt;

use self::description::Description;
use super::*;
use crate::{
    access::{Grant, Rights, User},
    node::{Allowed, Placeholders, Settings},
    store::Eviction,
};

fn side(eviction: Eviction, users: Users) -> Router {
    let settings = Settings {
        memory_bytes_max: 1 << 20,
        item_bytes_max: 1 << 19,
        eviction,
        workers: 1,
        placeholders: Placeholders::Hidden,
        prefix_delimiter: b':',
        allowed: Allowed::NOTHING,
    };
    let node = Arc::new(Node::new(settings, None, 0));
    router(Arc::clone(&node), users, Clock::new(node))
}

async fn send(
    side: &Router,
    method: &str,
    path: &str,
    body: impl Into<Body>,
) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(path);
    let request =
        request.header("content-type", "application/json").body(body.into()).expect("a request");
    answer(side, request).await
}

async fn answer(side: &Router, request: Request<Body>) -> (StatusCode, String) {
    let (method, path) = (request.method().clone(), request.uri().to_string());
    let response = side.clone().oneshot(request).await.expect("an answer");
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    let body = String::from_utf8(body.to_vec()).expect("text");
    Description::new().check(&method, &path, status, &body);
    (status, body)
}

async fn check(side: &Router, request: (&str, &str), body: impl Into<Body>, expect: Expect) {
    let (status, body) = send(side, request.0, request.1, body).await;
    expect.assert_eq(&format!("{} {body}", status.as_u16()));
}

#[tokio::test]
async fn stores_reads_and_deletes() {
    let side = side(Eviction::S3Fifo, Users::default());
    check(&side, ("GET", "/cache/a"), "", expect![[r#"200 {"key":"a","found":false}"#]]).await;
    check(
        &side,
        ("PUT", "/cache/a?ttl_seconds=60"),
        "hello",
        expect![[r#"200 {"key":"a","stored":true}"#]],
    )
    .await;
    check(&side, ("GET", "/cache/a"), "", expect![[r#"200 {"key":"a","found":true,"value":"hello","encoding":"utf8","age_seconds":0,"ttl_remaining":60}"#]]).await;
    check(
        &side,
        ("PUT", "/cache/b%2F1"),
        vec![0xff_u8, 0],
        expect![[r#"200 {"key":"b/1","stored":true}"#]],
    )
    .await;
    check(&side, ("GET", "/cache/b%2F1"), "", expect![[r#"200 {"key":"b/1","found":true,"value":"/wA=","encoding":"base64","age_seconds":0,"ttl_remaining":null}"#]]).await;
    check(&side, ("DELETE", "/cache/a"), "", expect![[r#"200 {"key":"a","existed":true}"#]]).await;
    check(&side, ("DELETE", "/cache/a"), "", expect![[r#"200 {"key":"a","existed":false}"#]]).await;
}

#[tokio::test]
async fn refuses_what_does_not_fit() {
    let side = side(Eviction::Never, Users::default());
    let long = format!("/cache/{}", "k".repeat(251));
    check(
        &side,
        ("PUT", &long),
        "v",
        expect![[r#"400 {"error":"the key is longer than 250 bytes"}"#]],
    )
    .await;
    check(
        &side,
        ("GET", "/cache/a%20b"),
        "",
        expect![[r#"400 {"error":"the key contains a space, a line end or a NUL"}"#]],
    )
    .await;
    for bytes in [(1 << 19) - 10, 1 << 20] {
        check(
            &side,
            ("PUT", "/cache/a"),
            vec![b'v'; bytes],
            expect![[
                r#"400 {"error":"an entry has at most 524288 bytes, with its key and header"}"#
            ]],
        )
        .await;
    }
    check(
        &side,
        ("PUT", "/cache/a?ttl_seconds=0"),
        "v",
        expect![[r#"400 {"error":"ttl_seconds must be at least 1"}"#]],
    )
    .await;
    for ttl in ["-1", "x", "1.5", "99999999999999999999"] {
        let (status, _) = send(&side, "PUT", &format!("/cache/a?ttl_seconds={ttl}"), "v").await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{ttl}");
    }
    for number in 0..120 {
        send(&side, "PUT", &format!("/cache/{number}"), vec![b'v'; 10_000]).await;
    }
    check(
        &side,
        ("PUT", "/cache/c"),
        vec![b'v'; 10_000],
        expect![[r#"503 {"error":"memory is full"}"#]],
    )
    .await;
}

#[tokio::test]
async fn batches() {
    let side = side(Eviction::S3Fifo, Users::default());
    let body = r#"{"put": [{"key": "a", "value": "1", "ttl_seconds": 9}, {"key": "b", "value": "/w==", "encoding": "base64"},
        {"key": "c d", "value": ""}, {"key": "e", "value": "1", "ttl_seconds": 0}], "get": ["a", "b", "none"]}"#;
    check(&side, ("POST", "/cache/batch"), body, expect![[r#"200 {"found":{"a":{"value":"1","encoding":"utf8","age_seconds":0,"ttl_remaining":9},"b":{"value":"/w==","encoding":"base64","age_seconds":0,"ttl_remaining":null}},"missing":["none"],"stored":["a","b"],"refused":{"c d":"the key contains a space, a line end or a NUL","e":"ttl_seconds must be at least 1"}}"#]]).await;
    let keys = |count: usize| serde_json::json!({ "get": vec!["a"; count] }).to_string();
    let (status, _) = send(&side, "POST", "/cache/batch", keys(1000)).await;
    assert_eq!(status, StatusCode::OK);
    check(
        &side,
        ("POST", "/cache/batch"),
        keys(1001),
        expect![[r#"400 {"error":"a batch has at most 1000 keys"}"#]],
    )
    .await;
    let (status, _) = send(&side, "POST", "/cache/batch", "{").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn users_log_in() {
    let grants =
        vec![Grant { prefix: (*b"ann:").into(), rights: Rights::READ.with(Rights::WRITE) }];
    let ann = User { name: (*b"ann").into(), password: (*b"pw").into(), grants };
    let side = side(Eviction::S3Fifo, Users::new(vec![ann]));
    for (key, header, expected) in [
        ("ann:1", None, 401),
        ("ann:1", Some("Basic YW5uOnB3"), 200),
        ("bob:1", Some("Basic YW5uOnB3"), 403),
        ("ann:1", Some("Basic YW5uOnB4"), 401),
    ] {
        let mut request = Request::builder().method("GET").uri(format!("/cache/{key}"));
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        let (status, _) = answer(&side, request.body(Body::empty()).expect("a request")).await;
        assert_eq!(status.as_u16(), expected, "{key} {header:?}");
    }
}

#[tokio::test]
async fn tells_how_it_is() {
    let side = side(Eviction::S3Fifo, Users::default());
    send(&side, "PUT", "/cache/a", "1").await;
    check(
        &side,
        ("GET", "/health"),
        "",
        expect![[r#"200 {"status":"ok","source":"none","warm":"none"}"#]],
    )
    .await;
    let (_, stats) = send(&side, "GET", "/stats", "").await;
    let stats: Value = serde_json::from_str(&stats).expect("JSON");
    assert_eq!((&stats["cmd_set"], &stats["curr_items"]), (&Value::from(1), &Value::from(1)));
    let (_, metrics) = send(&side, "GET", "/metrics", "").await;
    for line in ["mcsqueal_node_cmd_set_total 1", "mcsqueal_node_entries 1", "# EOF"] {
        assert!(metrics.lines().any(|it| it == line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("mcsqueal_node_fresh"), "there is no source: {metrics}");
}

/// Every operation that the file describes is served; whether it answers as the file says, [`answer`] checks, as for every request here.
#[tokio::test]
async fn what_is_described_is_served() {
    let side = side(Eviction::S3Fifo, Users::default());
    let (_, served) = send(&side, "GET", "/openapi.json", "").await;
    assert_eq!(served, OPENAPI);
    let operations = Description::new().operations();
    assert_eq!(operations.len(), 8);
    for (method, path) in operations {
        let path = path.replace("{key}", "a");
        let (status, _) = send(&side, method.as_str(), &path, "{}").await;
        assert!(status.is_success(), "{method} {path}: {status}");
    }
    for (method, path, expected) in [
        ("GET", "/cache", StatusCode::NOT_FOUND),
        ("POST", "/cache/a", StatusCode::METHOD_NOT_ALLOWED),
        ("DELETE", "/stats", StatusCode::METHOD_NOT_ALLOWED),
    ] {
        assert_eq!(send(&side, method, path, "").await.0, expected, "{method} {path}");
    }
}
