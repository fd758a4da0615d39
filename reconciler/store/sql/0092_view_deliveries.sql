-- Which versions of a secret a node was ever given. Derived from the log; may be rebuilt at any time. No older program
-- works on this schema: it would give out secrets without a word of it in the log.
CREATE TABLE trueup.view_deliveries (
    key text PRIMARY KEY,
    doc jsonb NOT NULL,
    last_event_id bigint NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.view_deliveries TO trueup_app;
GRANT SELECT ON trueup.view_deliveries TO trueup_append, trueup_read;
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.view_deliveries TO trueup_project;
