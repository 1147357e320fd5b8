-- Judging under limits and budgets: panels that stop early, shares of limits, spend, pauses, batches.

ALTER TABLE verdicts ADD COLUMN disagreement double precision CHECK (disagreement BETWEEN 0 AND 1);
ALTER TABLE verdicts ADD COLUMN detail jsonb NOT NULL DEFAULT '{}';
COMMENT ON COLUMN verdicts.disagreement IS 'Mean distance between two votes, 0 to 1; null with fewer than two.';
COMMENT ON COLUMN verdicts.detail IS 'How the panel was asked: why it stopped, what was left out, which budget was spent.';

CREATE TABLE panel_models (
    rubric text NOT NULL,
    rubric_version text NOT NULL,
    model jsonb NOT NULL,
    fitted_at timestamptz NOT NULL,
    PRIMARY KEY (rubric, rubric_version)
);
COMMENT ON TABLE panel_models IS 'What human labels have taught about the judges of a rubric version: weights, and how sure the first few votes are.';
COMMENT ON COLUMN panel_models.rubric IS 'The rubric.';
COMMENT ON COLUMN panel_models.rubric_version IS 'The version whose votes it was fitted on; it is used for no other.';
COMMENT ON COLUMN panel_models.model IS 'domain::panel::PanelModel.';
COMMENT ON COLUMN panel_models.fitted_at IS 'When it was fitted.';

CREATE TABLE limit_shares (
    endpoint text NOT NULL,
    model text NOT NULL,
    worker uuid NOT NULL,
    wanted double precision NOT NULL,
    until timestamptz NOT NULL,
    PRIMARY KEY (endpoint, model, worker)
);
COMMENT ON TABLE limit_shares IS 'The live workers that share the limit of an endpoint and model; a dead one''s share is free when its row runs out.';
COMMENT ON COLUMN limit_shares.endpoint IS 'Base URL of the API, without user or password.';
COMMENT ON COLUMN limit_shares.model IS 'The model as it is asked for.';
COMMENT ON COLUMN limit_shares.worker IS 'The worker process, by the id it gave itself at start.';
COMMENT ON COLUMN limit_shares.wanted IS 'Requests a second that it would send, as of late.';
COMMENT ON COLUMN limit_shares.until IS 'Until when it is taken to be alive.';

CREATE TABLE budget_spend (
    budget text NOT NULL,
    subject text NOT NULL,
    period text NOT NULL CHECK (period IN ('hour', 'day')),
    starts_at timestamptz NOT NULL,
    usd double precision NOT NULL,
    tokens bigint NOT NULL,
    PRIMARY KEY (budget, subject, period, starts_at)
);
COMMENT ON TABLE budget_spend IS 'What each budget has spent or reserved in an hour and a day.';
COMMENT ON COLUMN budget_spend.budget IS 'The budget''s name in the configuration.';
COMMENT ON COLUMN budget_spend.subject IS 'The rubric, feature or tenant that it is counted for; empty for a budget over everything.';
COMMENT ON COLUMN budget_spend.period IS 'hour or day.';
COMMENT ON COLUMN budget_spend.starts_at IS 'Start of the hour or day, in UTC.';
COMMENT ON COLUMN budget_spend.usd IS 'US dollars spent, and reserved by workers for calls under way.';
COMMENT ON COLUMN budget_spend.tokens IS 'Tokens likewise.';

CREATE TABLE pauses (
    kind text NOT NULL CHECK (kind IN ('judge', 'queue')),
    name text NOT NULL,
    reason text NOT NULL,
    by_person boolean NOT NULL,
    since timestamptz NOT NULL,
    probe_at timestamptz,
    PRIMARY KEY (kind, name)
);
COMMENT ON TABLE pauses IS 'Judges that are not asked and queues that are not worked on, with the reason.';
COMMENT ON COLUMN pauses.kind IS 'judge or queue.';
COMMENT ON COLUMN pauses.name IS 'The judge''s name; `all` for the queue.';
COMMENT ON COLUMN pauses.reason IS 'Why, in our own words.';
COMMENT ON COLUMN pauses.by_person IS 'Whether a person paused it; then only a person resumes it.';
COMMENT ON COLUMN pauses.since IS 'Since when.';
COMMENT ON COLUMN pauses.probe_at IS 'When one request may try whether the reason has gone.';

CREATE TABLE batches (
    id text NOT NULL,
    endpoint text NOT NULL,
    judge text NOT NULL,
    status text NOT NULL,
    requests integer NOT NULL,
    created_at timestamptz NOT NULL,
    poll_at timestamptz NOT NULL,
    deadline_at timestamptz NOT NULL,
    PRIMARY KEY (endpoint, id)
);
COMMENT ON TABLE batches IS 'Batches handed to providers and not collected yet.';
COMMENT ON COLUMN batches.id IS 'The provider''s id.';
COMMENT ON COLUMN batches.endpoint IS 'Base URL of the API, without user or password.';
COMMENT ON COLUMN batches.judge IS 'The judge that is asked.';
COMMENT ON COLUMN batches.status IS 'As the provider last said.';
COMMENT ON COLUMN batches.requests IS 'Requests in it.';
COMMENT ON COLUMN batches.created_at IS 'When it was handed over.';
COMMENT ON COLUMN batches.poll_at IS 'When it is looked at next; also the lease of the worker that looks.';
COMMENT ON COLUMN batches.deadline_at IS 'After this its requests are asked directly.';

CREATE TABLE batch_items (
    job_id uuid NOT NULL,
    judge text NOT NULL,
    endpoint text NOT NULL,
    batch_id text,
    body jsonb NOT NULL,
    reply jsonb,
    created_at timestamptz NOT NULL,
    deadline_at timestamptz NOT NULL,
    PRIMARY KEY (job_id, judge)
);
CREATE INDEX batch_items_waiting ON batch_items (judge, created_at) WHERE batch_id IS NULL;
CREATE INDEX batch_items_batch ON batch_items (endpoint, batch_id);
COMMENT ON TABLE batch_items IS 'Questions that wait for a provider''s batch, and the replies until the job takes them.';
COMMENT ON COLUMN batch_items.job_id IS 'The job.';
COMMENT ON COLUMN batch_items.judge IS 'The judge.';
COMMENT ON COLUMN batch_items.endpoint IS 'Base URL of the API, without user or password.';
COMMENT ON COLUMN batch_items.batch_id IS 'The batch it is in; null while it waits for one.';
COMMENT ON COLUMN batch_items.body IS 'The chat completion request.';
COMMENT ON COLUMN batch_items.reply IS 'Status and body of the reply, once there.';
COMMENT ON COLUMN batch_items.created_at IS 'When it was asked for.';
COMMENT ON COLUMN batch_items.deadline_at IS 'After this it is asked directly.';
