-- Who judges, so that the jobs of a process that died are free after seconds instead of at the end of their leases.

CREATE TABLE workers (
    worker uuid PRIMARY KEY,
    seen_at timestamptz NOT NULL
);
COMMENT ON TABLE workers IS 'Processes that judge. One that has been silent for too long is taken for dead: its row goes, and its leases end.';
COMMENT ON COLUMN workers.worker IS 'The process, by the id that it gave itself at start; its first half is the first half of each of its lease tokens.';
COMMENT ON COLUMN workers.seen_at IS 'When it last said that it lives, by the clock of the database.';
