-- Honest sampling: steps of rates, what they were made from, what samplers before us said, and tallies of outcomes.

CREATE TABLE sampling_steps (
    policy text NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    rates jsonb NOT NULL,
    PRIMARY KEY (policy, starts_at)
);
CREATE INDEX sampling_steps_ended ON sampling_steps (ends_at);
COMMENT ON TABLE sampling_steps IS 'Rates and the time for which they held; all workers with the same sampling configuration use the same ones.';
COMMENT ON COLUMN sampling_steps.policy IS 'Hash of the sampling configuration and the budgets'' names.';
COMMENT ON COLUMN sampling_steps.starts_at IS 'When it was made; from counts of the time before.';
COMMENT ON COLUMN sampling_steps.ends_at IS 'When it ended, or will; another may begin later, when there is something to decide.';
COMMENT ON COLUMN sampling_steps.rates IS 'domain::step::Rates: what floors give, what ceilings leave, what is new no more, budgets near their end.';

CREATE TABLE sampling_counts (
    starts_at timestamptz NOT NULL,
    limit_name text NOT NULL,
    value text NOT NULL,
    seen double precision NOT NULL,
    floored double precision NOT NULL,
    wanted double precision NOT NULL,
    expected double precision NOT NULL,
    PRIMARY KEY (starts_at, limit_name, value)
);
COMMENT ON TABLE sampling_counts IS 'What traces came to under each floor and ceiling, a step; the next steps are made from the last hour of it.';
COMMENT ON COLUMN sampling_counts.starts_at IS 'Start of the step in which they were decided on.';
COMMENT ON COLUMN sampling_counts.limit_name IS 'The floor or ceiling.';
COMMENT ON COLUMN sampling_counts.value IS 'The value it is counted for; empty where the traces have none or all are counted together.';
COMMENT ON COLUMN sampling_counts.seen IS 'Traces decided on.';
COMMENT ON COLUMN sampling_counts.floored IS 'Sum of the rates that floors gave them.';
COMMENT ON COLUMN sampling_counts.wanted IS 'Sum of the rates that they would have had without ceilings.';
COMMENT ON COLUMN sampling_counts.expected IS 'Sum of the rates that they had.';

CREATE TABLE sampling_firsts (
    limit_name text NOT NULL,
    value text NOT NULL,
    seen bigint NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (limit_name, value)
);
COMMENT ON TABLE sampling_firsts IS 'How many traces each value has had, for boosts of the first ones; forgotten 90 days after the last.';
COMMENT ON COLUMN sampling_firsts.limit_name IS 'The boost.';
COMMENT ON COLUMN sampling_firsts.value IS 'The value, such as a prompt version.';
COMMENT ON COLUMN sampling_firsts.seen IS 'Traces decided on.';
COMMENT ON COLUMN sampling_firsts.last_at IS 'When the last was.';

ALTER TABLE traces ADD COLUMN upstream_probability double precision
    CHECK (upstream_probability > 0 AND upstream_probability <= 1);
ALTER TABLE traces ADD COLUMN step_at timestamptz;
ALTER TABLE traces ADD COLUMN sampling jsonb NOT NULL DEFAULT '{}';
ALTER TABLE traces ADD COLUMN stratum text;
COMMENT ON COLUMN traces.upstream_probability IS 'Probability with which samplers before us let it through, as they say; null where nothing is known.';
COMMENT ON COLUMN traces.step_at IS 'Start of the step whose rates were in force; null when nothing adapts.';
COMMENT ON COLUMN traces.sampling IS 'How the probability came about (domain::policy::RateParts), and who said the upstream one.';
COMMENT ON COLUMN traces.stratum IS 'Its stratum in the tallies of the hour of decided_at.';

ALTER TABLE tallies ADD COLUMN population double precision;
COMMENT ON COLUMN tallies.population IS 'How many traces there were before the samplers before us: sum of 1 / upstream_probability, 1 where nothing is known; null in rows from before it was counted.';

CREATE TABLE outcome_tallies (
    hour timestamptz NOT NULL,
    stratum text NOT NULL,
    rubric text NOT NULL,
    rubric_version text NOT NULL,
    outcome text NOT NULL,
    shard smallint NOT NULL,
    verdicts bigint NOT NULL,
    PRIMARY KEY (hour, stratum, rubric, rubric_version, outcome, shard)
);
COMMENT ON TABLE outcome_tallies IS 'What became of the kept traces of a stratum and hour, by rubric version: the rest of every denominator.';
COMMENT ON COLUMN outcome_tallies.hour IS 'Start of the hour in which the traces were decided, as in tallies.';
COMMENT ON COLUMN outcome_tallies.stratum IS 'As in tallies.';
COMMENT ON COLUMN outcome_tallies.rubric IS 'The rubric.';
COMMENT ON COLUMN outcome_tallies.rubric_version IS 'Its version.';
COMMENT ON COLUMN outcome_tallies.outcome IS 'As in verdicts.';
COMMENT ON COLUMN outcome_tallies.shard IS '0 to 15, so that workers do not wait for each other''s rows; sum over it.';
COMMENT ON COLUMN outcome_tallies.verdicts IS 'Verdicts stored.';
