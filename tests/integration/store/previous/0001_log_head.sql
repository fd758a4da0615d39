-- The end of the log, in one row. Its lock puts the appending transactions into one order, so that event_id is dense and
-- in the order of commit. log_id names this log; a restored backup is given a new one.
CREATE TABLE trueup.log_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    log_id text NOT NULL,
    last_event_id bigint NOT NULL DEFAULT 0 CHECK (last_event_id >= 0)
);
INSERT INTO trueup.log_head (log_id) VALUES (replace(gen_random_uuid()::text, '-', ''));
GRANT USAGE ON SCHEMA trueup TO trueup_app;
GRANT SELECT, UPDATE (last_event_id) ON trueup.log_head TO trueup_app;
GRANT SELECT ON trueup.migrations TO trueup_app;
