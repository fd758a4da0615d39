-- Immutable specifications of apps, numbered. Derived from the log; may be rebuilt at any time.
CREATE TABLE trueup.view_releases (
    key text PRIMARY KEY,
    doc jsonb NOT NULL,
    last_event_id bigint NOT NULL
);
CREATE INDEX view_releases_by_app ON trueup.view_releases ((doc ->> 'app'));
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.view_releases TO trueup_app;
