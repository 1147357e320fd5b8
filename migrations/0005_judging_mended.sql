-- What the first use of batches and budgets showed: what is read by time has an index, what nobody reads is gone.

CREATE INDEX budget_spend_starts ON budget_spend (starts_at);
ALTER TABLE batches DROP COLUMN status;
ALTER TABLE batches DROP COLUMN requests;
COMMENT ON COLUMN verdicts.detail IS 'How the panel was asked: why it stopped before all its judges were asked.';
COMMENT ON COLUMN limit_shares.wanted IS 'What it would send, as a part of the limit, as of late.';
COMMENT ON COLUMN batch_items.reply IS 'Status and body of the reply, once there; empty when the batch did not answer; done when it is of no use any more.';
