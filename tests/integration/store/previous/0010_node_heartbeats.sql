-- When each node was last heard, by this database's clock. No history, and no event.
CREATE TABLE trueup.node_heartbeats (
    node_id text PRIMARY KEY,
    last_at timestamptz NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.node_heartbeats TO trueup_app;
