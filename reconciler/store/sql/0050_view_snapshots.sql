-- Snapshots of volumes. Derived from the log; may be rebuilt at any time.
CREATE TABLE trueup.view_snapshots (
    key text PRIMARY KEY,
    doc jsonb NOT NULL,
    last_event_id bigint NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.view_snapshots TO trueup_app, trueup_project;
GRANT SELECT ON trueup.view_snapshots TO trueup_append, trueup_read;
