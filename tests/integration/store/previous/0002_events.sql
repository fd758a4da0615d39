-- The log. A row is never changed and never removed: see 0003 and 0004.
CREATE TABLE trueup.events (
    event_id bigint PRIMARY KEY CHECK (event_id > 0),
    occurred_at timestamptz NOT NULL,
    aggregate_type text NOT NULL,
    aggregate_id text NOT NULL,
    aggregate_seq bigint NOT NULL CHECK (aggregate_seq > 0),
    event_type text NOT NULL,
    event_version integer NOT NULL CHECK (event_version > 0),
    command_id text NOT NULL,
    actor_type text NOT NULL CHECK (actor_type IN ('user', 'service_principal', 'system')),
    actor_id text NOT NULL,
    org_id text NOT NULL,
    source_id text NOT NULL,
    commit_id text NOT NULL,
    path text NOT NULL,
    line integer NOT NULL,
    correlation_id text NOT NULL,
    causation_id bigint NOT NULL,
    payload jsonb NOT NULL,
    UNIQUE (aggregate_type, aggregate_id, aggregate_seq)
);
CREATE INDEX events_by_type ON trueup.events (event_type, event_id);
CREATE INDEX events_by_org ON trueup.events (org_id, event_id);
CREATE INDEX events_by_command ON trueup.events (command_id, event_id);
CREATE INDEX events_by_commit ON trueup.events (commit_id text_pattern_ops, event_id) WHERE commit_id <> '';
GRANT SELECT, INSERT ON trueup.events TO trueup_app;
