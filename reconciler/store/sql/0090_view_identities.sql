-- Machines that may join or have joined. Derived from the log; may be rebuilt at any time. No older program works on this schema: it would let in whoever
-- was revoked.
CREATE TABLE trueup.view_identities (
    key text PRIMARY KEY,
    doc jsonb NOT NULL,
    last_event_id bigint NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.view_identities TO trueup_app;
GRANT SELECT ON trueup.view_identities TO trueup_append, trueup_read;
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.view_identities TO trueup_project;
