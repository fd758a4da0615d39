-- Operators' acts that are not over. Derived from the log; may be rebuilt at any time. No older program works on this schema:
-- its scheduler would not keep to the acts.
CREATE TABLE trueup.view_acts (
    key text PRIMARY KEY,
    doc jsonb NOT NULL,
    last_event_id bigint NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.view_acts TO trueup_app;
GRANT SELECT ON trueup.view_acts TO trueup_append, trueup_read;
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.view_acts TO trueup_project;
