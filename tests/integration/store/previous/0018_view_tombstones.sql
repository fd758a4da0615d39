-- Deleted volumes whose data is still on their home node. Derived from the log; may be rebuilt at any time.
CREATE TABLE trueup.view_tombstones (
    key text PRIMARY KEY,
    doc jsonb NOT NULL,
    last_event_id bigint NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.view_tombstones TO trueup_app;
