//! An answer judged claim by claim: one request splits it, then each chunk of the context is held against the claims it matters to.
//!
//! Called by `ask` for rubrics with `output: {type: claims}`. Its rule: a claim is settled by the first chunk that supports or
//! contradicts it; "not in the context" is said only when every chunk was read for it. What was not read stands in the vote.
//! The way not taken: one request with everything, which fails as soon as the context is longer than the window.

use super::ask::too_long;
use super::talk::Talk;
use crate::domain::chat::ChatReply;
use crate::domain::rubric::{Against, Output};
use crate::domain::rung::{Rung, Traits};
use crate::domain::verdict::{FINAL, Vote};
use crate::judge::claims::{self, Claim, Finding, Found};
use crate::judge::{chunks, prompt};
use serde_json::json;
use std::collections::BTreeMap;

/// Chunks of one context at most; a longer context is too large.
const CHUNKS_MAX: usize = 64;

/// Bytes to a token that are reckoned with when chunks are cut; few enough for any language.
const BYTES_PER_TOKEN: usize = 2;

/// Asks a judge about every claim.
pub(super) async fn ask(talk: &mut Talk<'_>) {
    let question = talk.question;
    let rubric = &question.rubric;
    let (mut all, before) = match begun(talk) {
        Some(begun) => begun,
        None => match split(talk).await {
            Some(all) => (all, 0),
            None => return,
        },
    };
    keep(talk, &all, before);
    let Some(pieces) = cut(talk, &all).await else { return };
    if pieces.len() != before {
        // Cut otherwise than before: what was read is not known any more. What was found with its quotation is.
        for claim in all.iter_mut().filter(|c| c.finding == Finding::NotInContext) {
            claim.chunks_read = 0;
        }
    }
    if !read_all(talk, &mut all, &pieces).await {
        return;
    }
    let against = match &rubric.output {
        Output::Claims { against } => *against,
        _ => Against::default(),
    };
    let of = pieces.len();
    let not_read: BTreeMap<&str, usize> =
        all.iter().filter(|c| c.chunks_read < of).map(|c| (c.id.as_str(), of - c.chunks_read)).collect();
    talk.vote.detail = json!({"claims": all, "chunks": {"of": of, "not_read": not_read}});
    talk.vote.score = claims::score(&all, against);
    talk.vote.raw = json!(talk.vote.score);
    talk.vote.reason = Some(claims::reason(&all));
    talk.vote.error = None;
}

/// The claims that an earlier attempt of the same judge was cut off at, with what it had found, and the number of pieces.
fn begun(talk: &Talk<'_>) -> Option<(Vec<Claim>, usize)> {
    let by = &talk.judge.name;
    let ours = |v: &&Vote| v.judge == talk.vote.judge && v.detail["partial"] == true && v.detail["by"] == by.as_str();
    let earlier = &talk.job.votes.iter().find(ours)?.detail;
    let pieces = earlier["pieces"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or_default();
    Some((serde_json::from_value(earlier["claims"].clone()).ok()?, pieces))
}

/// Keeps how far it is, so that another attempt goes on from there.
fn keep(talk: &mut Talk<'_>, all: &[Claim], pieces: usize) {
    talk.vote.detail = json!({"claims": all, "partial": true, "by": talk.judge.name, "pieces": pieces});
    talk.question.note(&talk.vote);
}

/// Has the answer split into claims. `None` = there are none, or it failed; the vote says which.
async fn split(talk: &mut Talk<'_>) -> Option<Vec<Claim>> {
    let question = talk.question;
    let (rubric, marks) = (&question.rubric, &question.marks);
    let build = |traits: &Traits| claims::split_request(rubric, &question.inputs, marks, traits);
    if let Some(why) = too_long(talk.judge, &talk.prepare(&build)).await {
        talk.vote.error = Some(format!("{FINAL}too_long: {why}"));
        return None;
    }
    let read = |reply: &ChatReply, rung: Rung| claims::read_split(&reply.content, rung, &marks.canary);
    let texts = talk.hold(&build, &read).await?;
    if texts.is_empty() {
        talk.vote.abstained = Some("the answer makes no claim".to_owned());
        return None;
    }
    Some(texts.into_iter().enumerate().map(|(n, text)| Claim::new(n + 1, text)).collect())
}

/// The context in chunks that fit the judge's window together with the claims.
async fn cut(talk: &mut Talk<'_>, all: &[Claim]) -> Option<Vec<String>> {
    let question = talk.question;
    let every: Vec<&Claim> = all.iter().collect();
    let around = request(talk, &every, "")?;
    let free = room(talk, around.bytes());
    let mut bytes_max = free * BYTES_PER_TOKEN;
    let total: usize = question.documents.iter().map(|d| d.len() + 2).sum();
    // Most contexts fit as they are: bytes bound the tokens from above.
    if total <= free {
        bytes_max = bytes_max.max(total);
    }
    loop {
        let pieces = chunks::pack(&question.documents, bytes_max);
        if pieces.len() > CHUNKS_MAX || bytes_max < 1_000 {
            let n = pieces.len();
            talk.vote.error = Some(format!(
                "{FINAL}too_long: the context has {n} pieces of what fits beside the claims, more than {CHUNKS_MAX}"
            ));
            return None;
        }
        let longest = pieces.iter().max_by_key(|p| p.len()).cloned().unwrap_or_default();
        let mut fullest = request(talk, &every, &longest)?;
        fullest.output_tokens_max = talk.answer_max();
        if too_long(talk.judge, &fullest).await.is_none() {
            return Some(pieces);
        }
        bytes_max = bytes_max.min(total) / 2;
    }
}

/// Tokens that are left of the window beside so many bytes and the answer.
fn room(talk: &Talk<'_>, bytes: usize) -> usize {
    let output = talk.answer_max() as usize;
    talk.judge.config.window_tokens.saturating_sub(output + bytes / BYTES_PER_TOKEN)
}

fn request(talk: &mut Talk<'_>, some: &[&Claim], chunk: &str) -> Option<crate::domain::chat::ChatRequest> {
    let question = talk.question;
    let about = (&*question.rubric, &question.inputs);
    match claims::verdict_request(&question.template, about, (some, chunk), &question.marks, &talk.traits) {
        Ok(request) => Some(request),
        Err(error) => {
            let missing = matches!(error, prompt::PromptError::Missing(_));
            if missing {
                talk.vote.abstained = Some(error.to_string());
            } else {
                talk.vote.error = Some(format!("{FINAL}{error}"));
            }
            None
        }
    }
}

/// Reads the chunks for the claims, the likeliest first, until every claim is settled or has seen them all.
async fn read_all(talk: &mut Talk<'_>, all: &mut [Claim], pieces: &[String]) -> bool {
    let texts: Vec<&str> = all.iter().map(|c| c.text.as_str()).collect();
    let order = chunks::rank(&texts, pieces);
    // Every claim has an order of all the pieces; a turn takes the next of each.
    for turn in 0..pieces.len() {
        let next = |n: usize| order[n].get(turn).copied().unwrap_or_default();
        let mut by_chunk: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        // Claims of an earlier attempt may be ahead.
        let open = |c: &Claim| c.finding == Finding::NotInContext && c.chunks_read == turn;
        for (n, _) in all.iter().enumerate().filter(|(_, c)| open(c)) {
            by_chunk.entry(next(n)).or_default().push(n);
        }
        for (chunk, asked) in by_chunk {
            let some: Vec<Claim> = asked.iter().map(|n| all[*n].clone()).collect();
            let Some(found) = ask_chunk(talk, &some, &pieces[chunk]).await else { return false };
            for found in found {
                let claim = &mut all[asked[found.at]];
                claim.chunks_read += 1;
                claim.finding = found.finding;
                claim.quote = found.quote;
                claim.doubt = found.doubt.or(claim.doubt.take()).filter(|_| claim.finding == Finding::NotInContext);
            }
            keep(talk, all, pieces.len());
        }
    }
    true
}

async fn ask_chunk(talk: &mut Talk<'_>, some: &[Claim], chunk: &str) -> Option<Vec<Found>> {
    let some: Vec<&Claim> = some.iter().collect();
    // Whether the prompt can be made does not depend on the form; after this it can.
    request(talk, &some, chunk)?;
    let question = talk.question;
    let build = |traits: &Traits| {
        let about = (&*question.rubric, &question.inputs);
        let made = claims::verdict_request(&question.template, about, (&some, chunk), &question.marks, traits);
        made.expect("it was made a moment ago")
    };
    let canary = &question.marks.canary;
    let read = |reply: &ChatReply, rung: Rung| claims::read_verdicts(&reply.content, rung, canary, &some, chunk);
    talk.hold(&build, &read).await
}
