-- Roll-outs of releases. Derived from the log; may be rebuilt at any time.
CREATE TABLE trueup.view_deployments (
    key text PRIMARY KEY,
    doc jsonb NOT NULL,
    last_event_id bigint NOT NULL
);
CREATE INDEX view_deployments_by_app ON trueup.view_deployments ((doc ->> 'app'));
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.view_deployments TO trueup_app;
