-- Watching: every verdict is counted once into its stream, in the order in which transactions ended.

ALTER TABLE verdicts ADD COLUMN tx bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint);
CREATE INDEX verdicts_tx ON verdicts (tx, id);
COMMENT ON COLUMN verdicts.tx IS 'The transaction that stored it: whoever reads on from here misses none that was stored late.';

CREATE TABLE watch_cursor (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    tx bigint NOT NULL,
    id uuid NOT NULL,
    holder uuid,
    held_until timestamptz
);
INSERT INTO watch_cursor (tx, id) VALUES (0, '00000000-0000-0000-0000-000000000000');
COMMENT ON TABLE watch_cursor IS 'The one process that watches, and the last verdict that it has counted; moved in the transaction that stores the streams.';
COMMENT ON COLUMN watch_cursor.single IS 'There is one row.';
COMMENT ON COLUMN watch_cursor.tx IS 'Transaction of the last verdict counted.';
COMMENT ON COLUMN watch_cursor.id IS 'That verdict.';
COMMENT ON COLUMN watch_cursor.holder IS 'The process that watches.';
COMMENT ON COLUMN watch_cursor.held_until IS 'Until when it does; then another may.';

CREATE TABLE watch_streams (
    id text PRIMARY KEY,
    rubric text NOT NULL,
    rubric_version text NOT NULL,
    stream jsonb NOT NULL,
    state bytea NOT NULL,
    updated_at timestamptz NOT NULL
);
COMMENT ON TABLE watch_streams IS 'One row a watched stream: a rubric version in one slice of the traffic.';
COMMENT ON COLUMN watch_streams.id IS 'Hash of rubric, version and slice.';
COMMENT ON COLUMN watch_streams.rubric IS 'The rubric.';
COMMENT ON COLUMN watch_streams.rubric_version IS 'Its version; another one is another stream.';
COMMENT ON COLUMN watch_streams.stream IS 'The slice: feature, environment and what the rubric''s alert.by adds.';
COMMENT ON COLUMN watch_streams.state IS 'Counters and evidence: JSON, compressed with zstd.';
COMMENT ON COLUMN watch_streams.updated_at IS 'When it was stored.';
