-- MicroVMs: wanted and observed. Derived from the log; may be rebuilt at any time.
CREATE TABLE trueup.view_instances (
    key text PRIMARY KEY,
    doc jsonb NOT NULL,
    last_event_id bigint NOT NULL
);
CREATE INDEX view_instances_by_node_id ON trueup.view_instances ((doc ->> 'node_id'));
CREATE INDEX view_instances_by_app ON trueup.view_instances ((doc ->> 'app'));
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.view_instances TO trueup_app;
