-- The head carries the hash of the last event; epoch counts the restores from an older backup, each of which gives the log
-- a new log_id.
ALTER TABLE trueup.log_head
    ADD COLUMN head_hash bytea NOT NULL CHECK (length(head_hash) = 32)
        DEFAULT '\x0000000000000000000000000000000000000000000000000000000000000000',
    ADD COLUMN epoch bigint NOT NULL DEFAULT 1 CHECK (epoch > 0);
UPDATE trueup.log_head SET head_hash = e.hash FROM trueup.events e WHERE e.event_id = log_head.last_event_id;
