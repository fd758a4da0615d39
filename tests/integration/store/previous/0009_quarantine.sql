-- Rows of a view that no longer follow the log, because folding event_id into them failed. Everything else goes on.
CREATE TABLE trueup.quarantine (
    projection text NOT NULL,
    key text NOT NULL,
    event_id bigint NOT NULL,
    event_type text NOT NULL,
    error text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (projection, key)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.quarantine TO trueup_app;
