-- How far each projection has come. generation grows with each rebuild, so that a page that was folded onto the rows of
-- before a rebuild cannot be written over its result.
CREATE TABLE trueup.checkpoints (
    name text PRIMARY KEY,
    last_applied_event_id bigint NOT NULL DEFAULT 0,
    generation bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.checkpoints TO trueup_app;
