-- Labels joined to verdicts, a page by trace id; see Store::labelled_verdicts.
-- $1 rubric, $2 rubric version or null, $3 lowest rank, $4 labels since or null, $5 after this trace or null, $6 limit
WITH best AS (
    SELECT DISTINCT ON (trace_id) *
    FROM labels
    WHERE rubric = $1 AND superseded_at IS NULL AND rank >= $3
      AND ($4::timestamptz IS NULL OR made_at >= $4) AND ($5::text IS NULL OR trace_id > $5)
    ORDER BY trace_id, rank DESC, made_at DESC, id
), reach AS (
    -- How far each batch has been done in the order of its ratios.
    SELECT q.batch_id, coalesce(min(q.draw / q.probability) FILTER (WHERE q.skipped_at IS NULL AND NOT EXISTS (
               SELECT 1 FROM labels l
               WHERE l.rubric = q.rubric AND l.trace_id = q.trace_id AND l.superseded_at IS NULL AND l.rank >= 2)), 1) AS reach
    FROM label_queue q
    WHERE q.rubric = $1
    GROUP BY q.batch_id
)
SELECT v.id AS "verdict_id!", v.created_at AS "judged_at!", v.trace_id AS "trace_id!", v.rubric_version AS "verdict_version!",
       v.score AS "verdict_score!", coalesce(v.passed, false) AS "verdict_passed!", v.decided_by,
       v.inclusion_probability AS "inclusion_probability!",
       CASE WHEN b.rank < 2 THEN b.draw_probability
            ELSE coalesce(b.draw_probability, drawn.probability) END AS label_probability,
       EXISTS (SELECT 1 FROM labels o WHERE o.rubric = b.rubric AND o.trace_id = b.trace_id AND o.superseded_at IS NULL
                                        AND o.rank = b.rank AND o.passed <> b.passed) AS "conflicting!",
       v.service, v.service_version, v.environment, v.feature, v.prompt_name, v.prompt_version, v.model, v.tenant,
       b.id AS "id!", b.slot AS "slot!", b.span_id, b.rubric AS "rubric!", b.rubric_version, b.passed AS "passed!",
       b.score, b.category, b.source AS "source!", b.labeller, b.comment, b.made_at AS "made_at!", b.draw_probability,
       b.batch_id
FROM best b
JOIN LATERAL (
    SELECT * FROM verdicts
    WHERE trace_id = b.trace_id AND rubric = $1 AND outcome = 'scored' AND superseded_at IS NULL
      AND (span_id IS NULL OR span_id = b.span_id) AND ($2::text IS NULL OR rubric_version = $2)
    ORDER BY created_at DESC, id DESC
    LIMIT 1
) v ON true
LEFT JOIN LATERAL (
    SELECT max(q.probability * r.reach) AS probability
    FROM label_queue q JOIN reach r USING (batch_id)
    WHERE q.rubric = $1 AND q.trace_id = b.trace_id AND q.draw < q.probability * r.reach
) drawn ON true
ORDER BY b.trace_id
LIMIT $6
