-- Commits that were looked at: refused, applied or converged. Derived from the log; may be rebuilt at any time.
CREATE TABLE trueup.view_revisions (
    key text PRIMARY KEY,
    doc jsonb NOT NULL,
    last_event_id bigint NOT NULL
);
CREATE INDEX view_revisions_by_source_id ON trueup.view_revisions ((doc ->> 'source_id'));
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.view_revisions TO trueup_app;
