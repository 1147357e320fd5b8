-- What people say about answers, and which answers they are asked about.

CREATE TABLE labels (
    id uuid PRIMARY KEY,
    slot uuid NOT NULL,
    trace_id text NOT NULL,
    span_id text,
    rubric text NOT NULL,
    rubric_version text,
    kind text NOT NULL CHECK (kind IN ('passed', 'score', 'category')),
    passed boolean NOT NULL,
    score double precision CHECK (score BETWEEN 0 AND 1),
    category text,
    source text NOT NULL,
    rank smallint NOT NULL,
    labeller text,
    comment text,
    made_at timestamptz NOT NULL,
    draw_probability double precision CHECK (draw_probability > 0 AND draw_probability <= 1),
    batch_id uuid,
    stored_at timestamptz NOT NULL,
    superseded_at timestamptz,
    CHECK ((kind = 'passed') = (score IS NULL)),
    CHECK ((kind = 'category') = (category IS NOT NULL))
);
CREATE UNIQUE INDEX labels_slot ON labels (slot) WHERE superseded_at IS NULL;
CREATE INDEX labels_rubric ON labels (rubric, trace_id) WHERE superseded_at IS NULL;
CREATE INDEX labels_trace ON labels (trace_id);
CREATE INDEX labels_made ON labels (made_at, id);
COMMENT ON TABLE labels IS 'What a person said about one trace and rubric; a later word of the same person supersedes the earlier one, which stays.';
COMMENT ON COLUMN labels.id IS 'Hash of the slot and of what was said, so that the same label twice is one row.';
COMMENT ON COLUMN labels.slot IS 'Hash of trace, span, rubric, source and labeller: one current label each.';
COMMENT ON COLUMN labels.trace_id IS 'The trace; it may come later, or never.';
COMMENT ON COLUMN labels.span_id IS 'The span, where the label is about one.';
COMMENT ON COLUMN labels.rubric IS 'By which rubric.';
COMMENT ON COLUMN labels.rubric_version IS 'The version that the labeller had before them, where it is known.';
COMMENT ON COLUMN labels.kind IS 'What was said: whether it passes, a score, or one of the rubric''s labels.';
COMMENT ON COLUMN labels.passed IS 'Whether it passes; for a score or category by the pass mark in force when it was stored.';
COMMENT ON COLUMN labels.score IS '0 to 1, 1 is good; null where only pass or fail was said.';
COMMENT ON COLUMN labels.category IS 'The label, of category rubrics.';
COMMENT ON COLUMN labels.source IS 'expert, annotator or user_feedback.';
COMMENT ON COLUMN labels.rank IS 'The source''s rank: 3, 2, 1; the higher one counts.';
COMMENT ON COLUMN labels.labeller IS 'Who, as a name or a hash; all without a name are one.';
COMMENT ON COLUMN labels.comment IS 'Why, or the correction; never shown outside the database and the forms for labelling.';
COMMENT ON COLUMN labels.made_at IS 'When it was said.';
COMMENT ON COLUMN labels.draw_probability IS 'Probability with which the judged trace was chosen for labelling, as its sender says; null where the queue knows it, or where it was not drawn.';
COMMENT ON COLUMN labels.batch_id IS 'The batch of the queue that it answers, where it came through a form.';
COMMENT ON COLUMN labels.stored_at IS 'When it was first stored.';
COMMENT ON COLUMN labels.superseded_at IS 'When a later label took its place; null for the current one.';

CREATE TABLE label_batches (
    id uuid PRIMARY KEY,
    rubric text NOT NULL,
    rubric_version text NOT NULL,
    since timestamptz NOT NULL,
    until timestamptz NOT NULL,
    population bigint NOT NULL,
    wanted integer NOT NULL,
    made_at timestamptz NOT NULL
);
CREATE INDEX label_batches_rubric ON label_batches (rubric, made_at);
COMMENT ON TABLE label_batches IS 'A drawing of traces for people to label: each is a probability sample by itself.';
COMMENT ON COLUMN label_batches.id IS 'The batch.';
COMMENT ON COLUMN label_batches.rubric IS 'The rubric.';
COMMENT ON COLUMN label_batches.rubric_version IS 'The version whose scored verdicts were drawn from.';
COMMENT ON COLUMN label_batches.since IS 'Verdicts from this time on.';
COMMENT ON COLUMN label_batches.until IS 'Verdicts before this time.';
COMMENT ON COLUMN label_batches.population IS 'How many traces were drawn from.';
COMMENT ON COLUMN label_batches.wanted IS 'How many were wanted; the draw gives about as many.';
COMMENT ON COLUMN label_batches.made_at IS 'When it was drawn.';

CREATE TABLE label_queue (
    batch_id uuid NOT NULL,
    trace_id text NOT NULL,
    rubric text NOT NULL,
    stratum text NOT NULL,
    draw double precision NOT NULL,
    probability double precision NOT NULL CHECK (probability > 0 AND probability <= 1),
    skipped_at timestamptz,
    PRIMARY KEY (batch_id, trace_id),
    CHECK (draw < probability)
);
CREATE INDEX label_queue_rubric ON label_queue (rubric, trace_id);
COMMENT ON TABLE label_queue IS 'Traces drawn for labelling; done once a person has labelled or skipped them.';
COMMENT ON COLUMN label_queue.batch_id IS 'The batch.';
COMMENT ON COLUMN label_queue.trace_id IS 'The trace.';
COMMENT ON COLUMN label_queue.rubric IS 'The batch''s rubric.';
COMMENT ON COLUMN label_queue.stratum IS 'Feature and range of the score that it was drawn from.';
COMMENT ON COLUMN label_queue.draw IS 'Hash of the trace as a number from 0 to 1: drawn because it is below the probability.';
COMMENT ON COLUMN label_queue.probability IS 'Probability with which it was to be drawn, given that it was judged.';
COMMENT ON COLUMN label_queue.skipped_at IS 'When a person said that they cannot tell.';
