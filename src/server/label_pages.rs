//! `/labels`: pages on which people label what the queue drew.
//!
//! Its rule: plain forms from the server, no scripts and nothing from elsewhere; text of traces is escaped by `maud`. Who comes
//! from another site is refused: the cookie is `SameSite=Strict` and every form's origin is compared. The judges' votes
//! are hidden until asked for, because people agree with what they have read. The way not taken: a browser
//! application, which would need the read API's token where scripts can reach it.

use super::Shared;
use super::auth::PAGE_COOKIE;
use crate::domain::label::{Said, Source};
use crate::domain::rubric::{Output, Rubric};
use crate::domain::verdict::Verdict;
use crate::pipeline::label_queue::{self, Answer, Item};
use crate::pipeline::labels::Book;
use crate::store::StoreError;
use axum::extract::{Form, Path, Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;
use std::sync::Arc;
use uuid::Uuid;

/// How long a browser stays signed in, in seconds.
const SIGNED_IN_SECONDS: u32 = 12 * 3_600;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
h1{font-size:1.3rem}h2{font-size:1rem;margin:1.2rem 0 .2rem;color:#555}\
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f5f5f2;padding:.8rem;margin:0;max-height:24rem;overflow:auto}\
button{font:inherit;padding:.4rem 1.2rem;margin-right:.5rem}input{font:inherit;padding:.2rem .4rem}\
table{border-collapse:collapse}td,th{text-align:left;padding:.2rem 1rem .2rem 0}.note{color:#a40000}.dim{color:#777}";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Look {
    /// Show what the judges said.
    votes: bool,
}

/// What a form sends.
#[derive(Debug, Deserialize)]
pub(super) struct Sent {
    trace_id: String,
    batch_id: Uuid,
    /// pass, fail, skip, score or label.
    say: String,
    #[serde(default)]
    score: String,
    #[serde(default)]
    label: String,
    labeller: String,
    #[serde(default)]
    expert: bool,
    #[serde(default)]
    comment: String,
    #[serde(default)]
    votes: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct SignIn {
    token: String,
}

/// Who labels, as the form remembers it from one item to the next.
#[derive(Debug, Default)]
struct Who {
    labeller: String,
    expert: bool,
}

/// `GET /labels`: the rubrics that have a queue.
pub(super) async fn index(State(shared): State<Shared>) -> Response {
    let store = &shared.app.store;
    let rows = async {
        let mut rows = Vec::new();
        for rubric in store.queued_rubrics().await? {
            let progress = store.label_progress(&rubric).await?;
            rows.push((rubric, progress));
        }
        Ok::<_, StoreError>(rows)
    };
    let rows = match rows.await {
        Ok(rows) => rows,
        Err(error) => return failed(&shared, error),
    };
    let body = html! {
        h1 { "Labels" }
        @if rows.is_empty() {
            p { "Nothing waits. Draw traces with " code { "assize labels queue RUBRIC --n 50" } "." }
        } @else {
            table {
                tr { th { "rubric" } th { "drawn" } th { "labelled" } th { "skipped" } th { "waiting" } }
                @for (rubric, p) in &rows {
                    tr {
                        td { a href={ "/labels/" (rubric) } { (rubric) } }
                        td { (p.traces) } td { (p.labelled) } td { (p.skipped) }
                        td { (p.traces - p.labelled - p.skipped) }
                    }
                }
            }
        }
    };
    page(StatusCode::OK, &body)
}

/// `GET /labels/{rubric}`: the next trace of its queue.
pub(super) async fn show(State(shared): State<Shared>, Path(name): Path<String>, Query(look): Query<Look>) -> Response {
    match rubric_of(&shared, &name) {
        Ok(rubric) => next(&shared, &rubric, look.votes, &Who::default(), None).await,
        Err(why) => refused(StatusCode::NOT_FOUND, &why),
    }
}

/// `POST /labels/{rubric}`: stores what was said, and shows the next.
pub(super) async fn save(State(shared): State<Shared>, Path(name): Path<String>, Form(sent): Form<Sent>) -> Response {
    let rubric = match rubric_of(&shared, &name) {
        Ok(rubric) => rubric,
        Err(why) => return refused(StatusCode::NOT_FOUND, &why),
    };
    let who = Who { labeller: sent.labeller.trim().to_owned(), expert: sent.expert };
    let said = match said(&sent) {
        Ok(said) => said,
        Err(why) => return next(&shared, &rubric, sent.votes, &who, Some(why)).await,
    };
    if who.labeller.is_empty() {
        let why = "Say who you are, so that your labels can be told from others'.".to_owned();
        return next(&shared, &rubric, sent.votes, &who, Some(why)).await;
    }
    let answer = Answer {
        said,
        labeller: who.labeller.clone(),
        source: if who.expert { Source::Expert } else { Source::Annotator },
        comment: Some(sent.comment),
    };
    let (store, now) = (&shared.app.store, shared.app.bench.clock.now());
    let stored = label_queue::answer(store, &rubric, (sent.batch_id, &sent.trace_id), answer, now).await;
    let counter = &shared.app.bench.metrics.labels;
    match stored {
        Ok(Ok(())) => {
            counter.with_label_values(&["page", "accepted"]).inc();
            next(&shared, &rubric, sent.votes, &who, None).await
        }
        Ok(Err(why)) => {
            counter.with_label_values(&["page", "refused"]).inc();
            next(&shared, &rubric, sent.votes, &who, Some(why)).await
        }
        Err(error) => failed(&shared, error),
    }
}

/// `POST /labels/sign-in`: a token with the scope `label` for a cookie that opens these pages only.
pub(super) async fn sign_in(State(shared): State<Shared>, Form(sent): Form<SignIn>) -> Response {
    match shared.guard.page_key(sent.token.trim()) {
        Some(key) => {
            let cookie =
                format!("{PAGE_COOKIE}={key}; Path=/labels; HttpOnly; SameSite=Strict; Max-Age={SIGNED_IN_SECONDS}");
            let headers = [(header::SET_COOKIE, cookie), (header::LOCATION, "/labels".to_owned())];
            (StatusCode::SEE_OTHER, headers).into_response()
        }
        None => sign_in_form(Some("That token is not known, or has not the scope label.")),
    }
}

/// The page of who is not signed in.
pub(super) fn sign_in_form(note: Option<&str>) -> Response {
    let body = html! {
        h1 { "Sign in to label" }
        @if let Some(note) = note { p.note { (note) } }
        form method="post" action="/labels/sign-in" {
            p { label { "Token with the scope label " input type="password" name="token" autocomplete="off" autofocus; } }
            button { "Sign in" }
        }
    };
    page(StatusCode::UNAUTHORIZED, &body)
}

/// A page that says why there is none.
pub(super) fn refused(status: StatusCode, why: &str) -> Response {
    page(status, &html! { h1 { "No" } p { (why) } })
}

fn failed(shared: &Shared, error: StoreError) -> Response {
    let problem = super::read::failed(shared)(error);
    refused(problem.status, &problem.detail)
}

/// The rubric of that name, or which there are.
fn rubric_of(shared: &Shared, name: &str) -> Result<Arc<Rubric>, String> {
    Book::of(&shared.app.bench.rubrics.load()).get(name).cloned()
}

/// What the form says; `None`: they cannot tell.
fn said(sent: &Sent) -> Result<Option<Said>, String> {
    match sent.say.as_str() {
        "pass" => Ok(Some(Said::Passed(true))),
        "fail" => Ok(Some(Said::Passed(false))),
        "skip" => Ok(None),
        "score" => {
            let score = sent.score.trim().parse().map(Said::Score).map(Some);
            score.map_err(|_| "Give the score as a number from 0 to 1.".to_owned())
        }
        "label" => Ok(Some(Said::Word(sent.label.clone()))),
        _ => Err("Press one of the buttons.".to_owned()),
    }
}

async fn next(shared: &Shared, rubric: &Rubric, votes: bool, who: &Who, note: Option<String>) -> Response {
    let item = match label_queue::next(&shared.app.store, rubric, shared.app.bench.clock.now()).await {
        Ok(item) => item,
        Err(error) => return failed(shared, error),
    };
    let status = if note.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let body = html! {
        h1 { (if rubric.title.is_empty() { &rubric.name } else { &rubric.title }) }
        @if let Some(note) = note { p.note { (note) } }
        @match item {
            None => p { "All that was drawn is done. " a href="/labels" { "Back" } },
            Some(item) => (form(rubric, &item, votes, who)),
        }
    };
    page(status, &body)
}

fn form(rubric: &Rubric, item: &Item, votes: bool, who: &Who) -> Markup {
    let progress = item.progress;
    html! {
        p.dim {
            (progress.labelled) " labelled, " (progress.skipped) " skipped, "
            (progress.traces - progress.labelled - progress.skipped) " to go · trace " (item.trace.trace_id)
        }
        h2 { "Question" }
        pre { (item.trace.question().unwrap_or("(none)")) }
        h2 { "Answer" }
        pre { (item.trace.answer().unwrap_or_else(|| "(none)".to_owned())) }
        @if item.trace.context().next().is_some() {
            h2 { "Context" }
            @for document in item.trace.context() { pre { (document.content.as_deref().unwrap_or_default()) } br; }
        }
        @if votes {
            @if let Some(verdict) = &item.verdict { (judges(verdict)) }
        } @else {
            p { a href={ "/labels/" (rubric.name) "?votes=true" } { "Show what the judges said" } }
        }
        form method="post" action={ "/labels/" (rubric.name) } {
            input type="hidden" name="trace_id" value=(item.waiting.trace_id);
            input type="hidden" name="batch_id" value=(item.waiting.batch_id);
            input type="hidden" name="votes" value=(votes);
            h2 { "Your word" }
            p {
                label { "You " input name="labeller" value=(who.labeller) placeholder="name" required; } " "
                label { input type="checkbox" name="expert" value="true" checked[who.expert]; " expert" }
            }
            p { label { "Why (optional) " input name="comment" size="60"; } }
            p {
                button name="say" value="pass" { "Pass" }
                button name="say" value="fail" { "Fail" }
                button name="say" value="skip" { "Cannot tell" }
            }
            @match &rubric.output {
                Output::Category { values } => p {
                    select name="label" { @for label in values.keys() { option { (label) } } } " "
                    button name="say" value="label" { "This label" }
                },
                Output::Score { .. } | Output::Claims { .. } => p {
                    input name="score" size="6" inputmode="decimal" placeholder="0 to 1"; " "
                    button name="say" value="score" { "This score" }
                },
                Output::Boolean { .. } => {},
            }
        }
    }
}

fn judges(verdict: &Verdict) -> Markup {
    html! {
        h2 { "The judges" }
        pre {
            @if let Some(score) = verdict.score { "panel " (format!("{score:.3}")) "\n" }
            @for vote in &verdict.votes {
                (vote.judge) " " (vote.score.map_or_else(|| "no score".to_owned(), |s| format!("{s:.3}"))) " "
                (vote.reason.as_deref().unwrap_or_default()) "\n"
            }
            (verdict.explanation)
        }
    }
}

fn page(status: StatusCode, body: &Markup) -> Response {
    let text = html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; title { "Assize: labels" } style { (maud::PreEscaped(STYLE)) } }
            body { (body) }
        }
    };
    // No script runs here whatever a trace says; frames and other sites' forms have no business here either.
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    let fixed = |name: HeaderName, value: &'static str| (name, HeaderValue::from_static(value));
    let headers = [
        fixed(header::CONTENT_TYPE, "text/html; charset=utf-8"),
        fixed(header::CONTENT_SECURITY_POLICY, policy),
        fixed(header::REFERRER_POLICY, "same-origin"),
        fixed(header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        fixed(header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, text.into_string()).into_response()
}
