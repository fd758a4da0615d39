-- Registered Git sources and the commits they are at. Derived from the log; may be rebuilt at any time.
CREATE TABLE trueup.view_sources (
    key text PRIMARY KEY,
    doc jsonb NOT NULL,
    last_event_id bigint NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.view_sources TO trueup_app;
