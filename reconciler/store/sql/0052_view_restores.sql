-- Restores of volumes. Derived from the log; may be rebuilt at any time.
CREATE TABLE trueup.view_restores (
    key text PRIMARY KEY,
    doc jsonb NOT NULL,
    last_event_id bigint NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.view_restores TO trueup_app, trueup_project;
GRANT SELECT ON trueup.view_restores TO trueup_append, trueup_read;
