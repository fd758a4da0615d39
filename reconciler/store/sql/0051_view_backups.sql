-- Backups of volumes. Derived from the log; may be rebuilt at any time.
CREATE TABLE trueup.view_backups (
    key text PRIMARY KEY,
    doc jsonb NOT NULL,
    last_event_id bigint NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.view_backups TO trueup_app, trueup_project;
GRANT SELECT ON trueup.view_backups TO trueup_append, trueup_read;
