-- What the repositories declare, and what is observed of it. Derived from the log; may be rebuilt at any time.
CREATE TABLE trueup.view_resources (
    key text PRIMARY KEY,
    doc jsonb NOT NULL,
    last_event_id bigint NOT NULL
);
CREATE INDEX view_resources_by_kind ON trueup.view_resources ((doc ->> 'kind'));
CREATE INDEX view_resources_by_app ON trueup.view_resources ((doc ->> 'app'));
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.view_resources TO trueup_app;
