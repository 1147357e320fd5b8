-- Partitions by time, so that retention drops whole tables: weeks of verdicts and their votes, days of the bodies of traces.
--
-- What is there becomes one partition of each, from the beginning to the end of the day of its newest row (the rest of that week gets one of its own); rows of verdicts and
-- bodies stay where they are, votes and the small part of traces are copied once. Days from then on are made by
-- `store::partitions`; what fits into none goes into the default partition, so that an insert never fails for want of one.

-- An event knows when its verdict was made, so that it is found in one partition.
ALTER TABLE outbox ADD COLUMN verdict_at timestamptz;
UPDATE outbox o SET verdict_at = coalesce((SELECT v.created_at FROM verdicts v WHERE v.id = o.verdict_id), o.created_at);
ALTER TABLE outbox ALTER COLUMN verdict_at SET NOT NULL;
COMMENT ON COLUMN outbox.verdict_at IS 'When that verdict was made: says in which partition it is.';

ALTER TABLE verdicts RENAME TO verdicts_before;
ALTER TABLE verdicts_before RENAME CONSTRAINT verdicts_pkey TO verdicts_before_pkey;
ALTER INDEX verdicts_trace RENAME TO verdicts_before_trace;
ALTER INDEX verdicts_created RENAME TO verdicts_before_created;
ALTER INDEX verdicts_tx RENAME TO verdicts_before_tx;
ALTER INDEX verdicts_session RENAME TO verdicts_before_session;
CREATE TABLE verdicts (
    LIKE verdicts_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS,
    PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);
CREATE INDEX verdicts_trace ON verdicts (trace_id);
CREATE INDEX verdicts_created ON verdicts (created_at);
CREATE INDEX verdicts_tx ON verdicts (tx, id);
CREATE INDEX verdicts_session ON verdicts (session_id, rubric) WHERE session_id IS NOT NULL;
CREATE TABLE verdicts_default PARTITION OF verdicts DEFAULT;
COMMENT ON TABLE verdicts IS 'One row a trace, rubric and rubric version: what was found, or why nothing was. Partitioned by week of created_at. That an id is there once follows from its job, which goes in the transaction that stores it.';
COMMENT ON TABLE verdicts_default IS 'Verdicts of weeks that have no partition; upkeep makes it and moves them.';

ALTER TABLE votes RENAME TO votes_old;
ALTER TABLE votes_old RENAME CONSTRAINT votes_pkey TO votes_old_pkey;
CREATE TABLE votes (
    LIKE votes_old INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (verdict_id, position, created_at)
) PARTITION BY RANGE (created_at);
CREATE TABLE votes_default PARTITION OF votes DEFAULT;
COMMENT ON TABLE votes IS 'What each judge of a panel said, with all that is needed to replay the combination. Partitioned as verdicts.';
COMMENT ON COLUMN votes.created_at IS 'That of the verdict, so that both go at the same time.';
COMMENT ON TABLE votes_default IS 'Votes of weeks that have no partition; upkeep makes it and moves them.';

DO $$
DECLARE
    ends timestamptz := (SELECT date_trunc('day', max(created_at), 'UTC') + interval '24 hours' FROM verdicts_before);
BEGIN
    IF ends IS NULL THEN
        DROP TABLE verdicts_before;
    ELSE
        ALTER TABLE verdicts_before DROP CONSTRAINT verdicts_before_pkey;
        ALTER TABLE verdicts_before ADD CONSTRAINT verdicts_before_pkey PRIMARY KEY (id, created_at);
        EXECUTE format('CREATE TABLE votes_before PARTITION OF votes FOR VALUES FROM (MINVALUE) TO (%L)', ends);
        INSERT INTO votes_before (verdict_id, position, judge, model, score, body, created_at)
            SELECT o.verdict_id, o.position, o.judge, o.model, o.score, o.body, v.created_at
            FROM votes_old o JOIN verdicts_before v ON v.id = o.verdict_id;
        EXECUTE format('ALTER TABLE verdicts ATTACH PARTITION verdicts_before FOR VALUES FROM (MINVALUE) TO (%L)', ends);
    END IF;
    DROP TABLE votes_old;
END $$;

-- The large part of a trace is apart from the decision on it, which is looked up by every late span and verdict.
ALTER TABLE traces RENAME TO trace_bodies_before;
ALTER TABLE trace_bodies_before RENAME CONSTRAINT traces_pkey TO trace_bodies_before_pkey;
ALTER INDEX traces_decided RENAME TO trace_bodies_before_decided;
CREATE TABLE traces (
    LIKE trace_bodies_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS,
    PRIMARY KEY (trace_id)
);
ALTER TABLE traces DROP COLUMN body;
ALTER TABLE traces ADD COLUMN body_bytes integer;
INSERT INTO traces (trace_id, decided_at, kept, rule, probability, randomness, threshold, randomness_source, span_count,
                    late_spans, reopened_at, late_left_out, upstream_probability, step_at, sampling, stratum, body_bytes)
    SELECT trace_id, decided_at, kept, rule, probability, randomness, threshold, randomness_source, span_count,
           late_spans, reopened_at, late_left_out, upstream_probability, step_at, sampling, stratum, octet_length(body)
    FROM trace_bodies_before;
ALTER TABLE traces ADD CONSTRAINT traces_kept_have_bodies CHECK (kept = (body_bytes IS NOT NULL));
CREATE INDEX traces_kept ON traces (decided_at) WHERE kept;
-- They go after a day; among the others, which stay for months, they would be looked for in vain.
CREATE INDEX traces_left_out ON traces (decided_at) WHERE NOT kept;
COMMENT ON TABLE traces IS 'Every assembled trace and what sampling decided. Rows of traces left out go after a day, the others when their verdicts and their bodies have gone; the tallies stay.';
COMMENT ON COLUMN traces.body_bytes IS 'Size of the body as it was stored; null when the trace was left out. The body itself goes earlier than this row.';

CREATE TABLE trace_bodies (
    trace_id text NOT NULL,
    decided_at timestamptz NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (trace_id, decided_at)
) PARTITION BY RANGE (decided_at);
CREATE TABLE trace_bodies_default PARTITION OF trace_bodies DEFAULT;
COMMENT ON TABLE trace_bodies IS 'Kept traces, whole. Partitioned by day of decided_at, which is that of its row in traces.';
COMMENT ON COLUMN trace_bodies.trace_id IS 'The trace.';
COMMENT ON COLUMN trace_bodies.decided_at IS 'When it was decided on, as in traces.';
COMMENT ON COLUMN trace_bodies.body IS 'domain::Trace as JSON.';
COMMENT ON TABLE trace_bodies_default IS 'Bodies of days that have no partition; upkeep makes it and moves them.';

DO $$
DECLARE
    ends timestamptz;
BEGIN
    DELETE FROM trace_bodies_before WHERE body IS NULL;
    ends := (SELECT date_trunc('day', max(decided_at), 'UTC') + interval '24 hours' FROM trace_bodies_before);
    IF ends IS NULL THEN
        DROP TABLE trace_bodies_before;
    ELSE
        DROP INDEX trace_bodies_before_decided;
        ALTER TABLE trace_bodies_before
            DROP COLUMN kept, DROP COLUMN rule, DROP COLUMN probability, DROP COLUMN randomness, DROP COLUMN threshold,
            DROP COLUMN randomness_source, DROP COLUMN span_count, DROP COLUMN late_spans, DROP COLUMN reopened_at,
            DROP COLUMN late_left_out, DROP COLUMN upstream_probability, DROP COLUMN step_at, DROP COLUMN sampling,
            DROP COLUMN stratum, ALTER COLUMN body SET NOT NULL, DROP CONSTRAINT trace_bodies_before_pkey,
            ADD CONSTRAINT trace_bodies_before_pkey PRIMARY KEY (trace_id, decided_at);
        EXECUTE format('ALTER TABLE trace_bodies ATTACH PARTITION trace_bodies_before FOR VALUES FROM (MINVALUE) TO (%L)', ends);
    END IF;
END $$;

-- What goes row by row, by its time.
CREATE INDEX sessions_last_seen ON sessions (last_seen_at);
CREATE INDEX replay_verdicts_created ON replay_verdicts (created_at) WHERE NOT canary;
