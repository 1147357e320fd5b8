-- Reopening: a trace whose spans or logs come late is assembled again, and what reads them is judged again.

ALTER TABLE verdicts ADD COLUMN IF NOT EXISTS superseded_at timestamptz;
ALTER TABLE verdicts ADD COLUMN supersedes uuid;
COMMENT ON COLUMN verdicts.superseded_at IS 'When another verdict took its place; null for the current one, which alone counts.';
COMMENT ON COLUMN verdicts.supersedes IS 'The verdict whose place it took, because its trace was judged again.';

ALTER TABLE jobs ADD COLUMN supersedes uuid;
COMMENT ON COLUMN jobs.supersedes IS 'The verdict whose place its verdict takes, where a trace is judged again.';

ALTER TABLE traces ADD COLUMN reopened_at timestamptz;
ALTER TABLE traces ADD COLUMN late_left_out integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN traces.reopened_at IS 'When it was judged again for what came late; that happens once.';
COMMENT ON COLUMN traces.late_left_out IS 'Of the late spans those that are not in the body: too late, too large, or the trace was not kept.';
