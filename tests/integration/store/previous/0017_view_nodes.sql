-- Hosts that run microVMs. Derived from the log; may be rebuilt at any time.
CREATE TABLE trueup.view_nodes (
    key text PRIMARY KEY,
    doc jsonb NOT NULL,
    last_event_id bigint NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.view_nodes TO trueup_app;
