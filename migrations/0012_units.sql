-- Spans and sessions as units of judging, and judging again what is stored.

ALTER TABLE verdicts ADD COLUMN IF NOT EXISTS superseded_at timestamptz;
COMMENT ON COLUMN verdicts.superseded_at IS 'Since when another verdict stands in its place; null for the one that counts.';
ALTER TABLE verdicts ADD COLUMN session text;
ALTER TABLE verdicts ADD COLUMN session_id uuid;
ALTER TABLE verdicts ADD COLUMN session_ordinal integer;
COMMENT ON COLUMN verdicts.session IS 'The session as the application calls it, for rubrics that judge sessions; trace_id is then its latest trace.';
COMMENT ON COLUMN verdicts.session_id IS 'Its row in sessions.';
COMMENT ON COLUMN verdicts.session_ordinal IS 'Which of its judgings it is, from 1.';
CREATE INDEX verdicts_session ON verdicts (session_id, rubric) WHERE session_id IS NOT NULL;

ALTER TABLE jobs ADD COLUMN span_id text;
ALTER TABLE jobs ADD COLUMN session text;
ALTER TABLE jobs ADD COLUMN session_id uuid;
ALTER TABLE jobs ADD COLUMN session_ordinal integer;
ALTER TABLE jobs ADD COLUMN replay boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN jobs.span_id IS 'The span to judge, for rubrics that judge spans.';
COMMENT ON COLUMN jobs.session IS 'The session to judge, for rubrics that judge sessions; trace_id is then its latest trace.';
COMMENT ON COLUMN jobs.session_id IS 'Its row in sessions.';
COMMENT ON COLUMN jobs.session_ordinal IS 'Which of its judgings it is, from 1.';
COMMENT ON COLUMN jobs.replay IS 'Judged again beside what was judged live: claimed only when nothing else waits, and its verdict goes to replay_verdicts.';
-- What is fresh is found without a look at what is replayed, however much that is.
DROP INDEX jobs_visible;
CREATE INDEX jobs_fresh ON jobs (visible_at) WHERE NOT replay;
CREATE INDEX jobs_replay ON jobs (visible_at) WHERE replay;
CREATE INDEX jobs_session ON jobs (session_id) WHERE session_id IS NOT NULL;

CREATE TABLE sessions (
    id uuid PRIMARY KEY,
    session text NOT NULL,
    service text,
    tenant text,
    labels jsonb NOT NULL,
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    ordinal integer NOT NULL DEFAULT 0,
    open_since timestamptz,
    due_at timestamptz
);
CREATE INDEX sessions_due ON sessions (due_at) WHERE due_at IS NOT NULL;
COMMENT ON TABLE sessions IS 'Sessions of which a trace was decided on: traces with the same session id, service and tenant.';
COMMENT ON COLUMN sessions.id IS 'Hash of service, tenant and the session''s id.';
COMMENT ON COLUMN sessions.session IS 'Its id, as the application sends it.';
COMMENT ON COLUMN sessions.service IS 'The service.';
COMMENT ON COLUMN sessions.tenant IS 'The tenant.';
COMMENT ON COLUMN sessions.labels IS 'domain::TraceLabels of the trace that was decided on last.';
COMMENT ON COLUMN sessions.first_seen_at IS 'When its first trace was decided on.';
COMMENT ON COLUMN sessions.last_seen_at IS 'When its latest trace was decided on; quiet time counts from here.';
COMMENT ON COLUMN sessions.ordinal IS 'How often it has been taken to be judged.';
COMMENT ON COLUMN sessions.open_since IS 'When the first trace came that no judging covers; null when all are covered.';
COMMENT ON COLUMN sessions.due_at IS 'When it is to be judged; null when nothing new has come since.';

CREATE TABLE session_traces (
    session_id uuid NOT NULL,
    trace_id text NOT NULL,
    started_at timestamptz NOT NULL,
    decided_at timestamptz NOT NULL,
    kept boolean NOT NULL,
    rule text NOT NULL,
    probability double precision NOT NULL,
    randomness bigint NOT NULL,
    threshold bigint NOT NULL,
    randomness_source text NOT NULL,
    PRIMARY KEY (session_id, trace_id)
);
COMMENT ON TABLE session_traces IS 'The traces of a session and what sampling decided, those it left out included: of these nothing else is stored.';
COMMENT ON COLUMN session_traces.session_id IS 'The session.';
COMMENT ON COLUMN session_traces.trace_id IS 'The trace.';
COMMENT ON COLUMN session_traces.started_at IS 'When it began, or was decided on where it does not say; the order of turns.';
COMMENT ON COLUMN session_traces.decided_at IS 'When it was decided on; a judging covers what was decided on before it.';
COMMENT ON COLUMN session_traces.kept IS 'Whether its body is stored.';
COMMENT ON COLUMN session_traces.rule IS 'The sampling rule that decided.';
COMMENT ON COLUMN session_traces.probability IS 'Probability with which it was to be kept.';
COMMENT ON COLUMN session_traces.randomness IS 'The 56 random bits; those of the session where it draws as a whole.';
COMMENT ON COLUMN session_traces.threshold IS 'It is kept at or above.';
COMMENT ON COLUMN session_traces.randomness_source IS 'Where the bits are from: session, where all its traces share them.';

CREATE TABLE replay_verdicts (
    id uuid PRIMARY KEY,
    trace_id text NOT NULL,
    span_id text,
    session_id uuid,
    rubric text NOT NULL,
    rubric_version text NOT NULL,
    outcome text NOT NULL,
    score double precision,
    passed boolean,
    label text,
    inclusion_probability double precision NOT NULL,
    cost_usd double precision NOT NULL,
    created_at timestamptz NOT NULL,
    body jsonb NOT NULL
);
CREATE INDEX replay_verdicts_rubric ON replay_verdicts (rubric, rubric_version, trace_id);
COMMENT ON TABLE replay_verdicts IS 'What a rubric version says of stored units when it judges them again; apart from verdicts, so that no series, alert or sink ever counts it.';
COMMENT ON COLUMN replay_verdicts.id IS 'Hash of the id that the live verdict of this unit and version would have.';
COMMENT ON COLUMN replay_verdicts.trace_id IS 'The trace; of a session, its latest.';
COMMENT ON COLUMN replay_verdicts.span_id IS 'The span, for rubrics that judge spans.';
COMMENT ON COLUMN replay_verdicts.session_id IS 'The session, for rubrics that judge sessions.';
COMMENT ON COLUMN replay_verdicts.rubric IS 'The rubric.';
COMMENT ON COLUMN replay_verdicts.rubric_version IS 'The version that judged again.';
COMMENT ON COLUMN replay_verdicts.outcome IS 'How it ended.';
COMMENT ON COLUMN replay_verdicts.score IS '0 to 1, 1 is good.';
COMMENT ON COLUMN replay_verdicts.passed IS 'Whether the pass rule is met.';
COMMENT ON COLUMN replay_verdicts.label IS 'The label, for boolean and category rubrics.';
COMMENT ON COLUMN replay_verdicts.inclusion_probability IS 'Probability with which the unit was kept and drawn for this.';
COMMENT ON COLUMN replay_verdicts.cost_usd IS 'Cost of all votes.';
COMMENT ON COLUMN replay_verdicts.created_at IS 'When it was made.';
COMMENT ON COLUMN replay_verdicts.body IS 'domain::Verdict whole, votes included.';

COMMENT ON COLUMN rubric_versions.first_seen_at IS 'When a worker first loaded it; the epoch where it has only judged stored traces again.';
