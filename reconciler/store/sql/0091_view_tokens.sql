-- Tokens of people and CI, as keyed digests. Derived from the log; may be rebuilt at any time. No older program works on this schema: it would let in whoever
-- was revoked.
CREATE TABLE trueup.view_tokens (
    key text PRIMARY KEY,
    doc jsonb NOT NULL,
    last_event_id bigint NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.view_tokens TO trueup_app;
GRANT SELECT ON trueup.view_tokens TO trueup_append, trueup_read;
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.view_tokens TO trueup_project;
