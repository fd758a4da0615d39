-- Which commands the log has seen, with the digest of their body: one effect per command id. A command without events
-- has last_event_id = first_event_id - 1.
CREATE TABLE trueup.commands (
    command_id text PRIMARY KEY,
    body_hash text NOT NULL,
    first_event_id bigint NOT NULL,
    last_event_id bigint NOT NULL,
    CHECK (last_event_id >= first_event_id - 1)
);
GRANT SELECT, INSERT ON trueup.commands TO trueup_app;
