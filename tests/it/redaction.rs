//! What must not be stored is stored nowhere: every table is searched for it.

use crate::support::{ANSWERED, Service, config, database};
use secrecy::ExposeSecret;
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool, Row};

const CARD: &str = "4111111111111111";
const SPACED: &str = "4111 1111 1111 1111";
const KEY: &str = "AKIAIOSFODNN7QWERTYU";

/// Tables that hold a text somewhere in a row, read as text, binary columns included.
async fn tables_with(pool: &PgPool, needle: &str) -> Vec<String> {
    let names = sqlx::query("select tablename::text from pg_tables where schemaname = 'public'")
        .fetch_all(pool)
        .await
        .expect("tables can be listed");
    let mut found = Vec::new();
    for name in names.iter().map(|row| row.get::<String, _>(0)) {
        let hex: String = needle.bytes().map(|b| format!("{b:02x}")).collect();
        let sql =
            format!("select count(*) from \"{name}\" t where t::text like '%{needle}%' or t::text like '%{hex}%'");
        let rows: i64 = sqlx::query(AssertSqlSafe(sql)).fetch_one(pool).await.expect("a table can be read").get(0);
        if rows > 0 {
            found.push(name);
        }
    }
    found
}

#[tokio::test]
async fn a_secret_and_a_card_reach_no_table() {
    let url = database().await;
    let mut config = config(&[ANSWERED]);
    // A span without its root stays in the inbox while the tables are searched.
    config.assembly.idle_ms = 600_000;
    config.assembly.hard_cap_ms = 600_000;
    let service = Service::start_on(&url, config).await;
    let trace = |id: &str, input: &str, output: &str| json!({"trace_id": id, "input": input, "output": output});
    let nested = json!({"arguments": json!({"card": 4_111_111_111_111_111_u64, "key": KEY}).to_string()}).to_string();
    let body = json!([
        trace(
            "redacted-1",
            &format!("My card is {SPACED}, is it still good?"),
            &format!("Yes, {CARD} is good until May.")
        ),
        trace("redacted-2", &nested, &format!("The key {KEY} works, I have tried it just now.")),
    ]);
    let headers = [("content-type", "application/json")];
    let (status, _) = service.post("/api/v1/traces", &headers, body.to_string().into_bytes()).await;
    assert_eq!(status, 200);
    service.verdicts(2).await;
    let span = json!({"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174",
        "parentSpanId": "eee19b7ec3c1b175", "name": "chat", "attributes": [
            {"key": "openinference.span.kind", "value": {"stringValue": "LLM"}},
            {"key": "input.value", "value": {"stringValue": format!("use {KEY} and {SPACED}")}}]});
    let body = json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).to_string();
    let (status, _) = service.post("/v1/traces", &headers, body).await;
    assert_eq!(status, 200);
    let pool = PgPool::connect(url.expose_secret()).await.expect("the database is there");
    for needle in [CARD, SPACED, KEY] {
        assert_eq!(tables_with(&pool, needle).await, Vec::<String>::new(), "{needle}");
    }
    // The search sees what is there: text that was left alone, and the placeholders.
    for (needle, table) in [
        ("is good until May", "trace_bodies"),
        ("[CARD_", "trace_bodies"),
        ("[SECRET_", "trace_bodies"),
        ("[SECRET_", "inbox_spans"),
    ] {
        assert!(tables_with(&pool, needle).await.contains(&table.to_owned()), "{needle} in {table}");
    }
    let metrics = service.http.get(format!("{}/metrics", service.base)).send().await.expect("the service answers");
    let metrics = metrics.text().await.expect("a body");
    assert!(metrics.contains("assize_redactions_total{category=\"card\"} 4"), "{metrics}");
}
