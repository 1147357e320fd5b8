-- Drift canaries: stored units that a rubric's judges judge again, so that a judge that moved is not taken for an application that did.

ALTER TABLE jobs ADD COLUMN canary boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN jobs.canary IS 'A replay that asks whether judges still say the same: no vote of it comes from the cache or goes into it.';
ALTER TABLE replay_verdicts ADD COLUMN canary boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN replay_verdicts.canary IS 'Made by a run of drift canaries; no part of what a replay shows.';

CREATE TABLE drift_runs (
    id uuid PRIMARY KEY,
    rubric text NOT NULL,
    rubric_version text NOT NULL,
    number integer NOT NULL,
    why text NOT NULL CHECK (why IN ('first', 'scheduled', 'judge_changed', 'alert')),
    judges jsonb NOT NULL,
    usd_max double precision NOT NULL,
    started_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    ended_at timestamptz,
    usd double precision,
    result jsonb,
    UNIQUE (rubric, rubric_version, number)
);
CREATE INDEX drift_runs_started ON drift_runs (started_at);
COMMENT ON TABLE drift_runs IS 'One judging again of a rubric version''s drift canaries, and what it says about its judges.';
COMMENT ON COLUMN drift_runs.id IS 'Hash of rubric, version and number.';
COMMENT ON COLUMN drift_runs.rubric IS 'The rubric.';
COMMENT ON COLUMN drift_runs.rubric_version IS 'Its version; another one begins anew.';
COMMENT ON COLUMN drift_runs.number IS 'From 1 on.';
COMMENT ON COLUMN drift_runs.why IS 'first, scheduled, judge_changed (configuration, endpoint or the model that answers), or alert: an alert of the rubric asks whether it was the judge.';
COMMENT ON COLUMN drift_runs.judges IS 'domain::drift::Marks: of each judge a hash of its configuration, the models that have answered for it so far, what it is compared with, and whether a person made this run the new normal.';
COMMENT ON COLUMN drift_runs.usd_max IS 'What it may cost, in US dollars.';
COMMENT ON COLUMN drift_runs.started_at IS 'When its jobs were made.';
COMMENT ON COLUMN drift_runs.due_at IS 'When it ends with what there is.';
COMMENT ON COLUMN drift_runs.ended_at IS 'When it was compared; null before.';
COMMENT ON COLUMN drift_runs.usd IS 'What it cost, in US dollars; null before it ended.';
COMMENT ON COLUMN drift_runs.result IS 'domain::drift::Compared: of each judge what changed and the evidence; quotes judges'' reasons.';

CREATE TABLE drift_canaries (
    run_id uuid NOT NULL REFERENCES drift_runs (id) ON DELETE CASCADE,
    verdict_id uuid NOT NULL,
    job_id uuid NOT NULL,
    reference_id uuid,
    PRIMARY KEY (run_id, verdict_id)
);
COMMENT ON TABLE drift_canaries IS 'A unit that a run judges again.';
COMMENT ON COLUMN drift_canaries.run_id IS 'The run.';
COMMENT ON COLUMN drift_canaries.verdict_id IS 'The live verdict of the unit, which names it.';
COMMENT ON COLUMN drift_canaries.job_id IS 'The job, and its verdict in replay_verdicts.';
COMMENT ON COLUMN drift_canaries.reference_id IS 'The verdict that it is compared with: the live one, or that of an earlier run. Null: this run makes it.';
