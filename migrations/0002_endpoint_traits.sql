-- What was learnt about judges' endpoints, so that a new process does not pay for learning it again.

CREATE TABLE endpoint_traits (
    endpoint text NOT NULL,
    model text NOT NULL,
    traits jsonb NOT NULL,
    learnt_at timestamptz NOT NULL,
    PRIMARY KEY (endpoint, model)
);
COMMENT ON TABLE endpoint_traits IS 'Which form of structured output an endpoint and model can do, and which parameters they refuse.';
COMMENT ON COLUMN endpoint_traits.endpoint IS 'Base URL of the API, without user or password.';
COMMENT ON COLUMN endpoint_traits.model IS 'The model as it is asked for.';
COMMENT ON COLUMN endpoint_traits.traits IS 'domain::rung::Traits: the rung to begin with, parameters to leave out.';
COMMENT ON COLUMN endpoint_traits.learnt_at IS 'When it was learnt; after a day it is tried from the top again.';
