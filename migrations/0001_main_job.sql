-- The tables of the main job: spans in, traces decided, jobs leased, verdicts and votes stored, events out.
-- Forward only; a merged migration never changes. Ids and times are made by the caller, so tests can move time.

CREATE TABLE inbox_spans (
    trace_id text NOT NULL,
    span_id text NOT NULL,
    received_at timestamptz NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (trace_id, span_id)
);
COMMENT ON TABLE inbox_spans IS 'Spans that were acknowledged and are not yet part of an assembled trace.';
COMMENT ON COLUMN inbox_spans.trace_id IS 'W3C hex id, or what a native sender calls its trace.';
COMMENT ON COLUMN inbox_spans.span_id IS 'Id within the trace; with trace_id it makes duplicates harmless.';
COMMENT ON COLUMN inbox_spans.received_at IS 'When we committed it.';
COMMENT ON COLUMN inbox_spans.body IS 'domain::Span as JSON; bytea because text of prompts may hold what jsonb refuses.';

CREATE TABLE open_traces (
    trace_id text PRIMARY KEY,
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    root_ended boolean NOT NULL,
    span_count integer NOT NULL,
    bytes bigint NOT NULL,
    due_at timestamptz NOT NULL
);
CREATE INDEX open_traces_due ON open_traces (due_at);
COMMENT ON TABLE open_traces IS 'One row a trace that has spans in the inbox: when it is to be assembled.';
COMMENT ON COLUMN open_traces.trace_id IS 'The trace.';
COMMENT ON COLUMN open_traces.first_seen_at IS 'When its first span came; the hard cap counts from here.';
COMMENT ON COLUMN open_traces.last_seen_at IS 'When its latest span came; quiet and idle time count from here.';
COMMENT ON COLUMN open_traces.root_ended IS 'Whether an ended root span has come.';
COMMENT ON COLUMN open_traces.span_count IS 'Spans received, duplicates included.';
COMMENT ON COLUMN open_traces.bytes IS 'Their size, so that a batch fits into memory and one trace cannot grow without end.';
COMMENT ON COLUMN open_traces.due_at IS 'When it may be assembled.';

CREATE TABLE traces (
    trace_id text PRIMARY KEY,
    decided_at timestamptz NOT NULL,
    kept boolean NOT NULL,
    rule text NOT NULL,
    probability double precision NOT NULL,
    randomness bigint NOT NULL,
    threshold bigint NOT NULL,
    randomness_source text NOT NULL,
    span_count integer NOT NULL,
    late_spans integer NOT NULL DEFAULT 0,
    body bytea,
    CHECK (kept = (body IS NOT NULL))
);
CREATE INDEX traces_decided ON traces (decided_at);
COMMENT ON TABLE traces IS 'Every assembled trace and what sampling decided; rows of traces left out go after a day, the tallies stay.';
COMMENT ON COLUMN traces.trace_id IS 'The trace.';
COMMENT ON COLUMN traces.decided_at IS 'When it was assembled and decided on.';
COMMENT ON COLUMN traces.kept IS 'Whether it is judged.';
COMMENT ON COLUMN traces.rule IS 'The sampling rule that decided.';
COMMENT ON COLUMN traces.probability IS 'Probability with which it was to be kept, of all traces received.';
COMMENT ON COLUMN traces.randomness IS 'The 56 random bits; kept when they are at or above the threshold.';
COMMENT ON COLUMN traces.threshold IS 'The threshold in force; 2^56 keeps nothing.';
COMMENT ON COLUMN traces.randomness_source IS 'Where the random bits are from.';
COMMENT ON COLUMN traces.span_count IS 'Spans it was assembled from.';
COMMENT ON COLUMN traces.late_spans IS 'Spans that came after it was decided.';
COMMENT ON COLUMN traces.body IS 'domain::Trace as JSON; null when the trace was left out.';

CREATE TABLE tallies (
    hour timestamptz NOT NULL,
    stratum text NOT NULL,
    rule text NOT NULL,
    probability double precision NOT NULL,
    service text,
    environment text,
    feature text,
    prompt_version text,
    model text,
    tenant text,
    status text NOT NULL,
    seen bigint NOT NULL,
    kept bigint NOT NULL,
    PRIMARY KEY (hour, stratum)
);
COMMENT ON TABLE tallies IS 'How many traces were seen and kept, per stratum and hour: the denominators of every estimate.';
COMMENT ON COLUMN tallies.hour IS 'Start of the hour in which the traces were decided.';
COMMENT ON COLUMN tallies.stratum IS 'Hash of the columns from rule to status.';
COMMENT ON COLUMN tallies.rule IS 'Sampling rule.';
COMMENT ON COLUMN tallies.probability IS 'Its rate at the time.';
COMMENT ON COLUMN tallies.service IS 'Label of the traces.';
COMMENT ON COLUMN tallies.environment IS 'Label of the traces.';
COMMENT ON COLUMN tallies.feature IS 'Label of the traces.';
COMMENT ON COLUMN tallies.prompt_version IS 'Label of the traces.';
COMMENT ON COLUMN tallies.model IS 'Label of the traces.';
COMMENT ON COLUMN tallies.tenant IS 'Label of the traces.';
COMMENT ON COLUMN tallies.status IS 'ok or error.';
COMMENT ON COLUMN tallies.seen IS 'Traces decided on.';
COMMENT ON COLUMN tallies.kept IS 'Of these, kept.';

CREATE TABLE rubric_versions (
    rubric text NOT NULL,
    version text NOT NULL,
    body jsonb NOT NULL,
    first_seen_at timestamptz NOT NULL,
    PRIMARY KEY (rubric, version)
);
COMMENT ON TABLE rubric_versions IS 'Every rubric version that was ever loaded, whole and never changed, so that jobs finish under their own version.';
COMMENT ON COLUMN rubric_versions.rubric IS 'The rubric.';
COMMENT ON COLUMN rubric_versions.version IS 'Hash of what can change a verdict.';
COMMENT ON COLUMN rubric_versions.body IS 'domain::Rubric, with the text of its file.';
COMMENT ON COLUMN rubric_versions.first_seen_at IS 'When a worker first loaded it.';

CREATE TABLE jobs (
    id uuid PRIMARY KEY,
    trace_id text NOT NULL,
    rubric text NOT NULL,
    rubric_version text NOT NULL,
    inclusion_probability double precision NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    votes jsonb,
    last_error text,
    lease_token uuid,
    visible_at timestamptz NOT NULL,
    enqueued_at timestamptz NOT NULL,
    deadline_at timestamptz NOT NULL
);
CREATE INDEX jobs_visible ON jobs (visible_at);
COMMENT ON TABLE jobs IS 'Judging still to be done; the row goes in the transaction that stores its verdict.';
COMMENT ON COLUMN jobs.id IS 'Hash of trace, rubric and rubric version; also the id of the verdict.';
COMMENT ON COLUMN jobs.trace_id IS 'The trace to judge.';
COMMENT ON COLUMN jobs.rubric IS 'By which rubric.';
COMMENT ON COLUMN jobs.rubric_version IS 'And which version of it.';
COMMENT ON COLUMN jobs.inclusion_probability IS 'Probability with which trace and rubric were to be judged.';
COMMENT ON COLUMN jobs.attempts IS 'Claims that were not given back.';
COMMENT ON COLUMN jobs.votes IS 'Votes that an earlier attempt already paid for.';
COMMENT ON COLUMN jobs.last_error IS 'Why the latest attempt did not settle it.';
COMMENT ON COLUMN jobs.lease_token IS 'Proves whose lease it is; null when it is nobody''s.';
COMMENT ON COLUMN jobs.visible_at IS 'When it may be claimed: ready, retry later and leased alike.';
COMMENT ON COLUMN jobs.enqueued_at IS 'When its trace was kept.';
COMMENT ON COLUMN jobs.deadline_at IS 'After this it ends as expired.';

CREATE TABLE verdicts (
    id uuid PRIMARY KEY,
    trace_id text NOT NULL,
    span_id text,
    rubric text NOT NULL,
    rubric_version text NOT NULL,
    kind text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('scored', 'not_applicable', 'filtered', 'sampled_out', 'judge_error',
                                             'over_budget', 'too_large', 'expired')),
    score double precision CHECK (score BETWEEN 0 AND 1),
    raw jsonb NOT NULL,
    label text,
    passed boolean,
    confidence double precision,
    explanation text NOT NULL,
    decided_by text,
    checks jsonb NOT NULL,
    cost_usd double precision NOT NULL,
    latency_ms bigint NOT NULL,
    inclusion_probability double precision NOT NULL CHECK (inclusion_probability BETWEEN 0 AND 1),
    service text,
    service_version text,
    environment text,
    feature text,
    prompt_name text,
    prompt_version text,
    model text,
    tenant text,
    join_source text NOT NULL,
    join_span_id text NOT NULL,
    created_at timestamptz NOT NULL,
    CHECK ((outcome = 'scored') = (score IS NOT NULL))
);
CREATE INDEX verdicts_trace ON verdicts (trace_id);
CREATE INDEX verdicts_created ON verdicts (created_at);
COMMENT ON TABLE verdicts IS 'One row a trace, rubric and rubric version: what was found, or why nothing was.';
COMMENT ON COLUMN verdicts.id IS 'The job''s id.';
COMMENT ON COLUMN verdicts.trace_id IS 'The trace.';
COMMENT ON COLUMN verdicts.span_id IS 'The span, for rubrics that judge spans.';
COMMENT ON COLUMN verdicts.rubric IS 'The rubric.';
COMMENT ON COLUMN verdicts.rubric_version IS 'Its version.';
COMMENT ON COLUMN verdicts.kind IS 'score, boolean or category: what the rubric asks for.';
COMMENT ON COLUMN verdicts.outcome IS 'How it ended; a score exists exactly when it is scored.';
COMMENT ON COLUMN verdicts.score IS '0 to 1, 1 is good.';
COMMENT ON COLUMN verdicts.raw IS 'The score on the rubric''s own scale.';
COMMENT ON COLUMN verdicts.label IS 'The label, for boolean and category rubrics.';
COMMENT ON COLUMN verdicts.passed IS 'Whether the pass rule is met.';
COMMENT ON COLUMN verdicts.confidence IS 'Agreement of the votes, or margin of the deciding check.';
COMMENT ON COLUMN verdicts.explanation IS 'Why, in words.';
COMMENT ON COLUMN verdicts.decided_by IS 'check or panel.';
COMMENT ON COLUMN verdicts.checks IS 'Results of the deterministic checks.';
COMMENT ON COLUMN verdicts.cost_usd IS 'Cost of all votes.';
COMMENT ON COLUMN verdicts.latency_ms IS 'Wall time of the evaluation.';
COMMENT ON COLUMN verdicts.inclusion_probability IS 'Weights every estimate.';
COMMENT ON COLUMN verdicts.service IS 'Label of the trace.';
COMMENT ON COLUMN verdicts.service_version IS 'Label of the trace.';
COMMENT ON COLUMN verdicts.environment IS 'Label of the trace.';
COMMENT ON COLUMN verdicts.feature IS 'Label of the trace.';
COMMENT ON COLUMN verdicts.prompt_name IS 'Label of the trace.';
COMMENT ON COLUMN verdicts.prompt_version IS 'Label of the trace.';
COMMENT ON COLUMN verdicts.model IS 'Label of the trace.';
COMMENT ON COLUMN verdicts.tenant IS 'Label of the trace.';
COMMENT ON COLUMN verdicts.join_source IS 'otel, datadog or native: how Datadog knows the span.';
COMMENT ON COLUMN verdicts.join_span_id IS 'The judged span, the root for a whole trace.';
COMMENT ON COLUMN verdicts.created_at IS 'When it was made.';

CREATE TABLE votes (
    verdict_id uuid NOT NULL,
    position integer NOT NULL,
    judge text NOT NULL,
    model text NOT NULL,
    score double precision CHECK (score BETWEEN 0 AND 1),
    body jsonb NOT NULL,
    PRIMARY KEY (verdict_id, position)
);
COMMENT ON TABLE votes IS 'What each judge of a panel said, with all that is needed to replay the combination.';
COMMENT ON COLUMN votes.verdict_id IS 'The verdict it counts towards.';
COMMENT ON COLUMN votes.position IS 'Its place in the panel.';
COMMENT ON COLUMN votes.judge IS 'The judge''s name.';
COMMENT ON COLUMN votes.model IS 'The model that answered.';
COMMENT ON COLUMN votes.score IS '0 to 1; null when the judge failed.';
COMMENT ON COLUMN votes.body IS 'domain::Vote: parameters, prompt hash, raw answer, tokens, cost, latency, error.';

CREATE TABLE outbox (
    id uuid PRIMARY KEY,
    sink text NOT NULL,
    verdict_id uuid NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    last_error text,
    lease_token uuid,
    visible_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    dead_at timestamptz
);
CREATE INDEX outbox_waiting ON outbox (sink, visible_at) WHERE dead_at IS NULL;
CREATE INDEX outbox_dead ON outbox (sink) WHERE dead_at IS NOT NULL;
COMMENT ON TABLE outbox IS 'Verdicts to be told to a sink; the row goes when the sink has it, and stays, dead, when the sink refuses it for good.';
COMMENT ON COLUMN outbox.id IS 'Hash of verdict and sink, the same at every try.';
COMMENT ON COLUMN outbox.sink IS 'The sink.';
COMMENT ON COLUMN outbox.verdict_id IS 'What to tell.';
COMMENT ON COLUMN outbox.attempts IS 'Deliveries tried.';
COMMENT ON COLUMN outbox.last_error IS 'Why the latest failed.';
COMMENT ON COLUMN outbox.lease_token IS 'Proves who is delivering it.';
COMMENT ON COLUMN outbox.visible_at IS 'When it may be delivered.';
COMMENT ON COLUMN outbox.created_at IS 'When the verdict was stored.';
COMMENT ON COLUMN outbox.dead_at IS 'When it was given up.';
