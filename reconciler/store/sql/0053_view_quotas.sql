-- What organisations and projects may hold. Derived from the log; may be rebuilt at any time.
CREATE TABLE trueup.view_quotas (
    key text PRIMARY KEY,
    doc jsonb NOT NULL,
    last_event_id bigint NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.view_quotas TO trueup_app, trueup_project;
GRANT SELECT ON trueup.view_quotas TO trueup_append, trueup_read;
