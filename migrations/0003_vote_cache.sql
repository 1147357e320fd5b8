-- Votes that may be used again for the same question: redelivery, replay and identical traffic cost nothing.

CREATE TABLE vote_cache (
    key text PRIMARY KEY,
    vote jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX vote_cache_expires ON vote_cache (expires_at);
COMMENT ON TABLE vote_cache IS 'Scored votes by the exact question; bounded by time and by number.';
COMMENT ON COLUMN vote_cache.key IS 'Hash of endpoint, model, parameters and the exact messages.';
COMMENT ON COLUMN vote_cache.vote IS 'domain::Vote as it was given.';
COMMENT ON COLUMN vote_cache.created_at IS 'When it was given.';
COMMENT ON COLUMN vote_cache.expires_at IS 'After this it is not used any more, and is removed.';
