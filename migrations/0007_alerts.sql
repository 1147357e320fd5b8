-- Alerts as incidents with a life, what is to be told about them, and deployments.

CREATE TABLE alerts (
    id uuid PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('open', 'acknowledged', 'resolved')),
    severity text NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    opened_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    resolved_at timestamptz,
    CHECK ((state = 'resolved') = (resolved_at IS NOT NULL))
);
CREATE INDEX alerts_unresolved ON alerts (opened_at) WHERE state <> 'resolved';
CREATE INDEX alerts_opened ON alerts (opened_at, id);
COMMENT ON TABLE alerts IS 'Incidents: one a cause, with the findings of every stream that it shows in.';
COMMENT ON COLUMN alerts.id IS 'Hash of the finding that opened it.';
COMMENT ON COLUMN alerts.state IS 'open, acknowledged or resolved; a resolved alert is never opened again.';
COMMENT ON COLUMN alerts.severity IS 'The highest of its findings so far; it never falls.';
COMMENT ON COLUMN alerts.opened_at IS 'When it was opened.';
COMMENT ON COLUMN alerts.updated_at IS 'When a finding or the state last changed.';
COMMENT ON COLUMN alerts.resolved_at IS 'When it was resolved; null before.';

CREATE TABLE alert_findings (
    alert_id uuid NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
    fingerprint text NOT NULL,
    rubric text,
    finding jsonb NOT NULL,
    first_found_at timestamptz NOT NULL,
    last_found_at timestamptz NOT NULL,
    recovered_at timestamptz,
    PRIMARY KEY (alert_id, fingerprint)
);
CREATE INDEX alert_findings_fingerprint ON alert_findings (fingerprint);
COMMENT ON TABLE alert_findings IS 'What a detector found in one stream, under the alert that it belongs to.';
COMMENT ON COLUMN alert_findings.alert_id IS 'The alert.';
COMMENT ON COLUMN alert_findings.fingerprint IS 'Hash of detector, measure, rubric, stream and version: the same trouble has the same one.';
COMMENT ON COLUMN alert_findings.rubric IS 'The rubric, where there is one.';
COMMENT ON COLUMN alert_findings.finding IS 'domain::alert::Finding, as last found; its examples may quote judges'' reasons.';
COMMENT ON COLUMN alert_findings.first_found_at IS 'When it was first found.';
COMMENT ON COLUMN alert_findings.last_found_at IS 'When it was last found; older findings change nothing.';
COMMENT ON COLUMN alert_findings.recovered_at IS 'When its detector said that the trouble is over; null while it is not.';

CREATE TABLE alert_changes (
    alert_id uuid NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
    number integer NOT NULL,
    kind text NOT NULL CHECK (kind IN ('opened', 'joined', 'escalated', 'repeated', 'acknowledged', 'resolved')),
    severity text NOT NULL,
    at timestamptz NOT NULL,
    by_whom text,
    why text,
    PRIMARY KEY (alert_id, number)
);
COMMENT ON TABLE alert_changes IS 'The life of an alert: every change, in order.';
COMMENT ON COLUMN alert_changes.alert_id IS 'The alert.';
COMMENT ON COLUMN alert_changes.number IS 'From 1 on, in order.';
COMMENT ON COLUMN alert_changes.kind IS 'What changed.';
COMMENT ON COLUMN alert_changes.severity IS 'The alert''s severity from then on.';
COMMENT ON COLUMN alert_changes.at IS 'When.';
COMMENT ON COLUMN alert_changes.by_whom IS 'The person who did it, as they call themselves; null = the detectors.';
COMMENT ON COLUMN alert_changes.why IS 'Why, in their words.';

CREATE TABLE alert_deliveries (
    id uuid PRIMARY KEY,
    alert_id uuid NOT NULL,
    change_number integer NOT NULL,
    channel text NOT NULL,
    created_at timestamptz NOT NULL,
    visible_at timestamptz,
    lease_token uuid,
    attempts integer NOT NULL DEFAULT 0,
    last_error text,
    delivered_at timestamptz,
    dead_at timestamptz,
    UNIQUE (alert_id, channel, change_number),
    FOREIGN KEY (alert_id, change_number) REFERENCES alert_changes (alert_id, number) ON DELETE CASCADE
);
CREATE INDEX alert_deliveries_visible ON alert_deliveries (channel, visible_at) WHERE visible_at IS NOT NULL;
COMMENT ON TABLE alert_deliveries IS 'A change of an alert to be told to one channel; made in the transaction that makes the change.';
COMMENT ON COLUMN alert_deliveries.id IS 'Hash of alert, change and channel; goes into the payload, so that a receiver can tell a repetition.';
COMMENT ON COLUMN alert_deliveries.alert_id IS 'The alert.';
COMMENT ON COLUMN alert_deliveries.change_number IS 'The change.';
COMMENT ON COLUMN alert_deliveries.channel IS 'The channel''s name in the configuration.';
COMMENT ON COLUMN alert_deliveries.created_at IS 'When it was made.';
COMMENT ON COLUMN alert_deliveries.visible_at IS 'When it is to be sent (again); also the lease of the process that sends; null = no more.';
COMMENT ON COLUMN alert_deliveries.lease_token IS 'Whose lease it is.';
COMMENT ON COLUMN alert_deliveries.attempts IS 'Attempts since it was made, delivered or redriven.';
COMMENT ON COLUMN alert_deliveries.last_error IS 'Why the last attempt failed; null after one that did not.';
COMMENT ON COLUMN alert_deliveries.delivered_at IS 'When the channel first took it.';
COMMENT ON COLUMN alert_deliveries.dead_at IS 'When it was given up.';

CREATE TABLE deployments (
    id uuid PRIMARY KEY,
    what text NOT NULL CHECK (what IN ('service', 'prompt', 'model')),
    name text NOT NULL,
    environment text,
    version text NOT NULL,
    at timestamptz NOT NULL,
    link text,
    source text NOT NULL CHECK (source IN ('reported', 'seen')),
    created_at timestamptz NOT NULL
);
CREATE INDEX deployments_at ON deployments (at);
CREATE INDEX deployments_name ON deployments (what, name, environment, at);
COMMENT ON TABLE deployments IS 'What changed in the applications that send traces, and when: alerts name the nearest.';
COMMENT ON COLUMN deployments.id IS 'Hash of the columns before the link, of one that was seen without its time.';
COMMENT ON COLUMN deployments.what IS 'service: a service version; prompt: a prompt version; model: another model.';
COMMENT ON COLUMN deployments.name IS 'The service, the prompt, or the feature or service that uses the model.';
COMMENT ON COLUMN deployments.environment IS 'Where.';
COMMENT ON COLUMN deployments.version IS 'The version, or the model''s name.';
COMMENT ON COLUMN deployments.at IS 'When it was deployed, or first seen in a trace.';
COMMENT ON COLUMN deployments.link IS 'Where to read more.';
COMMENT ON COLUMN deployments.source IS 'reported: somebody told us; seen: first seen in a trace.';
COMMENT ON COLUMN deployments.created_at IS 'When we learnt of it.';
