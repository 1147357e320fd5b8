-- Messages of brokers that could not be taken: that they came, from where and why not, but not their bodies.

CREATE TABLE parked_messages (
    source text NOT NULL,
    position text NOT NULL,
    subject text NOT NULL,
    reason text NOT NULL,
    spans_taken bigint NOT NULL,
    size_bytes bigint NOT NULL,
    body_sha256 bytea NOT NULL,
    deliveries bigint NOT NULL,
    parked_at timestamptz NOT NULL,
    PRIMARY KEY (source, position)
);
CREATE INDEX parked_messages_parked_at ON parked_messages (parked_at);
COMMENT ON TABLE parked_messages IS 'Messages of brokers that could not be taken, as a whole or in part. Bodies are not kept: what cannot be read cannot be redacted; the broker or its dead letters have them.';
COMMENT ON COLUMN parked_messages.source IS 'The source, by its name in the configuration.';
COMMENT ON COLUMN parked_messages.position IS 'Where it is in the broker: stream and sequence, or topic, partition and offset.';
COMMENT ON COLUMN parked_messages.subject IS 'Its subject or topic.';
COMMENT ON COLUMN parked_messages.reason IS 'Why it was not taken; values of the message are left out of it.';
COMMENT ON COLUMN parked_messages.spans_taken IS 'Spans of it that were stored all the same; 0 = it was not taken at all.';
COMMENT ON COLUMN parked_messages.size_bytes IS 'Bytes of its body, as it came.';
COMMENT ON COLUMN parked_messages.body_sha256 IS 'SHA-256 of its body, as it came: to find the same one again.';
COMMENT ON COLUMN parked_messages.deliveries IS 'How often the broker had delivered it.';
COMMENT ON COLUMN parked_messages.parked_at IS 'When it was parked first.';
